"""Batches that fit into a GPU's memory, with a stand-in for its driver's library."""

import ctypes
import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import make_config

from zeroscribe_sidecar.gpu_budget import BatchBudget, GpuGauge, GpuMemory, reserved_bytes, windows_that_fit

GB = 10**9
L4_BYTES = 24 * GB
LARGE_BYTES = 3_100_000_000
TURBO_BYTES = 1_600_000_000


class _Nvml:
    """What the library does when it is called through ctypes."""

    def __init__(self, free: int = 0, code: int = 0) -> None:
        self.free = free
        self.code = code
        self.calls: list[str] = []
        self.device: object = None

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.calls.append("init")
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, device: Any) -> int:  # noqa: N802
        self.device = index.value
        device._obj.value = 7
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:  # noqa: N802
        self.device = uuid
        device._obj.value = 7
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> int:  # noqa: N802
        assert device.value == 7
        self.calls.append("memory")
        memory._obj.total, memory._obj.free, memory._obj.used = L4_BYTES, self.free, L4_BYTES - self.free
        return self.code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "model.bin").open("wb") as file:
        file.truncate(LARGE_BYTES)
    return tmp_path


def budget(folder: Path, nvml: _Nvml | None, **changes: Any) -> BatchBudget:
    made = BatchBudget(make_config(models={"large": str(folder)}, **changes), GpuGauge(nvml) if nvml else None)
    made.loaded("large")
    return made


def test_the_driver_is_asked_through_its_library() -> None:
    nvml = _Nvml(free=20 * GB)
    gauge = GpuGauge(nvml)
    assert gauge.read() == GpuMemory(used=4 * GB, free=20 * GB)
    nvml.free = 5 * GB
    assert gauge.read() == GpuMemory(used=19 * GB, free=5 * GB)
    assert nvml.calls == ["init", "memory", "memory"]


@pytest.mark.parametrize(
    ("visible", "device"), [("", 0), ("2", 2), ("3,1", 3), ("GPU-8f2a,GPU-1", b"GPU-8f2a"), ("MIG-1", b"MIG-1")]
)
def test_it_is_the_first_gpu_that_cuda_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: str, device: int | bytes
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = _Nvml(free=GB)
    GpuGauge(nvml).read()
    assert nvml.device == device


def test_memory_is_logged_after_a_command(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zeroscribe_sidecar")
    GpuGauge(_Nvml(free=L4_BYTES - (300 << 20))).log_after("transcribe 3")
    assert caplog.messages == ["GPU memory after transcribe 3: 300 MiB used, 22588 MiB free."]


@pytest.mark.parametrize("library", ["libnot-there.so.1", _Nvml(code=999), object()])
def test_a_gpu_that_says_nothing_leaves_the_configured_size_and_is_logged_once(
    folder: Path, library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gauge = GpuGauge(library)
    made = BatchBudget(make_config(models={"large": str(folder)}, batch_size=16), gauge)
    made.loaded("large")
    assert [made.batch_size(), made.batch_size()] == [16, 16]
    gauge.log_after("transcribe 1")
    assert len(caplog.messages) == 1


def test_on_a_cpu_batches_are_as_configured(folder: Path) -> None:
    assert budget(folder, None, batch_size=8).batch_size() == 8


def test_the_batch_is_what_is_free_besides_what_is_reserved_for_the_annotator(folder: Path) -> None:
    nvml = _Nvml(free=8 * GB)
    assert budget(folder, nvml).batch_size() == 18
    assert budget(folder, nvml, alignment_models={"en": "a"}).batch_size() == 16
    assert budget(folder, nvml, alignment_models={"en": "a"}, diarization_model="d").batch_size() == 10


def test_what_the_annotator_takes_meanwhile_does_not_count_twice(folder: Path) -> None:
    nvml = _Nvml(free=20 * GB)
    made = budget(folder, nvml, diarization_model="d")
    nvml.free = 11 * GB
    assert made.batch_size() == 24
    # Another model: what was free beside the last one says nothing.
    made.loaded("large")
    assert made.batch_size() == 14
    nvml.free = 20 * GB
    assert made.batch_size() == 24


@pytest.mark.parametrize(
    ("free", "model", "windows"),
    [
        (20 * GB, LARGE_BYTES, 24),
        (12 * GB, LARGE_BYTES, 16),
        (6 * GB, TURBO_BYTES, 15),
        (GB, LARGE_BYTES, 1),
        (0, LARGE_BYTES, 1),
        (GB, 75_000_000, 7),
    ],
)
def test_windows_fit_beside_diarization(free: int, model: int, windows: int) -> None:
    assert windows_that_fit(free, model, reserved_bytes(make_config(diarization_model="d"))) == windows
