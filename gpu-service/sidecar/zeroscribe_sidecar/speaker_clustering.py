"""pyannote's clustering of voices, in bounded memory.

scipy's linkage holds the distances of all pairs of N embeddings, twice: 8 N² bytes. Ten hours have tens of thousands of
embeddings, and would need tens of gigabytes. Up to a limit nothing changes. Above it, pyannote clusters the embeddings
of evenly spaced windows, and the others go to the nearest centroid, as pyannote does with those that it leaves out
because a voice is heard too briefly.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyannote.audio.pipelines.clustering import AgglomerativeClustering, BaseClustering, VBxClustering
from pyannote.core import SlidingWindowFeature

log = logging.getLogger(__name__)

Indices = NDArray[np.int64]

_WINDOWS_AT_ONCE = 1_000


class BoundedClustering(BaseClustering):
    """Both of pyannote's that build a dendrogram take what `filter_embeddings` returns for it."""

    most_embeddings = 12_000
    """1.2 GB of distances. Two hours, in windows a second apart, with 1.7 voices in a window."""

    def filter_embeddings(
        self,
        embeddings: NDArray[Any],
        segmentations: SlidingWindowFeature | None = None,
        min_active_ratio: float = 0.2,
    ) -> tuple[NDArray[Any], Indices, Indices]:
        """See BaseClustering. A part of the windows at a time, and at most `most_embeddings` in all."""
        assert segmentations is not None
        found = []
        for first in range(0, len(embeddings), _WINDOWS_AT_ONCE):
            part = slice(first, first + _WINDOWS_AT_ONCE)
            masks = SlidingWindowFeature(segmentations.data[part], segmentations.sliding_window)
            _, windows, speakers = super().filter_embeddings(embeddings[part], masks, min_active_ratio)
            found.append((windows + first, speakers))
        windows, speakers = (np.concatenate(indices) for indices in zip(*found, strict=True))
        kept = evenly_spaced(windows, self.most_embeddings)
        if not kept.all():
            log.info("Clustering %d of %d embeddings; the others go to the nearest voice.", kept.sum(), len(kept))
        windows, speakers = windows[kept], speakers[kept]
        return embeddings[windows, speakers], windows, speakers


class BoundedAgglomerativeClustering(BoundedClustering, AgglomerativeClustering):
    """That of pyannote/speaker-diarization-3.1."""


class BoundedVBxClustering(BoundedClustering, VBxClustering):
    """That of pyannote/speaker-diarization-community-1."""


def evenly_spaced(windows: Indices, most: int) -> NDArray[np.bool_]:
    """Which to keep so that no more than `most` are left: all those of a window or none. `windows`: ascending.

    Whole windows, because every second embedding of two people who talk all the time would be always the same one.
    """
    names, counts = np.unique(windows, return_counts=True)
    count = len(names)
    kept = np.arange(count)
    while counts[kept].sum() > most and count > 1:
        count = int(count * most / counts[kept].sum())
        kept = np.arange(max(1, count)) * len(names) // max(1, count)
    return np.isin(windows, names[kept])


def bound(clustering: BaseClustering) -> None:
    """In place. One that needs no dendrogram stays as it is."""
    if type(clustering) is AgglomerativeClustering:
        clustering.__class__ = BoundedAgglomerativeClustering
    elif type(clustering) is VBxClustering:
        clustering.__class__ = BoundedVBxClustering
