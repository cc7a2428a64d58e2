"""Where the weights of a Whisper model are loaded from."""

import os
import zlib
from pathlib import Path

_SAMPLES = 64
_SAMPLE_BYTES = 4096


def weights_folder(folder: Path, compute_type: str) -> Path:
    """The folder itself, or the one in it that holds what an 8-bit compute type would make of its model.bin.

    Set-up makes that (keep_eight_bit.py), and CTranslate2 has nothing left to convert.
    """
    if compute_type.startswith("int8") and (folder / "model.bin").is_file():
        kept = eight_bit_folder(folder)
        if (kept / "model.bin").is_file():
            return kept
    return folder


def eight_bit_folder(folder: Path) -> Path:
    """Named after the model.bin that it is made of, so that it is not taken for that of another one in its place.

    A fine-tuned model has the same size, and to read all of it would take longer than is saved: samples tell.
    """
    with (folder / "model.bin").open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        checksum = zlib.crc32(str(size).encode())
        for sample in range(_SAMPLES):
            file.seek(size * sample // _SAMPLES)
            checksum = zlib.crc32(file.read(_SAMPLE_BYTES), checksum)
    return folder / f"int8-of-{checksum:08x}"
