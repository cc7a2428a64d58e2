"""How much memory the GPU has left, by its driver's own library (NVML), and how many windows at once fit into it.

That library comes with the driver. A few calls through ctypes need no package to install and to keep up to date, and
torch, which knows only what it uses itself, is not for the recognizer.

By arithmetic, a window takes about an eighth of what the model does: large-v3 in float16 has 3.1 GB of weights, and
keeps 32 layers x keys and values x 1,500 frames x 1,280 numbers x 2 bytes = 246 MB a window for cross-attention; with
what five beams and the encoder need in passing, 370 MB. Models with fewer layers for the text, as turbo, need less.
In float32 it is twice that, while the file of the model has 16 bits for each number. Where it is not enough after all,
batches are halved.
"""

import ctypes
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .protocol import SidecarConfig

log = logging.getLogger(__name__)

_WINDOW_SHARE = 0.12
_SMALLEST_WINDOW_BYTES = 64 * 10**6
# Another window adds less and less to the speed, and more and more to what a cancellation waits for.
_LARGEST_BATCH = 24
# pyannote 4 was seen to take 9.5 GB for 72 minutes: github.com/pyannote/pyannote-audio/issues/1963.
_DIARIZATION_BYTES = 10 * 10**9
# By arithmetic, with large models: 2.4 GB for eight chunks (emissions.py), weights of two languages, and CUDA itself.
_ALIGNMENT_BYTES = 4 * 10**9
_OTHER_BYTES = 10**9
# NVML_DEVICE_UUID_V2_BUFFER_SIZE.
_LONGEST_UUID_BYTES = 96


@dataclass(frozen=True)
class GpuMemory:
    """In bytes, of all processes together."""

    used_bytes: int
    free_bytes: int


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuGauge:
    """The memory of the first GPU that CUDA shows this process."""

    def __init__(self, library: Any = "libnvidia-ml.so.1") -> None:
        """`library`: name of NVML, or what stands in for it."""
        self._library = library
        self._device: ctypes.c_void_p | None = None
        self._is_broken = False

    def read(self) -> GpuMemory | None:
        """None where NVML is missing or fails; why is logged once."""
        if self._is_broken:
            return None
        try:
            if self._device is None:
                self._device = self._open()
            memory = _NvmlMemory()
            self._call("nvmlDeviceGetMemoryInfo", self._device, ctypes.byref(memory))
        except (OSError, AttributeError) as error:
            self._is_broken = True
            log.warning(
                "How much of the GPU's memory is free cannot be known (%s). Give the container the driver's utility "
                "libraries: NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
                error,
            )
            return None
        return GpuMemory(used_bytes=memory.used, free_bytes=memory.free)

    def log_after(self, what: str) -> None:
        """Logs it, where it can be known."""
        memory = self.read()
        if memory is not None:
            used_mib, free_mib = memory.used_bytes >> 20, memory.free_bytes >> 20
            log.info("GPU memory after %s: %d MiB used, %d MiB free.", what, used_mib, free_mib)

    def _open(self) -> ctypes.c_void_p:
        if isinstance(self._library, str):
            self._library = ctypes.CDLL(self._library)
        self._call("nvmlInit_v2")
        # NVML counts all GPUs, CUDA those that it may use; in the same order, see prepare_libraries.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if visible.startswith("GPU-"):
            return self._device_named(visible)
        if visible.startswith("MIG-"):
            device = ctypes.c_void_p()
            self._call("nvmlDeviceGetHandleByUUID", visible.encode(), ctypes.byref(device))
            return device
        return self._device_at(int(visible) if visible.isdecimal() else 0)

    def _device_named(self, beginning: str) -> ctypes.c_void_p:
        """CUDA takes the beginning of a UUID for the whole, NVML does not."""
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        for index in range(count.value):
            device = self._device_at(index)
            uuid = ctypes.create_string_buffer(_LONGEST_UUID_BYTES)
            self._call("nvmlDeviceGetUUID", device, uuid, ctypes.c_uint(_LONGEST_UUID_BYTES))
            if uuid.value.decode().startswith(beginning):
                return device
        raise OSError(f"there is no GPU whose UUID begins with {beginning}")

    def _device_at(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        return device

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise OSError(f"{name} answered {code}")


@cache
def gpu_gauge() -> GpuGauge:
    """The one of this process."""
    return GpuGauge()


class BatchBudget:
    """Says how many windows the loaded model may take at once."""

    def __init__(self, config: SidecarConfig, gauge: GpuGauge | None) -> None:
        """`gauge`: None on a CPU."""
        self._config = config
        self._gauge = gauge
        self._window_bytes = 0.0
        self._most_free_bytes: int | None = None

    def loaded(self, model: str, compute_type: str) -> None:
        """To be called once it is in memory. `compute_type`: what it really is, not "auto"."""
        model_bytes = (Path(self._config.models[model]) / "model.bin").stat().st_size
        self._window_bytes = bytes_per_window(model_bytes, compute_type)
        self._most_free_bytes = None
        self._look()

    def batch_size(self) -> int:
        """As configured on a CPU, and where the GPU says nothing."""
        self._look()
        if self._most_free_bytes is None:
            return self._config.batch_size
        return windows_that_fit(self._most_free_bytes, self._window_bytes, bytes_for_annotator(self._config))

    def ran_short(self) -> None:
        """To be called after a batch had to be halved. Somebody else has taken memory, perhaps for good: from the next
        look on, only what is free then counts."""
        self._most_free_bytes = None

    def _look(self) -> None:
        """What aligning and telling speakers apart take meanwhile, out of what is reserved for them, does not count
        twice: the most that was free since the model was loaded, or memory ran out, does."""
        memory = self._gauge.read() if self._gauge is not None else None
        if memory is not None:
            self._most_free_bytes = max(self._most_free_bytes or 0, memory.free_bytes)


def bytes_for_annotator(config: SidecarConfig) -> int:
    """What is kept free for it, as it has the same GPU."""
    if config.diarization_model is not None:
        return _DIARIZATION_BYTES
    return _ALIGNMENT_BYTES if config.alignment_models else _OTHER_BYTES


def bytes_per_window(model_bytes: int, compute_type: str) -> float:
    """`model_bytes`: of its file. Weights in 8 bits do not make what is computed with them smaller."""
    in_16_bits = max(_WINDOW_SHARE * model_bytes, _SMALLEST_WINDOW_BYTES)
    return in_16_bits if "float16" in compute_type else 2 * in_16_bits


def windows_that_fit(free_bytes: int, window_bytes: float, reserved_bytes: int) -> int:
    """From 1 to 24. At most half of what is free is reserved: a small GPU would transcribe one window at a time, for a
    peak that only long recordings reach."""
    usable_bytes = free_bytes - min(reserved_bytes, free_bytes // 2)
    return max(1, min(_LARGEST_BATCH, int(usable_bytes / window_bytes)))
