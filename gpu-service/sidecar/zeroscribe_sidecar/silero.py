"""Where speech is, by the Silero model that comes with faster_whisper: without torch, in a few megabytes."""

from collections.abc import Iterator
from itertools import groupby, pairwise

import numpy as np
import onnxruntime
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .channel import Reply
from .packages import package_folder
from .pcm import SAMPLE_RATE, Samples, release_pages, to_float
from .protocol import Chunk, DetectSpeech, SpeechResult
from .speech_chunks import Region, merge_regions, speech_regions

Scores = NDArray[np.float32]

FRAME_SAMPLES = 512
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE
# What the model hears of the frame before, besides the state that it carries along.
_CONTEXT_SAMPLES = 64
_STATE_WIDTH = 128
# Frames that become float32 at once: half a minute.
_BLOCK_FRAMES = 1024

_LONG_SILENCE_FRAMES = round(SAMPLE_RATE / FRAME_SAMPLES)

# The model is surer of the middle of a word than of its ends, and notices the first word after a silence late: with a
# tenth of a second it cost the beginning of a sentence in a channel of the sample.
_PADDING_SECONDS = 0.3
# Within a word, or between two that belong together: no place to cut.
_SHORTEST_PAUSE_SECONDS = 0.1


class SileroDetector:
    """One pass over the recording; threads share the work of each block, and the scores do not depend on how many."""

    def __init__(self, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # What a block needs is given back when it is over.
        options.enable_cpu_mem_arena = False
        # Threads that wait actively would take from Whisper's what they do not use themselves.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            package_folder("faster_whisper") / "assets" / "silero_vad_v6.onnx",
            sess_options=options,
            providers=["CPUExecutionProvider"],
        )

    def scores(self, pcm: Samples) -> Iterator[Scores]:
        """How much each 32 ms sound like speech, block by block; the last one is padded with silence.

        The model begins anew after a second of nothing but zeros, as there is between the channels of a call, or while
        somebody is muted: otherwise it takes half a second of speech until it notices that somebody speaks again.
        """
        state = _nothing_heard()
        # What comes before the recording is silence too.
        zeros_before = _LONG_SILENCE_FRAMES
        for first in range(0, len(pcm), _BLOCK_FRAMES * FRAME_SAMPLES):
            block = pcm[max(0, first - _CONTEXT_SAMPLES) : first + _BLOCK_FRAMES * FRAME_SAMPLES]
            before = _CONTEXT_SAMPLES if first == 0 else 0
            frames = -(-(len(block) + before - _CONTEXT_SAMPLES) // FRAME_SAMPLES)
            heard = np.zeros(_CONTEXT_SAMPLES + frames * FRAME_SAMPLES, np.float32)
            heard[before : before + len(block)] = to_float(block)
            step = heard.strides[0]
            shape = (frames, _CONTEXT_SAMPLES + FRAME_SAMPLES)
            windows = as_strided(heard, shape, (FRAME_SAMPLES * step, step), writeable=False)
            scores = np.zeros(frames, np.float32)
            is_zero = np.logical_not(heard[_CONTEXT_SAMPLES:].reshape(frames, FRAME_SAMPLES).any(axis=1))
            is_skipped = long_silences(is_zero, zeros_before)
            edges = np.flatnonzero(np.diff(is_skipped, prepend=True, append=True))
            for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                if start > 0 or zeros_before >= _LONG_SILENCE_FRAMES:
                    state = _nothing_heard()
                scores[start:end], *state = self._session.run(
                    None, {"input": np.ascontiguousarray(windows[start:end]), "h": state[0], "c": state[1]}
                )
            sounding = np.flatnonzero(~is_zero)
            zeros_before = frames - 1 - int(sounding[-1]) if len(sounding) > 0 else zeros_before + frames
            yield scores

    def detect(self, pcm: Samples, command: DetectSpeech, reply: Reply) -> SpeechResult:
        """Chunks of speech of at most `chunk_size` seconds, in order; none when nobody speaks."""
        scores = np.empty(-(-len(pcm) // FRAME_SAMPLES), np.float32)
        done = 0
        for block in self.scores(pcm):
            scores[done : done + len(block)] = block
            done += len(block)
            release_pages(pcm, done * FRAME_SAMPLES)
            reply.progress(done / len(scores))
        regions = silero_regions(scores, command, len(pcm) / SAMPLE_RATE)
        return SpeechResult(
            chunks=[Chunk(start=start, end=end) for start, end in merge_regions(regions, command.chunk_size)]
        )


def _nothing_heard() -> list[Scores]:
    return [np.zeros((1, 1, _STATE_WIDTH), np.float32), np.zeros((1, 1, _STATE_WIDTH), np.float32)]


def long_silences(is_zero: NDArray[np.bool_], before: int) -> NDArray[np.bool_]:
    """Which frames are part of a second and more of zeros, `before` of which came before these frames."""
    is_long = np.zeros(len(is_zero), np.bool_)
    at = 0
    for zero, run in groupby(is_zero.tolist()):
        length = sum(1 for _ in run)
        if zero and length + (before if at == 0 else 0) >= _LONG_SILENCE_FRAMES:
            is_long[at : at + length] = True
        at += length
    return is_long


def silero_regions(scores: Scores, command: DetectSpeech, duration_seconds: float) -> list[Region]:
    """Stretches of speech within the recording, none longer than `chunk_size`."""
    times = (np.arange(len(scores), dtype=np.float64) + 0.5) * FRAME_SECONDS
    longest_seconds = max(FRAME_SECONDS, command.chunk_size - 2 * _PADDING_SECONDS)
    found = speech_regions(scores, times, command.vad_onset, command.vad_offset, longest_seconds)
    regions: list[Region] = []
    for start, end in found:
        if regions and start - regions[-1][1] < _SHORTEST_PAUSE_SECONDS and end - regions[-1][0] <= longest_seconds:
            regions[-1] = (regions[-1][0], end)
        else:
            regions.append((start, end))
    # No further than the middle of the pause, so that no two regions share what was said.
    middles = [(last[1] + following[0]) / 2 for last, following in pairwise(regions)]
    return (
        [
            (max(start - _PADDING_SECONDS, earliest), min(end + _PADDING_SECONDS, latest))
            for (start, end), earliest, latest in zip(
                regions, [0.0, *middles], [*middles, duration_seconds], strict=True
            )
        ]
        if regions
        else []
    )
