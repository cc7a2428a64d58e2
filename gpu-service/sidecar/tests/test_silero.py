"""Speech detection without torch, against the libraries whose model and rules it uses."""

from typing import Any

import numpy as np
import pytest
from conftest import FakeReply
from faster_whisper.vad import SileroVADModel, get_assets_path
from numpy.typing import NDArray
from pyannote.core import SlidingWindow, SlidingWindowFeature
from whisperx.vads.pyannote import Pyannote

from zeroscribe_sidecar.errors import Canceled
from zeroscribe_sidecar.pcm import Samples, to_float
from zeroscribe_sidecar.protocol import DetectSpeech, PcmFile
from zeroscribe_sidecar.silero import FRAME_SAMPLES, SileroDetector, long_silences, silero_regions
from zeroscribe_sidecar.speech_chunks import merge_regions, speech_regions


@pytest.fixture(scope="module")
def detector() -> SileroDetector:
    return SileroDetector(2)


def asked(**changes: Any) -> DetectSpeech:
    fields: dict[str, Any] = {"vad_onset": 0.5, "vad_offset": 0.363, "chunk_size": 30, **changes}
    audio = PcmFile(path="/nowhere", samples=0)
    return DetectSpeech(type="detect_speech", id=1, audio=audio, method="silero", **fields)


def random_scores(random: np.random.Generator, kind: int) -> NDArray[np.float32]:
    frames = int(random.integers(1, 300))
    if kind == 0:
        return random.random(frames, np.float32)
    if kind == 1:
        return np.clip(np.cumsum(random.normal(0, 0.1, frames)) + 0.5, 0, 1).astype(np.float32)
    if kind == 2:
        return np.repeat(random.random(frames), random.integers(1, 40, frames))[:600].astype(np.float32)
    # Often exactly at a threshold, and with more than one lowest score.
    return random.choice(np.array([0, 0.363, 0.5, 1], np.float32), frames)


def test_chunks_of_random_scores_are_exactly_those_of_whisperx() -> None:
    random = np.random.default_rng(7)
    for case in range(300):
        scores = random_scores(random, case % 4)
        step = float(random.choice([0.016875, 0.032, 0.3]))
        window = SlidingWindow(start=0.0, duration=0.0619375, step=step)
        times = np.array([window[i].middle for i in range(len(scores))])
        onset, offset = random.choice([(0.5, 0.363), (0.6, 0.4), (0.5, 0.5), (0.9, 0.1)])
        longest = float(random.choice([0.02, 0.3, 1, 5, 30]))
        theirs = Pyannote.merge_chunks(SlidingWindowFeature(scores[:, None], window), longest, onset, offset)
        ours = merge_regions(speech_regions(scores, times, onset, offset, longest), longest)
        assert ours == [(chunk["start"], chunk["end"]) for chunk in theirs], case


def test_scores_are_those_of_one_pass_whatever_the_threads(detector: SileroDetector, sample: Samples) -> None:
    # Two whole blocks and a part of one, which ends within a frame.
    long = np.concatenate([sample, sample[::-1], sample[:100_100]])
    frames = -(-len(long) // FRAME_SAMPLES)
    padded = np.pad(to_float(long), (0, frames * FRAME_SAMPLES - len(long)))
    expected = SileroVADModel(f"{get_assets_path()}/silero_vad_v6.onnx")(padded)
    ours = np.concatenate(list(detector.scores(long)))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours, np.concatenate(list(SileroDetector(1).scores(long))))


def test_speech_is_found_where_the_reference_has_it(detector: SileroDetector, sample: Samples) -> None:
    reply = FakeReply()
    [chunk] = detector.detect(sample, asked(), reply).chunks
    assert chunk.start == pytest.approx(6.68, abs=0.3)
    assert chunk.end == pytest.approx(30, abs=0.3)
    assert chunk.end <= len(sample) / 16_000
    assert reply.fractions[-1] == 1.0


@pytest.mark.parametrize("size", [1, 5, 30])
def test_chunks_follow_one_another_within_the_size_asked_for(
    detector: SileroDetector, sample: Samples, size: float
) -> None:
    chunks = detector.detect(np.tile(sample, 3), asked(chunk_size=size), FakeReply()).chunks
    assert len(chunks) >= 90 / 30
    assert all(0 < chunk.end - chunk.start <= size + 1e-9 for chunk in chunks)
    times = [time for chunk in chunks for time in (chunk.start, chunk.end)]
    assert times == sorted(times)
    assert times[-1] <= 90


def test_a_higher_onset_finds_less_speech(detector: SileroDetector, sample: Samples) -> None:
    def speech(**changes: Any) -> float:
        return sum(chunk.end - chunk.start for chunk in detector.detect(sample, asked(**changes), FakeReply()).chunks)

    assert speech(vad_onset=0.99, vad_offset=0.98, chunk_size=1) < speech(chunk_size=1)


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 16_000 * 7])
def test_silence_has_no_speech(detector: SileroDetector, length: int) -> None:
    assert detector.detect(np.zeros(length, np.int16), asked(), FakeReply()).chunks == []


def test_it_stops_when_it_is_no_longer_wanted(detector: SileroDetector, sample: Samples) -> None:
    with pytest.raises(Canceled):
        detector.detect(np.tile(sample, 4), asked(), FakeReply(cancel_after=1))


def test_short_pauses_are_no_place_to_cut_and_what_is_near_speech_is_heard_too() -> None:
    scores = np.zeros(200, np.float32)
    scores[50:60] = scores[62:80] = scores[120:130] = 1
    found = silero_regions(scores, asked(), 6.4)
    assert [(round(start, 3), round(end, 3)) for start, end in found] == [(1.316, 2.876), (3.556, 4.476)]


def test_after_a_second_of_zeros_the_model_begins_anew(detector: SileroDetector, sample: Samples) -> None:
    frames = 400
    speech = sample[7 * 16_000 :][: frames * FRAME_SAMPLES]
    alone = np.concatenate(list(detector.scores(speech)))
    # Over the edge of a block, and from an odd place in it.
    for silence in (40, 31 * 31, 1_024 - frames - 10, 1_024 - frames):
        zeros = np.zeros(silence * FRAME_SAMPLES, np.int16)
        scores = np.concatenate(list(detector.scores(np.concatenate([speech, zeros, speech]))))
        assert not scores[frames + 31 : frames + silence].any()
        np.testing.assert_array_equal(scores[:frames], alone)
        np.testing.assert_allclose(scores[frames + silence :], alone, rtol=0, atol=1e-5)


def test_a_silence_counts_with_what_of_it_came_before() -> None:
    zero = np.array([True] * 10 + [False] + [True] * 30 + [False] * 2 + [True] * 40)
    assert long_silences(zero, 20).tolist() == [False] * 43 + [True] * 40
    assert long_silences(zero, 21).tolist() == [True] * 10 + [False] * 33 + [True] * 40
    assert long_silences(np.ones(5, np.bool_), 25).tolist() == [False] * 5
    assert long_silences(np.ones(5, np.bool_), 26).tolist() == [True] * 5
