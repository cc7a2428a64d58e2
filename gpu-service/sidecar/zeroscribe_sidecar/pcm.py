"""Reading the audio. The file is mapped, and only what a model is about to hear becomes float32."""

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CommandFailed
from .protocol import Chunk, PcmFile, TextChunk

SAMPLE_RATE = 16_000
"""Samples per second of everything here, as of Whisper, wav2vec2 and pyannote."""

Samples = NDArray[np.int16]


def open_pcm(file: PcmFile) -> Samples:
    """Maps the file: int16, shape (samples,). Fails with audio-unreadable."""
    if file.samples == 0:
        return np.zeros(0, np.int16)
    try:
        size = Path(file.path).stat().st_size
        if size < file.samples * 2:
            raise CommandFailed(
                "audio-unreadable", f"The decoded audio has {size // 2} samples instead of {file.samples}."
            )
        # Copy-on-write and never written: torch complains about arrays that it could not write to.
        return np.memmap(file.path, dtype="<i2", mode="c", shape=(file.samples,))
    except OSError as error:
        raise CommandFailed("audio-unreadable", f"The decoded audio cannot be read: {error.strerror}.") from error


def release_pages(pcm: Samples, before: int) -> None:
    """Takes the samples before this one out of the process's resident memory, which would grow to the length of the
    recording. They are in the file still and can be read again."""
    mapped = getattr(pcm, "_mmap", None)
    size = before * pcm.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
    if mapped is not None and size > 0 and sys.platform == "linux":
        mapped.madvise(mmap.MADV_DONTNEED, 0, size)


def sample_range(chunk: Chunk | TextChunk, samples: int) -> tuple[int, int]:
    """First sample and the one after the last, cut as whisperx.asr cuts, within the audio."""
    first = min(int(chunk.start * SAMPLE_RATE), samples)
    # Product and quotient do not always cancel out: a chunk that ends with the audio must not lose its last sample.
    end = samples if chunk.end >= samples / SAMPLE_RATE else int(chunk.end * SAMPLE_RATE)
    return first, max(first, end)


def to_float(samples: Samples) -> NDArray[np.float32]:
    """To ±1 by the same arithmetic as whisperx.audio.load_audio."""
    return samples.astype(np.float32) / np.float32(32768.0)


def to_tensor(samples: Samples) -> Any:
    """int16 torch.Tensor of shape (1, samples) that shares the mapped memory."""
    import torch

    return torch.from_numpy(samples).unsqueeze(0)


def tensor_to_float(tensor: Any) -> Any:
    """As `to_float`, for int16 tensors; float tensors pass."""
    return tensor if tensor.is_floating_point() else tensor.float() / 32768.0
