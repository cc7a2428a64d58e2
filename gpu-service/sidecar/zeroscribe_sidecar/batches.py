"""Which chunks are transcribed together, and handing what becomes of them over in order all the same."""

from collections.abc import Sequence

from .channel import Reply
from .protocol import TranscribedChunk

# What is done ahead of its turn waits: alignment gets it later, and a crash or a cancellation loses it. Two save about
# half of the steps that four do, but four hold back three batches until the fourth is done.
_BATCHES_AHEAD = 2


def consecutive_batches(places: Sequence[int], batch_size: int) -> list[list[int]]:
    """One after the other, as WhisperX composes them."""
    return [list(places[first : first + batch_size]) for first in range(0, len(places), batch_size)]


def even_batches(places: Sequence[int], seconds: Sequence[float], batch_size: int) -> list[list[int]]:
    """Long chunks with long ones: a batch is decoded for as many steps as its longest text has. `seconds` has the
    length of every chunk, `places` those that are to be done, in order. Of the batches that lie ahead together, the one
    with the earliest chunk comes first."""
    batches: list[list[int]] = []
    for ahead in consecutive_batches(places, batch_size * _BATCHES_AHEAD):
        longest_first = sorted(ahead, key=lambda place: -seconds[place])
        batches += sorted(sorted(batch) for batch in consecutive_batches(longest_first, batch_size))
    return batches


class InOrder:
    """Keeps what came early until all before it is there, and hands over at once whatever is in order."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._early: dict[int, TranscribedChunk] = {}
        self.handed_over = 0

    def add(self, places: Sequence[int], results: Sequence[TranscribedChunk]) -> None:
        """Takes what became of the chunks at these places."""
        self._early.update(zip(places, results, strict=True))
        following: list[TranscribedChunk] = []
        while (place := self.handed_over + len(following)) in self._early:
            following.append(self._early.pop(place))
        if following:
            self._reply.batch(following)
            self.handed_over += len(following)
