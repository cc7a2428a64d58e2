"""Where each token of a text lies in the frames of a CTC model: the dynamic programme of WhisperX, for several texts at
once.

WhisperX took it from PyTorch's tutorial on forced alignment and runs it frame by frame in tensors, the way back in
single numbers. Here a frame of all texts is one step of arrays, and the way forward keeps which way each cell was
reached, so that the way back only reads. The arithmetic is the same, in float32 and in the same order, so the result
is the same to the last bit, with all its quirks: a text that has more tokens than there are frames left is pushed on
by infinities.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Emission = NDArray[np.float32]
"""Log probabilities, (frames, labels)."""

Tokens = NDArray[np.intp]
"""Labels, in the order in which they are said."""

_CELLS_AT_ONCE = 2**25
"""Texts that are aligned together, times the frames of the longest, times the tokens of that with most: at a byte each.
A single text may have more."""


class TokenSpans(NamedTuple):
    """Where the tokens of a text are: the one at i in frames[i] up to frames[i + 1]. scores[i] is the mean probability
    of what was recognized in them."""

    frames: list[int]
    scores: list[float]


def align_tokens(emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int) -> list[TokenSpans | None]:
    """None for a text that cannot be aligned.

    No text may be empty. As whisperx.alignment's get_trellis, backtrack and merge_repeats, with the same results.
    """
    spans: list[TokenSpans | None] = [None] * len(emissions)
    for group in _groups([(emission.shape[0], len(text)) for emission, text in zip(emissions, tokens, strict=True)]):
        arrived_by, last_columns = _forward([emissions[i] for i in group], [tokens[i] for i in group], blank)
        for place, i in enumerate(group):
            own = arrived_by[:, place, 1 : len(tokens[i]) + 1]
            frames = _way_back(own, int(last_columns[place].argmax()))
            if frames is not None:
                spans[i] = TokenSpans(frames, _scores(emissions[i], tokens[i], blank, frames))
    return spans


def _groups(sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """`sizes`: frames and tokens. Neighbours are about as long, so little is computed in vain."""
    group: list[int] = []
    most_frames = most_tokens = 0
    for i in sorted(range(len(sizes)), key=lambda i: sizes[i], reverse=True):
        frames, tokens = sizes[i]
        most_frames, most_tokens = max(most_frames, frames), max(most_tokens, tokens)
        if group and most_frames * most_tokens * (len(group) + 1) > _CELLS_AT_ONCE:
            yield group
            group, most_frames, most_tokens = [], frames, tokens
        group.append(i)
    if group:
        yield group


def _forward(
    emissions: Sequence[Emission], tokens: Sequence[Tokens], blank: int
) -> tuple[NDArray[np.bool_], list[NDArray[np.float32]]]:
    """Whether (frame, text, column) was reached by a change to it rather than by staying, the columns being before all
    tokens, the first token, and so on; and of each text the score of having said all of it at each frame (0: before
    the first)."""
    texts = len(emissions)
    frames = max(emission.shape[0] for emission in emissions)
    columns = max(len(text) for text in tokens) + 1
    labels = emissions[0].shape[1]
    # What is not there is never read: a cell depends on those to its left and before it alone.
    padded = np.zeros((frames, texts * labels), np.float32)
    places = np.zeros((texts, columns), np.intp)
    unbegun = np.full((frames + 1, texts), np.inf, np.float32)
    for place, (emission, text) in enumerate(zip(emissions, tokens, strict=True)):
        own = emission.shape[0]
        padded[:own, place * labels : (place + 1) * labels] = emission
        places[place, 1 : len(text) + 1] = text + place * labels
        begun = max(0, own + 1 - len(text))
        if begun > 0:
            unbegun[0, place] = 0
            # torch adds floats up in double precision.
            unbegun[1:begun, place] = torch.from_numpy(emission[:, blank].copy()).cumsum(0).numpy()[: begun - 1]
    staying = padded[:, blank::labels, np.newaxis]
    arrived_by = np.empty((frames, texts, columns), np.bool_)
    complete = np.empty((frames + 1, texts), np.float32)
    scores = np.full((texts, columns), -np.inf, np.float32)
    stayed, changed = np.empty_like(scores), np.empty_like(scores)
    # In one row the cells of all texts are shifted at once. What comes into a text's first column from the text before
    # it is overwritten.
    before, after = scores.ravel()[:-1], changed.ravel()[1:]
    first_column = scores[:, 0]
    last_cells = np.array([place * columns + len(text) for place, text in enumerate(tokens)])
    with np.errstate(invalid="ignore"):
        for frame in range(frames):
            first_column[:] = unbegun[frame]
            scores.take(last_cells, out=complete[frame], mode="clip")
            # mode: without checking each place, which needs a copy.
            padded[frame].take(places, out=changed, mode="clip")
            np.add(before, after, out=after)
            np.add(scores, staying[frame], out=stayed)
            np.greater(changed, stayed, out=arrived_by[frame])
            np.maximum(stayed, changed, out=scores)
    scores.take(last_cells, out=complete[frames], mode="clip")
    return arrived_by, [complete[: emission.shape[0] + 1, place] for place, emission in enumerate(emissions)]


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
