"""What Whisper hears: the log-mel spectrogram of whisperx.audio, without torch."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .packages import package_folder
from .pcm import Samples, to_float

N_FFT = 400
HOP = 160
FRAMES = 3000
WINDOW_SAMPLES = FRAMES * HOP
"""30 s: what Whisper hears at once."""

Features = NDArray[np.float32]

# Frames that are worked out at once: what is between audio and result stays in the processor's cache.
_BLOCK_FRAMES = 250
_LEAST_POWER = np.float32(1e-10)


def log_mel(audio: Sequence[Samples], mels: int) -> Features:
    """As WhisperX's log_mel_spectrogram, at most 30 s each, padded with silence to 30 s: (len(audio), mels, 3000)."""
    features = np.empty((len(audio), mels, FRAMES), np.float32)
    for samples, out in zip(audio, features, strict=True):
        _write(samples[:WINDOW_SAMPLES], mel_filters(mels), out)
    return features


def _write(samples: Samples, filters: NDArray[np.float32], out: Features) -> None:
    padded = np.zeros(WINDOW_SAMPLES + N_FFT, np.float32)
    centre = padded[N_FFT // 2 : -N_FFT // 2]
    centre[: len(samples)] = to_float(samples)
    padded[: N_FFT // 2] = centre[N_FFT // 2 : 0 : -1]
    padded[-N_FFT // 2 :] = centre[-2 : -2 - N_FFT // 2 : -1]
    # Frame i is centred on sample i * HOP. Those that hear nothing but the silence after the end are not worked out.
    sounding = min(FRAMES, -(-(len(samples) + N_FFT // 2) // HOP))
    step = padded.strides[0]
    frames = as_strided(padded, (sounding, N_FFT), (HOP * step, step), writeable=False)
    power = np.zeros((FRAMES, N_FFT // 2 + 1), np.float32)
    for first in range(0, sounding, _BLOCK_FRAMES):
        # The same steps as WhisperX's, in its order: Whisper in 8 bits hears differences in the last bit.
        spectrum = np.fft.rfft(frames[first : first + _BLOCK_FRAMES] * _hann_window())
        np.square(np.abs(spectrum), out=power[first : first + len(spectrum)])
    np.matmul(filters, power.T, out=out)
    np.log10(np.maximum(out, _LEAST_POWER, out=out), out=out)
    np.maximum(out, out.max() - np.float32(8.0), out=out)
    out += np.float32(4.0)
    out /= np.float32(4.0)


@cache
def _hann_window() -> NDArray[np.float32]:
    # torch's is periodic.
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


@cache
def mel_filters(mels: int) -> NDArray[np.float32]:
    """From the package of whisperx, which is not imported: that would bring torch."""
    with np.load(package_folder("whisperx") / "assets" / "mel_filters.npz") as filters:
        found: Any = filters[f"mel_{mels}"]
        return found.astype(np.float32)
