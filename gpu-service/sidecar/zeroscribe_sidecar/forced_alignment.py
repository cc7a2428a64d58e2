"""Where each token of a text lies in the frames of a CTC model: the dynamic programme of WhisperX, for several texts at
once.

WhisperX took it from PyTorch's tutorial on forced alignment and runs it frame by frame in tensors, the way back in
single numbers. Here a frame of all texts is one step of arrays, and the way forward keeps which way each cell was
reached, so that the way back only reads. The arithmetic is the same, in float32 and in the same order, so the result
is the same to the last bit, with all its quirks: a text that has more tokens than there are frames left is pushed on
by infinities.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Emission = NDArray[np.float32]
"""Log probabilities, (frames, labels)."""

_CELLS_AT_ONCE = 2**25
"""Frames times tokens of the texts that are aligned together, at a byte each."""


class TokenSpan(NamedTuple):
    """Frames from `start` up to `end`, and the mean probability of what was recognized in them."""

    start: int
    end: int
    score: float


def align_tokens(
    emissions: Sequence[Emission], tokens: Sequence[Sequence[int]], blank: int
) -> list[list[TokenSpan] | None]:
    """One span for each token of each text, in their order; None for a text that cannot be aligned.

    No text may be empty. As whisperx.alignment's get_trellis, backtrack and merge_repeats, with the same results.
    """
    spans: list[list[TokenSpan] | None] = [None] * len(emissions)
    for group in _groups([emission.shape[0] * len(text) for emission, text in zip(emissions, tokens, strict=True)]):
        arrived_by, last_columns = _forward([emissions[i] for i in group], [tokens[i] for i in group], blank)
        for place, i in enumerate(group):
            count = len(tokens[i])
            changes = _way_back(arrived_by[:, place, :], int(last_columns[place].argmax()), count)
            if changes is not None:
                spans[i] = _spans(emissions[i], tokens[i], blank, *changes)
    return spans


def _groups(cells: Sequence[int]) -> Iterator[list[int]]:
    """Neighbours are about as long, so little is computed in vain."""
    group: list[int] = []
    most = 0
    for i in sorted(range(len(cells)), key=lambda i: -cells[i]):
        most = max(most, cells[i])
        if group and most * (len(group) + 1) > _CELLS_AT_ONCE:
            yield group
            group, most = [], cells[i]
        group.append(i)
    if group:
        yield group


def _forward(
    emissions: Sequence[Emission], tokens: Sequence[Sequence[int]], blank: int
) -> tuple[NDArray[np.bool_], list[NDArray[np.float32]]]:
    """Whether (frame, text, token) was reached by a change to the token rather than by staying; and of each text the
    score of having said all of it, at each frame (0: before the first)."""
    texts = len(emissions)
    frames = max(emission.shape[0] for emission in emissions)
    width = max(len(text) for text in tokens)
    labels = emissions[0].shape[1]
    # What is not there is never read: a cell depends on those to its left and before it alone.
    padded = np.zeros((frames, texts * labels), np.float32)
    places = np.zeros((texts, width), np.intp)
    unbegun = np.full((frames + 1, texts), np.inf, np.float32)
    for place, (emission, text) in enumerate(zip(emissions, tokens, strict=True)):
        own = emission.shape[0]
        padded[:own, place * labels : (place + 1) * labels] = emission
        places[place, : len(text)] = text
        places[place] += place * labels
        begun = max(0, own + 1 - len(text))
        if begun > 0:
            unbegun[0, place] = 0
            # torch adds floats up in double precision.
            unbegun[1:begun, place] = torch.from_numpy(emission[:, blank].copy()).cumsum(0).numpy()[: begun - 1]
    staying = padded[:, blank::labels, np.newaxis]
    arrived_by = np.empty((frames, texts, width), np.bool_)
    complete = np.empty((frames + 1, texts), np.float32)
    stayed, changed = (np.empty((texts, width), np.float32) for _ in range(2))
    even, odd = (np.full((texts, width + 1), -np.inf, np.float32) for _ in range(2))
    steps = cycle(
        [
            (even, even[:, 0], even[:, 1:], even[:, :-1], odd[:, 1:]),
            (odd, odd[:, 0], odd[:, 1:], odd[:, :-1], even[:, 1:]),
        ]
    )
    ends = np.array([place * (width + 1) + len(text) for place, text in enumerate(tokens)])
    with np.errstate(invalid="ignore"):
        for frame, (row, before_all, same, previous, following) in zip(range(frames), steps, strict=False):
            before_all[:] = unbegun[frame]
            row.take(ends, out=complete[frame], mode="clip")
            # mode: without checking each place, which needs a copy.
            padded[frame].take(places, out=changed, mode="clip")
            np.add(previous, changed, out=changed)
            np.add(same, staying[frame], out=stayed)
            np.greater(changed, stayed, out=arrived_by[frame])
            np.maximum(stayed, changed, out=following)
    (odd if frames % 2 else even).take(ends, out=complete[frames])
    return arrived_by, [complete[: emission.shape[0] + 1, place] for place, emission in enumerate(emissions)]


def _way_back(arrived_by: NDArray[np.bool_], after: int, count: int) -> tuple[list[int], int] | None:
    """The frames at which a token begins, in the order of the tokens, and the frame after the last."""
    frames = arrived_by[:after, :count].tobytes()
    changes: list[int] = []
    token = count - 1
    for frame in range(after - 1, -1, -1):
        if frames[frame * count + token]:
            changes.append(frame)
            token -= 1
            if token < 0:
                return changes[::-1], after
    return None


def _spans(emission: Emission, tokens: Sequence[int], blank: int, changes: list[int], after: int) -> list[TokenSpan]:
    first = changes[0]
    recognized = emission[first:after, blank].copy()
    recognized[np.array(changes) - first] = emission[changes, tokens]
    scores = torch.from_numpy(recognized).exp().tolist()
    ends = [*changes[1:], after]
    return [
        TokenSpan(start, end, sum(scores[start - first : end - first]) / (end - start))
        for start, end in zip(changes, ends, strict=True)
    ]
