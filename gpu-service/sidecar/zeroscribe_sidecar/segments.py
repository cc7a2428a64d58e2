"""From the text of a chunk and the times of its words to sentences."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from .protocol import Chunk, RawSegment, RawWord, TextChunk
from .sentences import sentence_starts


class TimedWord(NamedTuple):
    """text[first:last] with its times in seconds from the start of the audio."""

    first: int
    last: int
    start: float | None = None
    end: float | None = None
    score: float | None = None


def untimed_words(text: str) -> list[TimedWord]:
    """The words between white space, without times."""
    return [TimedWord(*match.span()) for match in re.finditer(r"\S+", text)]


def to_segments(text: str, words: Sequence[TimedWord], language: str, chunk: Chunk | TextChunk) -> list[RawSegment]:
    """Groups words into sentences. Joined, the sentences are the chunk's text, apart from white space."""
    starts = sentence_starts(text, language)
    sentences: dict[int, list[TimedWord]] = {}
    for word in words:
        sentences.setdefault(bisect_right(starts, word.first), []).append(word)
    segments: list[RawSegment] = []
    previous_end = chunk.start
    for sentence in sentences.values():
        start = next((word.start for word in sentence if word.start is not None), previous_end)
        end = next((word.end for word in reversed(sentence) if word.end is not None), max(start, chunk.end))
        segments.append(
            RawSegment(
                start=start,
                end=max(start, end),
                text=text[sentence[0].first : sentence[-1].last],
                words=[
                    RawWord(word=text[word.first : word.last], start=word.start, end=word.end, score=word.score)
                    for word in sentence
                ],
            )
        )
        previous_end = max(start, end)
    return segments
