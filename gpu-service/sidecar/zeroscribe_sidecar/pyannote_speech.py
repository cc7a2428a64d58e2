"""Where speech is: WhisperX's own detection and merging, on mapped audio."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio import Inference
from whisperx.vads.pyannote import Pyannote, load_vad_model

from .channel import Reply
from .gpu_memory import peak_logged
from .pcm import SAMPLE_RATE, Samples, release_pages, tensor_to_float, to_tensor
from .protocol import Chunk, DetectSpeech, SpeechResult
from .shrinking_batches import ShrinkingBatches

# Importing lightning sets the level of its log; what it says is about the age of the checkpoint.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class PcmInference(Inference):
    """pyannote's sliding windows over int16 audio, with the same scores to the last bit: only the windows of a batch
    become float32, and the batch is halved where memory runs out.

    On a CPU there is less waiting too. torch divides each small step of an LSTM among its threads, and they wait for
    one another thousands of times a second: where another process is busy too, that takes ten times as long. Here each
    thread has windows of its own.
    """

    pool: ThreadPoolExecutor | None = None
    threads = 1
    _batches: ShrinkingBatches

    def spread(self, threads: int) -> None:
        """Over as many threads."""
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads, "windows", lambda: torch.set_num_threads(1))

    def slide(self, *args: Any, **kwargs: Any) -> Any:
        """See Inference.slide."""
        self._batches = ShrinkingBatches(self.batch_size, "window")
        return super().slide(*args, **kwargs)

    def infer(self, chunks: torch.Tensor) -> NDArray[Any]:
        """See Inference.infer; `chunks` is (batch, 1, samples), int16 or float32."""
        return np.concatenate(list(self._batches.of(chunks, self._spread_out)))

    def scores_of(self, chunks: torch.Tensor) -> NDArray[Any]:
        """Of a part, in one thread."""
        scores: NDArray[Any] = super().infer(tensor_to_float(chunks))
        return scores

    def _spread_out(self, chunks: torch.Tensor) -> NDArray[Any]:
        if self.pool is None:
            return self.scores_of(chunks)
        parts = [part for part in chunks.tensor_split(self.threads) if len(part) > 0]
        return np.concatenate(list(self.pool.map(self.scores_of, parts)))


class _SpeechInference(PcmInference):
    """Only the greatest of the speakers' scores is kept, not all of them for the whole recording."""

    def scores_of(self, chunks: torch.Tensor) -> NDArray[np.float32]:
        return np.max(super().scores_of(chunks), axis=-1, keepdims=True)


class SpeechDetector:
    """The model that ships with WhisperX."""

    def __init__(self, device: str, threads: int) -> None:
        pipeline = load_vad_model(torch.device(device))
        # The hook has had its effect in infer; without one pyannote would not aggregate.
        self._inference = _SpeechInference(
            pipeline._segmentation.model, pre_aggregation_hook=lambda scores: scores, batch_size=32
        )
        if device == "cpu":
            self._inference.spread(threads)
            # Stays in the processor's cache: a third faster than pyannote's 32.
            self._inference.batch_size = 8 * threads

    def scores(self, pcm: Samples, hook: Callable[..., None] | None = None) -> Any:
        """SlidingWindowFeature (frames, 1), equal to that of whisperx.vads.Pyannote for the same audio."""
        return self._inference({"waveform": to_tensor(pcm), "sample_rate": SAMPLE_RATE}, hook=hook)

    def detect(self, pcm: Samples, command: DetectSpeech, reply: Reply) -> SpeechResult:
        """Chunks of speech of at most `chunk_size` seconds, in order; none when nobody speaks."""
        if len(pcm) == 0:
            return SpeechResult(chunks=[])

        def hook(completed: int, total: int) -> None:
            release_pages(pcm, len(pcm))
            # pyannote counts the last batch as a full one.
            reply.progress(min(1.0, completed / total))

        with peak_logged("speech detection"):
            scores = self.scores(pcm, hook)
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
