"""Which language is spoken. WhisperX asks about the first 30 s of the file, which may be music or a greeting."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from .channel import Reply
from .log_mel import WINDOW_SAMPLES
from .pcm import Samples, sample_range
from .protocol import Chunk, LanguageResult
from .whisper import Whisper

MOST_WINDOWS = 5


def detect_language(whisper: Whisper, pcm: Samples, chunks: Sequence[Chunk], reply: Reply) -> LanguageResult:
    """The language with the highest mean probability over up to five windows of speech."""
    if not whisper.is_multilingual:
        return LanguageResult(language="en", probability=1.0, windows=0)
    windows = [pcm[slice(*sample_range(chunk, len(pcm)))] for chunk in spread(chunks)] or [pcm[:WINDOW_SAMPLES]]
    sums: defaultdict[str, float] = defaultdict(float)
    for done, window in enumerate(windows):
        reply.progress(done / len(windows))
        [probabilities] = whisper.language_probabilities(whisper.encode(whisper.features([window])))
        for language, probability in probabilities.items():
            sums[language] += probability / len(windows)
    language = max(sums, key=lambda code: sums[code])
    return LanguageResult(language=language, probability=min(1.0, sums[language]), windows=len(windows))


def spread(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The longest chunk of each fifth of the recording's speech; all of them when there are no more than five."""
    parts = min(MOST_WINDOWS, len(chunks))
    bounds = [len(chunks) * part // parts for part in range(parts)] + [len(chunks)] if parts else []
    return [max(chunks[first:end], key=lambda chunk: chunk.end - chunk.start) for first, end in pairwise(bounds)]
