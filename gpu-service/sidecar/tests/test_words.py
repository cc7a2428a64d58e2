"""Words and sentences from given times, without a model."""

from typing import Any

import pytest

from zeroscribe_sidecar.alignment import Letters, timed_words
from zeroscribe_sidecar.attention_words import attention_words
from zeroscribe_sidecar.forced_alignment import TokenSpans
from zeroscribe_sidecar.protocol import Chunk, TextChunk
from zeroscribe_sidecar.segments import to_segments
from zeroscribe_sidecar.sentences import sentence_starts

CHUNK = Chunk(start=100.0, end=110.0)


def pieces(*texts: str) -> list[dict[str, Any]]:
    """One after the other, 0.5 s each."""
    return [{"word": t, "start": i * 0.5, "end": i * 0.5 + 0.5, "probability": 0.5} for i, t in enumerate(texts)]


def split(text: str, language: str) -> list[str]:
    starts = sentence_starts(text, language)
    return [text[first:last].strip() for first, last in zip(starts, [*starts[1:], len(text)], strict=True)]


def test_punctuation_belongs_to_its_word_but_not_its_time() -> None:
    text = ' "Well-known, it\'s $3.50."'
    parts = pieces(' "', "Well", "-", "known", ",", " it's", " $3", ".", "50", ".", '"')
    words = attention_words(text, parts, "en", CHUNK)
    assert [text[word.first : word.last] for word in words] == ['"Well-known,', "it's", '$3.50."']
    assert [(word.start, word.end) for word in words] == [(100.5, 102.0), (102.5, 103.0), (103.0, 104.5)]


def test_languages_without_spaces_have_pieces_for_words() -> None:
    text = "你好吗？我很好。"  # noqa: RUF001
    parts = pieces("你", "好", "吗", "？", "我", "很好", "。")  # noqa: RUF001
    words = attention_words(text, parts, "zh", CHUNK)
    assert [text[word.first : word.last] for word in words] == ["你", "好", "吗？", "我", "很好。"]  # noqa: RUF001
    segments = to_segments(text, words, "zh", CHUNK)
    assert [segment.text for segment in segments] == ["你好吗？", "我很好。"]  # noqa: RUF001
    assert "".join(segment.text for segment in segments) == text


def test_a_translation_is_split_as_english_whatever_was_spoken() -> None:
    text = " Good day."
    words = attention_words(text, pieces(" Go", "od", " day", "."), "en", CHUNK)
    assert [text[word.first : word.last] for word in words] == ["Good", "day."]


def test_pieces_that_do_not_make_up_the_text_give_words_without_times() -> None:
    words = attention_words(" a b", pieces(" a", " �"), "en", CHUNK)
    assert [(word.first, word.last, word.start) for word in words] == [(1, 2, None), (3, 4, None)]


def test_times_never_leave_the_chunk_or_run_backwards() -> None:
    parts = pieces(*(f" w{i}" for i in range(40)))
    words = attention_words("".join(part["word"] for part in parts), parts, "en", CHUNK)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times, key=lambda time: time or 0)
    assert times[-1] == CHUNK.end


def test_no_text_is_no_segments() -> None:
    assert to_segments("", attention_words("", [], "en", CHUNK), "en", CHUNK) == []


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("en", " Mr. Smith paid $3.50 at 5 p.m. yesterday. Really? Yes!", 3),
        ("de", " Das ist z.B. ein Satz. Und noch einer.", 2),
        ("ja", "はい。そうです。", 2),
        ("hi", "यह एक वाक्य है। यह दूसरा है।", 2),
        ("cy", " Un. Dau.", 2),
        ("en", " no punctuation at all", 1),
    ],
)
def test_sentences_end_where_the_language_ends_them(language: str, text: str, sentences: int) -> None:
    assert len(split(text, language)) == sentences
    assert "".join(split(text, language)).replace(" ", "") == text.replace(" ", "")


def test_aligned_words_are_those_between_spaces_with_the_times_of_their_letters() -> None:
    text = " It's  5\u00a0p.m. "
    letters = Letters({"<pad>": 0, "i": 1, "t": 2, "|": 3, "p": 4}, "en")
    tokens = letters.tokens_of(text)
    count = len(tokens.codes)
    spans = TokenSpans([*range(count + 1)], [0.5] * count)
    words = timed_words(TextChunk(start=10, end=12, text=text), tokens, spans, count * 2, "en")
    assert [text[word.first : word.last] for word in words] == ["It's", "5\u00a0p.m."]
    assert [(word.start, word.score) for word in words] == [(10.0, 0.5), (10.5, 0.5)]
