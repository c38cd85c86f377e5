"""What memcell raises: one condition, one exception, each with a message that names the culprit and the next step."""

from __future__ import annotations

from typing import Any


class MemcellError(Exception):
    """The base of all errors that memcell raises for a misuse of its API."""


class InvalidSizeError(MemcellError, ValueError):
    """A memory size that cannot be read, such as ``12XB``, or a negative one."""


class InvalidSettingError(MemcellError, ValueError):
    """A setting or argument outside what it may be."""


class InvalidCleanerError(MemcellError, TypeError):
    """A cleaner that cannot be registered: not callable, needs arguments, or an unknown effect."""


class UnknownCleanerError(MemcellError, LookupError):
    """A name under which no cleaner is registered."""


class CleanerNameTakenError(MemcellError, ValueError):
    """A name that a built-in cleaner, or another package, has registered already."""


class MissingLibraryError(MemcellError, ImportError):
    """An optional library that the call needs and that is not installed."""


class UnknownVariableError(MemcellError, LookupError):
    """A name that is no variable of the user's namespace."""


class NotebookError(MemcellError):
    """A notebook that cannot be read, or a kernel that cannot be started, asked, or kept alive."""


class UnknownProcessError(MemcellError, LookupError):
    """A process that memcell does not end: no cell of this session, or of a dead kernel of this user, started it."""


class UnreadableBlackBoxError(MemcellError, ValueError):
    """A black box that is torn, or that another version of memcell has written."""


class BlackBoxFolderError(MemcellError, OSError):
    """Black boxes cannot be kept or read: no state folder, or not a private one of this user."""


class LimitTooLowError(MemcellError, ValueError):
    """A memory limit below what is used already."""


class NotInMainThreadError(MemcellError, RuntimeError):
    """Something that Python can do in the main thread only."""


class MemoryLimitExceeded(KeyboardInterrupt):
    """A cell, or a block under ``watch(limit=…)``, was stopped before its memory passed a limit.

    Like ``KeyboardInterrupt``, from which it derives, it is not caught by ``except Exception``. That is why it is no
    ``MemcellError``.

    Attributes:
        stop: What was used of which limit; None where it ends a thread that the cell had started.
    """

    def __init__(
        self, message: str = "the memory limit of the cell that started this thread", stop: Any = None
    ) -> None:
        super().__init__(message)
        self.stop = stop


class IsolationError(MemcellError, RuntimeError):
    """What cannot be done in an isolated cell or function, or cannot come back from it."""


class IsolatedCellError(MemcellError, RuntimeError):
    """The error of an isolated cell, where its own class does not exist in the kernel."""


class IsolatedCellDied(MemcellError, RuntimeError):  # noqa: N818 - it tells an end, as BrokenProcessPool does
    """The process of an isolated cell ended before the cell did."""


class IsolatedWorkerDied(MemcellError, RuntimeError):  # noqa: N818 - as IsolatedCellDied
    """The worker process of an isolated function ended before the function did."""


class IsolatedTimeoutError(MemcellError, TimeoutError):
    """An isolated function took longer than it may."""


def error_words(error: BaseException) -> str:
    """An error in words: its class and, where it has one, its message."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # of a class of the user's
        return f"{name} (its message cannot be read)"
    return f"{name}: {text}" if text else name
