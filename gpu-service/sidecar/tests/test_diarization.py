"""Real pyannote pipelines from a folder beside pyannote's own code, with WhisperX's segmentation model and a small
speaker model of random weights. Who speaks means little here; that turns come out right does."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from mmap import PAGESIZE
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import FakeReply, ResidentReply, make_config
from diarization_cases import (
    CLUSTERINGS,
    Piece,
    SmallResNet,
    diarize_long,
    long_recording,
    powerset_segmentation,
    teach,
    turns_of,
    with_more_mib,
    write_pipeline,
)
from pyannote.audio import Pipeline
from pyannote.audio.models.embedding import XVectorMFCC
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.audio.pipelines.clustering import AgglomerativeClustering
from pyannote.audio.utils.signal import binarize
from pyannote.core import SlidingWindow, SlidingWindowFeature

from zeroscribe_sidecar.annotator import Annotator
from zeroscribe_sidecar.diarization import Diarizer
from zeroscribe_sidecar.errors import Canceled, CommandFailed
from zeroscribe_sidecar.lean_diarization import LeanDiarization, _Scores
from zeroscribe_sidecar.pcm import Samples, to_float, to_tensor
from zeroscribe_sidecar.protocol import Diarize, DiarizeResult, PcmFile, SidecarConfig
from zeroscribe_sidecar.speaker_clustering import BoundedClustering, bound, evenly_spaced

ToPcm = Callable[[Samples], PcmFile]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, sample: Samples) -> dict[str, Path]:
    """By the name of the clustering."""

    def cut(start: float, end: float) -> Samples:
        return sample[int(start * 16_000) : int(end * 16_000)]

    torch.manual_seed(1)
    model = SmallResNet().eval()
    teach(model, [Piece("a", cut(10.6, 14.4)), Piece("b", cut(14.6, 18)), Piece("b", cut(22, 27.8))], dimensions=5)
    # The models and the clustering of older pipelines, and those of today's.
    return {
        clustering: write_pipeline(tmp_path_factory.mktemp("pipelines") / "one", model, clustering, segmentation)
        for clustering, segmentation in zip(CLUSTERINGS, (None, powerset_segmentation(9)), strict=True)
    }


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path]) -> Path:
    return folders["AgglomerativeClustering"]


@pytest.fixture(scope="module")
def engine(folder: Path) -> Annotator:
    return Annotator(config(folder))


@pytest.fixture(scope="module")
def lean(engine: Annotator) -> Any:
    return engine._loaded_diarizer()._pipeline


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    return Pipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def clip(sample: Samples) -> Samples:
    return sample[int(8.4 * 16_000) : 14 * 16_000]


def config(folder: Path) -> SidecarConfig:
    """Threads of one operation wait for one another longer than they work, where others are busy."""
    return make_config(diarization_model=str(folder), cpu_threads=1)


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def command(audio: PcmFile | None = None, **changes: int | None) -> Diarize:
    numbers: dict[str, int | None] = {"num_speakers": None, "min_speakers": None, "max_speakers": None, **changes}
    return Diarize(type="diarize", id=1, audio=audio or PcmFile(path="", samples=0), **numbers)


def audio(waveform: torch.Tensor) -> dict[str, Any]:
    return {"waveform": waveform, "sample_rate": 16_000, "uri": "audio"}


def diarize(engine: Annotator, audio: PcmFile, reply: FakeReply, **changes: int | None) -> DiarizeResult:
    result = engine.run(command(audio, **changes), reply)
    assert isinstance(result, DiarizeResult)
    return result


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_turns_equal_the_pipelines_own(folders: dict[str, Path], sample: Samples, clustering: str) -> None:
    # One, the other, both at once, and a while of silence.
    both = sample[12 * 16_000 : 14 * 16_000] // 2 + sample[23 * 16_000 : 25 * 16_000] // 2
    pcm = np.concatenate([sample[13 * 16_000 : 17 * 16_000], both, np.zeros(int(5.6 * 16_000), np.int16)])
    reply = FakeReply()
    turns = Diarizer(config(folders[clustering])).diarize(pcm, command(), reply).turns
    stock: Any = Pipeline.from_pretrained(folders[clustering])
    with one_thread():
        theirs = stock({"waveform": torch.from_numpy(to_float(pcm))[None], "sample_rate": 16_000})
    expected = [
        (round(start, 3), round(min(end, len(pcm) / 16_000), 3), speaker)
        for start, end, speaker in turns_of(theirs.exclusive_speaker_diarization)
        # pyannote goes on in the padding of the last window.
        if start < len(pcm) / 16_000
    ]
    assert [(turn.start, turn.end, turn.speaker) for turn in turns] == expected
    assert len({turn.speaker for turn in turns}) > 1
    # Nobody talks over anybody: a word has one speaker.
    assert all(a.end <= b.start for a, b in pairwise(turns))
    assert reply.fractions == sorted(reply.fractions)
    assert len(reply.fractions) > 4


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("seconds", [3.0, 9.3])
def test_voices_equal_the_pipelines_own_under_any_mask(
    lean: Any, stock: Any, sample: Samples, seconds: float, alone: bool
) -> None:
    pcm = sample[10 * 16_000 : int((10 + seconds) * 16_000)]
    random = np.random.default_rng(int(seconds))
    masks = random.integers(2, size=(1 + 2 * max(0, int(seconds - 5)), 293, 3)).astype(float)
    for i, mask in enumerate(masks):
        # Somebody is silent, nobody speaks, all speak all the time, one speaks in one frame or only with another.
        mask[:, i % 3] = 0
        if i % 5 == 1:
            mask[:] = 0
        elif i % 5 == 2:
            mask[:] = 1
        elif i % 5 == 3:
            mask[:, 1], mask[7, 1] = 0, 1
        elif i % 5 == 4:
            mask[:, 1] = mask[:, 2]
    feature = SlidingWindowFeature(masks, SlidingWindow(start=0.0, duration=5.0, step=0.5))
    # pyannote would make of a mask whatever is there.
    theirs = stock.get_embeddings(audio(torch.from_numpy(to_float(pcm))[None]), feature, exclude_overlap=alone)
    own = lean.get_embeddings(audio(to_tensor(pcm)), feature, exclude_overlap=alone)
    assert own.shape == theirs.shape
    assert own.dtype == theirs.dtype
    assert np.abs(own - theirs).max() < 1e-4 * np.abs(theirs).max()
    is_silent = ~masks.any(axis=1)
    assert (own[is_silent] == theirs[is_silent]).all()


def test_windows_without_a_voice_are_not_heard(lean: Any, clip: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    embed = lean.trunk.embed

    def counted(windows: Any, masks: Any) -> Any:
        heard.append(len(windows))
        return embed(windows, masks)

    monkeypatch.setattr(lean.trunk, "embed", counted)
    masks = np.zeros((2, 293, 3))
    masks[1, :, 0] = 1
    lean.get_embeddings(
        audio(to_tensor(clip)), SlidingWindowFeature(masks, SlidingWindow(start=0.0, duration=5.0, step=0.5))
    )
    # The first is what silence would be.
    assert heard == [1, 1]


@pytest.mark.parametrize("clusters", [1, 3, 20])
def test_timelines_equal_the_pipelines_own(clusters: int) -> None:
    random = np.random.default_rng(clusters)
    frames = SlidingWindow(start=0.0, duration=0.0619375, step=0.016875)
    for windows in (1, 2, 30):
        for is_powerset in (True, False):
            scores = random.random((windows, 293, 3), np.float32).repeat(3, axis=1)[:, :293]
            scores[scores < 0.1] = 0.5
            window = SlidingWindow(start=0.0, duration=5.0, step=0.5)
            theirs = SlidingWindowFeature((scores > 0.5).astype(np.float32) if is_powerset else scores, window)
            own = _Scores(theirs.data.astype(np.uint8) if is_powerset else scores, window)
            their_masks, our_masks = theirs, own
            if not is_powerset:
                their_masks, our_masks = (binarize(one, onset=0.5, initial_state=False) for one in (theirs, own))
            assert (their_masks.data == our_masks.data).all()
            hard = random.integers(clusters, size=(windows, 3)).astype(np.int8)
            hard[0, 0] = clusters - 1
            hard[their_masks.data.sum(axis=1) < 140] = -2
            hard[0, 1] = 0
            pipelines: list[Any] = [SpeakerDiarization, LeanDiarization]
            counts = [
                kind.speaker_count(masks, frames, (0.0, 0.0))
                for kind, masks in zip(pipelines, (their_masks, our_masks), strict=True)
            ]
            assert (counts[0].data == counts[1].data).all()
            found = []
            for kind, count, segmentations in zip(pipelines, counts, (theirs, own), strict=True):
                count.data = np.minimum(count.data, 2).astype(np.int8)
                discrete = kind.reconstruct(
                    SimpleNamespace(to_diarization=kind.to_diarization), segmentations, hard, count
                )
                found.append((discrete, [turns_of(kind.to_annotation(discrete, *least)) for least in LEAST_DURATIONS]))
            assert (found[0][0].data == found[1][0].data).all()
            assert found[0][0].sliding_window.start == found[1][0].sliding_window.start
            assert found[0][1] == found[1][1]
            assert found[0][1][0] != []


LEAST_DURATIONS = [(0.0, 0.0), (0.0, 0.1), (0.1, 0.1)]


def test_up_to_a_limit_clusters_are_those_of_pyannote_and_above_it_still_each_speaker_is_one(tmp_path: Path) -> None:
    recording = long_recording(0.1)
    pair: list[Any] = [AgglomerativeClustering(metric="cosine") for _ in range(2)]
    for clustering in pair:
        clustering.instantiate(CLUSTERINGS["AgglomerativeClustering"])
    bound(pair[1])
    numbers = {"num_clusters": None, "min_clusters": 1, "max_clusters": np.inf}
    results = [one(recording.embeddings, segmentations=recording.segmentations, **numbers) for one in pair]
    for theirs, own in zip(*results, strict=True):
        assert np.array_equal(theirs, own)
    for name in CLUSTERINGS:
        assert diarize_long(name, long_recording(0.5), tmp_path, most=200).is_right


def test_ten_hours_are_clustered_in_bounded_memory(tmp_path: Path) -> None:
    # Not known where the greatest size that a process had cannot be made to begin anew.
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the memory of a process is read from /proc, as Linux has it")
    # In a process of its own, so that nothing that was freed before is used again.
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=_diarize_ten_hours, args=(theirs, tmp_path))
    child.start()
    theirs.close()
    result, more_mib = ours.recv()
    child.join()
    assert result.is_right
    assert result.turns > 10_000
    # 54,000 embeddings: without a limit their distances alone would be 22 GiB.
    assert more_mib < 350
    # Here fewer are clustered, which is quicker: of as many as this the distances are 1.2 GB.
    assert BoundedClustering.most_embeddings <= 12_000


def _diarize_ten_hours(connection: Any, folder: Path) -> None:
    recording = long_recording(10)
    connection.send(with_more_mib(lambda: diarize_long("AgglomerativeClustering", recording, folder, most=1_000)))


def test_of_a_window_all_voices_are_clustered_or_none() -> None:
    windows = np.repeat(np.arange(0, 300, 3), np.arange(100) % 3 + 1)
    for most in (1, 7, 50, 180, len(windows), 1_000):
        kept = evenly_spaced(windows, most)
        assert 0 < kept.sum() <= max(most, 3)
        assert not set(windows[kept]) & set(windows[~kept])
        if most >= len(windows):
            assert kept.all()
        elif most == 50:
            assert np.diff(np.unique(windows[kept])).max() <= 4 * 3
            assert kept.sum() > 40


def test_hardly_any_audio_and_silence_have_no_speakers(engine: Annotator, to_pcm: ToPcm) -> None:
    for samples in (0, 1, 800, 16_000):
        assert diarize(engine, to_pcm(np.zeros(samples, np.int16)), FakeReply()).turns == []


def test_too_large_batches_are_halved_until_the_command_ends(
    engine: Annotator, lean: Any, clip: Samples, to_pcm: ToPcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = lean.trunk
    embed, tried = trunk.embed, []

    def cramped(windows: Any, masks: Any) -> Any:
        tried.append(len(windows))
        if len(windows) > most and windows.any():
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return embed(windows, masks)

    monkeypatch.setattr(trunk, "embed", cramped)
    most = 1
    for _ in range(2):
        tried.clear()
        assert diarize(engine, to_pcm(clip), FakeReply(), num_speakers=1).turns != []
        # The first is what silence would be; what had been done is not done again.
        assert tried == [1, 3, 1, 1, 1]
    most = 0
    with pytest.raises(CommandFailed) as failure:
        diarize(engine, to_pcm(clip), FakeReply())
    assert failure.value.reason == "out-of-memory"


def test_what_the_models_have_done_is_not_done_again_when_memory_runs_out_after_them(
    engine: Annotator, lean: Any, clip: Samples, to_pcm: ToPcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate 22 GiB for an array.")

    monkeypatch.setattr(type(lean.clustering), "filter_embeddings", fail)
    reply = FakeReply()
    with pytest.raises(MemoryError):
        diarize(engine, to_pcm(clip), reply)
    assert reply.fractions == sorted(reply.fractions)
    assert reply.fractions[-1] > 0.9


def test_audio_that_was_heard_does_not_stay_in_memory(engine: Annotator, clip: Samples, to_pcm: ToPcm) -> None:
    audio = to_pcm(clip)
    reply = ResidentReply(audio)
    diarize(engine, audio, reply)
    assert len(reply.resident_kib) > 4
    # It ends within a page.
    assert max(reply.resident_kib) <= PAGESIZE // 1024


def test_other_speaker_models_are_left_to_pyannote(
    tmp_path: Path, clip: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(1)
    model = XVectorMFCC(task=None, dimension=256).eval()
    folder = write_pipeline(tmp_path / "other", model)
    with caplog.at_level(logging.WARNING):
        turns = Diarizer(config(folder)).diarize(clip, command(), FakeReply()).turns
    assert "none of WeSpeaker's" in caplog.text
    stock: Any = Pipeline.from_pretrained(folder)
    with one_thread():
        theirs = stock({"waveform": torch.from_numpy(to_float(clip))[None], "sample_rate": 16_000})
    assert [turn.speaker for turn in turns] == [
        speaker for *_, speaker in turns_of(theirs.exclusive_speaker_diarization)
    ]


def test_cancellation_is_noticed_between_windows(engine: Annotator, clip: Samples, to_pcm: ToPcm) -> None:
    with pytest.raises(Canceled):
        engine.run(command(to_pcm(clip)), FakeReply(cancel_after=3))


@pytest.mark.parametrize("name", [None, "/nowhere", "nobody/has-this-model"])
def test_a_pipeline_that_is_not_there_fails(
    clip: Samples, to_pcm: ToPcm, name: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Annotator(make_config(diarization_model=name))
    # The log of its start says so already.
    assert (name is None) == ("could not be loaded at start" not in caplog.text)
    with pytest.raises(CommandFailed) as failure:
        diarize(engine, to_pcm(clip), FakeReply())
    assert failure.value.reason == "model-not-available"


@pytest.mark.parametrize("kind", ["VoiceActivityDetection", "SpeakerDiarization"])
def test_a_pipeline_that_tells_no_speakers_apart_fails(folder: Path, tmp_path: Path, kind: str) -> None:
    config_yaml = yaml.safe_load((folder / "config.yaml").read_text())
    parameters = {"segmentation": str(folder / "segmentation")}
    if kind == "SpeakerDiarization":
        parameters |= {"clustering": "OracleClustering", "plda": str(folder / "plda")}
    config_yaml["pipeline"] = {"name": f"pyannote.audio.pipelines.{kind}", "params": parameters}
    del config_yaml["params"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config_yaml))
    with pytest.raises(CommandFailed, match="does not tell speakers apart") as failure:
        Diarizer(config(tmp_path))
    assert failure.value.reason == "model-not-available"
