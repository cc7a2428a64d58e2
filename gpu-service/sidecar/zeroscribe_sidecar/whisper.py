"""One loaded Whisper model, and the same steps with it as whisperx.asr takes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
from faster_whisper.tokenizer import Tokenizer

from .errors import CommandFailed, is_out_of_memory
from .pcm import SAMPLE_RATE, Samples, to_float
from .protocol import SidecarConfig

log = logging.getLogger(__name__)

WINDOW_SAMPLES = 30 * SAMPLE_RATE
FRAMES_PER_SECOND = 100
# Fewer than CTranslate2's median filter is wide make no sense to it.
_FEWEST_FRAMES = 16


@dataclass(frozen=True)
class Decoded:
    """What the model wrote for one chunk."""

    text: str
    avg_logprob: float
    tokens: list[int]


class Whisper:
    """A CTranslate2 model. Not for use by two threads at once."""

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
        try:
            self._model = faster_whisper.WhisperModel(
                folder,
                device=config.device,
                compute_type=config.compute_type,
                cpu_threads=config.cpu_threads,
                local_files_only=True,
            )
        except Exception as error:
            if is_out_of_memory(error):
                raise CommandFailed("out-of-memory", f'The model "{name}" does not fit into memory: {error}') from error
            raise CommandFailed("model-not-available", f'The model "{name}" cannot be loaded: {error}') from error
        self.name = name
        self.is_multilingual: bool = self._model.model.is_multilingual
        self.device: str = self._model.model.device
        self.compute_type: str = self._model.model.compute_type
        # Falls back as whisperx does: only the newest models have 128.
        self._mels: int = self._model.feat_kwargs.get("feature_size") or 80

    def tokenizer(self, language: str, task: str) -> Tokenizer:
        """Fails with model-not-available when the model cannot write this language."""
        try:
            return Tokenizer(self._model.hf_tokenizer, self.is_multilingual, task=task, language=language)
        except ValueError as error:
            raise CommandFailed(
                "model-not-available", f'The model "{self.name}" does not know the language "{language}".'
            ) from error

    def features(self, audio: Sequence[Samples]) -> Any:
        """WhisperX's log-mel of at most 30 s each, padded to 30 s: float32 tensor (len(audio), mels, 3000)."""
        import torch
        from whisperx.audio import log_mel_spectrogram

        return torch.stack(
            [
                log_mel_spectrogram(to_float(part), n_mels=self._mels, padding=WINDOW_SAMPLES - len(part))
                for part in (samples[:WINDOW_SAMPLES] for samples in audio)
            ]
        )

    def encode(self, features: Any) -> ctranslate2.StorageView:
        """Encoder output, (batch, 1500, width), left on the model's device."""
        return self._model.encode(features.numpy())

    def decode(
        self, encoded: ctranslate2.StorageView, tokenizer: Tokenizer, prompt: str | None, hotwords: str | None
    ) -> list[Decoded]:
        """As generate_segment_batched of whisperx.asr with the defaults of its command line; that one throws the
        encoder's output and the tokens away, which word times need."""
        previous = tokenizer.encode(" " + prompt.strip()) if prompt is not None else []
        start = self._model.get_prompt(tokenizer, previous, without_timestamps=True, hotwords=hotwords)
        results = self._model.model.generate(
            encoded,
            [start] * encoded.shape[0],
            beam_size=5,
            patience=1,
            length_penalty=1,
            max_length=self._model.max_length,
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
        tokenizer: Tokenizer,
        tokens: Sequence[list[int]],
        seconds: Sequence[float],
    ) -> list[list[dict[str, Any]]]:
        """Cross-attention times of the pieces of each text, see attention_words; `seconds` is each chunk's length."""
        frames = [max(_FEWEST_FRAMES, min(3000, round(length * FRAMES_PER_SECOND))) for length in seconds]
        return self._model.find_alignment(tokenizer, tokens, encoded, frames)

    def language_probabilities(self, encoded: ctranslate2.StorageView) -> list[dict[str, float]]:
        """For each window, language code → probability."""
        results = self._model.model.detect_language(encoded)
        return [{token[2:-2]: float(probability) for token, probability in window} for window in results]
