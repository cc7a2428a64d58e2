"""Where each token of a text lies in the frames of a CTC model: the dynamic programme of WhisperX, for several texts at
once.

WhisperX took it from PyTorch's tutorial on forced alignment and runs it frame by frame in tensors, the way back in
single numbers. Here a frame is two operations of numpy on all tokens of all texts, whatever can be done for many frames
at once is, and the way forward keeps which way each cell was reached, so that the way back only reads. The arithmetic
is the same, in float32 and in the same order, so the result is the same to the last bit, with all its quirks: a text
that has more tokens than there are frames left is pushed on by infinities.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Emission = NDArray[np.float32]
"""Log probabilities, (frames, labels)."""

Tokens = NDArray[np.intp]
"""Labels, in the order in which they are said."""

_BLOCK_FRAMES = 32
"""What is kept of so many frames stays in the processor's cache for a text of half a minute."""


class TokenSpans(NamedTuple):
    """Where the tokens of a text are: the one at i in frames[i] up to frames[i + 1]. scores[i] is the mean probability
    of what was recognized in them."""

    frames: list[int]
    scores: list[float]


def align_tokens(emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int) -> list[TokenSpans | None]:
    """None for a text that cannot be aligned.

    No text may be empty. As whisperx.alignment's get_trellis, backtrack and merge_repeats, with the same results.
    """
    if not emissions:
        return []
    spans: list[TokenSpans | None] = []
    for emission, text, way in zip(emissions, tokens, _forward(emissions, tokens, blank), strict=True):
        frames = _way_back(way.arrived_by, int(way.complete.argmax()))
        spans.append(None if frames is None else TokenSpans(frames, _scores(emission, text, blank, frames)))
    return spans


class _Way(NamedTuple):
    arrived_by: NDArray[np.bool_]
    """Whether each token, (frames, tokens), was reached in a frame by a change to it rather than by staying in it."""
    complete: NDArray[np.float32]
    """The score of having said all tokens before each frame and after the last."""


def _forward(emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int) -> list[_Way]:
    """All texts lie in one row of cells, so that a frame of all of them is two operations.

    A cell is the score of its token as the last one said. It comes from itself or from the cell before it; before the
    first token of each text is a cell that is always 0, and the score of having said nothing is in what that gains.
    """
    frames = max(len(emission) for emission in emissions)
    # After a cell at the very beginning, which is there to be read only.
    ends = np.cumsum([len(text) + 1 for text in tokens]).tolist()
    places = [slice(end - len(text), end) for end, text in zip(ends, tokens, strict=True)]
    zeros = [place.start - 1 for place in places]
    arrived_by = np.empty((frames, ends[-1]), np.bool_)
    complete = np.empty((frames + 1, len(tokens)), np.float32)
    unbegun = [_unbegun(emission[:, blank], len(text)) for emission, text in zip(emissions, tokens, strict=True)]
    block = min(_BLOCK_FRAMES, frames)
    cells = np.full((block + 1, 1 + ends[-1]), -np.inf, np.float32)
    scores = cells[:, 1:]
    scores[:, zeros] = 0
    # (staying or changing, frame, cell): what that gains, and the score with it.
    gains = np.zeros((2, block, ends[-1]), np.float32)
    gains[1, :, zeros] = -np.inf
    sums = np.empty_like(gains)
    frame_step, cell_step = cells.strides
    sources = as_strided(scores, gains.shape, (-cell_step, frame_step, cell_step))
    # Made once, since in numpy a view takes as long as a sum of so few numbers.
    steps = [
        (sources[:, frame], gains[:, frame], sums[:, frame], *sums[:, frame], scores[frame + 1])
        for frame in range(block)
    ]
    for first in range(0, frames, block):
        size = min(block, frames - first)
        for emission, text, place, before in zip(emissions, tokens, places, unbegun, strict=True):
            # Of a text that has ended whatever comes is never read.
            heard = emission[first : first + size]
            gains[0, : len(heard), place] = heard[:, blank, np.newaxis]
            gains[1, : len(heard), place] = heard[:, text]
            gains[1, : len(heard), place.start] += before[first : first + len(heard)]
        with np.errstate(invalid="ignore"):
            for source, gain, total, stayed, changed, score in steps[:size]:
                np.add(source, gain, total)
                # Ignores what infinity makes of the zero behind it.
                np.fmax(stayed, changed, out=score)
            np.greater(sums[1, :size], sums[0, :size], out=arrived_by[first : first + size])
        complete[first : first + size] = scores[:size, [end - 1 for end in ends]]
        scores[0] = scores[size]
    complete[frames] = scores[0, [end - 1 for end in ends]]
    return [
        _Way(arrived_by[: len(emission), place], complete[: len(emission) + 1, i])
        for i, (emission, place) in enumerate(zip(emissions, places, strict=True))
    ]


def _unbegun(blanks: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The score of having said nothing before each frame and after the last. As in WhisperX it is infinite, and so
    never chosen against, from where there are fewer frames left than tokens."""
    unbegun = np.full(len(blanks) + 1, np.inf, np.float32)
    begun = max(0, len(blanks) + 1 - count)
    if begun > 0:
        unbegun[0] = 0
        # torch adds floats up in double precision.
        unbegun[1:begun] = torch.from_numpy(blanks.copy()).cumsum(0).numpy()[: begun - 1]
    return unbegun


def _way_back(arrived_by: NDArray[np.bool_], after: int) -> list[int] | None:
    """The frames at which the tokens begin, and the frame after the last."""
    count = arrived_by.shape[1]
    cells = arrived_by[:after].tobytes()
    frames = [after]
    token = count - 1
    for frame in range(after - 1, -1, -1):
        if cells[frame * count + token]:
            frames.append(frame)
            token -= 1
            if token < 0:
                return frames[::-1]
    return None


def _scores(emission: Emission, tokens: Tokens, blank: int, frames: list[int]) -> list[float]:
    """In the frame where a token begins the token was recognized, in its others the blank."""
    first = frames[0]
    recognized = emission[first : frames[-1], blank].copy()
    begins = np.array(frames[:-1])
    recognized[begins - first] = emission[begins, tokens]
    own = torch.from_numpy(recognized).exp().tolist()
    return [sum(own[start - first : end - first]) / (end - start) for start, end in pairwise(frames)]
