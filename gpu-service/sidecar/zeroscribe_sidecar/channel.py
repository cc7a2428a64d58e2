"""The two pipes to the supervisor. A thread of its own reads, so a cancellation, or the supervisor's death, is noticed
in the middle of a command too."""

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, cast

from pydantic import ValidationError

from .errors import Canceled
from .protocol import (
    TO_SIDECAR,
    AlignedChunk,
    Batch,
    Cancel,
    Command,
    Failed,
    FromSidecar,
    Loadable,
    Progress,
    Shutdown,
    TranscribedChunk,
    encode,
)

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_SECONDS = 0.1
# To look whether a model is there takes less.
_NOTICEABLE_SECONDS = 0.001


class Channel:
    """Commands in, messages out. `send` may be called from any thread."""

    def __init__(self, inbox_fd: int, outbox_fd: int) -> None:
        self._inbox = os.fdopen(inbox_fd, "rb")
        self._outbox_fd = outbox_fd
        self._sending = threading.Lock()
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._canceled: set[int] = set()

    def start(self) -> None:
        """Starts to read. When the supervisor closes its end, or sends what is no message, the process ends at once."""
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def commands(self) -> Iterator[Command]:
        """The commands as they arrive, until `shutdown`."""
        while (command := self._commands.get()) is not None:
            yield command

    def send(self, message: FromSidecar) -> None:
        """Returns once the message is in the pipe. Ends the process when nobody reads it any more."""
        line = memoryview(encode(message))
        with self._sending:
            try:
                while line:
                    line = line[os.write(self._outbox_fd, line) :]
            except BrokenPipeError:
                self._leave("The supervisor no longer listens", 1)

    def is_canceled(self, command_id: int) -> bool:
        """Whether the command is no longer wanted."""
        with self._lock:
            return command_id in self._canceled

    def finish(self, command_id: int) -> None:
        """A cancellation of this id that arrives from now on is ignored."""
        with self._lock:
            self._open.discard(command_id)
            self._canceled.discard(command_id)

    def _read(self) -> None:
        for line in self._inbox:
            message = self._parse(line)
            if message is None:
                continue
            with self._lock:
                if isinstance(message, Cancel):
                    self._canceled |= {message.id} & self._open
                elif isinstance(message, Shutdown):
                    # What is still running is not wanted by anybody.
                    self._canceled |= self._open
                    self._commands.put(None)
                else:
                    self._open.add(message.id)
                    self._commands.put(message)
        self._leave("The supervisor closed the pipe", 1)

    def _parse(self, line: bytes) -> Command | Cancel | Shutdown | None:
        """A command that is wrong in itself is answered here; what is no command at all ends the process."""
        fields: Any = None
        try:
            fields = json.loads(line)
            # Half a surrogate pair, which JavaScript lets pass, becomes "?" instead of an error.
            return TO_SIDECAR.validate_json(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace"))
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False, include_context=False)
            if isinstance(fields, dict) and isinstance(fields.get("id"), int):
                self.send(Failed(id=fields["id"], reason="internal", message=f"The command is wrong: {details}"))
                return None
            self._leave(f"A message does not follow the protocol: {details}", 2)
        except ValueError as error:
            self._leave(f"A line is not JSON: {error}", 2)

    @staticmethod
    def _leave(why: str, code: int) -> NoReturn:
        log.error("%s; ending.", why)
        with contextlib.suppress(Exception):
            logging.shutdown()
        os._exit(code)


class Reply:
    """What the work on one command says while it runs. Saying anything is also where cancellation is noticed."""

    def __init__(self, channel: Channel, command_id: int) -> None:
        self._channel = channel
        self._id = command_id
        self._fraction = 0.0
        self._last_sent = float("-inf")
        self.loads: dict[Loadable, float] = {}

    @contextlib.contextmanager
    def loading(self, what: Loadable) -> Iterator[None]:
        """Around what takes time for the first command that needs it."""
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        if seconds >= _NOTICEABLE_SECONDS:
            self.loads[what] = self.loads.get(what, 0.0) + seconds

    def raise_if_canceled(self) -> None:
        """Raises Canceled when the command is no longer wanted."""
        if self._channel.is_canceled(self._id):
            raise Canceled

    def progress(self, fraction: float) -> None:
        """Sent a few times a second at most, and never running backwards. May raise Canceled."""
        self.raise_if_canceled()
        self._fraction = max(self._fraction, min(1.0, float(fraction)))
        now = time.monotonic()
        if now - self._last_sent >= PROGRESS_INTERVAL_SECONDS:
            self._last_sent = now
            self._channel.send(Progress(id=self._id, fraction=self._fraction))

    def batch(self, chunks: Sequence[TranscribedChunk] | Sequence[AlignedChunk]) -> None:
        """Hands over finished chunks, canceled or not: they cost something."""
        batch = cast("list[TranscribedChunk] | list[AlignedChunk]", list(chunks))
        self._channel.send(Batch(id=self._id, chunks=batch))
