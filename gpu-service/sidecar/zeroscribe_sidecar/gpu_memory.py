"""The GPU's memory, as far as torch uses it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

log = logging.getLogger(__name__)


@contextmanager
def peak_logged(stage: str) -> Iterator[None]:
    """Logs the most that torch had in use, and held, at any time within; nothing where it uses no GPU."""
    if not torch.cuda.is_initialized():
        yield
        return
    torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        log.info(
            "GPU memory of %s: at most %d MiB in use, %d MiB held.",
            stage,
            torch.cuda.max_memory_allocated() >> 20,
            torch.cuda.max_memory_reserved() >> 20,
        )
