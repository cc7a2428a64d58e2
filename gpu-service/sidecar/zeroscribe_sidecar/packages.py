"""Files that come with packages which are not imported, because of what they would bring."""

from importlib.util import find_spec
from pathlib import Path


def package_folder(name: str) -> Path:
    """Where an installed package lies. Fails with ModuleNotFoundError when it is not installed."""
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"The Python package {name} is not installed.", name=name)
    return Path(found.origin).parent
