"""The mapped audio."""

import sys
from pathlib import Path

import numpy as np
import pytest

from zeroscribe_sidecar.pcm import open_pcm, release_pages
from zeroscribe_sidecar.protocol import PcmFile

SAMPLES = 16_000_000


def resident_file_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(sys.platform != "linux", reason="what is resident is read from /proc")
def test_samples_that_were_heard_leave_memory_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "audio.pcm"
    np.arange(SAMPLES, dtype="<i2").tofile(path)
    pcm = open_pcm(PcmFile(path=str(path), samples=SAMPLES))
    before = resident_file_kilobytes()
    total = int(pcm.sum())
    heard = resident_file_kilobytes()
    assert heard - before > 30_000
    release_pages(pcm, SAMPLES)
    assert heard - resident_file_kilobytes() > 30_000
    assert int(pcm.sum()) == total


def test_samples_that_are_mapped_from_no_file_stay() -> None:
    samples = np.arange(10, dtype=np.int16)
    release_pages(samples, 10)
    assert samples[9] == 9
