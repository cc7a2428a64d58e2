"""`python -m zeroscribe_sidecar '<SidecarConfig as JSON>'`, with the protocol on descriptors 3 (in) and 4 (out)."""

import time

started = time.monotonic()

import sys  # noqa: E402

from .read_ahead import read_ahead  # noqa: E402

if __name__ == "__main__":
    read_ahead(sys.argv[1:])

import logging  # noqa: E402
import os  # noqa: E402
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
        ORT_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
    )
    # As NVML counts GPUs (gpu_budget.py); by default CUDA begins with the fastest one.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # For numpy's small products: threads that wait for the next one actively cost more than they help.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cache = cache_folder()
    os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "torchinductor"))
    warnings.filterwarnings("ignore", message=r"\s*torchcodec")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("zeroscribe_sidecar").setLevel(logging.INFO)


def cache_folder() -> Path:
    """Kept, so that fonts are not searched at each start, and where nobody else can put files into it."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "zeroscribe"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    # The home folder of a service may not exist.
    return Path(tempfile.mkdtemp(prefix="zeroscribe-cache-"))


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
