"""Batches of what torch works on, halved where memory runs out."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from .errors import CommandFailed, is_out_of_memory

log = logging.getLogger(__name__)

T = TypeVar("T")


class ShrinkingBatches:
    """Of one command. The next begins with whole batches again: what was short of memory, or took it, may be gone."""

    def __init__(self, at_once: int, item: str) -> None:
        """`item`: what one is called in the log."""
        self._at_once = at_once
        self._item = item

    def of(self, items: Any, work: Callable[[Any], T]) -> Iterator[T]:
        """What `work` makes of the first items (of a list, an array or a tensor), of the next ones, and so on. When
        memory runs out, that batch and all after it are halved, down to one item."""
        done = 0
        while done < len(items):
            batch = items[done : done + self._at_once]
            try:
                result = work(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise CommandFailed(
                        "out-of-memory", f"Not even one {self._item} at a time fits: {error}"
                    ) from error
            else:
                done += len(batch)
                yield result
                continue
            # Not before here is the error gone, and with it the frames that it came through and their tensors.
            self._at_once = len(batch) // 2
            log.warning("Out of memory with %d %ss at once; trying %d.", len(batch), self._item, self._at_once)
            # torch keeps what is freed for tensors of the same size, where nothing else can have it.
            torch.cuda.empty_cache()
