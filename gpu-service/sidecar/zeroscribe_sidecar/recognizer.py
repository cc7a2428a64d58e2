"""What the recognizer does: speech detection, language and text, without torch, so that it is ready in a second."""

import gc
import logging
import time
from typing import TYPE_CHECKING

import ctranslate2

from .channel import Reply
from .errors import CommandFailed
from .gpu_budget import BatchBudget, gpu_gauge
from .in_thread import in_thread
from .language import detect_language
from .pcm import open_pcm
from .protocol import Command, DetectLanguage, DetectSpeech, Result, SidecarConfig, Transcribe
from .transcription import transcribe
from .whisper import Whisper

if TYPE_CHECKING:
    from .silero import SileroDetector

log = logging.getLogger(__name__)


class Recognizer:
    """Runs one command at a time."""

    def __init__(self, config: SidecarConfig) -> None:
        """Loads the default model and the speech detector. Fails when one of them cannot work."""
        started = time.monotonic()
        check_device(config)
        checked = time.monotonic()
        self._config = config
        detector = in_thread(lambda: load_detector(config.cpu_threads))
        whisper = Whisper(config.default_model, config)
        self._whisper: Whisper | None = whisper
        self._budget = BatchBudget(config, gpu_gauge() if config.device == "cuda" else None)
        self._budget.loaded(whisper.name, whisper.compute_type)
        self._detector = detector.result()
        self.model: str | None = whisper.name
        self.device: str = whisper.device
        self.compute_type: str | None = whisper.compute_type
        self.device_seconds = checked - started
        self.model_seconds = time.monotonic() - checked

    def run(self, command: Command, reply: Reply) -> Result:
        """Does what the command asks. Raises CommandFailed for what was foreseen."""
        pcm = open_pcm(command.audio)
        reply.raise_if_canceled()
        if isinstance(command, DetectSpeech) and command.method == "silero":
            return self._detector.detect(pcm, command, reply)
        if isinstance(command, DetectLanguage):
            return detect_language(self._loaded(command.model, reply), pcm, command.chunks, reply)
        if isinstance(command, Transcribe):
            whisper = self._loaded(command.model, reply)
            batch_size = self._budget.batch_size()
            log.info("transcribe %d: at most %d chunks at once.", command.id, batch_size)
            # On a CPU batches are WhisperX's own, so that words are, to the last.
            result = transcribe(whisper, pcm, command, batch_size, reply, even=whisper.device == "cuda")
            if result.batch_size < batch_size:
                self._budget.ran_short()
            return result
        raise CommandFailed("internal", f"{command.type} is not for the recognizer.")

    def _loaded(self, name: str, reply: Reply) -> Whisper:
        if self._whisper is None or self._whisper.name != name:
            if name not in self._config.models:
                # Says so, and keeps the one it has.
                Whisper(name, self._config)
            # The old one goes first: both may not fit into the GPU's memory.
            self._whisper = None
            gc.collect()
            with reply.loading("recognition"):
                self._whisper = Whisper(name, self._config)
            self._budget.loaded(name, self._whisper.compute_type)
            log.info("Loaded the model %s.", name)
        return self._whisper


def load_detector(threads: int) -> "SileroDetector":
    """Imported here: ONNX Runtime comes while the Whisper model loads."""
    try:
        from .silero import SileroDetector

        return SileroDetector(threads)
    except Exception as error:
        raise CommandFailed(
            "model-not-available",
            f"Silero, which detects speech, cannot be loaded: {error}. It comes with the Python packages onnxruntime "
            "and faster-whisper: remove the folder .venv and set up again, or build the image again.",
        ) from error


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
