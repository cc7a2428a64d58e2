"""From scores of speech to chunks for Whisper: the rules of whisperx.vads on arrays, without pyannote and pandas."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Region = tuple[float, float]
"""Start and end of a stretch of speech, in seconds."""

# What is not longer is no segment to pyannote.core.
_SHORTEST_SECONDS = 1e-6


def speech_regions(
    scores: NDArray[np.float32], times: NDArray[np.float64], onset: float, offset: float, longest_seconds: float
) -> list[Region]:
    """As whisperx.vads.pyannote.Binarize. `times`: the middle of each score's frame, in seconds.

    Speech begins above `onset` and ends below `offset`. After `longest_seconds` of it, it is cut at the lowest score
    of the second half, which the next region begins with.
    """
    if len(scores) == 0:
        return []
    ups = np.flatnonzero(scores > onset)
    downs = np.flatnonzero(scores < offset)
    regions: list[Region] = []

    def add(start: float, end: float) -> None:
        if end - start > _SHORTEST_SECONDS:
            regions.append((start, end))

    def cut(first: int, end: int) -> int:
        """Where to cut what was heard since the last change: the frames from `first`, and before them `leftover`."""
        heard = np.append(scores[leftover:][:1], scores[first:end]) if leftover is not None else scores[first:end]
        half = len(heard) // 2
        index = half + int(np.argmin(heard[half:]))
        if leftover is None:
            return first + index
        return leftover if index == 0 else first + index - 1

    # WhisperX keeps the frame with which the last region ended among those in which it looks for a cut.
    leftover: int | None = 0
    frame = 0 if scores[0] > onset else _next(ups, 1)
    while frame < len(scores):
        start = float(times[frame])
        first = frame = frame + 1
        while True:
            end = _next(downs, frame)
            too_long = _first_later(times, frame, start, longest_seconds)
            if min(end, too_long) >= len(scores):
                add(start, float(times[-1]))
                return regions
            if end < too_long:
                break
            lowest = cut(first, too_long)
            add(start, float(times[lowest]))
            start = float(times[lowest])
            if lowest != leftover:
                first = lowest + 1
            leftover = None
            # The frame that is one too many is not asked whether speech ends with it.
            frame = too_long + 1
        add(start, float(times[end]))
        leftover = end
        frame = _next(ups, end + 1)
    return regions


def merge_regions(regions: Sequence[Region], longest_seconds: float) -> list[Region]:
    """As whisperx.vads.vad.Vad.merge_chunks: as many regions a chunk as fit into `longest_seconds`."""
    chunks: list[Region] = []
    for start, end in regions:
        if chunks and end - chunks[-1][0] <= longest_seconds:
            chunks[-1] = (chunks[-1][0], end)
        else:
            chunks.append((start, end))
    return chunks


def _next(frames: NDArray[np.intp], from_frame: int) -> int:
    """The first of `frames` that is not before `from_frame`; beyond all frames when there is none."""
    index = int(np.searchsorted(frames, from_frame))
    return int(frames[index]) if index < len(frames) else np.iinfo(np.intp).max


def _first_later(times: NDArray[np.float64], from_frame: int, start_seconds: float, seconds: float) -> int:
    """The first frame from `from_frame` on more than `seconds` after `start_seconds`, by the same subtraction."""
    frame = max(from_frame, int(np.searchsorted(times, start_seconds + seconds)) - 2)
    while frame < len(times) and times[frame] - start_seconds <= seconds:
        frame += 1
    return frame
