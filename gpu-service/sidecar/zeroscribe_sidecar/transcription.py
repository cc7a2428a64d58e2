"""Chunks to text, in batches."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

from .attention_words import attention_words
from .batches import InOrder, consecutive_batches, even_batches
from .channel import Reply
from .errors import CommandFailed, is_out_of_memory
from .log_mel import Features
from .pcm import Samples, release_pages, sample_range
from .protocol import Chunk, RawSegment, Transcribe, TranscribedChunk, TranscribeResult
from .segments import to_segments
from .whisper import Whisper

log = logging.getLogger(__name__)


def transcribe(
    whisper: Whisper, pcm: Samples, command: Transcribe, batch_size: int, reply: Reply, *, even: bool = False
) -> TranscribeResult:
    """Streams what is done, in order. When memory runs out, that batch and all after it are halved, down to one chunk
    at a time. `even`: chunks of about the same length are done together, see even_batches."""
    chunks = command.chunks
    seconds = [chunk.end - chunk.start for chunk in chunks]
    total = sum(seconds) or 1.0
    in_order = InOrder(reply)

    def compose(places: Sequence[int]) -> list[list[int]]:
        return even_batches(places, seconds, batch_size) if even else consecutive_batches(places, batch_size)

    # The next batch's features are made while the model works on this one.
    with ThreadPoolExecutor(1, "features") as maker:

        def start_features(batch: Sequence[int]) -> "Future[Features]":
            audio = [pcm[slice(*sample_range(chunks[place], len(pcm)))] for place in batch]
            return maker.submit(whisper.features, audio)

        finished = 0.0
        waiting = compose(range(len(chunks)))
        upcoming = start_features(waiting[0]) if waiting else None
        while upcoming is not None:
            reply.raise_if_canceled()
            batch = waiting[0]
            try:
                features = upcoming.result()
                upcoming = start_features(waiting[1]) if len(waiting) > 1 else None
                results = transcribe_batch(whisper, features, [chunks[place] for place in batch], command)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise CommandFailed("out-of-memory", f"Not even one chunk at a time fits: {error}") from error
                batch_size = max(1, len(batch) // 2)
                log.warning("Out of memory with %d chunks at once; trying %d.", len(batch), batch_size)
                waiting = compose(sorted(chain.from_iterable(waiting)))
                upcoming = start_features(waiting[0])
                continue
            del waiting[0]
            in_order.add(batch, results)
            if in_order.handed_over > 0:
                release_pages(pcm, sample_range(chunks[in_order.handed_over - 1], len(pcm))[1])
            finished += sum(seconds[place] for place in batch)
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
