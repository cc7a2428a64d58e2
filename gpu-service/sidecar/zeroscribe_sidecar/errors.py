"""Foreseen failures of a command; each becomes one `failed` message."""

from .protocol import FailureReason


class CommandFailed(Exception):
    """Ends a command with `failed`; `message` is for people, and its paths are the configured ones."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason: FailureReason = reason
        self.message = message


class Canceled(CommandFailed):
    """The supervisor no longer wants the command's result."""

    def __init__(self) -> None:
        super().__init__("canceled", "The command was canceled.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help.

    CTranslate2 has no class of its own for it, only RuntimeError with CUDA's or cuBLAS's words; pyannote turns torch's
    error into MemoryError; torch.OutOfMemoryError is a RuntimeError that says "out of memory".
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "alloc_failed" in text or "can't allocate memory" in text
    )
