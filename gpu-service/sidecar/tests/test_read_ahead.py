"""Reading the model before anybody asks for it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from zeroscribe_sidecar import read_ahead as module
from zeroscribe_sidecar.read_ahead import read_ahead, read_whole


def config(folder: Path, **changes: Any) -> str:
    return json.dumps(
        {"role": "recognizer", "models": {"a": str(folder)}, "default_model": "a", "compute_type": "int8", **changes}
    )


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (3 << 20) + 5])
def test_the_whole_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 20)
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(size))
    assert read_whole(path) == size


def test_the_default_model_of_the_recognizer_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(module, "read_whole", read.append)
    thread = read_ahead([config(tmp_path)])
    assert thread is not None
    thread.join()
    assert read == [tmp_path / "model.bin"]
    assert read_ahead([config(tmp_path, role="annotator")]) is None


def test_a_missing_model_is_no_failure(tmp_path: Path) -> None:
    assert read_whole(tmp_path / "model.bin") == 0
    assert read_whole(tmp_path) == 0
    thread = read_ahead([config(tmp_path / "nowhere")])
    assert thread is not None
    thread.join()


@pytest.mark.parametrize(
    "arguments",
    [[], ["{"], ["3"], ["null"], ["{}"], ["a", "b"], ['{"role": "recognizer", "models": [], "default_model": "a"}']],
)
def test_a_wrong_configuration_is_no_failure(arguments: list[str]) -> None:
    assert read_ahead(arguments) is None


def test_a_folder_that_is_none_is_no_failure(tmp_path: Path) -> None:
    assert read_ahead([config(tmp_path, models={"a": 3})]) is None
    assert read_whole(Path("\0")) == 0
