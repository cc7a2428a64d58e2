"""Keeps libraries from importing what nobody here uses."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_utilities.core.imports import RequirementCache


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """What is imported meanwhile takes the package for not installed, if it asks before it imports.

    torchmetrics, which comes with pyannote, imports all of transformers for scores of texts that are never computed:
    a third of the time until speech can be detected.
    """
    check = RequirementCache._check_requirement

    def check_unless_hidden(self: RequirementCache) -> None:
        if self.requirement is not None and self.requirement.startswith(package):
            self.available = False
            self.message = f"{package} is not used here."
        else:
            check(self)

    RequirementCache._check_requirement = check_unless_hidden  # type: ignore[method-assign]
    try:
        yield
    finally:
        RequirementCache._check_requirement = check  # type: ignore[method-assign]
