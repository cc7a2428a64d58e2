"""Chunks to text, in batches of the same composition as WhisperX's."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from .attention_words import attention_words
from .channel import Reply
from .errors import CommandFailed, is_out_of_memory
from .log_mel import Features
from .pcm import Samples, release_pages, sample_range
from .protocol import Chunk, RawSegment, Transcribe, TranscribedChunk, TranscribeResult
from .segments import to_segments
from .whisper import Whisper

log = logging.getLogger(__name__)


def transcribe(whisper: Whisper, pcm: Samples, command: Transcribe, batch_size: int, reply: Reply) -> TranscribeResult:
    """Streams each batch. When memory runs out, that batch and all after it are halved, down to one chunk at a time."""
    chunks = command.chunks
    total = sum(chunk.end - chunk.start for chunk in chunks) or 1.0

    # The next batch's features are made while the model works on this one.
    with ThreadPoolExecutor(1, "features") as maker:

        def start_features(first: int) -> "Future[Features]":
            audio = [pcm[slice(*sample_range(chunk, len(pcm)))] for chunk in chunks[first : first + batch_size]]
            return maker.submit(whisper.features, audio)

        first = 0
        finished = 0.0
        upcoming = start_features(0) if chunks else None
        while upcoming is not None:
            reply.raise_if_canceled()
            batch = chunks[first : first + batch_size]
            try:
                features = upcoming.result()
                following = first + len(batch)
                upcoming = start_features(following) if following < len(chunks) else None
                results = transcribe_batch(whisper, features, batch, command)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise CommandFailed("out-of-memory", f"Not even one chunk at a time fits: {error}") from error
                batch_size = max(1, len(batch) // 2)
                log.warning("Out of memory with %d chunks at once; trying %d.", len(batch), batch_size)
                upcoming = start_features(first)
                continue
            reply.batch(results)
            release_pages(pcm, sample_range(batch[-1], len(pcm))[1])
            first = following
            finished += sum(chunk.end - chunk.start for chunk in batch)
            reply.progress(finished / total)
    return TranscribeResult(batch_size=batch_size)


def transcribe_batch(
    whisper: Whisper, features: Features, chunks: Sequence[Chunk], command: Transcribe
) -> list[TranscribedChunk]:
    """One batch, without regard to memory. `features`: see Whisper.features."""
    tokenizer = whisper.tokenizer(command.language, command.task)
    encoded = whisper.encode(features)
    decoded = whisper.decode(encoded, tokenizer, command.prompt, command.hotwords)
    pieces = None
    if command.word_timestamps:
        lengths = [chunk.end - chunk.start for chunk in chunks]
        pieces = whisper.align(encoded, tokenizer, [one.tokens for one in decoded], lengths)
    written_language = "en" if command.task == "translate" else command.language
    results = []
    for i, (chunk, one) in enumerate(zip(chunks, decoded, strict=True)):
        if pieces is not None:
            words = attention_words(one.text, pieces[i], written_language, chunk)
            segments = to_segments(one.text, words, written_language, chunk)
        else:
            text = one.text.strip()
            segments = [RawSegment(start=chunk.start, end=chunk.end, text=text, words=None)] if text else []
        results.append(
            TranscribedChunk(
                start=chunk.start, end=chunk.end, text=one.text, avg_logprob=one.avg_logprob, segments=segments
            )
        )
    return results
