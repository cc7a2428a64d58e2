"""One loaded Whisper model, and the same steps with it as whisperx.asr takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2
import numpy as np
import tokenizers

from .errors import CommandFailed, is_out_of_memory
from .in_thread import in_thread
from .log_mel import Features, log_mel
from .packages import package_folder
from .pcm import Samples
from .protocol import SidecarConfig
from .weights_folder import weights_folder

if TYPE_CHECKING:
    from faster_whisper.tokenizer import Tokenizer

FRAMES_PER_SECOND = 100
_TOKENS_PER_SECOND = 50
# All that the model can hold: what it takes for written, a few tokens that say what to do, and the text.
_LONGEST_TEXT = 448
_LONGEST_PROMPT = _LONGEST_TEXT // 2 - 1
# Hot words and prompt together; faster_whisper lets them be longer than the model can hold. 200 are left for the text.
_LONGEST_CONTEXT = 240
# Fewer than CTranslate2's median filter is wide make no sense to it.
_FEWEST_FRAMES = 16


@dataclass(frozen=True)
class Decoded:
    """What the model wrote for one chunk."""

    text: str
    avg_logprob: float
    tokens: list[int]


class Whisper:
    """A CTranslate2 model. `features` may be called while another thread uses the model."""

    def __init__(self, name: str, config: SidecarConfig) -> None:
        """Loads it. Fails with model-not-available or out-of-memory."""
        folder = config.models.get(name)
        if folder is None:
            known = ", ".join(sorted(config.models)) or "none"
            raise CommandFailed(
                "model-not-available", f'There is no Whisper model called "{name}"; configured: {known}.'
            )
        if not (Path(folder) / "model.bin").is_file():
            raise CommandFailed(
                "model-not-available",
                f'The folder of the Whisper model "{name}" has no model.bin: {folder}. '
                "It must hold a model converted for CTranslate2; download it or correct the configured folder.",
            )
        if not (Path(folder) / "tokenizer.json").is_file():
            raise CommandFailed(
                "model-not-available",
                f'The folder of the Whisper model "{name}" has no tokenizer.json: {folder}. '
                "Download it from where the model is from, or correct the configured folder.",
            )
        # Both take about as long, and CTranslate2 lets other threads run meanwhile.
        loading = in_thread(
            lambda: ctranslate2.models.Whisper(
                str(weights_folder(Path(folder), config.compute_type)),
                device=config.device,
                compute_type=config.compute_type,
                intra_threads=config.cpu_threads,
            )
        )
        try:
            self._hf_tokenizer = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
            self._model = loading.result()
        except Exception as error:
            if is_out_of_memory(error):
                raise CommandFailed("out-of-memory", f'The model "{name}" does not fit into memory: {error}') from error
            raise CommandFailed("model-not-available", f'The model "{name}" cannot be loaded: {error}') from error
        self._mels: int = self._model.n_mels
        self.name = name
        self.is_multilingual: bool = self._model.is_multilingual
        self.device: str = self._model.device
        self.compute_type: str = self._model.compute_type

    def tokenizer(self, language: str, task: str) -> "Tokenizer":
        """Fails with model-not-available when the model cannot write this language."""
        try:
            return _tokenizer_class()(self._hf_tokenizer, self.is_multilingual, task=task, language=language)
        except ValueError as error:
            raise CommandFailed(
                "model-not-available", f'The model "{self.name}" does not know the language "{language}".'
            ) from error

    def features(self, audio: Sequence[Samples]) -> Features:
        """WhisperX's log-mel of at most 30 s each, padded to 30 s: (len(audio), mels, 3000)."""
        return log_mel(audio, self._mels)

    def encode(self, features: Features) -> ctranslate2.StorageView:
        """Encoder output, (batch, 1500, width), left on the model's device."""
        return self._model.encode(ctranslate2.StorageView.from_array(features))

    def decode(
        self, encoded: ctranslate2.StorageView, tokenizer: "Tokenizer", prompt: str | None, hotwords: str | None
    ) -> list[Decoded]:
        """As generate_segment_batched of whisperx.asr with the defaults of its command line; that one throws the
        encoder's output and the tokens away, which word times need."""
        results = self._model.generate(
            encoded,
            [prompt_tokens(tokenizer, prompt, hotwords)] * encoded.shape[0],
            beam_size=5,
            patience=1,
            length_penalty=1,
            max_length=_LONGEST_TEXT,
            suppress_blank=True,
            suppress_tokens=[-1],
            no_repeat_ngram_size=0,
            repetition_penalty=1,
            return_scores=True,
        )
        sequences = [result.sequences_ids[0] for result in results]
        tokens = [[token for token in sequence if token < tokenizer.eot] for sequence in sequences]
        texts: list[str] = tokenizer.tokenizer.decode_batch(tokens)
        return [
            Decoded(text, result.scores[0] * len(sequence) / (len(sequence) + 1), kept)
            for text, result, sequence, kept in zip(texts, results, sequences, tokens, strict=True)
        ]

    def align(
        self,
        encoded: ctranslate2.StorageView,
        tokenizer: "Tokenizer",
        tokens: Sequence[list[int]],
        seconds: Sequence[float],
    ) -> list[list[dict[str, Any]]]:
        """Cross-attention times of the pieces of each text, see attention_words; `seconds` is each chunk's length."""
        frames = [max(_FEWEST_FRAMES, min(3000, round(length * FRAMES_PER_SECOND))) for length in seconds]
        if not tokens:
            return []
        results = self._model.align(encoded, tokenizer.sot_sequence, tokens, frames, median_filter_width=7)
        return [timed_pieces(tokenizer, text, result) for text, result in zip(tokens, results, strict=True)]

    def language_probabilities(self, encoded: ctranslate2.StorageView) -> list[dict[str, float]]:
        """For each window, language code → probability."""
        results = self._model.detect_language(encoded)
        return [{token[2:-2]: float(probability) for token, probability in window} for window in results]


def prompt_tokens(tokenizer: "Tokenizer", prompt: str | None, hotwords: str | None) -> list[int]:
    """What the model takes for written already, as get_prompt of faster_whisper: hot words, then the prompt's end, of
    which less is kept after many hot words."""
    tokens: list[int] = []
    if prompt is not None or hotwords:
        previous = tokenizer.encode(" " + prompt.strip()) if prompt is not None else []
        wanted = tokenizer.encode(" " + hotwords.strip())[:_LONGEST_PROMPT] if hotwords else []
        if previous or hotwords:
            room = min(_LONGEST_PROMPT, _LONGEST_CONTEXT - len(wanted))
            tokens = [tokenizer.sot_prev, *wanted, *previous[-room:]]
    return [*tokens, *tokenizer.sot_sequence, tokenizer.no_timestamps]


def timed_pieces(tokenizer: "Tokenizer", text: list[int], alignment: Any) -> list[dict[str, Any]]:
    """As faster_whisper's find_alignment does from CTranslate2's alignment of one text."""
    words, word_tokens = tokenizer.split_to_word_tokens([*text, tokenizer.eot])
    if len(word_tokens) <= 1:
        return []
    pairs = np.asarray(alignment.alignments)
    # The first frame of each token; the last word is the end of the text, which only bounds the one before.
    first_frames = pairs[np.diff(pairs[:, 0], prepend=-1) != 0, 1] / _TOKENS_PER_SECOND
    bounds = np.cumsum([0, *map(len, word_tokens[:-1])])
    times = first_frames[bounds]
    probabilities = np.asarray(alignment.text_token_probs)
    return [
        {"word": word, "start": start, "end": end, "probability": float(np.mean(probabilities[first:last]))}
        for word, start, end, first, last in zip(
            words[:-1], times[:-1].tolist(), times[1:].tolist(), bounds[:-1], bounds[1:], strict=True
        )
    ]


@cache
def _tokenizer_class() -> "type[Tokenizer]":
    """That of faster_whisper, without the rest of it: the package imports decoders, a hub and progress bars."""
    spec = spec_from_file_location("faster_whisper_tokenizer", package_folder("faster_whisper") / "tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Tokenizer] = module.Tokenizer
    return found
