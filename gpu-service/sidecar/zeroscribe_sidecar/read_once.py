"""Keeps pyannote from reading each model twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch.core.saving
import pyannote.audio.core.model

_READERS: tuple[Any, ...] = (pyannote.audio.core.model, lightning.pytorch.core.saving)


@contextmanager
def read_once() -> Iterator[None]:
    """Meanwhile the second reading of a checkpoint gets what the first one found.

    pyannote reads a checkpoint to find out the class of the model, and has lightning read it again for the weights.
    """
    read = pyannote.audio.core.model.pl_load
    found: dict[str, Any] = {}

    def read_or_take(path: Any, *args: Any, **options: Any) -> Any:
        key = str(path)
        if key in found:
            return found.pop(key)
        checkpoint = read(path, *args, **options)
        found[key] = checkpoint
        return checkpoint

    for module in _READERS:
        module.pl_load = read_or_take
    try:
        yield
    finally:
        for module in _READERS:
            module.pl_load = read
