"""Recognition without torch, piece by piece against what it stands in for."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest
from conftest import make_config
from whisperx.audio import log_mel_spectrogram

from zeroscribe_sidecar.errors import CommandFailed
from zeroscribe_sidecar.keep_eight_bit import keep_eight_bit
from zeroscribe_sidecar.log_mel import WINDOW_SAMPLES, log_mel
from zeroscribe_sidecar.pcm import Samples, to_float
from zeroscribe_sidecar.recognizer import Recognizer
from zeroscribe_sidecar.weights_folder import weights_folder
from zeroscribe_sidecar.whisper import Whisper, prompt_tokens


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper("tiny.en", make_config())


@pytest.fixture(scope="module")
def theirs() -> Any:
    return faster_whisper.WhisperModel(make_config().models["tiny.en"], device="cpu", compute_type="int8")


def test_recognition_imports_nothing_of_torch_and_what_stands_on_it() -> None:
    code = """
import sys
from zeroscribe_sidecar import language, log_mel, recognizer, service, silero, transcription, whisper
whisper._tokenizer_class()
log_mel.mel_filters(80)
heavy = {"torch", "transformers", "pyannote", "whisperx", "pandas", "scipy", "faster_whisper", "av", "huggingface_hub"}
print(*sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_weights_that_are_kept_in_eight_bits_are_those_that_each_load_makes(
    whisper: Whisper, sample: Samples, tmp_path: Path
) -> None:
    original = Path(make_config().models["tiny.en"])
    folder = tmp_path / "model"
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("int8-of-*"))
    as_stored = Whisper("tiny.en", make_config(models={"tiny.en": str(folder)}))
    keep_eight_bit(folder)
    kept = weights_folder(folder, "int8")
    assert kept != folder
    assert (kept / "model.bin").stat().st_size < (folder / "model.bin").stat().st_size * 0.6
    converted = Whisper("tiny.en", make_config(models={"tiny.en": str(folder)}))
    assert (converted.device, converted.compute_type) == (as_stored.device, as_stored.compute_type)
    features = whisper.features([sample[6 * 16_000 :]])
    one, other = as_stored.encode(features), converted.encode(features)
    np.testing.assert_array_equal(np.array(one), np.array(other))
    tokenizer = as_stored.tokenizer("en", "transcribe")
    assert as_stored.decode(one, tokenizer, None, None) == converted.decode(other, tokenizer, None, None)

    assert weights_folder(folder, "float32") == folder


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("length", [0, 1, 300, 100_000, 479_799, 479_801, 479_999, 480_000, 600_000])
def test_log_mel_is_that_of_whisperx(sample: Samples, mels: int, length: int) -> None:
    samples = np.resize(sample, length)
    [ours] = log_mel([samples], mels)
    heard = to_float(samples[:WINDOW_SAMPLES])
    expected = log_mel_spectrogram(heard, n_mels=mels, padding=WINDOW_SAMPLES - len(heard)).numpy()
    assert (ours.dtype, ours.shape) == (np.float32, (mels, 3000))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


def test_each_window_of_a_batch_has_a_floor_of_its_own(sample: Samples) -> None:
    quiet = (sample // 100).astype(np.int16)
    both = log_mel([sample, quiet], 80)
    np.testing.assert_array_equal(both, np.concatenate([log_mel([sample], 80), log_mel([quiet], 80)]))


LONG_PROMPT = "A long story. " * 100
MANY_HOTWORDS = "Diane " * 300


@pytest.mark.parametrize("prompt", [None, "", "Diane speaks.", LONG_PROMPT])
@pytest.mark.parametrize("hotwords", [None, "", "Diane, Sheila", MANY_HOTWORDS])
def test_the_prompt_is_that_of_faster_whisper(
    whisper: Whisper, theirs: Any, prompt: str | None, hotwords: str | None
) -> None:
    tokenizer = whisper.tokenizer("en", "transcribe")
    previous = tokenizer.encode(" " + prompt.strip()) if prompt is not None else []
    expected = theirs.get_prompt(tokenizer, previous, without_timestamps=True, hotwords=hotwords)
    # Where both are long, theirs is longer than the model can hold.
    is_too_long = len(expected) > 448
    assert is_too_long == (prompt == LONG_PROMPT and hotwords == MANY_HOTWORDS)
    assert is_too_long or prompt_tokens(tokenizer, prompt, hotwords) == expected


def test_a_long_prompt_beside_many_hotwords_leaves_room_for_the_text(whisper: Whisper, sample: Samples) -> None:
    tokenizer = whisper.tokenizer("en", "transcribe")
    tokens = prompt_tokens(tokenizer, LONG_PROMPT, MANY_HOTWORDS)
    assert len(tokens) <= 448 - 200
    assert tokenizer.decode(tokens).endswith("A long story.")
    encoded = whisper.encode(whisper.features([sample[6 * 16_000 : 9 * 16_000]]))
    assert len(whisper.decode(encoded, tokenizer, LONG_PROMPT, MANY_HOTWORDS)) == 1


def test_word_times_are_those_of_faster_whisper(whisper: Whisper, theirs: Any, sample: Samples) -> None:
    tokenizer = whisper.tokenizer("en", "transcribe")
    seconds = [3.5, 12.0]
    features = whisper.features([sample[16_000 * 10 :][: int(length * 16_000)] for length in seconds])
    tokens = [one.tokens for one in whisper.decode(whisper.encode(features), tokenizer, None, None)]
    tokens.append([])
    features = np.concatenate([features, features[:1]])
    ours = whisper.align(whisper.encode(features), tokenizer, tokens, [*seconds, 0.01])
    expected = theirs.find_alignment(tokenizer, tokens, theirs.encode(features), [350, 1200, 16])
    assert len(ours[1]) > 20
    assert ours[2] == []
    kept = ("word", "start", "end", "probability")
    assert ours == [[{key: piece[key] for key in kept} for piece in pieces] for pieces in expected]


def test_the_model_itself_says_how_many_mels_it_hears(tmp_path: Path, sample: Samples) -> None:
    for file in Path(make_config().models["tiny.en"]).iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").write_text('{"feature_size": 128}')
    whisper = Whisper("tiny.en", make_config(models={"tiny.en": str(tmp_path)}))
    assert whisper.features([sample]).shape == (1, 80, 3000)


def test_without_speech_detection_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroscribe_sidecar.silero", None)
    with pytest.raises(CommandFailed, match=r"Silero, .* onnxruntime") as failure:
        Recognizer(make_config())
    assert failure.value.reason == "model-not-available"


@pytest.mark.parametrize("missing", ["model.bin", "tokenizer.json"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(tmp_path: Path, missing: str) -> None:
    folder = Path(make_config().models["tiny.en"])
    for file in folder.iterdir():
        if file.name != missing:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(CommandFailed, match=missing) as failure:
        Whisper("broken", make_config(models={"broken": str(tmp_path)}))
    assert failure.value.reason == "model-not-available"
