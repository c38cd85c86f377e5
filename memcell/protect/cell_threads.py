"""Ends the threads that a stopped run has started, if they go on filling the memory without it.

An error that is raised in a thread from outside stays pending while the thread waits in C code, and comes when it goes
on: cells later, in the place of what it was to do next. So a thread that waits is left alone, and what has not been
raised when the run ends is withdrawn.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from memcell.errors import MemoryLimitExceeded

#: Linux tells when a thread was started in ticks, mostly of 10 ms.
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
#: Where a thread is that waits for a lock, a queue, a socket, or something to do.
_WAITING = {
    "threading",
    "queue",
    "selectors",
    "concurrent",
    "multiprocessing",
    "asyncio",
    "socket",
    "ssl",
    "subprocess",
}
#: The functions that run a pool's work, as module and name. Other threads of these packages serve the pool itself.
_WORKERS = {("concurrent.futures.thread", "run"), ("multiprocessing.pool", "worker")}
_POOLS = {"concurrent", "multiprocessing"}
#: Whose threads serve the shell, also while they run a cell of the user (subshells).
_SHELLS = {"IPython", "ipykernel", "debugpy"}


class CellThreads:
    """The threads that were started at or after a moment, memcell's own aside.

    Args:
        boot_s: The moment, in seconds since the machine was booted.
    """

    __slots__ = ("_boot_s", "_told")

    def __init__(self, boot_s: float) -> None:
        self._boot_s = boot_s
        self._told: set[int] = set()

    def stop(self) -> bool:
        """Raise ``MemoryLimitExceeded`` in those that do the user's work just now.

        Each ends at its next instruction of Python, unless it catches that; a pool's thread catches it, as the error of
        the call that it runs. Tells whether there were any.
        """
        started = {thread.ident for thread in self._started()}
        if not started:
            return False
        told = set()
        # Told at once: what a frame shows is where the error comes, unless the thread gets its turn in between.
        for ident, frame in _current_frames().items():
            if ident in started and is_at_work(frame):
                told.add(ident)
                self._told.add(ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(MemoryLimitExceeded))
        return bool(told)

    def withdraw(self) -> None:
        """Take back what was not raised yet. May be called twice."""
        if not self._told:
            return
        while self._told:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._told.pop()), None)
        _settle()

    def _started(self) -> list[threading.Thread]:
        own = threading.get_ident()
        return [
            thread
            for thread in threading.enumerate()
            if thread.ident != own
            and thread is not threading.main_thread()
            and not thread.name.startswith("memcell")
            and _started(thread.native_id) >= self._boot_s - 1 / _TICKS_PER_S
        ]


class _SettledError(BaseException):
    """Is raised in this thread by itself, and caught at once."""


def _settle() -> None:
    """Let the interpreter know that no error is pending any more.

    CPython 3.11 hears of it only by raising one. Until then all threads go on looking for one at every call, and one
    that is traced never comes past its next call.
    """
    own = ctypes.c_ulong(threading.get_ident())
    set_error = ctypes.pythonapi.PyThreadState_SetAsyncExc
    try:
        if set_error(own, ctypes.py_object(_SettledError)):
            while True:
                pass
    except _SettledError:
        return
    except BaseException:
        set_error(own, None)  # an error of a signal's came first
        raise


def is_at_work(frame: FrameType) -> bool:
    """Whether a thread runs the user's code, or in a pool what the user gave it to do, and does not wait.

    Args:
        frame: Its innermost frame.
    """
    if _package(frame) in _WAITING:
        return False
    inwards = [each for each in reversed(list(_outwards(frame))) if _module(each) != "threading"]
    owner = _package(inwards[0])
    if owner in _SHELLS:
        return False
    if owner in _POOLS:
        at = max(
            (at for at, each in enumerate(inwards) if (_module(each), each.f_code.co_name) in _WORKERS), default=-1
        )
        # The work may be a library's function, without code of the user; but no callback, whose error nobody catches.
        return at >= 0 and _package(inwards[at + 1]) not in _POOLS
    return any(map(_is_users, inwards))


def _current_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread, without a garbage collection, at which CPython 3.11 can hang there.

    https://github.com/python/cpython/issues/106883
    """
    if not gc.isenabled():
        return sys._current_frames()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        gc.enable()


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def _package(frame: FrameType) -> str:
    return _module(frame).partition(".")[0]


def _is_users(frame: FrameType) -> bool:
    """Whether code is of a cell or of a module of the user's own: of no library, installed or Python's."""
    file = frame.f_code.co_filename.replace(os.sep, "/")
    is_installed = "/site-packages/" in file or "/dist-packages/" in file
    return not is_installed and _package(frame) not in sys.stdlib_module_names


def _started(native_id: int | None) -> float:
    """When a thread was started, in seconds since boot; long ago for one that has ended."""
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19]) / _TICKS_PER_S
    except (OSError, ValueError, IndexError):
        return float("-inf")
