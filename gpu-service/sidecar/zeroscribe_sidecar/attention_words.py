"""Word times from Whisper's cross-attention, in WhisperX's manner of words: between spaces, punctuation attached."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from .protocol import Chunk
from .segments import TimedWord, untimed_words

# As faster_whisper.tokenizer: no spaces, so the pieces of text that a token or two make are the words.
LANGUAGES_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})

_LONGEST_MEDIAN_SECONDS = 0.7
_SHORTEST_SECONDS = 0.1


def attention_words(text: str, pieces: Sequence[dict[str, Any]], language: str, chunk: Chunk) -> list[TimedWord]:
    """Words of `text` with times inside the chunk that never run backwards.

    `pieces` come from Whisper.align: {"word": text with its leading space, "start", "end": seconds
    from the start of the chunk, "probability"}.
    """
    offsets = [0]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece["word"]))
    if "".join(piece["word"] for piece in pieces) != text:
        # Tokens that are no whole characters. Rare, and not worth guessing.
        return untimed_words(text)
    spans = _piece_spans(text, offsets) if language in LANGUAGES_WITHOUT_SPACES else _word_spans(text)

    words: list[TimedWord] = []
    earliest = chunk.start
    index = 0
    limit = 2 * _median_seconds(pieces)
    for first, last in spans:
        while offsets[index + 1] <= first:
            index += 1
        inside = []
        for i in range(index, len(pieces)):
            if offsets[i] >= last:
                break
            inside.append(pieces[i])
        # A full stop is "heard" during the whole pause after it, so only letters and digits count.
        spoken = [piece for piece in inside if any(map(str.isalnum, piece["word"]))] or inside
        start = chunk.start + float(spoken[0]["start"])
        end = chunk.start + float(spoken[-1]["end"])
        # All the time of a short word can have gone to its full stop.
        end = max(end, min(start + _SHORTEST_SECONDS, chunk.start + float(inside[-1]["end"])))
        # Attention lets a word begin where the one before ended, so the first after a pause looks too long.
        if limit and words and end - start > limit and text[words[-1].last - 1] in ".?!。！？":  # noqa: RUF001
            start = end - limit
        start = min(max(start, earliest), chunk.end)
        end = min(max(end, start), chunk.end)
        score = sum(float(piece["probability"]) for piece in spoken) / len(spoken)
        words.append(TimedWord(first, last, start, end, score))
        earliest = end
    return words


def _median_seconds(pieces: Sequence[dict[str, Any]]) -> float:
    lengths = sorted(length for piece in pieces if (length := float(piece["end"]) - float(piece["start"])) > 0)
    return min(_LONGEST_MEDIAN_SECONDS, lengths[len(lengths) // 2]) if lengths else 0.0


def _word_spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def _piece_spans(text: str, offsets: Iterable[int]) -> list[tuple[int, int]]:
    bounds = list(offsets)
    spans: list[tuple[int, int]] = []
    for first, last in pairwise(bounds):
        stripped = text[first:last].strip()
        if not stripped:
            continue
        first = text.index(stripped, first)
        last = first + len(stripped)
        if spans and spans[-1][1] == first and not any(map(str.isalnum, stripped)):
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans
