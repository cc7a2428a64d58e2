"""pyannote's speech detection beside memory that runs out; test_speech_and_text.py compares it with WhisperX's."""

from collections.abc import Callable
from mmap import PAGESIZE
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FakeReply, ResidentReply

from zeroscribe_sidecar.annotator import Annotator
from zeroscribe_sidecar.pcm import Samples
from zeroscribe_sidecar.protocol import DetectSpeech, PcmFile, Result

ToPcm = Callable[[Samples], PcmFile]


def detect(annotator: Annotator, audio: PcmFile, reply: FakeReply) -> Result:
    command = DetectSpeech(
        type="detect_speech", id=1, audio=audio, method="pyannote", vad_onset=0.5, vad_offset=0.363, chunk_size=30
    )
    return annotator.run(command, reply)


def test_only_what_did_not_fit_is_heard_again_and_the_next_command_begins_anew(
    annotator: Annotator, sample: Samples, to_pcm: ToPcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = to_pcm(sample[8 * 16_000 : 15 * 16_000])
    inference: Any = annotator._loaded_detector()._inference
    # Of five windows.
    monkeypatch.setattr(inference, "batch_size", 2)
    spread_out, tried = inference._spread_out, []
    fails_at = [2]

    def cramped(windows: Any) -> Any:
        tried.append(len(windows))
        if fails_at == [len(tried)]:
            fails_at.clear()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return spread_out(windows)

    monkeypatch.setattr(inference, "_spread_out", cramped)
    found = detect(annotator, audio, FakeReply())
    assert tried == [2, 2, 1, 1, 1]
    tried.clear()
    assert detect(annotator, audio, FakeReply()) == found
    assert tried == [2, 2, 1]


def test_audio_that_was_heard_does_not_stay_in_memory(annotator: Annotator, sample: Samples, to_pcm: ToPcm) -> None:
    audio = to_pcm(np.tile(sample[: 5 * 16_000], 2))
    reply = ResidentReply(audio)
    detect(annotator, audio, reply)
    assert len(reply.resident_kib) > 1
    # It ends within a page.
    assert max(reply.resident_kib) <= PAGESIZE // 1024
