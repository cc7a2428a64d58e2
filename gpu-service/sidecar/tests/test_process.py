"""The real child process with its pipes, and its half of the protocol against the other."""

import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from conftest import FakeReply, make_config
from pydantic import ValidationError

from zeroscribe_sidecar import protocol
from zeroscribe_sidecar.__main__ import cache_folder
from zeroscribe_sidecar.annotator import Annotator
from zeroscribe_sidecar.pcm import Samples
from zeroscribe_sidecar.protocol import PcmFile, RawWord, SidecarConfig
from zeroscribe_sidecar.service import run

SIDECAR = Path(__file__).parents[1]
OTHER_HALF = [
    SIDECAR.parent / "supervisor" / "protocol.ts",
    SIDECAR.parent.parent / "core" / "transcripts" / "raw-segment.ts",
]
ToPcm = Callable[[Samples], PcmFile]


class Child:
    """Started as the supervisor does."""

    def __init__(self, config: str) -> None:
        inbox_read, inbox_write = os.pipe()
        outbox_read, outbox_write = os.pipe()
        # A shell puts the pipes onto 3 and 4, whatever their numbers are here.
        script = f'exec "$0" -m zeroscribe_sidecar "$1" 3<&{inbox_read} 4>&{outbox_write}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, sys.executable, config],
            cwd=SIDECAR,
            pass_fds=(inbox_read, outbox_write),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(inbox_read)
        os.close(outbox_write)
        self.inbox: IO[bytes] = os.fdopen(inbox_write, "wb", buffering=0)
        self._outbox: IO[bytes] = os.fdopen(outbox_read, "rb")

    def say(self, **message: Any) -> None:
        self.inbox.write(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._outbox.readline())
        return message

    def hear_until(self, *types: str) -> list[dict[str, Any]]:
        messages = [self.hear()]
        while messages[-1]["type"] not in types:
            messages.append(self.hear())
        return messages

    def end(self) -> tuple[int, str]:
        """Exit code and log."""
        _, stderr = self.process.communicate(timeout=120)
        return self.process.returncode, stderr.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.inbox.close()
        self._outbox.close()


Start = Callable[[SidecarConfig | str], Child]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[Child] = []

    def start_one(config: SidecarConfig | str) -> Child:
        children.append(Child(config if isinstance(config, str) else config.model_dump_json()))
        return children[-1]

    yield start_one
    for child in children:
        child.close()


def transcribe(audio: PcmFile, chunks: list[Any]) -> dict[str, Any]:
    return {
        "type": "transcribe",
        "audio": audio.model_dump(),
        "model": "tiny.en",
        "chunks": chunks,
        "language": "en",
        "task": "transcribe",
        "prompt": None,
        "hotwords": None,
        "word_timestamps": True,
    }


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """One recognizer for all that leave it running."""
    one = Child(make_config(batch_size=1).model_dump_json())
    yield one
    one.close()


def test_a_whole_conversation(child: Child, sample: Samples, to_pcm: ToPcm) -> None:
    ready = child.hear()
    assert ready.items() >= {"type": "ready", "protocol": 1, "role": "recognizer", "model": "tiny.en"}.items()
    assert set(ready) == set(protocol.Ready.model_fields)
    parts = [ready["imports_seconds"], ready["device_seconds"], ready["model_seconds"]]
    assert 0 < sum(parts) <= ready["load_seconds"] + 0.002

    audio = to_pcm(sample)
    chunks = [{"start": 6.6, "end": 8.9}, {"start": 10.8, "end": 14.3}]

    child.say(id=2, **transcribe(audio, chunks))
    messages = child.hear_until("done")
    assert {message["id"] for message in messages} == {2}
    texts = [chunk["text"] for message in messages if message["type"] == "batch" for chunk in message["chunks"]]
    assert len(texts) == 2
    assert messages[-1]["result"] == {"batch_size": 1}
    assert messages[-1]["loads"] == {}

    child.say(id=3, **transcribe(audio, chunks * 50))
    child.hear_until("batch")
    child.say(type="cancel", id=3)
    assert child.hear_until("failed", "done")[-1].items() >= {"type": "failed", "id": 3, "reason": "canceled"}.items()

    # Too late, and never heard of: ignored.
    child.say(type="cancel", id=3)
    child.say(type="cancel", id=4)
    child.say(id=4, type="align", audio=audio.model_dump(), language="en", chunks=[])
    assert "not for the recognizer" in child.hear()["message"]
    child.say(id=5, **transcribe(audio.model_copy(update={"path": "/nowhere"}), []))
    assert child.hear()["reason"] == "audio-unreadable"


def test_the_annotator_detects_speech_as_pyannote_does(start: Start, sample: Samples, to_pcm: ToPcm) -> None:
    child = start(make_config(role="annotator"))
    ready = child.hear()
    assert ready.items() >= {"type": "ready", "role": "annotator", "model": None, "compute_type": None}.items()
    speech = {"type": "detect_speech", "method": "pyannote", "audio": to_pcm(sample).model_dump()}
    child.say(id=1, **speech, vad_onset=0.5, vad_offset=0.363, chunk_size=5)
    done = child.hear_until("done", "failed")[-1]
    assert set(done["loads"]) == {"speech"}
    assert len(done["result"]["chunks"]) > 4


def test_one_bad_command_does_not_end_it(child: Child, to_pcm: ToPcm) -> None:
    command = transcribe(to_pcm(np.zeros(16_000, np.int16)), [{"start": 0, "end": 1}])
    child.say(id=11, **{**command, "task": "sing"})
    failed = child.hear_until("failed")[-1]
    assert (failed["id"], failed["reason"]) == (11, "internal")
    assert "task" in failed["message"]
    # Half a character, as a careless client cuts it.
    child.say(id=12, **{**command, "prompt": "\ud83d"})
    assert child.hear_until("failed", "done")[-1].items() >= {"type": "done", "id": 12}.items()


def test_it_shuts_down_in_the_middle_of_a_command(child: Child, sample: Samples, to_pcm: ToPcm) -> None:
    child.say(id=21, **transcribe(to_pcm(sample), [{"start": 0, "end": 30}] * 50))
    child.hear_until("batch")
    child.say(type="shutdown")
    assert child.hear_until("failed")[-1]["reason"] == "canceled"
    code, log = child.end()
    assert code == 0
    assert "Shut down" in log
    assert "torchcodec" not in log


def test_it_shuts_down_when_it_has_nothing_to_do(start: Start) -> None:
    child = start(make_config())
    child.hear_until("ready")
    child.say(type="shutdown")
    code, log = child.end()
    assert code == 0
    assert "Shut down" in log


def test_it_ends_at_once_when_the_supervisor_is_gone_even_at_work(start: Start, sample: Samples, to_pcm: ToPcm) -> None:
    child = start(make_config(batch_size=1))
    child.hear_until("ready")
    child.say(id=1, **transcribe(to_pcm(sample), [{"start": 0, "end": 30}] * 50))
    child.hear_until("batch")
    child.inbox.close()
    code, log = child.end()
    assert code == 1
    assert "closed the pipe" in log


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"models": {"tiny.en": "/nowhere"}}, "model-not-available", "no model.bin: /nowhere"),
        ({"default_model": "large"}, "model-not-available", "configured: tiny.en"),
        ({"device": "cuda"}, "internal", "nvidia-smi"),
        ({"compute_type": "float8"}, "internal", "supported: "),
        (None, "internal", "configuration is wrong"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(
    start: Start, changes: dict[str, Any] | None, reason: str, words: str
) -> None:
    child = start("{}" if changes is None else make_config(**changes))
    message = child.hear()
    assert (message["type"], message["reason"]) == ("refused", reason)
    assert words in message["message"]
    assert child.end()[0] == 1


def test_a_model_that_is_damaged_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"no model")
    child = start(make_config(models={"tiny.en": str(tmp_path)}))
    assert child.hear().items() >= {"type": "refused", "reason": "model-not-available"}.items()


def test_what_is_no_message_ends_it(start: Start) -> None:
    child = start(make_config())
    child.hear_until("ready")
    child.say(type="dance")
    code, log = child.end()
    assert code == 2
    assert "does not follow the protocol" in log


def test_an_unforeseen_error_is_internal_and_its_traceback_is_only_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def run(self, *_: Any) -> Any:
            raise KeyError("left")

    command = protocol.Align(id=7, type="align", audio=PcmFile(path="", samples=0), language="en", chunks=[])
    engine: Any = Broken()
    answer = run(engine, command, FakeReply())
    assert answer == protocol.Failed(id=7, reason="internal", message="KeyError: 'left'")
    assert "Traceback" in caplog.text


def test_libraries_keep_their_caches_where_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache_folder()
    assert folder.is_relative_to(tmp_path / "cache")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == folder

    # Where there can be no cache it is a new one each time, with a name that nobody could foresee.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = cache_folder(), cache_folder()
    assert first != second
    assert first.stat().st_mode & 0o777 == 0o700


def test_a_checkpoint_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, paths = torch.load, []

    def counted(file: Any, *args: Any, **options: Any) -> Any:
        paths.append(file.name)
        return read(file, *args, **options)

    monkeypatch.setattr(torch, "load", counted)
    Annotator(make_config(role="annotator"))._loaded_detector()
    assert [Path(path).name for path in paths] == ["pytorch_model.bin"]


def test_nan_never_leaves() -> None:
    with pytest.raises(ValidationError):
        RawWord(word="x", start=float("nan"), end=1.0, score=None)


def test_a_message_is_one_ascii_line_with_python_numbers() -> None:
    word = RawWord(word="a\u2028\n€", start=np.float64(1.23456), end=2.5, score=None)
    segment = protocol.RawSegment(start=0, end=1, text="€", words=[word])
    line = protocol.encode(protocol.Batch(id=1, chunks=[protocol.AlignedChunk(segments=[segment])]))
    assert line.count(b"\n") == 1
    assert len(line.decode("ascii").splitlines()) == 1
    sent = json.loads(line)["chunks"][0]["segments"][0]["words"][0]
    assert sent == {"word": "a\u2028\n€", "start": 1.235, "end": 2.5, "score": None}


def test_the_names_are_those_of_the_other_half() -> None:
    source = re.sub(r"/\*\*.*?\*/", "", "\n".join(file.read_text() for file in OTHER_HALF), flags=re.DOTALL)

    def type_names(union: Any) -> set[str]:
        return {typing.get_args(m.model_fields["type"].annotation)[0] for m in typing.get_args(union)}

    interfaces = {
        name: set(re.findall(r"^  (\w+): ", body, re.MULTILINE))
        for name, body in re.findall(r"^export interface (\w+) \{\n(.*?)^\}", source, re.MULTILINE | re.DOTALL)
    }
    assert interfaces.keys() == {
        "SidecarConfig",
        "PcmFile",
        "DetectSpeech",
        "DetectLanguage",
        "Transcribe",
        "Align",
        "Diarize",
    }
    for name, fields in interfaces.items():
        assert set(getattr(protocol, name).model_fields) - {"id"} == fields, name

    schemas = dict(re.findall(r"^export const (\w+) = z\.object\(\{(.*?)\}\);", source, re.MULTILINE | re.DOTALL))
    for name, body in schemas.items():
        assert set(getattr(protocol, name).model_fields) == set(re.findall(r"(\w+): z?\w", body)), name
    assert schemas.keys() == {"Chunk", "RawWord", "RawSegment", "TranscribedChunk", "AlignedChunk", "SpeakerTurn"}

    for literal, message in (("ready", protocol.Ready), ("done", protocol.Done)):
        body = source[source.index(f"z.literal('{literal}'),") :]
        names = re.findall(r"(\w+): (?:z\.|[A-Z])", body[: body.index("}),")])
        assert set(message.model_fields) - {"type"} == set(names), literal
    loadable = source[source.index("Loadable = z.enum([") : source.index("export type Loadable")]
    assert set(re.findall(r"'([\w-]+)'", loadable)) == set(typing.get_args(protocol.Loadable))

    answers = source[source.index("export const FromSidecar") :]
    assert set(re.findall(r"z\.literal\('([\w-]+)'\)", answers)) == type_names(protocol.FromSidecar)
    commands = source[: source.index("export const RESULTS")]
    assert set(re.findall(r"type: '([a-z_]+)'[;}, ]", commands)) - {"transcribe', 'translate"} == {
        *type_names(protocol.Command),
        "cancel",
        "shutdown",
    }
    reasons = source[source.index("FailureReason = z.enum([") : source.index("export type FailureReason")]
    assert set(re.findall(r"'([\w-]+)'", reasons)) == set(typing.get_args(protocol.FailureReason))
    assert f"PROTOCOL_VERSION = {protocol.PROTOCOL_VERSION};" in source
