"""What a wav2vec2 model hears: log probabilities of its labels, frame by frame, for several pieces of audio at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

from .errors import CommandFailed
from .forced_alignment import Emission
from .pcm import Samples, to_float

_SHORTEST = 400
"""Samples. Of less the model makes no frame, so silence is added."""

_AT_ONCE = 8
"""Pieces in one pass on a GPU. The first layer makes 100 MB of half a minute in half precision. Twice that is there at
once in the base models, and three times in the large ones: 2.4 GB for eight, besides the weights."""


class EmissionModel:
    """The alignment model of one language."""

    def __init__(self, language: str, folder: str, device: str, half: bool | None = None) -> None:
        """Loads it. Fails with model-not-available. `half`: half precision; as a rule on a GPU."""
        if not Path(folder).is_dir():
            raise CommandFailed(
                "model-not-available",
                f'There is no alignment model for the language "{language}": {folder} is no folder.',
            )
        self._device = device
        self._type = torch.float16 if (device == "cuda" if half is None else half) else torch.float32
        try:
            self.labels: dict[str, int] = Wav2Vec2CTCTokenizer.from_pretrained(
                folder, local_files_only=True
            ).get_vocab()
            model: Any = Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True, dtype=self._type)
        except Exception as error:
            raise CommandFailed(
                "model-not-available",
                f'The alignment model for "{language}" cannot be loaded from {folder}: it needs config.json, '
                "model.safetensors, vocab.json and tokenizer_config.json as Hugging Face lays them out.",
            ) from error
        self._model = model.eval().to(device)
        self._norm: _NormOverOwnFrames | None = None
        if self._model.config.feat_extract_norm == "group":
            first = self._model.wav2vec2.feature_extractor.conv_layers[0]
            first.layer_norm = self._norm = _NormOverOwnFrames(first.layer_norm)
        self.at_once = _AT_ONCE if device == "cuda" else 1

    def emissions(self, pieces: Sequence[Samples]) -> list[Emission]:
        """Each as the model hears that piece alone: exactly where there is only one, else but for rounding."""
        with torch.inference_mode():
            return self._hear(pieces) if pieces else []

    def _hear(self, pieces: Sequence[Samples]) -> list[Emission]:
        lengths = [max(len(piece), _SHORTEST) for piece in pieces]
        audio = torch.zeros(len(pieces), max(lengths))
        for row, piece in zip(audio, pieces, strict=True):
            row[: len(piece)] = torch.from_numpy(to_float(piece))
        audio = audio.to(self._device, self._type)
        if min(lengths) == max(lengths):
            logits = self._model(audio).logits
        else:
            ends = torch.tensor(lengths, device=self._device)[:, None]
            own = torch.arange(audio.shape[1], device=self._device) < ends
            if self._norm is not None:
                self._norm.lengths = lengths
            try:
                logits = self._model(audio, attention_mask=own.long()).logits
            finally:
                if self._norm is not None:
                    self._norm.lengths = None
        frames = [int(self._model._get_feat_extract_output_lengths(length)) for length in lengths]
        emissions = torch.log_softmax(logits.float(), dim=-1).cpu()
        return [emission[:count].numpy() for emission, count in zip(emissions, frames, strict=True)]


class _NormOverOwnFrames(torch.nn.Module):
    """The first layer of the base models normalises each channel over time, so the silence that fills up a shorter
    piece would change what is heard in it. This one normalises each piece by itself, over its own frames.

    What comes after them stays as it is. The layer's convolution has no padding and later layers look a few frames
    around, so nothing else reaches over.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self._norm = norm
        self.lengths: list[int] | None = None
        """Of the pieces, in samples."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(pieces, channels, frames). In place: all pieces at once would be gigabytes more."""
        if self.lengths is None:
            unchanged: Tensor = self._norm(hidden)
            return unchanged
        for piece, length in zip(hidden.split(1), self.lengths, strict=True):
            # Of wav2vec2's first convolution: 10 samples wide, 5 apart.
            own = piece[:, :, : (length - 10) // 5 + 1]
            own.copy_(self._norm(own))
        return hidden
