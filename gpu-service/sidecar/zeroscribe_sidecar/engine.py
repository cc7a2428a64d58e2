"""Which models are in memory, and what a command does with them."""

import contextlib
import gc
import logging
import os
import time
from concurrent.futures import Future, wait
from threading import Thread
from typing import TYPE_CHECKING

import ctranslate2

from .channel import Reply
from .errors import CommandFailed
from .language import detect_language
from .pcm import open_pcm
from .protocol import Align, Command, DetectLanguage, DetectSpeech, Diarize, Result, SidecarConfig
from .transcription import transcribe
from .whisper import Whisper

if TYPE_CHECKING:
    from .alignment import Aligner
    from .diarization import Diarizer
    from .speech import SpeechDetector

log = logging.getLogger(__name__)


class Engine:
    """Runs one command at a time."""

    def __init__(self, config: SidecarConfig) -> None:
        """Loads the default model. Fails when the configuration cannot work."""
        started = time.monotonic()
        check_device(config)
        checked = time.monotonic()
        self._config = config
        self._threads = config.cpu_threads or os.cpu_count() or 1
        # torch, pyannote and their friends take seconds to import: they come while the supervisor fetches the audio.
        self._detector: Future[SpeechDetector] = Future()
        Thread(target=self._load_detector, name="speech-detector", daemon=True).start()
        self._whisper: Whisper | None = Whisper(config.default_model, config)
        self.device_seconds = checked - started
        self.model_seconds = time.monotonic() - checked
        self._aligners: dict[str, Aligner] = {}
        self._diarizer: Diarizer | None = None

    @property
    def default_model(self) -> Whisper:
        """The model loaded at start."""
        assert self._whisper is not None
        return self._whisper

    def run(self, command: Command, reply: Reply) -> Result:
        """Does what the command asks. Raises CommandFailed for what was foreseen."""
        pcm = open_pcm(command.audio)
        # Every other model needs torch too, and two threads that import it are slower than one.
        if not self._detector.done():
            with reply.loading("speech"):
                wait([self._detector])
        detector = self._detector.result()
        import torch

        # The number is each thread's own, and the detector's threads have changed what a new one begins with.
        torch.set_num_threads(self._threads)
        reply.raise_if_canceled()
        if isinstance(command, DetectSpeech):
            return detector.detect(pcm, command, reply)
        if isinstance(command, DetectLanguage):
            return detect_language(self._model(command.model, reply), pcm, command.chunks, reply)
        if isinstance(command, Align):
            return self._aligner(command.language, reply).align(pcm, command, reply)
        if isinstance(command, Diarize):
            return self._loaded_diarizer(reply).diarize(pcm, command, reply)
        return transcribe(self._model(command.model, reply), pcm, command, self._config.batch_size, reply)

    def _model(self, name: str, reply: Reply) -> Whisper:
        if self._whisper is None or self._whisper.name != name:
            if name not in self._config.models:
                # Says so, and keeps the one it has.
                Whisper(name, self._config)
            # The old one goes first: both may not fit into the GPU's memory.
            self._whisper = None
            gc.collect()
            with reply.loading("recognition"):
                self._whisper = Whisper(name, self._config)
            log.info("Loaded the model %s.", name)
        return self._whisper

    def _aligner(self, language: str, reply: Reply) -> "Aligner":
        if language not in self._aligners:
            with reply.loading("alignment"):
                from .alignment import Aligner

                self._aligners[language] = Aligner(language, self._config)
        return self._aligners[language]

    def _loaded_diarizer(self, reply: Reply) -> "Diarizer":
        if self._diarizer is None:
            with reply.loading("diarization"):
                from .diarization import Diarizer

                self._diarizer = Diarizer(self._config)
        return self._diarizer

    def _load_detector(self) -> None:
        started = time.monotonic()
        # Nearly nothing that an import makes is garbage, and looking for it again and again takes half a second.
        gc.disable()
        try:
            from .lean_imports import hidden

            with hidden("transformers"):
                from .speech import SpeechDetector
            self._detector.set_result(SpeechDetector(self._config.device, self._threads))
            log.info("Speech detection is ready after %.1f s.", time.monotonic() - started)
        except BaseException as error:
            self._detector.set_exception(error)
        finally:
            gc.freeze()
            gc.enable()
        if self._config.alignment_models:
            # This one does need transformers: it comes while the first commands run. What fails fails again for them.
            with contextlib.suppress(Exception):
                from . import alignment as _alignment  # noqa: F401


def check_device(config: SidecarConfig) -> None:
    """Fails when the device, or the compute type on it, does not exist here."""
    if config.device == "cuda" and ctranslate2.get_cuda_device_count() == 0:
        raise CommandFailed(
            "internal",
            "A CUDA device is configured, but none was found. Check that this machine has an NVIDIA GPU and its "
            'driver (nvidia-smi) and that the container may use it, or configure the device "cpu".',
        )
    supported = ctranslate2.get_supported_compute_types(config.device)
    if config.compute_type not in {*supported, "default", "auto"}:
        raise CommandFailed(
            "internal",
            f'The compute type "{config.compute_type}" is not supported on this {config.device}; '
            f"supported: {', '.join(sorted(supported))}.",
        )
