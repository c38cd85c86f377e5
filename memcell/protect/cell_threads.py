"""Ends the threads that a stopped run has started, if they go on filling the memory without it."""

from __future__ import annotations

import ctypes
import os
import threading

from memcell.errors import MemoryLimitExceeded

#: Linux tells when a thread was started in ticks, mostly of 10 ms.
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def threads_since(boot_s: float) -> list[threading.Thread]:
    """Threads that were started at or after a moment, memcell's own aside.

    Args:
        boot_s: Seconds since the machine was booted.
    """
    own = threading.get_ident()
    return [
        thread
        for thread in threading.enumerate()
        if thread.ident != own
        and thread is not threading.main_thread()
        and not thread.name.startswith("memcell")
        and _started(thread.native_id) >= boot_s - 1 / _TICKS_PER_S
    ]


def stop_threads_since(boot_s: float) -> None:
    """Raise ``MemoryLimitExceeded`` in these threads; each ends at its next line of Python, unless it catches that."""
    for thread in threads_since(boot_s):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(MemoryLimitExceeded)
        )


def _started(native_id: int | None) -> float:
    """When a thread was started, in seconds since boot; long ago for one that has ended."""
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19]) / _TICKS_PER_S
    except (OSError, ValueError, IndexError):
        return float("-inf")
