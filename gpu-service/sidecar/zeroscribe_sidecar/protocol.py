"""The Python half of gpu-service/supervisor/protocol.ts: the same names, the same promises.

Times are seconds from the start of the audio. What is sent is rounded to the millisecond when the message is made,
except the chunks of detect_speech: they say exactly which samples the model hears.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, TypeAdapter

PROTOCOL_VERSION: Literal[1] = 1

FailureReason = Literal["canceled", "out-of-memory", "audio-unreadable", "model-not-available", "internal"]
Loadable = Literal["speech", "recognition", "alignment", "diarization"]


def _milliseconds(value: float) -> float:
    return round(float(value), 3)


ExactSeconds = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0), AfterValidator(_milliseconds)]
Rounded = Annotated[float, AfterValidator(_milliseconds)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Message(BaseModel):
    """Anything on the pipe. Both halves are shipped together, so an unknown field is a mistake."""

    # JSON has no NaN: it must fail here, where the cause is, and not in the supervisor's parser.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


Role = Literal["recognizer", "annotator"]


class SidecarConfig(Message):
    """The only argument of the process."""

    role: Role
    models: dict[str, str]
    default_model: str
    device: Literal["cpu", "cuda"]
    compute_type: str
    cpu_threads: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    alignment_models: dict[str, str]
    diarization_model: str | None


class PcmFile(Message):
    """16 kHz mono signed 16-bit little-endian PCM without a header."""

    path: str
    samples: Annotated[int, Field(ge=0)]


class Chunk(Message):
    """A stretch of speech: what the model hears at once."""

    start: ExactSeconds
    end: ExactSeconds


class TextChunk(Message):
    """A chunk with what was said in it."""

    start: ExactSeconds
    end: ExactSeconds
    text: str


class RawWord(Message):
    """A word as the models give it; without times where they give none."""

    word: str
    start: Seconds | None
    end: Seconds | None
    score: Rounded | None


class RawSegment(Message):
    """About a sentence; without word times, the text of a whole chunk."""

    start: Seconds
    end: Seconds
    text: str
    words: list[RawWord] | None


class TranscribedChunk(Message):
    """What became of one chunk."""

    start: Seconds
    end: Seconds
    text: str
    avg_logprob: float
    segments: list[RawSegment]


class AlignedChunk(Message):
    """The sentences of one chunk with word times from the alignment model."""

    segments: list[RawSegment]


class SpeakerTurn(Message):
    """Who spoke when."""

    start: Seconds
    end: Seconds
    speaker: str


class DetectSpeech(Message):
    """Asks for the chunks."""

    type: Literal["detect_speech"]
    id: int
    audio: PcmFile
    method: Literal["silero", "pyannote"]
    vad_onset: Annotated[float, Field(gt=0, lt=1)]
    vad_offset: Annotated[float, Field(gt=0, lt=1)]
    # Whisper hears 30 s at most.
    chunk_size: Annotated[float, Field(gt=0, le=30)]


class DetectLanguage(Message):
    """Asks for the language of the recording."""

    type: Literal["detect_language"]
    id: int
    audio: PcmFile
    model: str
    chunks: list[Chunk]


class Transcribe(Message):
    """Asks for the text of chunks, in order."""

    type: Literal["transcribe"]
    id: int
    audio: PcmFile
    model: str
    chunks: list[Chunk]
    language: str
    task: Literal["transcribe", "translate"]
    prompt: str | None
    hotwords: str | None
    word_timestamps: bool


class Align(Message):
    """Asks for word times from the alignment model of a language."""

    type: Literal["align"]
    id: int
    audio: PcmFile
    language: str
    chunks: list[TextChunk]


class Diarize(Message):
    """Asks who spoke when."""

    type: Literal["diarize"]
    id: int
    audio: PcmFile
    num_speakers: int | None
    min_speakers: int | None
    max_speakers: int | None


class Cancel(Message):
    """The command with this id is no longer wanted."""

    type: Literal["cancel"]
    id: int


class Shutdown(Message):
    """Ends the process."""

    type: Literal["shutdown"]


Command = DetectSpeech | DetectLanguage | Transcribe | Align | Diarize

TO_SIDECAR: TypeAdapter[Command | Cancel | Shutdown] = TypeAdapter(
    Annotated[Command | Cancel | Shutdown, Discriminator("type")]
)


class SpeechResult(Message):
    """Result of detect_speech."""

    chunks: list[Chunk]


class LanguageResult(Message):
    """Result of detect_language."""

    language: str
    probability: Fraction
    windows: int


class TranscribeResult(Message):
    """Result of transcribe; `batch_size` is what memory allowed in the end."""

    batch_size: int


class AlignResult(Message):
    """Result of align: everything was in the batches."""


class DiarizeResult(Message):
    """Result of diarize."""

    turns: list[SpeakerTurn]


Result = SpeechResult | LanguageResult | TranscribeResult | AlignResult | DiarizeResult


class Ready(Message):
    """What it can load before a command asks for it is loaded. Sent once."""

    type: Literal["ready"] = "ready"
    protocol: Literal[1] = PROTOCOL_VERSION
    role: Role
    device: str
    # Of the recognizer; the annotator has models for languages and speakers only.
    model: str | None
    compute_type: str | None
    load_seconds: Rounded
    imports_seconds: Rounded
    device_seconds: Rounded
    model_seconds: Rounded


class Refused(Message):
    """Instead of `ready`: it cannot start, and will not when started again."""

    type: Literal["refused"] = "refused"
    reason: FailureReason
    message: str


class Progress(Message):
    """How much of a command is done."""

    type: Literal["progress"] = "progress"
    id: int
    fraction: Fraction


class Batch(Message):
    """Results for the next chunks of a command."""

    type: Literal["batch"] = "batch"
    id: int
    chunks: list[TranscribedChunk] | list[AlignedChunk]


class Done(Message):
    """The command's result."""

    type: Literal["done"] = "done"
    id: int
    result: Result
    # What was not there yet when the command needed it → how long the command waited for it.
    loads: dict[Loadable, Rounded]


class Failed(Message):
    """The command ended without a result."""

    type: Literal["failed"] = "failed"
    id: int
    reason: FailureReason
    message: str


FromSidecar = Ready | Refused | Progress | Batch | Done | Failed


def encode(message: FromSidecar) -> bytes:
    """One line. ASCII only: Node's readline also ends lines at U+2028, and lone surrogates are not UTF-8."""
    fields: dict[str, Any] = message.model_dump()
    return json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
