"""Where speech is: WhisperX's own detection and merging, on mapped audio."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio import Inference
from whisperx.vads.pyannote import Pyannote, load_vad_model

from .channel import Reply
from .errors import CommandFailed
from .pcm import SAMPLE_RATE, Samples, tensor_to_float, to_tensor
from .protocol import Chunk, DetectSpeech, SpeechResult

log = logging.getLogger(__name__)

# Importing lightning sets the level of its log; what it says is about the age of the checkpoint.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class PcmInference(Inference):
    """pyannote's sliding windows over int16 audio: only the windows of a batch become float32."""

    def infer(self, chunks: torch.Tensor) -> Any:
        """See Inference.infer; `chunks` is (batch, 1, samples), int16 or float32."""
        return super().infer(tensor_to_float(chunks))


class _SpeechInference(PcmInference):
    """Keeps the greatest of the speakers' scores at once instead of all of them for the whole recording."""

    def infer(self, chunks: torch.Tensor) -> NDArray[np.float32]:
        return np.max(super().infer(chunks), axis=-1, keepdims=True)


class SpeechDetector:
    """The model that ships with WhisperX."""

    def __init__(self, device: str) -> None:
        pipeline = load_vad_model(torch.device(device))
        # The hook has had its effect in infer; without one pyannote would not aggregate.
        self._inference = _SpeechInference(
            pipeline._segmentation.model,
            pre_aggregation_hook=lambda scores: scores,
            # The scores are the same to the last bit; on a CPU 16 windows take a third less time than pyannote's 32.
            batch_size=16 if device == "cpu" else 32,
        )

    def scores(self, pcm: Samples, hook: Callable[..., None] | None = None) -> Any:
        """SlidingWindowFeature (frames, 1), equal to that of whisperx.vads.Pyannote for the same audio."""
        return self._inference({"waveform": to_tensor(pcm), "sample_rate": SAMPLE_RATE}, hook=hook)

    def detect(self, pcm: Samples, command: DetectSpeech, reply: Reply) -> SpeechResult:
        """Chunks of speech of at most `chunk_size` seconds, in order; none when nobody speaks."""
        if len(pcm) == 0:
            return SpeechResult(chunks=[])

        def hook(completed: int, total: int) -> None:
            # pyannote counts the last batch as a full one.
            reply.progress(min(1.0, completed / total))

        while True:
            try:
                scores = self.scores(pcm, hook)
                break
            except MemoryError as error:
                if self._inference.batch_size == 1:
                    raise CommandFailed("out-of-memory", str(error)) from error
                self._inference.batch_size //= 2
                log.warning("Out of memory; looking for speech in %d windows at once.", self._inference.batch_size)
        chunks = Pyannote.merge_chunks(scores, command.chunk_size, onset=command.vad_onset, offset=command.vad_offset)
        seconds = len(pcm) / SAMPLE_RATE
        # The last window is padded, so speech may seem to go on after the end.
        return SpeechResult(
            chunks=[
                Chunk(start=float(chunk["start"]), end=min(float(chunk["end"]), seconds))
                for chunk in chunks
                if chunk["start"] < seconds
            ]
        )
