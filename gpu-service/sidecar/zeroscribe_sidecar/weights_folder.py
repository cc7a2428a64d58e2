"""Where the weights of a Whisper model are loaded from."""

from pathlib import Path


def weights_folder(folder: Path, compute_type: str) -> Path:
    """The folder itself, or the one in it that holds what an 8-bit compute type would make of its model.bin.

    Set-up makes that (setup/keep_eight_bit.py), and CTranslate2 has nothing left to convert.
    """
    weights = folder / "model.bin"
    if compute_type.startswith("int8") and weights.is_file():
        kept = folder / f"int8-of-{weights.stat().st_size}"
        if (kept / "model.bin").is_file():
            return kept
    return folder
