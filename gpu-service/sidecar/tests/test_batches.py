"""Which chunks are done together, and what is handed over when, with a model that writes how many seconds it heard."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import FakeReply

from zeroscribe_sidecar.batches import consecutive_batches, even_batches
from zeroscribe_sidecar.errors import Canceled
from zeroscribe_sidecar.protocol import Chunk, PcmFile, Transcribe, TranscribeResult
from zeroscribe_sidecar.transcription import transcribe
from zeroscribe_sidecar.whisper import Decoded

# No two alike, so that each text says which chunk it is of.
SECONDS = [float(second) for second in np.random.default_rng(3).permutation(29) + 1]


class _Stopwatch:
    """Stands in for Whisper. `fits`: more chunks at once are out of memory."""

    def __init__(self, fits: int = 100, breaks_after: int = 100, error: Exception | None = None) -> None:
        self.fits = fits
        self.error = error or RuntimeError("CUDA failed with error out of memory")
        self.tried: list[int] = []
        self.breaks_after = breaks_after
        self.batches: list[list[int]] = []

    def tokenizer(self, language: str, task: str) -> None:
        return None

    def features(self, audio: list[Any]) -> list[int]:
        return [len(part) // 16_000 for part in audio]

    def encode(self, features: list[int]) -> list[int]:
        self.tried.append(len(features))
        if len(features) > self.fits:
            raise self.error
        if len(self.batches) == self.breaks_after:
            raise RuntimeError("unspecified launch failure")
        self.batches.append(features)
        return features

    def decode(self, encoded: list[int], *_options: Any) -> list[Decoded]:
        return [Decoded(f" {seconds}", 0.0, []) for seconds in encoded]

    @property
    def steps(self) -> int:
        return sum(max(batch) for batch in self.batches)


def run(model: Any, reply: FakeReply, batch_size: int, *, even: bool) -> TranscribeResult:
    ends = np.cumsum(SECONDS)
    command = Transcribe(
        type="transcribe",
        id=1,
        audio=PcmFile(path="", samples=0),
        model="",
        chunks=[Chunk(start=end - length, end=end) for end, length in zip(ends, SECONDS, strict=True)],
        language="en",
        task="transcribe",
        prompt=None,
        hotwords=None,
        word_timestamps=False,
    )
    pcm = np.broadcast_to(np.int16(0), int(ends[-1]) * 16_000)
    return transcribe(model, pcm, command, batch_size, reply, even=even)


def heard(reply: FakeReply) -> list[float]:
    return [float(chunk.text) for chunk in reply.chunks]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 29, 40])
def test_texts_and_their_order_do_not_depend_on_the_batches(batch_size: int) -> None:
    plain, even = FakeReply(), FakeReply()
    run(_Stopwatch(), plain, batch_size, even=False)
    run(_Stopwatch(), even, batch_size, even=True)
    assert even.chunks == plain.chunks
    assert heard(even) == SECONDS
    assert even.fractions == sorted(even.fractions)
    assert even.fractions[-1] == pytest.approx(1)


def test_even_batches_are_decoded_in_fewer_steps() -> None:
    plain, even = _Stopwatch(), _Stopwatch()
    run(plain, FakeReply(), 4, even=False)
    run(even, FakeReply(), 4, even=True)
    assert even.steps < 0.9 * plain.steps
    assert len(even.batches) == len(plain.batches)


def test_what_is_in_order_is_handed_over_at_once() -> None:
    reply, model = FakeReply(), _Stopwatch()
    handed_over: list[tuple[int, int]] = []
    take = reply.batch

    def batch(chunks: Any) -> None:
        take(chunks)
        handed_over.append((len(model.batches), len(reply.chunks)))

    reply.batch = batch  # type: ignore[method-assign]
    run(model, reply, 2, even=True)
    for batches, chunks in handed_over:
        done = {seconds for batch in model.batches[:batches] for seconds in batch}
        in_order = next((i for i, seconds in enumerate(SECONDS) if seconds not in done), len(SECONDS))
        assert chunks == in_order
    # Nothing of the next four is begun before these are through.
    assert {4, 8, 12, 16, 20, 24, 28} <= {chunks for _, chunks in handed_over}


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
    ],
)
def test_too_large_a_batch_is_halved_and_repeated(error: Exception) -> None:
    reply, model = FakeReply(), _Stopwatch(fits=1, error=error)
    assert run(model, reply, 8, even=False) == TranscribeResult(batch_size=1)
    assert model.tried == [8, 4, 2, *[1] * len(SECONDS)]
    assert [len(batch) for batch in reply.batches] == [1] * len(SECONDS)
    assert heard(reply) == SECONDS


@pytest.mark.parametrize("even", [False, True])
def test_out_of_memory_leaves_no_chunk_out_and_repeats_none(even: bool) -> None:
    reply, model = FakeReply(), _Stopwatch()
    encode = model.encode

    def cramped(features: list[int]) -> list[int]:
        # Another process takes memory in the middle.
        model.fits = 3 if len(model.batches) >= 2 else 100
        return encode(features)

    model.encode = cramped  # type: ignore[method-assign]
    assert run(model, reply, 8, even=even) == TranscribeResult(batch_size=2)
    assert min(len(batch) for batch in model.batches[:2]) > 3 > max(len(batch) for batch in model.batches[2:])
    assert heard(reply) == SECONDS
    assert sorted(seconds for batch in model.batches for seconds in batch) == sorted(SECONDS)


def test_a_canceled_transcription_ends_after_its_batch() -> None:
    reply, model = FakeReply(cancel_after=2), _Stopwatch()
    with pytest.raises(Canceled):
        run(model, reply, 3, even=False)
    assert len(model.batches) == len(reply.batches) == 2
    assert heard(reply) == SECONDS[:6]


@pytest.mark.parametrize("batches", range(1, 9))
def test_what_is_in_order_when_it_is_canceled_or_fails_is_not_lost(batches: int) -> None:
    canceled, failed = FakeReply(cancel_after=batches), FakeReply()
    model = _Stopwatch()
    with pytest.raises(Canceled):
        run(model, canceled, 3, even=True)
    done = {seconds for batch in model.batches for seconds in batch}
    in_order = next(i for i, seconds in enumerate(SECONDS) if seconds not in done)
    assert heard(canceled) == SECONDS[:in_order]
    with pytest.raises(RuntimeError, match="launch"):
        run(_Stopwatch(breaks_after=batches), failed, 3, even=True)
    assert failed.chunks == canceled.chunks


def test_batches_have_each_place_once_and_the_earliest_is_in_the_first() -> None:
    places = [4, 5, 8, 9, 11, 20, 21, 27]
    for size in range(1, 10):
        batches = even_batches(places, SECONDS, size)
        assert sorted(place for batch in batches for place in batch) == places
        assert batches[0][0] == 4
        assert len(batches) == len(consecutive_batches(places, size))
    assert even_batches([0, 1, 2, 3], [1, 9, 2, 8], 2) == [[0, 2], [1, 3]]
    assert even_batches([], [], 2) == []
