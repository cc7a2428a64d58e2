"""Word times from a wav2vec2 model: what whisperx.align does, several chunks at a time and without its data frames."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .channel import Reply
from .emissions import EmissionModel
from .errors import CommandFailed
from .forced_alignment import Emission, TokenSpan, align_tokens
from .pcm import SAMPLE_RATE, Samples
from .protocol import Align, AlignedChunk, AlignResult, SidecarConfig, TextChunk
from .segments import TimedWord, to_segments, untimed_words

log = logging.getLogger(__name__)

_WITHOUT_SPACES = ("ja", "zh")
"""Languages in which WhisperX takes each character for a word."""


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
        while done < len(command.chunks):
            reply.raise_if_canceled()
            chunks = command.chunks[done : done + self._model.at_once]
            reply.batch(self._align(pcm, chunks, command.language))
            done += len(chunks)
            reply.progress(done / len(command.chunks))
        return AlignResult()

    def _align(self, pcm: Samples, chunks: Sequence[TextChunk], language: str) -> list[AlignedChunk]:
        tokens = [self._letters.tokens_of(chunk.text) for chunk in chunks]
        heard = [i for i, chunk in enumerate(chunks) if tokens[i] and chunk.start < len(pcm) / SAMPLE_RATE]
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


class Token(NamedTuple):
    """text[place], and which of the model's labels it is; None: it has none."""

    place: int
    code: int | None


class Letters:
    """What of a text a model can hear."""

    def __init__(self, labels: dict[str, int], language: str) -> None:
        """`labels`: the model's vocabulary."""
        self._codes = {letter.lower(): code for letter, code in labels.items()}
        self._has_spaces = language not in _WITHOUT_SPACES
        # Of two, WhisperX takes the last.
        blanks = [code for letter, code in self._codes.items() if letter in ("[pad]", "<pad>")]
        self.blank = blanks[-1] if blanks else 0

    def tokens_of(self, text: str) -> list[Token]:
        """One for each character but the white space around the text, and spaces that the model does not know.

        Other characters that it does not know (digits, foreign letters) are tokens too: they are somewhere. Where
        WhisperX makes two of a character whose lower case is two, and is one off from there on, it is one here.
        """
        first = len(text) - len(text.lstrip())
        tokens: list[Token] = []
        for place in range(first, len(text.rstrip())):
            letter = text[place].lower()
            if self._has_spaces and letter == " ":
                letter = "|"
            code = self._codes.get(letter)
            if code is not None or letter not in (" ", "|"):
                tokens.append(Token(place, code))
        return tokens


def align_texts(
    emissions: Sequence[Emission], texts: Sequence[Sequence[Token]], blank: int
) -> list[list[TokenSpan] | None]:
    """Tokens without a code match whatever is loudest but for the blank, in every frame."""
    unknown = emissions[0].shape[1] if emissions else 0
    extended = []
    for emission in emissions:
        others = np.delete(emission, blank, axis=1).max(axis=1, keepdims=True)
        extended.append(np.concatenate([emission, others], axis=1))
    codes = [[unknown if token.code is None else token.code for token in text] for text in texts]
    return align_tokens(extended, codes, blank)


def timed_words(
    chunk: TextChunk, tokens: Sequence[Token], spans: Sequence[TokenSpan], frames: int, language: str
) -> list[TimedWord]:
    """From frames to seconds of the recording, and from characters to words: rounded, and in the order, as WhisperX
    does it."""
    seconds = (chunk.end - chunk.start) / frames
    times: list[tuple[float, float, float] | None] = [None] * len(chunk.text)
    for token, span in zip(tokens, spans, strict=True):
        start, end = (round(frame * seconds + chunk.start, 3) for frame in (span.start, span.end))
        times[token.place] = (start, end, round(span.score, 3))
    words: list[TimedWord] = []
    for first, last in _word_ranges(chunk.text, language):
        characters = [times[place] for place in range(first, last) if chunk.text[place] != " "]
        known = [character for character in characters if character is not None]
        text = chunk.text[first:last]
        if not text.strip():
            continue
        own_first = first + len(text) - len(text.lstrip())
        own_last = own_first + len(text.strip())
        if not known:
            words.append(TimedWord(own_first, own_last))
            continue
        score = float(np.round(np.array([score for _, _, score in known]).mean(), 3))
        start, end = min(start for start, _, _ in known), max(end for _, end, _ in known)
        words.append(TimedWord(own_first, own_last, start, end, score))
    return words


def _word_ranges(text: str, language: str) -> list[tuple[int, int]]:
    """A space belongs to what comes after it."""
    if language in _WITHOUT_SPACES:
        return [(place, place + 1) for place in range(len(text))]
    ends = [place for place in range(1, len(text)) if text[place] == " "] + [len(text)]
    return list(zip([0, *ends[:-1]], ends, strict=True))
