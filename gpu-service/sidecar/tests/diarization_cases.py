"""Pipelines in a folder whose speaker model has random weights, since the trained ones need an account. Only the last
layer is fitted, in closed form, to the voices of a recording, so that clusters are its speakers and not chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
import torch
import whisperx
import yaml
from pyannote.audio.core.plda import PLDA
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
from pyannote.audio.models.embedding.wespeaker.resnet import BasicBlock, ResNet
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.pipelines.clustering import Clustering
from pyannote.core import SlidingWindow, SlidingWindowFeature

from zeroscribe_sidecar.lean_diarization import LeanDiarization
from zeroscribe_sidecar.pcm import SAMPLE_RATE, Samples, to_float
from zeroscribe_sidecar.speaker_clustering import bound

T = TypeVar("T")

WINDOW_SECONDS = 5
"""As long as the segmentation model's."""
CLUSTERINGS: dict[str, dict[str, Any]] = {
    "AgglomerativeClustering": {"method": "centroid", "min_cluster_size": 2, "threshold": 0.7},
    "VBxClustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
}
"""Their parameters, nearly those of pyannote's published pipelines."""


class SmallResNet(BaseWeSpeakerResNet):
    """A hundredth of WeSpeakerResNet34."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.resnet = ResNet(BasicBlock, [1, 1, 1, 1], m_channels=4, feat_dim=80, embed_dim=256, two_emb_layer=False)


@dataclass(frozen=True)
class Piece:
    """Samples in which one speaks; nobody: silence."""

    speaker: str | None
    samples: Samples


def teach(model: Any, pieces: Sequence[Piece], dimensions: int = 20) -> None:
    """Fits the last layer: principal components, then those directions in which the speakers differ most."""
    hop, length = SAMPLE_RATE, WINDOW_SECONDS * SAMPLE_RATE
    stats, speakers = [], []
    with torch.inference_mode():
        for piece in pieces:
            for first in range(0, len(piece.samples) - hop, hop):
                if piece.speaker is None:
                    continue
                heard = piece.samples[first : first + length]
                mask = np.zeros((1, 1, length), np.float32)
                mask[..., : len(heard)] = 1
                window = np.pad(to_float(heard), (0, length - len(heard)))
                frames = model.resnet.forward_frames(model.compute_fbank(torch.from_numpy(window)[None, None]))
                stats.append(model.resnet.pool(frames, torch.from_numpy(mask))[0, 0].double().numpy())
                speakers.append(piece.speaker)
    names = sorted(set(speakers))
    centre = np.mean(stats, axis=0)
    left, strengths, axes = np.linalg.svd(np.array(stats) - centre, full_matrices=False)
    strengths, axes, whitened = strengths[:dimensions], axes[:dimensions], left[:, :dimensions]
    groups = [whitened[np.array(speakers) == name] for name in names]
    within = sum(np.cov(group.T, bias=True) * len(group) for group in groups) / len(whitened)
    between = np.cov(np.array([group.mean(axis=0) for group in groups]).T)
    _, directions = scipy.linalg.eigh(between, within + 1e-5 * np.eye(len(strengths)))
    layer = model.resnet.seg_1
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        chosen = directions[:, : -len(names) : -1].T @ (axes / strengths[:, None])
        layer.weight[: len(chosen)] = torch.from_numpy(chosen)
        layer.bias[: len(chosen)] = torch.from_numpy(-chosen @ centre)


def write_pipeline(
    folder: Path,
    model: Any,
    clustering: str = "AgglomerativeClustering",
    segmentation: Any | None = None,
    **changes: Any,
) -> Path:
    """As pyannote's on Hugging Face are laid out. `segmentation`: otherwise WhisperX's. `changes`: of parameters."""
    for name in ("segmentation", "embedding", "plda"):
        (folder / name).mkdir(parents=True)
    if segmentation is None:
        trained = Path(whisperx.__file__).parent / "assets" / "pytorch_model.bin"
        (folder / "segmentation" / "pytorch_model.bin").symlink_to(trained)
    else:
        _save(segmentation, segmentation.specifications, folder / "segmentation")
    _save(
        model, Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0, classes=[]), folder / "embedding"
    )
    write_plda(folder / "plda")
    params = {
        "segmentation": "$model/segmentation",
        "segmentation_batch_size": 8,
        "embedding": "$model/embedding",
        "embedding_batch_size": 4,
        "embedding_exclude_overlap": True,
        "plda": "$model/plda",
        "clustering": clustering,
    }
    config = {
        "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": {**params, **changes}},
        "params": {
            "segmentation": {"min_duration_off": 0.0} | ({"threshold": 0.5} if segmentation is None else {}),
            "clustering": CLUSTERINGS[clustering],
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _save(model: Any, specifications: Specifications, folder: Path) -> None:
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": "2.4.0",
        "pyannote.audio": {
            "versions": {"torch": "2.0.0", "pyannote.audio": "4.0.0"},
            "architecture": {"module": type(model).__module__, "class": type(model).__name__},
            "specifications": specifications,
        },
    }
    torch.save(checkpoint, folder / "pytorch_model.bin")


def powerset_segmentation(seed: int) -> Any:
    """A model of the kind that pyannote's are today: who of three speaks, at most two at once, by random weights."""
    torch.manual_seed(seed)
    model = PyanNet(lstm={"hidden_size": 8, "num_layers": 1}, linear={"hidden_size": 8, "num_layers": 1})
    model.specifications = Specifications(
        Problem.MONO_LABEL_CLASSIFICATION,
        Resolution.FRAME,
        duration=10.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    return model.eval()


def turns_of(annotation: Any) -> list[tuple[float, float, str]]:
    return [(turn.start, turn.end, speaker) for turn, _, speaker in annotation.itertracks(yield_label=True)]


def write_plda(folder: Path) -> PLDA:
    """Those directions count that a taught model uses, which are the first."""
    np.savez(folder / "xvec_transform.npz", mean1=np.zeros(256), mean2=np.zeros(128), lda=np.eye(256, 128))
    np.savez(folder / "plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=40.0 / np.arange(1.0, 129.0))
    return PLDA(folder / "xvec_transform.npz", folder / "plda.npz")


@dataclass(frozen=True)
class LongRecording:
    """What is left of it after its models have run."""

    segmentations: SlidingWindowFeature
    embeddings: Any
    speakers: Any
    """Who has the first and the second place of each window."""


def long_recording(hours: float, speakers: int = 6) -> LongRecording:
    """Windows of ten seconds, one a second, with 589 frames and places for three, as pyannote's models have them. In
    the first half of each somebody speaks, and in every other window somebody else in the second."""
    random = np.random.default_rng(5)
    count = int(hours * 3600) - 9
    masks = np.zeros((count, 589, 3), np.uint8)
    masks[:, :295, 0] = 1
    masks[::2, 295:, 1] = 1
    first = random.integers(speakers, size=count)
    second = (first + random.integers(1, speakers, size=count)) % speakers
    embeddings = np.full((count, 3, 256), 0.01, np.float32)
    for place, who in enumerate((first, second)):
        embeddings[:, place] = random.standard_normal((count, 256), np.float32) * 0.02 + np.eye(256)[who]
    window = SlidingWindow(start=0.0, duration=10.0, step=1.0)
    return LongRecording(SlidingWindowFeature(masks, window), embeddings, np.stack([first, second], axis=1))


@dataclass(frozen=True)
class LongResult:
    windows: int
    speakers_found: int
    is_right: bool
    """Each speaker is one cluster."""
    turns: int


def diarize_long(name: str, recording: LongRecording, folder: Path, most: int | None = None) -> LongResult:
    """Everything after the models."""
    kind = Clustering[name].value
    clustering = kind(write_plda(folder), metric="cosine") if name == "VBxClustering" else kind(metric="cosine")
    clustering.instantiate(CLUSTERINGS[name])
    bound(clustering)
    if most is not None:
        clustering.most_embeddings = most
    masks = recording.segmentations
    clusters, _, _ = clustering(
        recording.embeddings, segmentations=masks, num_clusters=None, min_clusters=1, max_clusters=np.inf
    )
    is_active = masks.data.any(axis=1)
    clusters[~is_active] = -2
    frames = SlidingWindow(start=0.0, duration=0.0619375, step=0.016875)
    count = LeanDiarization.speaker_count(masks, frames, (0.0, 0.0))
    pipeline: Any = None
    discrete = LeanDiarization.reconstruct(pipeline, masks, clusters, count)
    turns = len(list(LeanDiarization.to_annotation(discrete).itertracks()))
    pairs = np.stack([recording.speakers[is_active[:, :2]], clusters[:, :2][is_active[:, :2]]])
    found = len(np.unique(pairs[1]))
    is_right = found == len(np.unique(pairs[0])) == np.unique(pairs, axis=1).shape[1]
    return LongResult(len(masks.data), found, is_right, turns)


def with_more_mib(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and by how much the memory of this process grew meanwhile, at most. For Linux."""
    # Lets the greatest size begin anew: before, there was more than what is left.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    result = work()
    return result, (_status_kib("VmHWM") - before) / 1024


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
