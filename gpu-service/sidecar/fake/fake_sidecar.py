"""Speaks the protocol of the sidecar, holds no model. Only for tests.

Arguments are name=value; a last one that is JSON is the configuration that the real sidecar gets.
`mode` chooses how it misbehaves:

good          does nothing wrong
chatty        fills stdout and stderr, with lines that look like messages and one that never seems to end
no-start      ends with a traceback before it is ready
refused       says that it cannot start, with `reason`
never-ready   loads for ever
deaf          ignores `shutdown` and SIGTERM
crash         kills itself in the middle of a command
wedged        stops answering in the middle of a command
garbled       answers with what is no message
malformed     answers with a message that breaks the protocol
endless       answers with a line that does not end
oom           answers `out-of-memory`
failing       answers with `reason`
deaf-to-cancel  goes on when it is told to cancel
forgetful     leaves out the last chunk
spawns-child  starts a process of its own, whose number it writes to stderr

Others:

language=de         what it detects
batch_delay_ms=20   before each batch, and each quarter of a diarization
start_delay_ms=20   before it is ready
ready_when=FILE      not before FILE is there
first_use_ms=20     for speech detection, alignment and diarization, the first time each is needed
at=transcribe       the only type of command that meets the misbehaviour
batches_before=2    batches that a misbehaving `transcribe` or `align` sends first
once=FILE           misbehaves until FILE is there, and makes it
"""

import json
import os
import queue
import signal
import sys
import threading
import time

RATE = 16_000
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "12", "lazy", "dogs", "and", "then", "it", "sleeps"]

options = dict(argument.split("=", 1) for argument in sys.argv[1:] if argument[:1] != "{")
config = next((json.loads(argument) for argument in sys.argv[1:] if argument[:1] == "{"), {})
mode = options.get("mode", "good")
batch_size = int(config.get("batch_size", 1))
batch_delay = float(options.get("batch_delay_ms", 0)) / 1000
inbox, outbox = os.fdopen(3, "rb"), os.fdopen(4, "wb")
commands: "queue.SimpleQueue[dict]" = queue.SimpleQueue()
canceled: set = set()
loaded: set = set()


class Canceled(Exception):
    pass


class Unreadable(Exception):
    pass


class Answered(Exception):
    """The misbehaviour was an answer."""


def say(type, **message):
    outbox.write(json.dumps({"type": type, **message}).encode() + b"\n")
    outbox.flush()


def end():
    """Ends at once, and takes the processes it started along."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def listen():
    """Has a thread of its own, so that cancel and the supervisor's end are noticed in mid-command too."""
    for line in inbox:
        message = json.loads(line)
        if message["type"] == "cancel":
            if mode != "deaf-to-cancel":
                canceled.add(message["id"])
        elif message["type"] == "shutdown":
            if mode != "deaf":
                os._exit(0)
        else:
            commands.put(message)
    end()


def pause(command_id, seconds):
    until = time.monotonic() + seconds
    while True:
        if command_id in canceled:
            raise Canceled
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.01))


def misbehave(command):
    command_id = command["id"]
    if options.get("at", command["type"]) != command["type"]:
        return
    once = options.get("once")
    if once is not None:
        if os.path.exists(once):
            return
        open(once, "x").close()
    if mode == "crash":
        print("Fatal Python error: Aborted", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "wedged":
        time.sleep(3600)
    elif mode == "garbled":
        outbox.write(b"done, I think\n")
        outbox.flush()
        time.sleep(3600)
    elif mode == "malformed":
        say("progress", id=command_id, fraction=7)
        time.sleep(3600)
    elif mode == "endless":
        while True:
            outbox.write(b"x" * 1_048_576)
    elif mode == "oom":
        say("failed", id=command_id, reason="out-of-memory", message="CUDA failed with error out of memory")
        raise Answered
    elif mode == "failing":
        say("failed", id=command_id, reason=options["reason"], message="/srv/models/x: it failed")
        raise Answered
    elif mode == "deaf-to-cancel":
        time.sleep(3600)


def has_sound(audio):
    with open(audio["path"], "rb") as file:
        if os.fstat(file.fileno()).st_size < audio["samples"] * 2:
            raise Unreadable(f"{audio['path']} is shorter than {audio['samples']} samples")
        return any(any(block) for block in iter(lambda: file.read(1_048_576), b""))


def detect_speech(command):
    duration = command["audio"]["samples"] / RATE
    size = command["chunk_size"]
    if not has_sound(command["audio"]):
        return {"chunks": []}
    starts = range(0, int(duration // size) + 1)
    chunks = [(n * size, min((n + 1) * size, duration)) for n in starts if duration - n * size > 0.01]
    return {"chunks": [{"start": round(a, 3), "end": round(b, 3)} for a, b in chunks]}


def detect_language(command):
    windows = max(1, len(command["chunks"]))
    return {"language": options.get("language", "en"), "probability": 0.98, "windows": windows}


def words_between(start, end, is_aligned):
    """Two words a second, which depend on nothing but the time. Numerals have no sound for an aligner."""
    words = []
    for n in range(max(1, int((end - start) * 2))):
        word = WORDS[(int(start * 2) + n) % len(WORDS)]
        known = not (is_aligned and word.isdigit())
        at = start + n * 0.5
        words.append(
            {
                "word": word,
                "start": round(at, 3) if known else None,
                "end": round(min(at + 0.4, end), 3) if known else None,
                "score": 0.9 if known else None,
            }
        )
    return words


def segment_of(chunk, words):
    text = " ".join(word["word"] for word in words)
    return {"start": chunk["start"], "end": chunk["end"], "text": text, "words": words}


def transcribe_chunk(command, chunk):
    words = words_between(chunk["start"], chunk["end"], is_aligned=False)
    if command["task"] == "translate":
        words = [{**word, "word": word["word"].upper()} for word in words]
    segment = segment_of(chunk, words)
    text = segment["text"]
    if not command["word_timestamps"]:
        segment = {**segment, "words": None}
    return {**chunk, "text": " " + text, "avg_logprob": -0.25, "segments": [segment]}


def align_chunk(command, chunk):
    words = words_between(chunk["start"], chunk["end"], is_aligned=True)
    spoken = chunk["text"].split()
    words = [{**word, "word": text} for word, text in zip(words, spoken)]
    return {"segments": [segment_of({"start": chunk["start"], "end": chunk["end"]}, words)]}


def in_batches(command, one):
    chunks, size = command["chunks"], batch_size
    if mode == "forgetful" and options.get("at", command["type"]) == command["type"]:
        chunks = chunks[:-1]
    for sent, first in enumerate(range(0, len(chunks), size)):
        if sent == int(options.get("batches_before", 0)):
            misbehave(command)
        pause(command["id"], batch_delay)
        batch = [one(command, chunk) for chunk in chunks[first : first + size]]
        say("batch", id=command["id"], chunks=batch)
        say("progress", id=command["id"], fraction=min(1, (first + size) / len(chunks)))


def diarize(command):
    duration = command["audio"]["samples"] / RATE
    number = command["num_speakers"] or command["min_speakers"] or command["max_speakers"] or 2
    for n in range(4):
        pause(command["id"], batch_delay)
        say("progress", id=command["id"], fraction=(n + 1) / 4)
    turns = [
        {
            "start": float(start),
            "end": round(min(start + 5.0, duration), 3),
            "speaker": f"SPEAKER_{(start // 5) % number:02}",
        }
        for start in range(0, max(1, int(duration)), 5)
    ]
    return {"turns": turns}


ANSWERS = {"detect_speech": detect_speech, "detect_language": detect_language, "diarize": diarize}
IN_BATCHES = {"transcribe": transcribe_chunk, "align": align_chunk}


def first_loads(command):
    """What the real one does lazily: the first command waits for speech detection, others for their own models."""
    loads = {}
    for what, first in (("speech", "detect_speech"), ("alignment", "align"), ("diarization", "diarize")):
        delay = float(options.get("first_use_ms", 0)) / 1000
        if delay and first == command["type"] and what not in loaded:
            loaded.add(what)
            pause(command["id"], delay)
            loads[what] = delay
    return loads


def answer(command):
    kind = command["type"]
    if kind in ANSWERS:
        misbehave(command)
        return ANSWERS[kind](command)
    has_sound(command["audio"])
    in_batches(command, IN_BATCHES[kind])
    return {"batch_size": batch_size} if kind == "transcribe" else {}


def start():
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "chatty":
        for _ in range(5000):
            print("x" * 100, file=sys.stderr)
            print('{"type":"done","id":1,"result":{}}')
        for _ in range(64):
            sys.stderr.write("y" * 1_048_576)
        print("\nthe last words", file=sys.stderr, flush=True)
        sys.stdout.flush()
    if mode == "no-start":
        raise RuntimeError("CUDA driver version is insufficient")
    if mode == "refused":
        reason = options.get("reason", "model-not-available")
        say("refused", reason=reason, message="/srv/models/small has no model.bin")
        sys.exit(1)
    if mode == "never-ready":
        time.sleep(3600)
    if mode == "spawns-child":
        pid = os.fork()
        if pid == 0:
            os.execvp("sleep", ["sleep", "600"])
        print(f"child {pid}", file=sys.stderr, flush=True)
    time.sleep(float(options.get("start_delay_ms", 0)) / 1000)
    while "ready_when" in options and not os.path.exists(options["ready_when"]):
        time.sleep(0.01)
    model = config.get("default_model", "fake")
    role = config.get("role", "recognizer")
    say(
        "ready",
        protocol=1,
        role=role,
        device=config.get("device", "cpu"),
        model=model if role == "recognizer" else None,
        compute_type=config.get("compute_type", "int8") if role == "recognizer" else None,
        load_seconds=0.01,
        imports_seconds=0.003,
        device_seconds=0.001,
        model_seconds=0.006,
    )


threading.Thread(target=listen, daemon=True).start()
start()
while True:
    command = commands.get()
    try:
        loads = first_loads(command)
        say("done", id=command["id"], result=answer(command), loads=loads)
    except Answered:
        pass
    except Canceled:
        say("failed", id=command["id"], reason="canceled", message="canceled")
    except (OSError, Unreadable) as error:
        say("failed", id=command["id"], reason="audio-unreadable", message=str(error))
