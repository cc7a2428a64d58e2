"""`python -m zeroscribe_sidecar '<SidecarConfig as JSON>'`, with the protocol on descriptors 3 (in) and 4 (out)."""

import time

started = time.monotonic()

import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

INBOX_FD = 3
OUTBOX_FD = 4


def prepare_libraries() -> None:
    """Before anything is imported: no network, no telemetry, and no noise about what is not used."""
    os.environ.update(
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        PYANNOTE_METRICS_ENABLED="0",
        TOKENIZERS_PARALLELISM="false",
    )
    # The home folder of a service may not exist; a new folder each time would mean a new font cache each time.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"zeroscribe-matplotlib-{os.getuid()}"))
    warnings.filterwarnings("ignore", message=r"\s*torchcodec")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("zeroscribe_sidecar").setLevel(logging.INFO)


def main() -> int:
    """Returns the exit code."""
    prepare_libraries()
    from pydantic import ValidationError

    from .channel import Channel
    from .protocol import Refused, SidecarConfig
    from .service import serve

    for fd in (INBOX_FD, OUTBOX_FD):
        # A grandchild that held them open would hide this process's end from the supervisor.
        os.set_inheritable(fd, False)
    channel = Channel(INBOX_FD, OUTBOX_FD)
    channel.start()
    try:
        config = SidecarConfig.model_validate_json(sys.argv[1] if len(sys.argv) == 2 else "")
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        channel.send(Refused(reason="internal", message=f"The sidecar's configuration is wrong: {details}"))
        return 1
    return serve(config, channel, started)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Without waiting for threads of libraries that are still importing or exporting.
    os._exit(code)
