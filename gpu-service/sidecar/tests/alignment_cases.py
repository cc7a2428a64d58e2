"""Random texts in random frames, for WhisperX's aligner and ours: with letters that the model does not know, with more
letters than frames, with flat and with steep probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import whisperx.alignment

from zeroscribe_sidecar.alignment import Letters, align_texts, timed_words
from zeroscribe_sidecar.forced_alignment import TokenSpans
from zeroscribe_sidecar.protocol import TextChunk
from zeroscribe_sidecar.segments import to_segments

LETTERS = {"en": "abcdefgh'     é7", "ja": "あいう、 7"}
"""7 is none of the model's."""

Word = tuple[str, float | None, float | None, float | None]


class OneSentence:
    """In place of NLTK's splitter, which WhisperX would download: sentences are made afterwards, from the words."""

    @staticmethod
    def span_tokenize(text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


@dataclass(frozen=True)
class Case:
    language: str
    vocabulary: dict[str, int]
    chunks: list[TextChunk]
    logits: list[torch.Tensor]


def random_cases(language: str, count: int, seed: int) -> Iterator[Case]:
    random = np.random.default_rng(seed)
    letters = LETTERS[language]
    known = [letter for letter in dict.fromkeys(letters) if letter not in " 7"]
    vocabulary = {letter: code for code, letter in enumerate(["<pad>", "|", *known])}
    for _ in range(count):
        frames = int(random.integers(1, 40))
        text = "".join(random.choice(list(letters), int(random.integers(1, frames + 4))))
        logits = torch.from_numpy(random.normal(size=(1, frames, len(vocabulary))).astype(np.float32))
        logits *= float(random.choice([0.1, 1, 8]))
        if random.random() < 0.2:
            logits = logits.round()
        start = round(random.random() * 9, 3)
        yield Case(language, vocabulary, [TextChunk(start=start, end=start + 1.234, text=text)], [logits])


def whisperx_words(case: Case) -> list[Word]:
    logits = iter(case.logits)
    result: Any = whisperx.alignment.align(
        [chunk.model_dump() for chunk in case.chunks],
        lambda _: SimpleNamespace(logits=next(logits)),
        {"language": case.language, "dictionary": case.vocabulary, "type": "huggingface"},
        torch.zeros(1, 16_000 * int(case.chunks[-1].end + 1)),
        "cpu",
        interpolate_method="ignore",
    )
    return [(word["word"], word.get("start"), word.get("end"), word.get("score")) for word in result["word_segments"]]


def our_words(case: Case, at_once: int = 1) -> list[Word]:
    letters = Letters(case.vocabulary, case.language)
    emissions = [torch.log_softmax(logits, dim=-1)[0].numpy() for logits in case.logits]
    tokens = [letters.tokens_of(chunk.text) for chunk in case.chunks]
    if not all(text.codes for text in tokens):
        return []
    aligned: list[TokenSpans | None] = []
    for first in range(0, len(emissions), at_once):
        group = slice(first, first + at_once)
        aligned += align_texts(emissions[group], tokens[group], letters.blank)
    words: list[Word] = []
    for i, spans in enumerate(aligned):
        if spans is not None:
            chunk = case.chunks[i]
            own = timed_words(chunk, tokens[i], spans, len(emissions[i]), case.language)
            for segment in to_segments(chunk.text, own, case.language, chunk):
                words += [(word.word, word.start, word.end, word.score) for word in segment.words or []]
    return words
