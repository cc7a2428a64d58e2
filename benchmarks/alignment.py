"""The aligner beside whisperx.align, emissions given: prints JSON. alignment.ts runs it."""

import gc
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import whisperx.alignment
from alignment_cases import LETTERS, Case, OneSentence, our_words, random_cases, whisperx_words
from zeroscribe_sidecar.protocol import TextChunk

# It says on the output what it cannot align.
logging.disable(logging.WARNING)
whisperx.alignment.nltk_load = lambda _: OneSentence

FRAMES_PER_SECOND = 50
AT_ONCE = (1, 8)
"""Chunks, as the aligner takes them on a CPU and on a GPU."""
SPOKEN = " Well, there isn't that much difference. At least, you know, they all call me a Yankee down here."


def ten_minutes() -> Case:
    """Twenty chunks of half a minute, with fifteen letters a second, as people speak."""
    random = np.random.default_rng(11)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"abcdefghijklmnopqrstuvwxyz"]
    text = (SPOKEN * 5)[: 15 * 30]
    return Case(
        "en",
        {letter: code for code, letter in enumerate(letters)},
        [TextChunk(start=30 * i, end=30 * i + 30, text=text) for i in range(20)],
        [
            torch.from_numpy(random.normal(size=(1, 30 * FRAMES_PER_SECOND - 1, len(letters))).astype(np.float32) * 3)
            for _ in range(20)
        ],
    )


class Time(NamedTuple):
    """By the clock, and of the processor."""

    seconds: float
    processor_seconds: float


def timed(align: Callable[[Case], Any], case: Case) -> Time:
    """Of one run."""
    seconds, processor_seconds = time.perf_counter(), time.process_time()
    align(case)
    return Time(time.perf_counter() - seconds, time.process_time() - processor_seconds)


def medians(times: Sequence[Time]) -> dict[str, float]:
    """Of each by itself."""
    return Time(*(statistics.median(one) for one in zip(*times, strict=True)))._asdict()


def main() -> None:
    """Arguments: runs, random cases."""
    runs, count = int(sys.argv[1]), int(sys.argv[2])
    case = ten_minutes()
    theirs = whisperx_words(case)
    is_same = all(our_words(case, at_once) == theirs for at_once in AT_ONCE)
    # As in the annotator: nothing that imports have made is looked through for garbage again and again.
    gc.freeze()
    stock: list[Time] = []
    ours: dict[int, list[Time]] = {at_once: [] for at_once in AT_ONCE}
    for _ in range(runs):
        stock.append(timed(whisperx_words, case))
        for at_once, times in ours.items():
            times.append(timed(partial(our_words, at_once=at_once), case))
    differing = sum(
        our_words(one) != whisperx_words(one)
        for language in LETTERS
        for one in random_cases(language, count // len(LETTERS), seed=2026)
    )
    json.dump(
        {
            "ten_minutes": {
                "runs": runs,
                "words": len(theirs),
                "stock": medians(stock),
                "zeroscribe": {at_once: medians(times) for at_once, times in ours.items()},
                "same_words_times_and_scores": is_same,
            },
            "random": {"cases": count, "differing": differing},
        },
        sys.stdout,
    )


main()
