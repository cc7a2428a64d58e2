"""Batches that fit into a GPU's memory, with a stand-in for its driver's library."""

import ctypes
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import make_config

from zeroscribe_sidecar.gpu_budget import (
    BatchBudget,
    GpuGauge,
    GpuMemory,
    bytes_for_annotator,
    bytes_per_window,
    windows_that_fit,
)

GB = 10**9
L4_BYTES = 24 * GB
LARGE_BYTES = 3_100_000_000
TURBO_BYTES = 1_600_000_000
UUIDS = ["GPU-8f2a1111-0", "GPU-8f2a2222-1", "GPU-01234567-2", "GPU-89abcdef-3"]
MIG_UUID = "MIG-5c4d-0"
FIRST_HANDLE = 100
MIG_HANDLE = 7


class _Nvml:
    """What the library does when it is called through ctypes."""

    def __init__(self, free: int = 0, code: int = 0) -> None:
        self.free = free
        self.code = code
        self.calls: list[str] = []
        self.device: int | None = None

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.calls.append("init")
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(UUIDS)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, device: Any) -> int:  # noqa: N802
        device._obj.value = FIRST_HANDLE + index.value
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:  # noqa: N802
        # Only whole ones, unlike CUDA.
        if uuid != MIG_UUID.encode():
            return 6
        device._obj.value = MIG_HANDLE
        return 0

    def nvmlDeviceGetUUID(self, device: ctypes.c_void_p, uuid: Any, length: ctypes.c_uint) -> int:  # noqa: N802
        assert len(uuid) == length.value
        uuid.value = UUIDS[device.value - FIRST_HANDLE].encode() if device.value is not None else b""
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: ctypes.c_void_p, memory: Any) -> int:  # noqa: N802
        self.device = device.value
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
    made.loaded("large", "float16")
    return made


def test_the_driver_is_asked_through_its_library() -> None:
    nvml = _Nvml(free=20 * GB)
    gauge = GpuGauge(nvml)
    assert gauge.read() == GpuMemory(used_bytes=4 * GB, free_bytes=20 * GB)
    nvml.free = 5 * GB
    assert gauge.read() == GpuMemory(used_bytes=19 * GB, free_bytes=5 * GB)
    assert nvml.calls == ["init", "memory", "memory"]


@pytest.mark.parametrize(
    ("visible", "device"),
    [
        ("", FIRST_HANDLE),
        ("2", FIRST_HANDLE + 2),
        ("3,1", FIRST_HANDLE + 3),
        (UUIDS[1], FIRST_HANDLE + 1),
        ("GPU-8f2a22,GPU-0", FIRST_HANDLE + 1),
        ("GPU-0", FIRST_HANDLE + 2),
        (MIG_UUID, MIG_HANDLE),
    ],
)
def test_it_is_the_first_gpu_that_cuda_may_use(monkeypatch: pytest.MonkeyPatch, visible: str, device: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvml = _Nvml(free=GB)
    GpuGauge(nvml).read()
    assert nvml.device == device


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5")
    assert GpuGauge(_Nvml(free=GB)).read() is None
    assert "no GPU whose UUID begins with GPU-5" in caplog.text


def test_cuda_counts_gpus_as_the_drivers_library_does() -> None:
    # conftest.py has called prepare_libraries.
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


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
    made.loaded("large", "float16")
    assert [made.batch_size(), made.batch_size()] == [16, 16]
    gauge.log_after("transcribe 1")
    [message] = caplog.messages
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in message


def test_on_a_cpu_batches_are_as_configured(folder: Path) -> None:
    assert budget(folder, None, batch_size=8).batch_size() == 8


def test_the_batch_is_what_is_free_besides_what_is_reserved_for_the_annotator(folder: Path) -> None:
    nvml = _Nvml(free=9 * GB)
    assert budget(folder, nvml).batch_size() == 21
    assert budget(folder, nvml, alignment_models={"en": "a"}).batch_size() == 13
    assert budget(folder, nvml, alignment_models={"en": "a"}, diarization_model="d").batch_size() == 12


def test_what_the_annotator_takes_meanwhile_does_not_count_twice(folder: Path) -> None:
    nvml = _Nvml(free=20 * GB)
    made = budget(folder, nvml, diarization_model="d")
    nvml.free = 11 * GB
    assert made.batch_size() == 24
    # Another model: what was free beside the last one says nothing.
    made.loaded("large", "float16")
    assert made.batch_size() == 14
    nvml.free = 20 * GB
    assert made.batch_size() == 24


def test_memory_that_somebody_else_keeps_counts_after_it_has_run_out(folder: Path) -> None:
    nvml = _Nvml(free=20 * GB)
    made = budget(folder, nvml, diarization_model="d")
    nvml.free = 11 * GB
    assert made.batch_size() == 24
    made.ran_short()
    assert made.batch_size() == 14
    nvml.free = 12 * GB
    assert made.batch_size() == 16


def test_in_float32_a_window_is_twice_as_large(folder: Path) -> None:
    nvml = _Nvml(free=8 * GB)
    made = budget(folder, nvml)
    sizes = {}
    for compute_type in ("float16", "bfloat16", "int8_float16", "float32", "int8_float32", "int8"):
        made.loaded("large", compute_type)
        sizes[compute_type] = made.batch_size()
    assert sizes == dict(zip(sizes, [18, 18, 18, 9, 9, 9], strict=True))


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
    reserved = bytes_for_annotator(make_config(diarization_model="d"))
    assert windows_that_fit(free, bytes_per_window(model, "float16"), reserved) == windows
