"""The aligner with a small wav2vec2 of random weights: no trained one comes in a package. Its times mean nothing, but
they must be WhisperX's."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisperx.alignment
from alignment_cases import LETTERS, OneSentence, our_words, random_cases, whisperx_words
from conftest import FakeReply, make_config
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from zeroscribe_sidecar.alignment import Letters
from zeroscribe_sidecar.annotator import Annotator
from zeroscribe_sidecar.emissions import EmissionModel
from zeroscribe_sidecar.errors import CommandFailed
from zeroscribe_sidecar.forced_alignment import align_tokens
from zeroscribe_sidecar.pcm import Samples, to_float
from zeroscribe_sidecar.protocol import Align, PcmFile, TextChunk

ToPcm = Callable[[Samples], PcmFile]


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisperx.alignment, "nltk_load", lambda _: OneSentence)


CHUNKS = [
    TextChunk(start=6.713, end=12.6, text=" Hello. I heard 3 beeps, didn't I? Yes."),
    TextChunk(start=12.6, end=17.8, text=" And I'm Sheila in Texas, originally from Chicago."),
    TextChunk(start=18.0, end=19.0, text=""),
    # More letters than frames: cannot be aligned.
    TextChunk(start=20.0, end=20.1, text=" Far too much text for a tenth of a second."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wav2vec2")
    save_model(path)
    return path


def save_model(path: Path, **changes: Any) -> None:
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    (path / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    torch.manual_seed(1)
    model = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(letters),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            conv_dim=(32,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            pad_token_id=0,
            **changes,
        )
    )
    model.save_pretrained(path)
    Wav2Vec2Processor(
        Wav2Vec2FeatureExtractor(return_attention_mask=False), Wav2Vec2CTCTokenizer(str(path / "vocab.json"))
    ).save_pretrained(path)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Annotator:
    return Annotator(make_config(alignment_models={"en": str(folder), "fr": str(folder / "nothing")}))


def command(audio: PcmFile, language: str = "en") -> Align:
    return Align(type="align", id=1, audio=audio, language=language, chunks=CHUNKS)


def test_words_and_times_equal_whisperx(engine: Annotator, folder: Path, sample: Samples, to_pcm: ToPcm) -> None:
    reply = FakeReply()
    engine.run(command(to_pcm(sample)), reply)
    model, metadata = whisperx.alignment.load_align_model("en", "cpu", model_name=str(folder))
    theirs = whisperx.alignment.align(
        [chunk.model_dump() for chunk in CHUNKS[:2]], model, metadata, to_float(sample), "cpu"
    )["word_segments"]
    ours = [word for chunk in reply.chunks[:2] for segment in chunk.segments for word in segment.words]
    assert [word.word for word in ours] == [word["word"] for word in theirs]
    assert "3" in [word.word for word in ours]
    assert [(word.start, word.end, word.score) for word in ours] == [
        (word.get("start"), word.get("end"), word.get("score")) for word in theirs
    ]


@pytest.mark.parametrize("language", LETTERS)
def test_random_texts_in_random_frames_come_out_as_from_whisperx(language: str) -> None:
    """A few, since WhisperX takes its time: `npm run bench -- alignment` compares a thousand."""
    aligned = 0
    for case in random_cases(language, 40, seed=7):
        ours = our_words(case)
        assert ours == whisperx_words(case)
        aligned += bool(ours)
    assert 20 < aligned < 40


def test_tokens_are_found_in_the_frames_where_whisperx_finds_them() -> None:
    random = np.random.default_rng(5)
    failed = 0
    for _ in range(1_000):
        frames = int(random.integers(1, 12))
        logits = torch.from_numpy(random.normal(size=(frames, 6)).astype(np.float32))
        emission = torch.log_softmax(logits * float(random.choice([0.1, 1, 20])), -1)
        codes = [int(code) for code in random.integers(0, 6, int(random.integers(1, frames + 3)))]
        trellis = whisperx.alignment.get_trellis(emission, codes, 1)
        path = whisperx.alignment.backtrack(trellis, emission, codes, 1)
        [ours] = align_tokens([emission.numpy()], [np.array(codes)], 1)
        theirs = path and [
            (segment.start, segment.end, segment.score)
            for segment in whisperx.alignment.merge_repeats(path, "x" * len(codes))
        ]
        assert (ours and [*zip(ours.frames, ours.frames[1:], ours.scores, strict=False)]) == theirs
        failed += theirs is None
    assert 100 < failed < 500


def test_texts_that_are_aligned_together_come_out_as_each_by_itself() -> None:
    random = np.random.default_rng(3)
    sizes = [(int(random.integers(1, 300)), int(random.integers(1, 60))) for _ in range(60)]
    emissions = [
        torch.log_softmax(torch.from_numpy(random.normal(size=(frames, 9)).astype(np.float32)) * 3, -1).numpy()
        for frames, _ in sizes
    ]
    texts = [random.integers(0, 9, count) for _, count in sizes]
    together = align_tokens(emissions, texts, 2)
    alone = [align_tokens([emission], [text], 2)[0] for emission, text in zip(emissions, texts, strict=True)]
    assert together == alone
    assert {span is None for span in alone} == {True, False}


def test_a_letter_whose_lower_case_is_two_is_one_token() -> None:
    labels = Letters({"<pad>": 0, "i": 1, "|": 2}, "tr")
    assert labels.tokens_of(" İi i ") == ([1, 2, 3, 4], [-1, 1, 2, 1])


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_pieces_that_are_heard_together_sound_as_each_by_itself(norm: str, tmp_path: Path, sample: Samples) -> None:
    """Also in models whose first layer normalises over time: silence that fills up the shorter ones changes nothing.
    In half precision it is about the same."""
    save_model(tmp_path, feat_extract_norm=norm, do_stable_layer_norm=norm == "layer")
    model = EmissionModel("en", str(tmp_path), "cpu")
    pieces = [sample[:100], sample[8_000:40_000], sample[40_000:90_123], sample[90_000:106_000]]
    alone = [emission for piece in pieces for emission in model.emissions([piece])]
    together = model.emissions(pieces[:3]) + model.emissions(pieces[3:])
    assert [len(emission) for emission in together] == [len(emission) for emission in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    half = EmissionModel("en", str(tmp_path), "cpu", half=True)
    for one, other in zip(half.emissions(pieces[:3]) + half.emissions(pieces[3:]), alone, strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)


def test_pieces_are_normalised_one_at_a_time(tmp_path: Path) -> None:
    """Of half a minute the first layer makes 200 MB in float32, and a GPU's memory is shared with the recognizer."""
    save_model(tmp_path)
    norm: Any = EmissionModel("en", str(tmp_path), "cpu")._norm
    norm.lengths = [400, 1_010, 900, 410]
    hidden = torch.randn(4, 32, 201)
    with torch.inference_mode(), _LargestTensor() as largest:
        norm(hidden)
    assert 0 < largest.elements <= 32 * 201


class _LargestTensor(TorchDispatchMode):
    """Of those that torch's operations give."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple) else [result]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def test_where_memory_runs_out_fewer_chunks_are_aligned_at_once_until_the_command_ends(
    engine: Annotator, sample: Samples, to_pcm: ToPcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = engine._aligner("en")._model
    monkeypatch.setattr(model, "at_once", 4)
    emissions, tried = model.emissions, []

    def cramped(pieces: Any) -> Any:
        tried.append(len(pieces))
        if len(pieces) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return emissions(pieces)

    monkeypatch.setattr(model, "emissions", cramped)
    audio = to_pcm(sample)
    for _ in range(2):
        tried.clear()
        reply = FakeReply()
        engine.run(command(audio), reply)
        assert [len(batch) for batch in reply.batches] == [2, 2]
        # One of the four has no text.
        assert tried == [3, 2, 1]


def test_each_chunk_is_one_piece_of_a_batch_and_split_into_sentences(
    engine: Annotator, sample: Samples, to_pcm: ToPcm
) -> None:
    reply = FakeReply()
    engine.run(command(to_pcm(sample)), reply)
    assert [len(batch) for batch in reply.batches] == [1, 1, 1, 1]
    assert [segment.text for segment in reply.chunks[0].segments] == ["Hello.", "I heard 3 beeps, didn't I?", "Yes."]
    assert reply.fractions == [0.25, 0.5, 0.75, 1.0]


def test_what_cannot_be_aligned_keeps_its_text_without_times(engine: Annotator, sample: Samples, to_pcm: ToPcm) -> None:
    reply = FakeReply()
    engine.run(command(to_pcm(sample)), reply)
    assert reply.chunks[2].segments == []
    [segment] = reply.chunks[3].segments
    assert segment.text == CHUNKS[3].text.strip()
    assert {word.start for word in segment.words} == {None}
    assert (segment.start, segment.end) == (20.0, 20.1)


def test_a_chunk_after_the_end_of_the_audio_does_not_crash(engine: Annotator, to_pcm: ToPcm) -> None:
    reply = FakeReply()
    engine.run(command(to_pcm(np.zeros(16_000, np.int16))), reply)
    assert [word.start for word in reply.chunks[0].segments[0].words] == [None]


def test_the_first_command_that_needs_the_model_says_what_it_waited_for_it(
    folder: Path, sample: Samples, to_pcm: ToPcm
) -> None:
    # Of two languages neither is loaded at start.
    engine = Annotator(make_config(alignment_models={"en": str(folder), "fr": str(folder)}))
    first, second = FakeReply(), FakeReply()
    engine.run(command(to_pcm(sample)), first)
    assert first.loads["alignment"] > 0
    assert first.loads.keys() == {"alignment"}
    engine.run(command(to_pcm(sample)), second)
    assert second.loads == {}


def test_the_models_of_the_last_two_languages_are_kept(folder: Path, sample: Samples, to_pcm: ToPcm) -> None:
    engine = Annotator(make_config(alignment_models=dict.fromkeys(["en", "fr", "de"], str(folder))))
    audio = to_pcm(sample[:16_000])
    loaded = []
    for language in ("en", "fr", "en", "de", "en", "fr"):
        reply = FakeReply()
        engine.run(command(audio, language), reply)
        loaded.append("alignment" in reply.loads)
    assert loaded == [True, True, False, True, False, True]


def test_a_model_that_is_dropped_leaves_memory_before_the_next_one_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Annotator(make_config(alignment_models=dict.fromkeys(["en", "fr", "de"], str(folder))))
    first = weakref.ref(engine._aligner("en")._model._model)
    engine._aligner("fr")
    alive = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(first() is not None))
    engine._aligner("de")
    assert alive == [False]


@pytest.mark.parametrize("language", ["de", "fr"])
def test_a_language_without_a_model_fails(engine: Annotator, sample: Samples, to_pcm: ToPcm, language: str) -> None:
    with pytest.raises(CommandFailed) as failure:
        engine.run(command(to_pcm(sample), language), FakeReply())
    assert failure.value.reason == "model-not-available"


def test_a_folder_that_holds_no_model_is_logged_at_start_and_fails(
    sample: Samples, to_pcm: ToPcm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Annotator(make_config(alignment_models={"en": str(tmp_path)}))
    assert f"cannot be loaded from {tmp_path}" in caplog.text
    with pytest.raises(CommandFailed) as failure:
        engine.run(command(to_pcm(sample)), FakeReply())
    assert failure.value.reason == "model-not-available"
    assert "config.json" in failure.value.message
