"""The life of the process: load, say so, and answer commands until told to stop."""

import logging
import time
import typing

from .channel import Channel, Reply
from .errors import CommandFailed, is_out_of_memory
from .gpu_budget import gpu_gauge
from .protocol import Command, Done, Failed, FailureReason, Ready, Refused, Result, SidecarConfig

log = logging.getLogger(__name__)


class Engine(typing.Protocol):
    """The half of the work that this process does."""

    device: str
    model: str | None
    compute_type: str | None
    device_seconds: float
    model_seconds: float

    def run(self, command: Command, reply: Reply) -> Result:
        """Does what the command asks. Raises CommandFailed for what was foreseen."""
        ...


def open_engine(config: SidecarConfig) -> Engine:
    """Imported here so that a configuration that cannot be read is refused at once."""
    if config.role == "recognizer":
        from .recognizer import Recognizer

        return Recognizer(config)
    from .annotator import Annotator

    return Annotator(config)


def serve(config: SidecarConfig, channel: Channel, started: float) -> int:
    """Returns the exit code. `started`: time.monotonic() when the process began."""
    try:
        engine = open_engine(config)
    except CommandFailed as error:
        log.error("Refused to start: %s", error.message)
        channel.send(Refused(reason=error.reason, message=error.message))
        return 1
    seconds = time.monotonic() - started
    log.info("The %s is ready after %.1f s.", config.role, seconds)
    channel.send(
        Ready(
            role=config.role,
            device=engine.device,
            model=engine.model,
            compute_type=engine.compute_type,
            load_seconds=seconds,
            imports_seconds=seconds - engine.device_seconds - engine.model_seconds,
            device_seconds=engine.device_seconds,
            model_seconds=engine.model_seconds,
        )
    )
    for command in channel.commands():
        answer = run(engine, command, Reply(channel, command.id))
        if engine.device == "cuda":
            gpu_gauge().log_after(f"{command.type} {command.id}")
        channel.finish(command.id)
        channel.send(answer)
    log.info("Shut down.")
    return 0


def run(engine: Engine, command: Command, reply: Reply) -> Done | Failed:
    """Exactly one answer, whatever happens."""
    started = time.monotonic()
    try:
        result = engine.run(command, reply)
        log.info("%s %d took %.1f s.", command.type, command.id, time.monotonic() - started)
        return Done(id=command.id, result=result, loads=reply.loads)
    except CommandFailed as error:
        log.warning("%s %d failed: %s", command.type, command.id, error.message)
        return Failed(id=command.id, reason=error.reason, message=error.message)
    except Exception as error:
        log.exception("%s %d failed", command.type, command.id)
        reason: FailureReason = "out-of-memory" if is_out_of_memory(error) else "internal"
        return Failed(id=command.id, reason=reason, message=f"{type(error).__name__}: {error}")
