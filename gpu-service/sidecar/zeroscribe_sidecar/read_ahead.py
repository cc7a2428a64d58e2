"""Fetches the Whisper model from the disk while the libraries are still being imported."""

import contextlib
import json
import os
from pathlib import Path
from threading import Thread

from .weights_folder import weights_folder

_BLOCK_BYTES = 8 << 20


def read_ahead(arguments: list[str]) -> Thread | None:
    """Begins, where the process's only argument configures a recognizer. Never fails: what is wrong with it is said by
    those who need it."""
    try:
        [argument] = arguments
        config = json.loads(argument)
        if config["role"] != "recognizer":
            return None
        folder = Path(config["models"][config["default_model"]])
        compute_type = str(config["compute_type"])
        thread = Thread(target=_read_weights, args=(folder, compute_type), name="read-ahead", daemon=True)
        thread.start()
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RuntimeError):
        return None
    return thread


def _read_weights(folder: Path, compute_type: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        read_whole(weights_folder(folder, compute_type) / "model.bin")


def read_whole(path: Path) -> int:
    """Leaves the file in the kernel's page cache as far as that has room, and nothing in the process. Returns how many
    bytes were read."""
    done = 0
    with contextlib.suppress(OSError, ValueError), path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            # Not every file system listens, so it is read too.
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        block = bytearray(_BLOCK_BYTES)
        while count := file.readinto(block):
            done += count
    return done
