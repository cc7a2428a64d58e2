"""What is said of the GPU's memory, with a stand-in for torch's figures."""

import logging

import pytest
import torch

from zeroscribe_sidecar.gpu_memory import peak_logged


def test_nothing_is_asked_of_a_gpu_that_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A machine may have a GPU, and the configuration not use it.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked: list[None] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: asked.append(None))
    caplog.set_level(logging.INFO, "zeroscribe_sidecar")
    with peak_logged("alignment"):
        pass
    assert asked == []
    assert caplog.messages == []


def test_the_peak_is_told_of_a_stage_that_fails_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 300 << 20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 500 << 20)
    caplog.set_level(logging.INFO, "zeroscribe_sidecar")

    def fail() -> None:
        with peak_logged("voices"):
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert caplog.messages == ["GPU memory of voices: at most 300 MiB in use, 500 MiB held."]
