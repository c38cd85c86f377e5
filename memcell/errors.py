"""What memcell raises: one condition, one exception, each with a message that names the culprit and the next step."""

from __future__ import annotations


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
