"""Downloads one revision of a Whisper model into a folder. The last line it prints says why it could not."""

import os
import sys

CONNECT_TIMEOUT_S = 3


def main() -> None:
    """Ask first whether the hub answers at all: its own client would try for a long time."""
    repository, revision, folder = sys.argv[1:]
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")

    import requests
    from huggingface_hub import constants, snapshot_download

    try:
        requests.head(constants.ENDPOINT, timeout=CONNECT_TIMEOUT_S)
    except requests.RequestException:
        sys.exit(f"{constants.ENDPOINT} cannot be reached")
    try:
        snapshot_download(
            repository,
            revision=revision,
            local_dir=folder,
            allow_patterns=["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"],
        )
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
