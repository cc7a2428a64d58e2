"""Downloads one revision of a model into a folder and checks its files. The last line it prints says why it could not.

Its arguments: the model's row of model-table.mjs as JSON, the folder. HF_TOKEN opens gated models.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

CONNECT_TIMEOUT_S = 3


def main() -> None:
    """Ask first whether the hub answers at all: its own client would try for a long time."""
    model, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")

    import requests
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    try:
        requests.head(constants.ENDPOINT, timeout=CONNECT_TIMEOUT_S)
    except requests.RequestException:
        sys.exit(f"{constants.ENDPOINT} cannot be reached")
    repository = model["repository"]
    try:
        snapshot_download(repository, revision=model["revision"], local_dir=folder, allow_patterns=model["files"])
        wrong = check(folder, model)
    except GatedRepoError:
        sys.exit(
            f"{repository} is gated: accept its conditions at {constants.ENDPOINT}/{repository} "
            "and give the token of that account as HF_TOKEN"
        )
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
    if wrong is not None:
        sys.exit(wrong)


def check(folder: Path, model: dict[str, Any]) -> str | None:
    """What is wrong with the files, if anything. A wrong one is removed, so that it is downloaded anew."""
    expected: dict[str, str] = model["sha256"]
    known = expected if set(expected) >= set(weights(folder)) else {**listed(model), **expected}
    for name in weights(folder):
        if name not in known:
            return f"{model['repository']} lists no checksum of {name}"
    for name, sha256 in known.items():
        path = folder / name
        if not path.is_file():
            return f"{model['repository']} has no {name} at its revision {model['revision']}"
        if digest(path) != sha256:
            path.unlink()
            return f"{name} of {model['repository']} is not the file that was expected (SHA-256)"
    return None


def weights(folder: Path) -> list[str]:
    """What decides what the model does, and is too large for git: the hub keeps it by its checksum."""
    kinds = {".bin", ".safetensors", ".npz"}
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in kinds]


def listed(model: dict[str, Any]) -> dict[str, str]:
    """What the hub says of those that were asked for: name → SHA-256."""
    from fnmatch import fnmatch

    from huggingface_hub import HfApi

    info = HfApi().model_info(model["repository"], revision=model["revision"], files_metadata=True)
    return {
        file.rfilename: file.lfs.sha256
        for file in info.siblings or []
        if file.lfs is not None and any(fnmatch(file.rfilename, pattern) for pattern in model["files"])
    }


def digest(path: Path) -> str:
    """Its SHA-256, read piece by piece."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            sha256.update(piece)
    return sha256.hexdigest()


if __name__ == "__main__":
    main()
