"""The GPU's memory, as far as torch uses it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

log = logging.getLogger(__name__)


@contextmanager
def peak_logged(stage: str) -> Iterator[None]:
    """Logs the most that torch had in use, and held, at any time within; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.reset_peak_memory_stats()
    yield
    log.info(
        "GPU memory of %s: at most %d MiB in use, %d MiB held.",
        stage,
        torch.cuda.max_memory_allocated() >> 20,
        torch.cuda.max_memory_reserved() >> 20,
    )


def release_cached_memory() -> None:
    """torch keeps what is freed to itself, where a batch of another shape, or another process, cannot use it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
