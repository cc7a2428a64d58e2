"""Speech detection and transcription against WhisperX itself."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from conftest import SAMPLE, FakeReply, make_config
from whisperx.asr import load_model
from whisperx.audio import log_mel_spectrogram
from whisperx.vads import Pyannote

from zeroscribe_sidecar.annotator import Annotator
from zeroscribe_sidecar.errors import CommandFailed
from zeroscribe_sidecar.language import detect_language, spread
from zeroscribe_sidecar.log_mel import WINDOW_SAMPLES
from zeroscribe_sidecar.pcm import Samples, open_pcm, sample_range, to_float
from zeroscribe_sidecar.protocol import Chunk, DetectSpeech, PcmFile, SpeechResult, Transcribe
from zeroscribe_sidecar.recognizer import Recognizer
from zeroscribe_sidecar.transcription import transcribe
from zeroscribe_sidecar.whisper import Whisper

ToPcm = Callable[[Samples], PcmFile]


@pytest.fixture(scope="module")
def stock() -> Any:
    """WhisperX, which looks for speech in the same recording only once: its scores do not depend on options."""
    model = load_model(make_config().models["tiny.en"], "cpu", compute_type="int8", language="en", threads=2)
    detector, found = model.vad_model, {}

    def scores(audio: dict[str, Any]) -> Any:
        samples = audio["waveform"].numpy().tobytes()
        if samples not in found:
            threads = torch.get_num_threads()
            # Two wait for each other at every step of its LSTMs: a minute of processor time on a busy machine.
            torch.set_num_threads(1)
            found[samples] = detector(audio)
            torch.set_num_threads(threads)
        return found[samples]

    model.vad_model = scores
    return model


@pytest.fixture(scope="module")
def stock_segments(stock: Any, sample: Samples) -> list[dict[str, Any]]:
    """What it makes of the sample when nothing is asked for."""
    return list(stock.transcribe(to_float(sample), batch_size=8)["segments"])


@pytest.fixture(scope="module")
def sample_pcm(sample: Samples, tmp_path_factory: pytest.TempPathFactory) -> PcmFile:
    path = tmp_path_factory.mktemp("sample") / "sample.pcm"
    sample.astype("<i2").tofile(path)
    return PcmFile(path=str(path), samples=len(sample))


@pytest.fixture(scope="module")
def heard(recognizer: Recognizer, annotator: Annotator, sample_pcm: PcmFile) -> list[Any]:
    """What we make of it."""
    reply = FakeReply()
    recognizer.run(command(sample_pcm, detect(annotator, sample_pcm)), reply)
    return reply.chunks


@pytest.fixture(scope="module")
def heard_in_pieces(recognizer: Recognizer, annotator: Annotator, sample_pcm: PcmFile) -> list[Any]:
    """The same in small chunks, which make several batches, the last one incomplete."""
    reply = FakeReply()
    chunks = detect(annotator, sample_pcm, chunk_size=10)
    transcribe(loaded(recognizer), open_pcm(sample_pcm), command(sample_pcm, chunks), 2, reply)
    assert len(reply.batches) > 1
    assert len(reply.batches[-1]) == 1
    return reply.chunks


def detect(annotator: Annotator, audio: PcmFile, reply: FakeReply | None = None, **changes: Any) -> list[Chunk]:
    options: dict[str, Any] = {"method": "pyannote", "vad_onset": 0.5, "vad_offset": 0.363, "chunk_size": 30, **changes}
    result = annotator.run(DetectSpeech(type="detect_speech", id=1, audio=audio, **options), reply or FakeReply())
    assert isinstance(result, SpeechResult)
    return result.chunks


def command(audio: PcmFile, chunks: list[Chunk], **changes: Any) -> Transcribe:
    fields: dict[str, Any] = {
        "type": "transcribe",
        "id": 2,
        "audio": audio,
        "model": "tiny.en",
        "chunks": chunks,
        "language": "en",
        "task": "transcribe",
        "prompt": None,
        "hotwords": None,
        "word_timestamps": True,
    }
    return Transcribe(**{**fields, **changes})


def loaded(recognizer: Recognizer) -> Whisper:
    assert recognizer._whisper is not None
    return recognizer._whisper


def squeeze(text: str) -> str:
    return "".join(text.split())


def test_scores_equal_whisperx_and_its_own_detector(annotator: Annotator, sample: Samples, stock: Any) -> None:
    ours = annotator._loaded_detector().scores(sample)
    theirs = stock.vad_model({"waveform": torch.from_numpy(to_float(sample))[None], "sample_rate": 16_000})
    for value in ("start", "step", "duration"):
        assert getattr(ours.sliding_window, value) == getattr(theirs.sliding_window, value)
    # Not to the last bit: on some processors other sizes of batches go through other kernels.
    np.testing.assert_allclose(ours.data, theirs.data, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("onset", "offset", "size"), [(0.5, 0.363, 30), (0.6, 0.4, 5)])
def test_chunks_are_exactly_those_of_whisperx(
    annotator: Annotator, sample: Samples, to_pcm: ToPcm, stock: Any, onset: float, offset: float, size: int
) -> None:
    reply = FakeReply()
    chunks = detect(annotator, to_pcm(sample), reply, vad_onset=onset, vad_offset=offset, chunk_size=size)
    scores = stock.vad_model({"waveform": torch.from_numpy(to_float(sample))[None], "sample_rate": 16_000})
    expected = Pyannote.merge_chunks(scores, size, onset=onset, offset=offset)
    assert [(chunk.start, min(chunk.end, 30.0)) for chunk in chunks] == [(c["start"], c["end"]) for c in expected]
    assert reply.fractions[-1] == 1.0


@pytest.mark.parametrize("length", [0, 1, 800, 1_599])
def test_hardly_any_audio_has_no_speech(annotator: Annotator, to_pcm: ToPcm, length: int) -> None:
    assert detect(annotator, to_pcm(np.zeros(length, np.int16))) == []


def test_silence_has_no_speech_and_noise_does_not_crash(
    recognizer: Recognizer, annotator: Annotator, to_pcm: ToPcm
) -> None:
    assert detect(annotator, to_pcm(np.zeros(16_000 * 7, np.int16))) == []
    noise = np.random.default_rng(1).integers(-8_000, 8_000, 16_000 * 7).astype(np.int16)
    audio = to_pcm(noise)
    detect(annotator, audio)
    reply = FakeReply()
    recognizer.run(command(audio, [Chunk(start=0, end=7), Chunk(start=6.95, end=7)]), reply)
    assert len(reply.chunks) == 2


def test_text_and_scores_equal_whisperx(heard_in_pieces: list[Any], sample: Samples, stock: Any) -> None:
    theirs = stock.transcribe(to_float(sample), batch_size=2, chunk_size=10)["segments"]
    assert len(theirs) > 2
    assert [chunk.text for chunk in heard_in_pieces] == [segment["text"] for segment in theirs]
    # The sums of the features are made in another order than torch's.
    ours, expected = [chunk.avg_logprob for chunk in heard_in_pieces], [segment["avg_logprob"] for segment in theirs]
    assert ours == pytest.approx(expected, abs=1e-2)
    assert [(chunk.start, chunk.end) for chunk in heard_in_pieces] == [(s["start"], s["end"]) for s in theirs]


def test_prompt_and_hotwords_have_the_effect_they_have_in_whisperx(
    recognizer: Recognizer,
    sample: Samples,
    sample_pcm: PcmFile,
    stock: Any,
    stock_segments: Any,
    heard: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With a prompt, the last bits of the features decide what a telephone call says: here both hear the same.
    def features(audio: list[Samples]) -> Any:
        padded = [log_mel_spectrogram(to_float(part), n_mels=80, padding=WINDOW_SAMPLES - len(part)) for part in audio]
        return torch.stack(padded).numpy()

    monkeypatch.setattr(loaded(recognizer), "features", features)
    chunks = [Chunk(start=chunk.start, end=chunk.end) for chunk in heard]
    plain = stock.options
    for options in ({"initial_prompt": "Dianne and Sheilah talk."}, {"hotwords": "Dianne, Sheilah"}):
        stock.options = dataclasses.replace(plain, **options)
        try:
            theirs = stock.transcribe(to_float(sample), batch_size=8)["segments"]
        finally:
            stock.options = plain
        reply = FakeReply()
        given = {"prompt": options.get("initial_prompt"), "hotwords": options.get("hotwords")}
        recognizer.run(command(sample_pcm, chunks, word_timestamps=False, **given), reply)
        assert [chunk.text for chunk in reply.chunks] == [segment["text"] for segment in theirs]
        assert theirs[0]["text"] != stock_segments[0]["text"]


def test_the_word_error_rate_is_that_of_whisperx(
    heard: list[Any], stock_segments: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    def words(text: str) -> str:
        return re.sub(r"[^a-z' ]", "", text.lower())

    lines = SAMPLE.with_suffix(".stm").read_text().splitlines()
    reference = words(" ".join(line.split(maxsplit=5)[5] for line in lines))
    ours = jiwer.wer(reference, words(" ".join(chunk.text for chunk in heard)))
    stock_text = " ".join(segment["text"] for segment in stock_segments)
    theirs = jiwer.wer(reference, words(stock_text))
    with capsys.disabled():
        print(f"\nWord error rate on sample.wav with tiny.en: ours {ours:.3f}, WhisperX {theirs:.3f}")
    assert ours == theirs < 0.3


def test_words_lie_in_their_chunk_in_order_and_make_up_the_text(heard_in_pieces: list[Any]) -> None:
    for chunk in heard_in_pieces:
        words = [word for segment in chunk.segments for word in segment.words]
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert chunk.start <= times[0]
        assert times[-1] <= chunk.end
        assert [word.word for word in words] == chunk.text.split()
        assert squeeze("".join(segment.text for segment in chunk.segments)) == squeeze(chunk.text)
        assert all(0 <= word.score <= 1 for word in words)
    assert len(heard_in_pieces[0].segments) > 1


def test_words_are_heard_when_the_reference_says_so(heard: list[Any]) -> None:
    words = {w.word: w for chunk in heard for segment in chunk.segments for w in segment.words}
    # Words that occur once, and that the model hears on every kind of processor, with the time of their sentence in
    # sample.stm.
    for word, first, last in [("heard", 10.78, 12.54), ("Diane", 12.54, 14.18), ("Yankee", 24.06, 28.43)]:
        assert first - 0.3 < words[word].start < words[word].end < last + 0.3


def test_resuming_leaves_the_text_of_the_rest_as_it_was(
    recognizer: Recognizer, sample: Samples, to_pcm: ToPcm, short_chunks: list[Chunk]
) -> None:
    audio = to_pcm(sample)
    model, pcm = loaded(recognizer), open_pcm(audio)
    whole, rest = FakeReply(), FakeReply()
    transcribe(model, pcm, command(audio, short_chunks[:3]), 2, whole)
    transcribe(model, pcm, command(audio, short_chunks[2:3]), 2, rest)
    assert [len(batch) for batch in whole.batches] == [2, 1]
    assert rest.chunks == whole.chunks[2:]


def test_without_word_times_a_chunk_is_one_segment(
    recognizer: Recognizer, sample: Samples, to_pcm: ToPcm, short_chunks: list[Chunk]
) -> None:
    audio = to_pcm(sample)
    reply = FakeReply()
    recognizer.run(command(audio, short_chunks[:2], word_timestamps=False), reply)
    for chunk in reply.chunks:
        [segment] = chunk.segments
        assert segment.words is None
        assert (segment.start, segment.end, segment.text) == (chunk.start, chunk.end, chunk.text.strip())


def test_out_of_memory_even_alone_fails_and_other_errors_are_not_repeated(
    recognizer: Recognizer, sample: Samples, to_pcm: ToPcm, short_chunks: list[Chunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = to_pcm(sample)
    tried = []

    def failing(error: Exception) -> Callable[[Any], Any]:
        def encode(features: Any) -> Any:
            tried.append(len(features))
            raise error

        return encode

    monkeypatch.setattr(loaded(recognizer), "encode", failing(RuntimeError("CUDA failed with error out of memory")))
    with pytest.raises(CommandFailed) as failure:
        recognizer.run(command(audio, short_chunks), FakeReply())
    assert failure.value.reason == "out-of-memory"
    assert tried == [8, 4, 2, 1]
    monkeypatch.setattr(loaded(recognizer), "encode", failing(RuntimeError("unspecified launch failure")))
    with pytest.raises(RuntimeError, match="launch"):
        recognizer.run(command(audio, short_chunks), FakeReply())
    assert tried == [8, 4, 2, 1, 8]


def test_an_unknown_model_fails_and_the_loaded_one_stays(
    recognizer: Recognizer, sample: Samples, to_pcm: ToPcm, short_chunks: list[Chunk]
) -> None:
    audio = to_pcm(sample)
    before = loaded(recognizer)
    with pytest.raises(CommandFailed) as failure:
        recognizer.run(command(audio, short_chunks, model="large-v9"), FakeReply())
    assert failure.value.reason == "model-not-available"
    assert "tiny.en" in failure.value.message
    assert loaded(recognizer) is before


def test_another_model_replaces_the_loaded_one(sample: Samples, to_pcm: ToPcm, short_chunks: list[Chunk]) -> None:
    folder = make_config().models["tiny.en"]
    recognizer = Recognizer(make_config(models={"tiny.en": folder, "other": folder}))
    audio = to_pcm(sample)
    for name in ("other", "tiny.en"):
        recognizer.run(command(audio, short_chunks[:1], model=name, word_timestamps=False), FakeReply())
        assert loaded(recognizer).name == name


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_audio_that_is_not_there_is_unreadable(annotator: Annotator, to_pcm: ToPcm, damage: str) -> None:
    audio = to_pcm(np.zeros(100, np.int16))
    changes: dict[str, dict[str, Any]] = {"missing": {"path": audio.path + "x"}, "short": {"samples": 101}}
    with pytest.raises(CommandFailed) as failure:
        detect(annotator, audio.model_copy(update=changes[damage]))
    assert failure.value.reason == "audio-unreadable"


def test_english_only_models_know_english(recognizer: Recognizer, sample: Samples) -> None:
    result = detect_language(loaded(recognizer), sample, [Chunk(start=6.6, end=8)], FakeReply())
    assert (result.language, result.probability) == ("en", 1.0)


class _Polyglot:
    """No multilingual model comes in a package: this one is certain of what it is told, window by window."""

    is_multilingual = True

    def __init__(self, windows: list[dict[str, float]]) -> None:
        self._windows = iter(windows)
        self.heard: list[int] = []

    def features(self, audio: list[Samples]) -> list[Samples]:
        self.heard.append(len(audio[0]))
        return audio

    def encode(self, features: Any) -> Any:
        return features

    def language_probabilities(self, encoded: Any) -> list[dict[str, float]]:
        return [next(self._windows)]


def test_windows_vote_on_the_language(sample: Samples) -> None:
    model: Any = _Polyglot([{"en": 0.9, "de": 0.1}, {"en": 0.2, "de": 0.8}, {"en": 0.3, "de": 0.7}])
    chunks = [Chunk(start=i, end=i + 1) for i in range(3)]
    result = detect_language(model, sample, chunks, FakeReply())
    assert (result.language, result.windows) == ("de", 3)
    assert result.probability == pytest.approx(1.6 / 3)
    assert model.heard == [16_000] * 3


def test_without_speech_the_start_decides_the_language(sample: Samples) -> None:
    model: Any = _Polyglot([{"en": 0.9}])
    assert detect_language(model, sample[:9_000], [], FakeReply()).windows == 1
    assert model.heard == [9_000]


def test_windows_are_the_longest_chunks_spread_over_the_recording() -> None:
    chunks = [Chunk(start=i * 10, end=i * 10 + 1 + (i % 4 == 3)) for i in range(20)]
    assert [chunk.start for chunk in spread(chunks)] == [30, 70, 110, 150, 190]
    assert spread(chunks[:2]) == chunks[:2]
    assert spread([]) == []


def test_a_chunk_that_ends_with_the_audio_keeps_its_last_sample() -> None:
    for samples in range(1, 100_000, 7):
        assert sample_range(Chunk(start=0, end=samples / 16_000), samples) == (0, samples)
