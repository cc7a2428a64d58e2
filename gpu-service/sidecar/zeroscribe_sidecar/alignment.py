"""Word times from a wav2vec2 model: what whisperx.align does, several chunks at a time and without its data frames."""

import logging
import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .channel import Reply
from .emissions import EmissionModel
from .errors import CommandFailed
from .forced_alignment import Emission, TokenSpans, align_tokens
from .gpu_memory import peak_logged
from .pcm import SAMPLE_RATE, Samples, release_pages, sample_range
from .protocol import Align, AlignedChunk, AlignResult, SidecarConfig, TextChunk
from .segments import TimedWord, to_segments, untimed_words
from .shrinking_batches import ShrinkingBatches

log = logging.getLogger(__name__)

_WITHOUT_SPACES = ("ja", "zh")
"""Languages in which WhisperX takes each character for a word."""

_WORDS = re.compile("[^ ]+")
_CHARACTERS = re.compile("[^ ]")


class Aligner:
    """The alignment model of one language."""

    def __init__(self, language: str, config: SidecarConfig) -> None:
        """Loads it from its folder. Fails with model-not-available."""
        folder = config.alignment_models.get(language)
        if folder is None:
            raise CommandFailed("model-not-available", f'There is no alignment model for the language "{language}".')
        self._model = EmissionModel(language, folder, config.device)
        self._letters = Letters(self._model.labels, language)

    def align(self, pcm: Samples, command: Align, reply: Reply) -> AlignResult:
        """Streams the chunks, as many at a time as the model takes."""
        done = 0

        def align(chunks: Sequence[TextChunk]) -> list[AlignedChunk]:
            reply.raise_if_canceled()
            return self._align(pcm, chunks, command.language)

        with peak_logged("alignment"):
            for aligned in ShrinkingBatches(self._model.at_once, "chunk").of(command.chunks, align):
                reply.batch(aligned)
                done += len(aligned)
                release_pages(pcm, sample_range(command.chunks[done - 1], len(pcm))[1])
                reply.progress(done / len(command.chunks))
        return AlignResult()

    def _align(self, pcm: Samples, chunks: Sequence[TextChunk], language: str) -> list[AlignedChunk]:
        tokens = [self._letters.tokens_of(chunk.text) for chunk in chunks]
        heard = [i for i, chunk in enumerate(chunks) if tokens[i].codes and chunk.start < len(pcm) / SAMPLE_RATE]
        emissions = self._model.emissions([_piece(pcm, chunks[i]) for i in heard])
        words = [untimed_words(chunk.text) for chunk in chunks]
        aligned = align_texts(emissions, [tokens[i] for i in heard], self._letters.blank)
        for i, emission, spans in zip(heard, emissions, aligned, strict=True):
            if spans is None:
                log.warning("A chunk could not be aligned.")
            else:
                words[i] = timed_words(chunks[i], tokens[i], spans, len(emission), language)
        return [
            AlignedChunk(segments=to_segments(chunk.text, own, language, chunk))
            for chunk, own in zip(chunks, words, strict=True)
        ]


def _piece(pcm: Samples, chunk: TextChunk) -> Samples:
    """Cut as WhisperX cuts."""
    return pcm[int(chunk.start * SAMPLE_RATE) : int(chunk.end * SAMPLE_RATE)]


class TextTokens(NamedTuple):
    """The characters of a text that are aligned: where in the text each is, and which of the model's labels; -1: none
    of them."""

    places: list[int]
    codes: list[int]


class Letters:
    """What of a text a model can hear."""

    def __init__(self, labels: dict[str, int], language: str) -> None:
        """`labels`: the model's vocabulary."""
        self._labels = {letter.lower(): code for letter, code in labels.items()}
        self._has_spaces = language not in _WITHOUT_SPACES
        self._code_of = cache(self._find_code)
        # Of two, WhisperX takes the last.
        blanks = [code for letter, code in self._labels.items() if letter in ("[pad]", "<pad>")]
        self.blank = blanks[-1] if blanks else 0

    def tokens_of(self, text: str) -> TextTokens:
        """All but the white space around the text, and spaces that the model does not know.

        Other characters that it does not know (digits, foreign letters) are tokens too: they are somewhere. Where
        WhisperX makes two of a character whose lower case is two, and is one off from there on, it is one here.
        """
        first = len(text) - len(text.lstrip())
        codes = [self._code_of(character) for character in text.strip()]
        return TextTokens(
            [place for place, code in enumerate(codes, first) if code is not None],
            [code for code in codes if code is not None],
        )

    def _find_code(self, character: str) -> int | None:
        letter = character.lower()
        if self._has_spaces and letter == " ":
            letter = "|"
        return self._labels.get(letter, None if letter in (" ", "|") else -1)


def align_texts(emissions: Sequence[Emission], texts: Sequence[TextTokens], blank: int) -> list[TokenSpans | None]:
    """Tokens that are none of the labels match whatever is loudest but for the blank, in every frame."""
    extended = []
    for emission in emissions:
        others = np.delete(emission, blank, axis=1).max(axis=1, keepdims=True)
        extended.append(np.concatenate([emission, others], axis=1))
    # -1 is the last column.
    codes = [np.array(text.codes) % emission.shape[1] for text, emission in zip(texts, extended, strict=True)]
    return align_tokens(extended, codes, blank)


def _rounded(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """To three digits, as Python's round, which is not quite as numpy's: exactly in between, the decimals decide."""
    thousandths = scores * 1000
    rounded: NDArray[np.float64] = np.rint(thousandths) / 1000
    for place in np.flatnonzero(np.abs(thousandths % 1 - 0.5) < 1e-6):
        rounded[place] = round(float(scores[place]), 3)
    return rounded


def timed_words(chunk: TextChunk, tokens: TextTokens, spans: TokenSpans, frames: int, language: str) -> list[TimedWord]:
    """From frames to seconds of the recording, and from characters to words: rounded, and in the order, as WhisperX
    does it."""
    seconds = (chunk.end - chunk.start) / frames
    scores = _rounded(np.array(spans.scores))
    words: list[TimedWord] = []
    for match in (_CHARACTERS if language in _WITHOUT_SPACES else _WORDS).finditer(chunk.text):
        text = match.group().strip()
        if not text:
            continue
        first = chunk.text.index(text, match.start())
        last = first + len(text)
        # Its tokens.
        own_first, own_last = bisect_left(tokens.places, match.start()), bisect_left(tokens.places, match.end())
        if own_first == own_last:
            words.append(TimedWord(first, last))
            continue
        start = round(spans.frames[own_first] * seconds + chunk.start, 3)
        end = round(spans.frames[own_last] * seconds + chunk.start, 3)
        score = float(np.add.reduce(scores[own_first:own_last])) / (own_last - own_first)
        # As numpy rounds the mean, which is not quite as Python does.
        words.append(TimedWord(first, last, start, end, round(score * 1000) / 1000))
    return words
