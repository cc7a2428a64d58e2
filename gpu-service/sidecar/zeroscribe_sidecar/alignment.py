"""Word times from a wav2vec2 model by WhisperX's aligner."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import whisperx.alignment

from .channel import Reply
from .errors import CommandFailed
from .pcm import Samples, tensor_to_float, to_tensor
from .protocol import Align, AlignedChunk, AlignResult, SidecarConfig, TextChunk
from .segments import TimedWord, to_segments, untimed_words

log = logging.getLogger(__name__)


class _OneSentence:
    """In place of NLTK's splitter, which WhisperX would download: sentences are made afterwards, from the words."""

    @staticmethod
    def span_tokenize(text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


whisperx.alignment.nltk_load = lambda _: _OneSentence


class Aligner:
    """The alignment model of one language."""

    def __init__(self, language: str, config: SidecarConfig) -> None:
        """Loads it from its folder. Fails with model-not-available."""
        folder = config.alignment_models.get(language)
        if folder is None or not Path(folder).is_dir():
            raise CommandFailed(
                "model-not-available",
                f'There is no alignment model for the language "{language}"'
                + (f": {folder} is no folder." if folder else "."),
            )
        try:
            model, self._metadata = whisperx.alignment.load_align_model(
                language, config.device, model_name=folder, model_cache_only=True
            )
        except ValueError as error:
            raise CommandFailed(
                "model-not-available",
                f'The alignment model for "{language}" cannot be loaded from {folder}: it needs config.json, '
                "model.safetensors, vocab.json and preprocessor_config.json as Hugging Face lays them out.",
            ) from error
        model.eval()
        self._device = config.device
        # WhisperX cuts the segment out of the audio and gives it to the model, so this is where int16 ends.
        self._model: Callable[[torch.Tensor], Any] = lambda samples: model(tensor_to_float(samples))

    def align(self, pcm: Samples, command: Align, reply: Reply) -> AlignResult:
        """Streams each chunk."""
        audio = to_tensor(pcm)
        for done, chunk in enumerate(command.chunks, 1):
            reply.raise_if_canceled()
            reply.batch([self.align_chunk(audio, chunk, command.language)])
            reply.progress(done / len(command.chunks))
        return AlignResult()

    def align_chunk(self, audio: torch.Tensor, chunk: TextChunk, language: str) -> AlignedChunk:
        """One chunk. `audio`: the whole recording, int16, (1, samples). What cannot be aligned has no times."""
        result = whisperx.alignment.align(
            [{"start": chunk.start, "end": chunk.end, "text": chunk.text}],
            self._model,
            self._metadata,
            audio,
            self._device,
            interpolate_method="ignore",
        )
        words = place_words(chunk.text, result["word_segments"])
        return AlignedChunk(segments=to_segments(chunk.text, words, language, chunk))


def place_words(text: str, words: list[dict[str, Any]]) -> list[TimedWord]:
    """Finds WhisperX's words in the text again. Should one be missing, the text counts: words without times."""
    placed: list[TimedWord] = []
    position = 0
    for word in words:
        first = text.find(word["word"], position)
        if first < 0 or text[position:first].strip():
            break
        position = first + len(word["word"])
        placed.append(TimedWord(first, position, *(_number(word.get(key)) for key in ("start", "end", "score"))))
    if text[position:].strip():
        log.warning("A chunk could not be aligned.")
        return untimed_words(text)
    return placed


def _number(value: Any) -> float | None:
    """numpy's to Python's; NaN is no time."""
    number = None if value is None else float(value)
    return None if number is None or number != number else number
