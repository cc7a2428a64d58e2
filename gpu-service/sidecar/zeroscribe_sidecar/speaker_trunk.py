"""Voices as vectors, by WeSpeaker's ResNet: the net runs once for a piece of audio, whoever speaks in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .pcm import tensor_to_float

Precision = Literal["exact", "tf32", "half"]
"""What the convolutions multiply in: float32; on a GPU also TensorFloat-32, or float16. Sums are always float32."""

Embeddings = NDArray[np.float32]
Masks = NDArray[np.float32]
"""1 in the frames where somebody speaks, else 0."""


class SpeakerTrunk:
    """A BaseWeSpeakerResNet. A mask enters it only where it takes means and deviations over time, after the ResNet."""

    def __init__(self, model: Any, precision: Precision = "exact") -> None:
        """`model` is made faster in place, which moves its results by no more than float32 rounds."""
        self._model = model
        self._precision = precision
        _fold_norms(model.resnet)
        if model.device.type == "cpu":
            # The layout that oneDNN wants; otherwise it rearranges before and after each convolution.
            model.resnet.to(memory_format=torch.channels_last)

    def embed(self, windows: torch.Tensor, masks: Masks) -> Embeddings:
        """(windows, speakers, dimension) of windows (windows, 1, samples), int16 or float32, and masks (windows,
        frames, speakers)."""
        device = self._model.device
        with torch.inference_mode():
            features = self._model.compute_fbank(tensor_to_float(windows.to(device)))
            with self._in_precision(device.type):
                frames = self._model.resnet.forward_frames(features)
            weights = torch.from_numpy(masks).to(device).transpose(1, 2)
            return self._model.forward_embedding(frames.float(), weights).cpu().numpy()

    def of_nobody(self, samples: int) -> Embeddings:
        """What an empty mask makes of any audio, here of `samples` zeros: (dimension,). pyannote computes it too."""
        return self.embed(torch.zeros(1, 1, samples), np.zeros((1, 1, 1), np.float32))[0, 0]

    @contextmanager
    def _in_precision(self, device: str) -> Iterator[None]:
        if self._precision == "half":
            with torch.autocast(device, torch.float16):
                yield
        elif self._precision == "tf32":
            # pyannote turns both off for the whole process.
            backends: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
            before = [backend.allow_tf32 for backend in backends]
            try:
                for backend in backends:
                    backend.allow_tf32 = True
                yield
            finally:
                for backend, allowed in zip(backends, before, strict=True):
                    backend.allow_tf32 = allowed
        else:
            yield


def _fold_norms(resnet: nn.Module) -> None:
    """A batch norm that no longer learns is a factor and a summand of the convolution before it."""
    for module in list(resnet.modules()):
        for number in (1, 2, 3):
            norm = getattr(module, f"bn{number}", None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, f"conv{number}", fuse_conv_bn_eval(getattr(module, f"conv{number}"), norm))
                setattr(module, f"bn{number}", nn.Identity())
        shortcut = getattr(module, "shortcut", None)
        if isinstance(shortcut, nn.Sequential) and len(shortcut) == 2 and isinstance(shortcut[1], nn.BatchNorm2d):
            module.shortcut = nn.Sequential(fuse_conv_bn_eval(shortcut[0], shortcut[1]))
