"""A real pyannote pipeline from a folder, with WhisperX's segmentation model and a speaker model of random weights:
the trained pipeline needs an account. Who speaks means nothing here; that turns come out right does."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisperx
import yaml
from conftest import FakeReply, make_config
from pyannote.audio import Pipeline
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34

from zeroscribe_sidecar.annotator import Annotator
from zeroscribe_sidecar.errors import Canceled, CommandFailed
from zeroscribe_sidecar.pcm import Samples, to_float
from zeroscribe_sidecar.protocol import Diarize, DiarizeResult, PcmFile

ToPcm = Callable[[Samples], PcmFile]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diarization")
    for name in ("segmentation", "embedding", "plda"):
        (path / name).mkdir()
    segmentation = Path(whisperx.__file__).parent / "assets" / "pytorch_model.bin"
    (path / "segmentation" / "pytorch_model.bin").symlink_to(segmentation)
    torch.manual_seed(1)
    model = WeSpeakerResNet34()
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.4.0",
        "pyannote.audio": {
            "versions": {"torch": "2.0.0", "pyannote.audio": "4.0.0"},
            "architecture": {"module": "pyannote.audio.models.embedding", "class": "WeSpeakerResNet34"},
            "specifications": Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0, classes=[]),
        },
    }
    torch.save(checkpoint, path / "embedding" / "pytorch_model.bin")
    # Read at start, not used by this clustering.
    np.savez(path / "plda" / "xvec_transform.npz", mean1=np.zeros(256), mean2=np.zeros(128), lda=np.eye(256, 128))
    np.savez(path / "plda" / "plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.arange(1.0, 129.0))
    config = {
        "pipeline": {
            "name": "pyannote.audio.pipelines.SpeakerDiarization",
            "params": {
                "segmentation": "$model/segmentation",
                "segmentation_batch_size": 8,
                "embedding": "$model/embedding",
                "embedding_batch_size": 4,
                "embedding_exclude_overlap": True,
                "plda": "$model/plda",
                "clustering": "AgglomerativeClustering",
            },
        },
        "params": {
            "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
            "clustering": {"method": "centroid", "min_cluster_size": 2, "threshold": 0.7},
        },
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Annotator:
    return Annotator(make_config(diarization_model=str(folder)))


@pytest.fixture(scope="module")
def clip(sample: Samples) -> Samples:
    return sample[int(8.4 * 16_000) : 14 * 16_000]


def command(audio: PcmFile, **changes: int | None) -> Diarize:
    numbers: dict[str, int | None] = {"num_speakers": None, "min_speakers": None, "max_speakers": None, **changes}
    return Diarize(type="diarize", id=1, audio=audio, **numbers)


def diarize(engine: Annotator, audio: PcmFile, reply: FakeReply, **changes: int | None) -> DiarizeResult:
    result = engine.run(command(audio, **changes), reply)
    assert isinstance(result, DiarizeResult)
    return result


def test_turns_equal_the_pipelines_own(engine: Annotator, folder: Path, clip: Samples, to_pcm: ToPcm) -> None:
    reply = FakeReply()
    turns = diarize(engine, to_pcm(clip), reply, num_speakers=2).turns
    pipeline: Any = Pipeline.from_pretrained(folder)
    theirs = pipeline({"waveform": torch.from_numpy(to_float(clip))[None], "sample_rate": 16_000}, num_speakers=2)
    expected = [
        (round(turn.start, 3), round(min(turn.end, len(clip) / 16_000), 3), speaker)
        for turn, _, speaker in theirs.exclusive_speaker_diarization.itertracks(yield_label=True)
    ]
    assert [(turn.start, turn.end, turn.speaker) for turn in turns] == expected
    assert len({turn.speaker for turn in turns}) == 2
    # Nobody talks over anybody: a word has one speaker.
    assert all(a.end <= b.start for a, b in pairwise(turns))
    assert reply.fractions == sorted(reply.fractions)
    assert len(reply.fractions) > 4


def test_hardly_any_audio_and_silence_have_no_speakers(engine: Annotator, to_pcm: ToPcm) -> None:
    for samples in (0, 1, 800, 16_000):
        assert diarize(engine, to_pcm(np.zeros(samples, np.int16)), FakeReply()).turns == []


def test_too_large_batches_are_halved(
    engine: Annotator, clip: Samples, to_pcm: ToPcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = engine._loaded_diarizer()._pipeline
    embed, tried = pipeline._embedding.__class__.__call__, []

    def cramped(self: Any, waveforms: Any, masks: Any = None) -> Any:
        tried.append(len(waveforms))
        if len(waveforms) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return embed(self, waveforms, masks=masks)

    monkeypatch.setattr(pipeline._embedding.__class__, "__call__", cramped)
    assert diarize(engine, to_pcm(clip[: 16_000 * 2]), FakeReply(), num_speakers=1).turns != []
    assert tried[:3] == [3, 2, 1]


def test_cancellation_is_noticed_between_windows(engine: Annotator, clip: Samples, to_pcm: ToPcm) -> None:
    with pytest.raises(Canceled):
        engine.run(command(to_pcm(clip)), FakeReply(cancel_after=3))


@pytest.mark.parametrize("name", [None, "/nowhere", "nobody/has-this-model"])
def test_a_pipeline_that_is_not_there_fails(clip: Samples, to_pcm: ToPcm, name: str | None) -> None:
    with pytest.raises(CommandFailed) as failure:
        diarize(Annotator(make_config(diarization_model=name)), to_pcm(clip), FakeReply())
    assert failure.value.reason == "model-not-available"
