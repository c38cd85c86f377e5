"""What both kinds of isolation decide: fork or a new interpreter, and how the end of a process is worded.

A fork has everything that this process has, at once and without a copy. But only the thread that forks goes on in the
child: a library that waits for threads of its own waits for ever there, and a CUDA context does not work in it. Where
such a library is loaded, the work goes to a new interpreter, and what it needs is pickled over to it.
"""

from __future__ import annotations

import builtins
import contextlib
import getpass
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from memcell.errors import IsolationError, MissingLibraryError

#: Modules whose code was seen to hang or abort in a child once this process had used it, with no call against it.
_NOT_FORKABLE = {
    "polars": "polars is loaded",
    "jax": "jax is loaded",
    "tensorflow": "tensorflow is loaded",
    "numba.np.ufunc.omppool": "numba has run in parallel with OpenMP",
}
_OUT_OF_MEMORY_COUNTER = "oom_kill "


def fork_hazard() -> str | None:
    """Why work cannot go on in a fork of this process, in some words; None if it can."""
    if sys.platform != "linux":
        return f"{sys.platform} cannot fork safely"
    for module, why in _NOT_FORKABLE.items():
        if module in sys.modules:
            return why
    return "CUDA is in use" if _uses_cuda() else None


def require_cloudpickle(why: str) -> None:
    """See that cloudpickle can be imported.

    Raises:
        MissingLibraryError: It is not installed; the message has ``why`` it is needed.
    """
    try:
        import cloudpickle  # noqa: F401 - found out by importing it
    except ImportError:
        raise MissingLibraryError(f"{why}, and that needs cloudpickle; pip install 'memcell[isolate]'") from None


def out_of_memory_kills() -> int:
    """How often the out-of-memory killer has struck on this machine; 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", encoding="ascii") as file:
        for line in file:
            if line.startswith(_OUT_OF_MEMORY_COUNTER):
                return int(line.split()[1])
    return 0


def end_words(exit_code: int | None, *, out_of_memory: bool = False) -> str:
    """How a process ended: ``was killed by SIGSEGV (a crash in compiled code)``, ``ended itself with exit code 3``.

    Args:
        exit_code: As ``subprocess`` tells it: negative for a signal; None if nobody can tell.
        out_of_memory: Whether the out-of-memory killer struck meanwhile.
    """
    if exit_code is None:
        return "ended in an unknown way"
    if exit_code >= 0:
        return f"ended itself with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    if name == "SIGKILL" and out_of_memory:
        return "was killed by SIGKILL (out of memory: the system's OOM killer)"
    crashes = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")
    return f"was killed by {name}" + (" (a crash in compiled code)" if name in crashes else "")


def refuse_input(where: str) -> Callable[..., NoReturn]:
    """Let ``input`` and ``getpass`` fail in this process: nobody would answer. Returns what they call now."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise IsolationError(f"nobody can be asked in {where}; ask before it, and let it use the answer")

    builtins.input = refuse
    getpass.getpass = refuse
    return refuse


def _uses_cuda() -> bool:
    torch = sys.modules.get("torch")
    is_initialized = getattr(getattr(torch, "cuda", None), "is_initialized", None)
    if is_initialized is not None and is_initialized():
        return True
    # Every context opens the device of unified memory, whatever library made it; reading a GPU's state does not.
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()).startswith("/dev/nvidia-uvm"):
                    return True
    return False
