"""The life of the process: load, say so, and answer commands until told to stop."""

import logging
import time
from typing import TYPE_CHECKING

from .channel import Channel, Reply
from .errors import CommandFailed, is_out_of_memory
from .protocol import Command, Done, Failed, FailureReason, Ready, Refused, SidecarConfig

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger(__name__)


def serve(config: SidecarConfig, channel: Channel, started: float) -> int:
    """Returns the exit code. `started`: time.monotonic() when the process began."""
    # Imported here so that a configuration that cannot be read is refused at once.
    from .engine import Engine

    imported = time.monotonic()
    try:
        engine = Engine(config)
    except CommandFailed as error:
        log.error("Refused to start: %s", error.message)
        channel.send(Refused(reason=error.reason, message=error.message))
        return 1
    model = engine.default_model
    seconds = time.monotonic() - started
    log.info("Ready with %s (%s, %s) after %.1f s.", model.name, model.device, model.compute_type, seconds)
    channel.send(
        Ready(
            model=model.name,
            is_multilingual=model.is_multilingual,
            device=model.device,
            compute_type=model.compute_type,
            load_seconds=seconds,
            imports_seconds=imported - started,
            device_seconds=engine.device_seconds,
            model_seconds=engine.model_seconds,
        )
    )
    for command in channel.commands():
        answer = run(engine, command, Reply(channel, command.id))
        channel.finish(command.id)
        channel.send(answer)
    log.info("Shut down.")
    return 0


def run(engine: "Engine", command: Command, reply: Reply) -> Done | Failed:
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
