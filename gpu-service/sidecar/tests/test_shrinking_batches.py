"""Batches that become smaller."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch

from zeroscribe_sidecar.errors import CommandFailed
from zeroscribe_sidecar.shrinking_batches import ShrinkingBatches


def test_without_need_batches_are_as_large_as_they_may_be() -> None:
    assert list(ShrinkingBatches(3, "chunk").of(list("abcdefg"), "".join)) == ["abc", "def", "g"]
    assert list(ShrinkingBatches(3, "chunk").of([], len)) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        MemoryError("batch_size (32) is probably too large."),
    ],
)
def test_where_memory_runs_out_that_batch_and_all_after_it_are_halved(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def work(batch: Any) -> int:
        tried.append(len(batch))
        if len(batch) > 3:
            raise error
        return int(batch.sum())

    batches = ShrinkingBatches(8, "window")
    assert list(batches.of(np.arange(5), work)) == [1, 5, 4]
    # Among the next items of the same command too.
    assert list(batches.of(np.arange(3), work)) == [1, 2]
    assert tried == [5, 2, 2, 1, 2, 1]
    assert caplog.messages == ["Out of memory with 5 windows at once; trying 2."]


def test_what_failed_is_gone_before_cached_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[0]() is not None))

    def work(batch: list[int]) -> int:
        features = torch.zeros(4)
        if not held:
            held.append(weakref.ref(features))
            try:
                raise RuntimeError("out of memory")
            except RuntimeError as error:
                raise MemoryError("too large") from error
        return len(batch)

    assert list(ShrinkingBatches(2, "chunk").of([1, 2], work)) == [1, 1]
    assert alive == [False]


def test_one_that_does_not_fit_fails_and_other_errors_are_not_repeated() -> None:
    tried = []

    def failing(error: Exception) -> Any:
        def work(batch: list[int]) -> None:
            tried.append(len(batch))
            raise error

        return work

    with pytest.raises(CommandFailed, match="Not even one chunk") as failure:
        list(ShrinkingBatches(5, "chunk").of(list(range(9)), failing(MemoryError())))
    assert failure.value.reason == "out-of-memory"
    assert tried == [5, 2, 1]
    with pytest.raises(RuntimeError, match="launch"):
        list(ShrinkingBatches(5, "chunk").of([1, 2], failing(RuntimeError("unspecified launch failure"))))
    assert tried == [5, 2, 1, 2]
