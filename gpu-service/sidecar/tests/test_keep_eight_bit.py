"""Weights in 8 bits beside those that they are made of, with models of one small weight."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from zeroscribe_sidecar import keep_eight_bit as module
from zeroscribe_sidecar.keep_eight_bit import keep_eight_bit
from zeroscribe_sidecar.weights_folder import weights_folder


def write_model(folder: Path, weight: NDArray[np.float16]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    with (folder / "model.bin").open("wb") as out:
        out.write(b"\6\0\0\0" + module._text("WhisperSpec") + b"\3\0\0\0" + b"\1\0\0\0")
        module._write(out, module.Variable("weight", weight))
        out.write(bytes(4))


@pytest.fixture
def weight() -> NDArray[np.float16]:
    return np.random.default_rng(5).normal(size=(1000, 600)).astype(np.float16)


@pytest.fixture
def folder(tmp_path: Path, weight: NDArray[np.float16]) -> Path:
    folder = tmp_path / "model"
    write_model(folder, weight)
    return folder


def kept_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_eight_bit_types_take_what_is_kept_and_others_do_not(folder: Path) -> None:
    assert weights_folder(folder, "int8") == folder
    keep_eight_bit(folder)
    kept = weights_folder(folder, "int8_float32")
    assert kept.parent == folder
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "model.bin"]
    assert weights_folder(folder, "float32") == folder
    assert weights_folder(folder / "nowhere", "int8") == folder / "nowhere"


@pytest.mark.parametrize("rows", [slice(None), slice(500, 600)])
def test_another_model_of_the_same_size_in_its_place_is_noticed(
    folder: Path, weight: NDArray[np.float16], rows: slice
) -> None:
    keep_eight_bit(folder)
    before = weights_folder(folder, "int8")
    weight[rows] *= np.float16(1.5)
    size = (folder / "model.bin").stat().st_size
    write_model(folder, weight)
    assert (folder / "model.bin").stat().st_size == size
    assert weights_folder(folder, "int8") == folder
    keep_eight_bit(folder)
    assert weights_folder(folder, "int8") not in (folder, before)
    # What was made of the other one is gone.
    assert len(kept_in(folder)) == 1


def test_what_was_begun_and_never_finished_is_made_anew(folder: Path) -> None:
    keep_eight_bit(folder)
    kept = weights_folder(folder, "int8")
    kept.rename(kept.with_name(f"{kept.name}.partial"))
    assert weights_folder(folder, "int8") == folder
    keep_eight_bit(folder)
    assert weights_folder(folder, "int8") == kept
    assert kept_in(folder) == [kept.name]


def test_nothing_is_kept_before_it_is_on_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        keep_eight_bit(folder)
    assert kept_in(folder) == []


def test_a_model_with_numbers_of_another_type_is_refused_by_their_name(folder: Path) -> None:
    data = bytearray((folder / "model.bin").read_bytes())
    # bfloat16, where the only weight has float16.
    at = data.index(b"weight\0") + len(b"weight\0") + 1 + 2 * 4
    assert data[at] == 4
    data[at] = 5
    (folder / "model.bin").write_bytes(data)
    with pytest.raises(ValueError, match="numbers of the type 5"):
        keep_eight_bit(folder)
    assert kept_in(folder) == []
