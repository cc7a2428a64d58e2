"""Who speaks when, by a pyannote pipeline."""

import re
from collections.abc import Callable
from typing import Any

import torch
from pyannote.audio import Pipeline
from pyannote.audio.pipelines import SpeakerDiarization

from .channel import Reply
from .errors import CommandFailed, is_out_of_memory
from .lean_diarization import make_lean
from .pcm import SAMPLE_RATE, Samples, release_pages, to_tensor
from .protocol import Diarize, DiarizeResult, SidecarConfig, SpeakerTurn
from .speaker_trunk import Precision

# Where each step begins and ends in the progress of the whole: embeddings take nearly all of the time.
_STEPS = {"segmentation": (0.0, 0.15), "embeddings": (0.15, 0.97)}

# Less would be faster on a GPU, but nobody has shown on one that turns stay the same: pyannote turns TensorFloat-32 off
# because it once changed them. `npm run bench -- diarization` compares all three where there is a GPU.
PRECISION: Precision = "exact"


class Diarizer:
    """The configured pipeline."""

    def __init__(self, config: SidecarConfig) -> None:
        """Loads it. Fails with model-not-available."""
        name = config.diarization_model
        if name is None:
            raise CommandFailed("model-not-available", "No diarization model is configured.")
        try:
            pipeline = Pipeline.from_pretrained(name)
            if pipeline is None:
                raise ValueError("it was not found")
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise CommandFailed(
                "model-not-available",
                f'The diarization model "{name}" cannot be loaded: {error}. It must be a folder with config.yaml, or '
                "already in the Hugging Face cache: nothing is downloaded while running.",
            ) from error
        # With OracleClustering it has no embedding model.
        if not isinstance(pipeline, SpeakerDiarization) or not hasattr(pipeline, "_embedding"):
            raise CommandFailed(
                "model-not-available",
                f'The diarization model "{name}" does not tell speakers apart. Its config.yaml must name '
                "pyannote.audio.pipelines.SpeakerDiarization, and a clustering other than OracleClustering.",
            )
        self._pipeline: Any = pipeline.to(torch.device(config.device))
        make_lean(self._pipeline, config.cpu_threads, PRECISION)

    def diarize(self, pcm: Samples, command: Diarize, reply: Reply) -> DiarizeResult:
        """Turns in order. Without overlaps where the pipeline can: a word has one speaker."""
        if len(pcm) == 0:
            return DiarizeResult(turns=[])
        output = self._pipeline(
            {"waveform": to_tensor(pcm), "sample_rate": SAMPLE_RATE, "uri": "audio"},
            num_speakers=command.num_speakers,
            min_speakers=command.min_speakers,
            max_speakers=command.max_speakers,
            hook=_hook(pcm, reply),
        )
        annotation = getattr(output, "exclusive_speaker_diarization", None)
        if annotation is None:
            annotation = getattr(output, "speaker_diarization", output)
        names = _names(annotation.labels())
        turns = sorted(
            (turn.start, turn.end, names[label]) for turn, _, label in annotation.itertracks(yield_label=True)
        )
        return DiarizeResult(
            turns=[
                SpeakerTurn(start=max(0.0, float(start)), end=min(float(end), len(pcm) / SAMPLE_RATE), speaker=speaker)
                for start, end, speaker in turns
                if start < len(pcm) / SAMPLE_RATE
            ]
        )


def _hook(pcm: Samples, reply: Reply) -> Callable[..., None]:
    def hook(
        step: str, _artifact: Any, file: Any = None, total: int | None = None, completed: int | None = None
    ) -> None:
        reply.raise_if_canceled()
        release_pages(pcm, len(pcm))
        if step in _STEPS and total and completed is not None:
            first, last = _STEPS[step]
            reply.progress(first + (last - first) * min(1.0, completed / total))

    return hook


def _names(labels: list[Any]) -> dict[Any, str]:
    if all(re.fullmatch(r"SPEAKER_\d+", str(label)) for label in labels):
        return {label: str(label) for label in labels}
    return {label: f"SPEAKER_{i:02d}" for i, label in enumerate(labels)}
