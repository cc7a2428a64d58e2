"""pyannote's diarization pipeline with the same turns, a third of the work and memory that hardly grows."""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio import Audio
from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.audio.utils.signal import binarize
from pyannote.core import Annotation, Segment, SlidingWindow, SlidingWindowFeature
from pyannote.core.utils.generators import string_generator

from .gpu_memory import peak_logged
from .pcm import SAMPLE_RATE, tensor_to_float
from .pyannote_speech import PcmInference
from .shrinking_batches import ShrinkingBatches
from .speaker_clustering import bound
from .speaker_trunk import Embeddings, Precision, SpeakerTrunk

log = logging.getLogger(__name__)

_WINDOWS_AT_ONCE = 1_000
_FRAMES_AT_ONCE = 1 << 16
_SEGMENTED_PER_THREAD = 8
_EMBEDDED_ON_A_CPU = 8
"""Windows at once. More are no faster on a CPU, and to embed one takes 40 MB."""


class PcmAudio(Audio):
    """Cuts float32 pieces out of int16 audio."""

    def crop(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, int]:
        """See Audio.crop."""
        waveform, sample_rate = self.crop_pcm(*args, **kwargs)
        return tensor_to_float(waveform), sample_rate

    def crop_pcm(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, int]:
        """As it is."""
        return super().crop(*args, **kwargs)


class _Scores(SlidingWindowFeature):
    """Those of a model that knows no powerset: `binarize` has its own way with them."""


class _SegmentationInference(PcmInference):
    """A model with a powerset says 0 or 1: a byte is enough."""

    def scores_of(self, chunks: torch.Tensor) -> NDArray[Any]:
        scores = super().scores_of(chunks)
        return scores.astype(np.uint8) if self.model.specifications.powerset else scores


class LeanDiarization(SpeakerDiarization):
    """In place of SpeakerDiarization, of which it leaves the order of the steps (`apply`) as it is.

    What it does otherwise: the embedding model hears each window once, not once per speaker, and not where nobody
    speaks; windows are added to the timeline one by one, where pyannote first builds (windows, frames, speakers) in
    float64, twice: 4 GB for ten hours and ten speakers; loops over frames are steps of arrays.
    """

    embedding_batch_size: int
    """Windows."""
    trunk: SpeakerTrunk | None
    """None: an embedding model of another kind, which pyannote is left alone with."""

    def get_segmentations(self, file: Any, hook: Callable[..., None] | None = None) -> SlidingWindowFeature:
        """See SpeakerDiarization."""
        with peak_logged("segmentation"):
            scores = super().get_segmentations(file, hook=hook)
        return _Scores(scores.data, scores.sliding_window)

    @staticmethod
    def speaker_count(
        binarized_segmentations: SlidingWindowFeature,
        frames: SlidingWindow,
        warm_up: tuple[float, float] = (0.1, 0.1),
    ) -> SlidingWindowFeature:
        """See SpeakerDiarizationMixin."""
        if warm_up != (0.0, 0.0):
            return SpeakerDiarization.speaker_count(binarized_segmentations, frames, warm_up)
        timeline = _Timeline(binarized_segmentations, frames)
        speakers, windows = np.zeros(timeline.length, np.float32), np.zeros(timeline.length, np.float32)
        for place, active in timeline.windows():
            for of_one in active.T:
                speakers[place] += of_one
            windows[place] += 1
        count = np.rint(speakers / np.maximum(windows, 1e-12)).astype(np.uint8)
        return SlidingWindowFeature(count[:, np.newaxis], timeline.frames)

    def get_embeddings(
        self,
        file: Any,
        binary_segmentations: SlidingWindowFeature,
        exclude_overlap: bool = False,
        hook: Callable[..., None] | None = None,
    ) -> Embeddings:
        """See SpeakerDiarization."""
        with peak_logged("voices"):
            if self.trunk is None or self.training:
                return super().get_embeddings(file, binary_segmentations, exclude_overlap, hook)
            windows, _, speakers = binary_segmentations.data.shape
            nobody = self.trunk.of_nobody(self._embedding.min_num_samples)
            embeddings = np.empty((windows, speakers, len(nobody)), np.float32)
            embeddings[:] = nobody
            spoken = np.flatnonzero(binary_segmentations.data.any(axis=(1, 2)))
            done = 0

            def embed(batch: NDArray[Any]) -> int:
                if hook is not None:
                    hook("embeddings", None, total=len(spoken), completed=done)
                embeddings[batch] = self._embed(file, binary_segmentations, batch, exclude_overlap)
                return len(batch)

            for embedded in ShrinkingBatches(self.embedding_batch_size, "window").of(spoken, embed):
                done += embedded
            if hook is not None:
                hook("embeddings", None, total=len(spoken), completed=done)
            return embeddings

    def _embed(self, file: Any, segmentations: SlidingWindowFeature, batch: NDArray[Any], alone: bool) -> Embeddings:
        """`alone`: from where nobody else speaks, if that is long enough."""
        assert self.trunk is not None
        window = segmentations.sliding_window
        pieces = [self._audio.crop_pcm(file, window[i], mode="pad")[0] for i in batch]
        masks = segmentations.data[batch].astype(np.float32)
        if alone:
            samples = window.duration * self._embedding.sample_rate
            shortest = math.ceil(masks.shape[1] * self._embedding.min_num_samples / samples)
            clean = masks * (masks.sum(axis=2, keepdims=True) < 2)
            is_enough = clean.sum(axis=1, keepdims=True) > shortest
            masks = np.where(is_enough, clean, masks)
        return self.trunk.embed(torch.stack(pieces), masks)

    def reconstruct(
        self, segmentations: SlidingWindowFeature, hard_clusters: NDArray[Any], count: SlidingWindowFeature
    ) -> SlidingWindowFeature:
        """See SpeakerDiarization."""
        timeline = _Timeline(segmentations, count.sliding_window)
        clusters = max(int(np.max(hard_clusters)) + 1, int(np.max(count.data)))
        activations = np.zeros((timeline.length, clusters), np.float32)
        for (place, scores), of_speakers in zip(timeline.windows(), hard_clusters, strict=True):
            merged: dict[int, NDArray[Any]] = {}
            for cluster, of_one in zip(of_speakers.tolist(), scores.T, strict=True):
                merged[cluster] = np.maximum(merged[cluster], of_one) if cluster in merged else of_one
            for cluster in merged.keys() - {-2}:
                activations[place, cluster] += merged[cluster]
        return _loudest(SlidingWindowFeature(activations, timeline.frames), count)

    @staticmethod
    def to_annotation(
        discrete_diarization: SlidingWindowFeature, min_duration_on: float = 0.0, min_duration_off: float = 0.0
    ) -> Annotation:
        """See SpeakerDiarizationMixin; of zeros and ones."""
        frames, tracks = discrete_diarization.sliding_window, string_generator()
        annotation = Annotation()
        for speaker, is_active in enumerate(discrete_diarization.data.T > 0):
            track = next(tracks)
            edges = np.flatnonzero(np.diff(is_active, prepend=False)).tolist()
            if len(edges) % 2 == 1:
                edges.append(len(is_active) - 1)
            for first, end in zip(edges[::2], edges[1::2], strict=True):
                annotation[Segment(frames[first].middle, frames[end].middle), track] = speaker
        if min_duration_off > 0:
            annotation = annotation.support(collar=min_duration_off)
        for segment, track in list(annotation.itertracks()) if min_duration_on > 0 else []:
            if segment.duration < min_duration_on:
                del annotation[segment, track]
        return annotation


class _Timeline:
    """Where the frames of overlapping windows are in the recording, by pyannote's arithmetic (Inference.aggregate)."""

    def __init__(self, scores: SlidingWindowFeature, frames: SlidingWindow) -> None:
        self._scores = scores
        window = scores.sliding_window
        self.frames = SlidingWindow(start=window.start, duration=frames.duration, step=frames.step)
        end = window.start + window.duration + (len(scores.data) - 1) * window.step
        self.length = self.frames.closest_frame(end + 0.5 * frames.duration) + 1

    def windows(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """The place in the timeline, and the scores, of each."""
        for i, scores in enumerate(self._scores.data):
            first = self.frames.closest_frame(self._scores.sliding_window[i].start + 0.5 * self.frames.duration)
            yield slice(first, first + len(scores)), scores


def _loudest(activations: SlidingWindowFeature, count: SlidingWindowFeature) -> SlidingWindowFeature:
    """In each frame the `count` speakers with the highest activations: 1, the others 0."""
    extent = activations.extent & count.extent
    activations, count = activations.crop(extent, return_data=False), count.crop(extent, return_data=False)
    is_active = np.zeros(activations.data.shape, np.uint8)
    ranks = np.arange(is_active.shape[1])
    for first in range(0, len(is_active), _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        # As pyannote sorts, so that ties are decided alike.
        order = np.argsort(-activations.data[part], axis=-1)
        frames, chosen = np.nonzero(ranks < count.data[part])
        is_active[first + frames, order[frames, chosen]] = 1
    return SlidingWindowFeature(is_active, activations.sliding_window)


@binarize.register  # type: ignore[untyped-decorator]
def _binarize(
    scores: _Scores, onset: float = 0.5, offset: float | None = None, initial_state: bool | None = None
) -> SlidingWindowFeature:
    """A part of the windows at a time, since pyannote turns every frame into a Python number: gigabytes for hours."""
    is_active = np.empty(scores.data.shape, np.uint8)
    for first in range(0, len(is_active), _WINDOWS_AT_ONCE):
        part = slice(first, first + _WINDOWS_AT_ONCE)
        some = SlidingWindowFeature(scores.data[part], scores.sliding_window)
        is_active[part] = binarize(some, onset=onset, offset=offset, initial_state=initial_state).data
    return SlidingWindowFeature(is_active, scores.sliding_window)


def make_lean(pipeline: Any, threads: int, precision: Precision = "exact") -> None:
    """In place, after its models are on their device. `threads`: of a CPU."""
    # pyannote has no way to be given int16, so its two readers of audio are replaced.
    pipeline._segmentation.__class__ = _SegmentationInference
    pipeline._audio = PcmAudio(sample_rate=SAMPLE_RATE, mono="downmix")
    if pipeline._segmentation.device.type == "cpu":
        pipeline._segmentation.spread(threads)
        pipeline.segmentation_batch_size = min(pipeline.segmentation_batch_size, _SEGMENTED_PER_THREAD * threads)
        pipeline.embedding_batch_size = min(pipeline.embedding_batch_size, _EMBEDDED_ON_A_CPU)
    if type(pipeline) is not SpeakerDiarization:
        log.warning("The pipeline is a %s: it runs as pyannote has it, and slowly.", type(pipeline).__name__)
        return
    pipeline.__class__ = LeanDiarization
    # Otherwise it would not say who speaks where two do.
    pipeline.legacy = False
    bound(pipeline.clustering)
    model = getattr(pipeline._embedding, "model_", None)
    if isinstance(model, BaseWeSpeakerResNet):
        pipeline.trunk = SpeakerTrunk(model, precision)
    else:
        pipeline.trunk = None
        log.warning(
            "The embedding model is none of WeSpeaker's: it hears each window once per speaker, and its batches are "
            "not halved where memory runs out."
        )
