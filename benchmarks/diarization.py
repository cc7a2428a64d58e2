"""The diarizer beside pyannote's own pipeline, in one process and in turns: prints JSON. diarization.ts runs it."""

import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import torch
from diarization_cases import (
    CLUSTERINGS,
    Piece,
    diarize_long,
    long_recording,
    teach,
    turns_of,
    with_more_mib,
    write_pipeline,
)
from pyannote.audio import Pipeline
from pyannote.audio.models.embedding import WeSpeakerResNet34
from scipy.signal import resample_poly
from scipy.spatial.distance import cosine
from zeroscribe_sidecar.lean_diarization import make_lean
from zeroscribe_sidecar.pcm import SAMPLE_RATE, Samples, to_float, to_tensor
from zeroscribe_sidecar.speaker_trunk import Precision

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


def read(path: Path, tempo: tuple[int, int] = (1, 1)) -> Samples:
    """At 16 kHz. A tempo makes another voice of it."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
        rate = file.getframerate()
    resampled = resample_poly(samples, SAMPLE_RATE * tempo[1], rate * tempo[0])
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


def conversation(others: list[Path]) -> list[Piece]:
    """A minute. Two speakers from pyannote's sample and two from `others`, without which the sample's voices, higher
    and lower, stand in."""

    def cut(samples: Samples, start: float, end: float) -> Samples:
        return samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]

    sample = read(conftest.SAMPLE)
    if others:
        third, fourth = (read(path) for path in others)
    else:
        third, fourth = cut(read(conftest.SAMPLE, (6, 5)), 18, 24), cut(read(conftest.SAMPLE, (5, 6)), 12.7, 21.6)
    third, fourth = (np.resize(samples, 21 * SAMPLE_RATE) for samples in (third, fourth))
    both = cut(sample, 10.6, 13.6) // 2 + cut(third, 3, 6) // 2
    return [
        Piece("first", cut(sample, 10.6, 14.6)),
        Piece("second", cut(sample, 14.6, 18)),
        Piece("third", cut(third, 0, 9)),
        Piece("fourth", cut(fourth, 1, 11)),
        Piece("second", cut(sample, 22, 27.8)),
        Piece("fourth", cut(fourth, 11, 21)),
        Piece(None, both),
        Piece("first", cut(sample, 18.6, 21.4)),
        Piece(None, np.zeros(6 * SAMPLE_RATE, np.int16)),
        Piece("third", cut(third, 3, 9)),
    ]


@dataclass
class Run:
    """Of one pipeline over one recording."""

    seconds: float
    """Embeddings and clustering."""
    processor_seconds: float
    whole_seconds: float
    turns: list[tuple[float, float, str]]
    exclusive_turns: list[tuple[float, float, str]]
    embeddings: Any
    has_voice: Any

    def same_turns(self, other: "Run") -> bool:
        """To the last bit."""
        return self.turns == other.turns and self.exclusive_turns == other.exclusive_turns

    def distance(self, other: "Run") -> float:
        """The greatest cosine distance between two embeddings of the same voice in the same window."""
        pairs = zip(self.embeddings[self.has_voice], other.embeddings[self.has_voice], strict=True)
        return max(float(cosine(a.astype(float), b.astype(float))) for a, b in pairs)


def run(pipeline: Any, waveform: torch.Tensor) -> Run:
    """Between the hooks that pyannote calls before the embeddings and after the clustering."""
    times, artifacts = {}, {}

    def now() -> tuple[float, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), usage.ru_utime + usage.ru_stime

    def hook(step: str, artifact: Any, file: Any = None, total: Any = None, completed: Any = None) -> None:
        if total is None:
            times[step], artifacts[step] = now(), artifact

    started = time.perf_counter()
    output = pipeline({"waveform": waveform, "sample_rate": SAMPLE_RATE, "uri": "audio"}, hook=hook)
    ended = time.perf_counter()
    (wall, processor), (wall_end, processor_end) = times["speaker_counting"], times["discrete_diarization"]
    return Run(
        wall_end - wall,
        processor_end - processor,
        ended - started,
        turns_of(output.speaker_diarization),
        turns_of(output.exclusive_speaker_diarization),
        artifacts["embeddings"],
        (artifacts["segmentation"].data > 0.5).any(axis=1),
    )


@contextmanager
def rounded(model: Any, precision: Precision) -> Iterator[None]:
    """Multiplies what a GPU would multiply in that precision, for where there is none; sums are float32 as there."""

    def less(values: torch.Tensor) -> torch.Tensor:
        if precision == "half":
            return values.half().float()
        # To 10 bits after the point, as TensorFloat-32 has.
        return ((values.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)

    convolutions = [module for module in model.resnet.modules() if isinstance(module, torch.nn.Conv2d)]
    exact = [module.weight.data for module in convolutions]
    hooks = []
    for module in convolutions:
        module.weight.data = less(module.weight.data)
        hooks.append(module.register_forward_pre_hook(lambda _, inputs: tuple(less(one) for one in inputs)))
        if precision == "half":
            hooks.append(module.register_forward_hook(lambda _, _inputs, output: less(output)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, weight in zip(convolutions, exact, strict=True):
            module.weight.data = weight


def load(folder: Path, precision: Precision | None, device: str, threads: int) -> Any:
    """None: stock."""
    pipeline: Any = Pipeline.from_pretrained(folder).to(torch.device(device))
    if precision is not None:
        make_lean(pipeline, threads, precision)
    return pipeline


def compare(runs: int, others: list[Path], folder: Path) -> dict[str, Any]:
    """The time of the agglomerative clustering's pipeline; the turns of both."""
    device, threads = "cuda" if torch.cuda.is_available() else "cpu", torch.get_num_threads()
    pieces = conversation(others)
    torch.manual_seed(1)
    model = WeSpeakerResNet34().eval()
    teach(model, pieces)
    # A GPU is done with a minute before a clock has said anything.
    pcm = np.tile(np.concatenate([piece.samples for piece in pieces]), 10 if device == "cuda" else 1)
    floats, mapped = torch.from_numpy(to_float(pcm))[None], to_tensor(pcm)
    name, *other_names = CLUSTERINGS
    batches = {"embedding_batch_size": 32, "segmentation_batch_size": 32}
    write_pipeline(folder / name, model, name, **batches)
    stock, ours = load(folder / name, None, device, threads), load(folder / name, "exact", device, threads)
    theirs_runs, our_runs = [], []
    for _ in range(runs):
        theirs_runs.append(run(stock, floats))
        our_runs.append(run(ours, mapped))
    theirs, own = theirs_runs[0], our_runs[0]
    same = {name: all(one.same_turns(theirs) for one in our_runs)}
    speakers = {name: len({speaker for *_, speaker in theirs.turns})}
    for other in other_names:
        write_pipeline(folder / other, model, other, **batches)
        both = []
        for precision, one in ((None, theirs), ("exact", own)):
            pipeline = load(folder / other, precision, device, threads)
            # They do not depend on the clustering.
            pipeline.get_embeddings = lambda *_, embeddings=one.embeddings, **__: embeddings
            both.append(run(pipeline, floats if precision is None else mapped))
        same[other] = both[0].same_turns(both[1])
        speakers[other] = len({speaker for *_, speaker in both[0].turns})
    precisions = {"exact": {"distance": own.distance(theirs), "same_turns": own.same_turns(theirs)}}
    less: tuple[Precision, ...] = ("tf32", "half")
    for precision in less:
        if device == "cuda":
            one = run(load(folder / name, precision, device, threads), mapped)
        else:
            with rounded(ours.trunk._model, precision):
                one = run(ours, mapped)
        precisions[precision] = {"distance": one.distance(theirs), "same_turns": one.same_turns(theirs)}
        if device == "cuda":
            precisions[precision]["seconds"] = one.seconds

    def median(which: list[Run], field: str) -> float:
        return statistics.median(getattr(one, field) for one in which)

    fields = ("seconds", "processor_seconds", "whole_seconds")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "runs": runs,
        "audio_seconds": len(pcm) / SAMPLE_RATE,
        "turns": len(theirs.turns),
        "speakers": speakers,
        "stock": {field: median(theirs_runs, field) for field in fields},
        "zeroscribe": {field: median(our_runs, field) for field in fields},
        "same_turns": same,
        "precisions": precisions,
    }


def main() -> None:
    """Arguments: runs and recordings of other voices; or "long", a clustering and hours, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1] == "long":
            recording = long_recording(float(sys.argv[3]))
            result, more_mib = with_more_mib(lambda: diarize_long(sys.argv[2], recording, Path(folder)))
            measured = asdict(result) | {"more_mib": more_mib}
        else:
            measured = compare(int(sys.argv[1]), [Path(path) for path in sys.argv[2:]], Path(folder))
            measured["long"] = {
                name: {
                    hours: json.loads(
                        subprocess.run(
                            [sys.executable, __file__, "long", name, hours], check=True, capture_output=True, text=True
                        ).stdout
                    )
                    for hours in ("1", "10")
                }
                for name in CLUSTERINGS
            }
    json.dump(measured, sys.stdout)


main()
