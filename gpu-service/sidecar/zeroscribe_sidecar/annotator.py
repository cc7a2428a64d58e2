"""What the annotator does: word times, speakers, and pyannote's speech detection, which all need torch.

Its libraries take seconds to import. It is a process of its own so that they come while the recognizer works already.
"""

import gc
import logging
import time
from typing import TYPE_CHECKING

from .channel import Reply
from .errors import CommandFailed
from .pcm import open_pcm
from .protocol import Align, Command, DetectSpeech, Diarize, Result, SidecarConfig

if TYPE_CHECKING:
    from .alignment import Aligner
    from .diarization import Diarizer
    from .pyannote_speech import SpeechDetector

log = logging.getLogger(__name__)

_ALIGNERS_KEPT = 2
"""Languages. On a GPU a large model takes 0.6 GB, which the recognizer lacks; with one, jobs that come in turns in two
languages would load it each time."""


class Annotator:
    """Runs one command at a time."""

    model: str | None = None
    compute_type: str | None = None

    def __init__(self, config: SidecarConfig) -> None:
        """Imports what the configured models need, and loads those that any job may ask for."""
        self._config = config
        self._threads = config.cpu_threads
        self._aligners: dict[str, Aligner] = {}
        self._diarizer: Diarizer | None = None
        self._detector: SpeechDetector | None = None
        self._import_libraries()
        imported = time.monotonic()
        check_device(config)
        self.device: str = config.device
        checked = time.monotonic()
        self._load_models()
        self.device_seconds = checked - imported
        self.model_seconds = time.monotonic() - checked

    def run(self, command: Command, reply: Reply) -> Result:
        """Does what the command asks. Raises CommandFailed for what was foreseen."""
        pcm = open_pcm(command.audio)
        reply.raise_if_canceled()
        if isinstance(command, Align):
            with reply.loading("alignment"):
                aligner = self._aligner(command.language)
            return aligner.align(pcm, command, reply)
        if isinstance(command, Diarize):
            with reply.loading("diarization"):
                diarizer = self._loaded_diarizer()
            return diarizer.diarize(pcm, command, reply)
        if isinstance(command, DetectSpeech):
            with reply.loading("speech"):
                detector = self._loaded_detector()
            return detector.detect(pcm, command, reply)
        raise CommandFailed("internal", f"{command.type} is not for the annotator.")

    def _import_libraries(self) -> None:
        # Nearly nothing that an import makes is garbage, and looking for it again and again takes half a second.
        gc.disable()
        import torch

        torch.set_num_threads(self._threads)
        if self._config.diarization_model is not None:
            from . import diarization as _diarization  # noqa: F401
        if self._config.alignment_models:
            from . import alignment as _alignment  # noqa: F401
        gc.freeze()
        gc.enable()

    def _load_models(self) -> None:
        """What cannot be loaded is explained to the command that needs it."""
        try:
            # Of several languages, nobody knows which one will come.
            if len(self._config.alignment_models) == 1:
                self._aligner(*self._config.alignment_models)
        except Exception as error:
            log.warning("The alignment model could not be loaded at start: %s", error)
        try:
            if self._config.diarization_model is not None:
                self._loaded_diarizer()
        except Exception as error:
            log.warning("The diarization model could not be loaded at start: %s", error)

    def _aligner(self, language: str) -> "Aligner":
        aligner = self._aligners.pop(language, None)
        if aligner is None:
            from .alignment import Aligner

            self._make_room()
            aligner = Aligner(language, self._config)
        # The last is the one that was needed last.
        self._aligners[language] = aligner
        return aligner

    def _make_room(self) -> None:
        """Before another is loaded: all of them may not fit into the GPU's memory."""
        if len(self._aligners) < _ALIGNERS_KEPT:
            return
        import torch

        del self._aligners[next(iter(self._aligners))]
        gc.collect()
        torch.cuda.empty_cache()

    def _loaded_diarizer(self) -> "Diarizer":
        if self._diarizer is None:
            from .diarization import Diarizer
            from .read_once import read_once

            with read_once():
                self._diarizer = Diarizer(self._config)
        return self._diarizer

    def _loaded_detector(self) -> "SpeechDetector":
        if self._detector is None:
            from .pyannote_speech import SpeechDetector
            from .read_once import read_once

            with read_once():
                self._detector = SpeechDetector(self._config.device, self._threads)
        return self._detector


def check_device(config: SidecarConfig) -> None:
    """Fails when there is no such device for torch, which may have been built without CUDA."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise CommandFailed(
            "internal",
            "A CUDA device is configured, but PyTorch finds none. Check that this machine has an NVIDIA GPU and its "
            "driver (nvidia-smi), that the container may use it, and that PyTorch was installed with CUDA.",
        )
