"""A notebook's kernel seen from outside: its memory, and all that it started."""

from __future__ import annotations

import contextlib
import os
import threading

import psutil

_INTERVAL_S = 0.05
#: Who was asked to end has this long.
_GRACE_S = 3.0


class KernelProcess:
    """Samples the resident memory of a kernel in a thread, and ends it with everything that it started.

    Args:
        pid: The kernel.
        mark: An environment variable and its value, which the kernel was started with: what it starts inherits them,
            also a process that has left the kernel's session.
    """

    def __init__(self, pid: int, mark: tuple[str, str]) -> None:
        self._pid = pid
        self._mark = mark
        self._last_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memcell-kernel-process", daemon=True)
        self._thread.start()

    @property
    def last_bytes(self) -> int:
        """Resident memory at the latest sample, 50 ms ago at most while the kernel lives; 0 before the first."""
        return self._last_bytes

    def stop(self) -> None:
        """Take no further samples. May be called twice."""
        self._stop.set()
        self._thread.join()

    def end(self) -> None:
        """End the kernel and all that it started: asked first, then killed."""
        for force in (False, True):
            alive = self._family()
            for process in alive:
                with contextlib.suppress(psutil.Error):  # it has just ended, or has become somebody else's
                    process.kill() if force else process.terminate()
            psutil.wait_procs(alive, timeout=_GRACE_S)

    def _family(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and self._belongs(process)]

    def _belongs(self, process: psutil.Process) -> bool:
        name, value = self._mark
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # A kernel is started as the leader of a session. That also finds who has cleared its environment.
            in_session = hasattr(os, "getsid") and os.getsid(process.pid) == self._pid
            return in_session or process.environ().get(name) == value
        except (psutil.Error, OSError):
            return False

    def _sample(self) -> None:
        try:
            process = psutil.Process(self._pid)
            while not self._stop.wait(_INTERVAL_S):
                # A process that has ended and was not waited for yet has no memory left.
                self._last_bytes = process.memory_info().rss or self._last_bytes
        except psutil.Error:
            return  # it has ended
