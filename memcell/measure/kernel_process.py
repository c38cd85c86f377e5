"""A notebook's kernel seen from outside: its memory, and all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import psutil

_INTERVAL_S = 0.05
#: Who was asked to end has this long.
_GRACE_S = 3.0


class KernelProcess:
    """Samples the resident memory of a kernel in a thread.

    Args:
        pid: The kernel.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
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

    def _sample(self) -> None:
        try:
            process = psutil.Process(self.pid)
            while not self._stop.wait(_INTERVAL_S):
                # A process that has ended and was not waited for yet has no memory left.
                self._last_bytes = process.memory_info().rss or self._last_bytes
        except psutil.Error:
            return  # it has ended


def end_kernel(pid: int | None, mark: tuple[str, str]) -> None:
    """End a kernel and all that it started: asked first, then killed. A Ctrl-C, or SIGTERM, comes after it.

    Args:
        pid: The kernel; None if it is not known, as of one that was still starting.
        mark: An environment variable and its value, which the kernel was started with: what it starts inherits them,
            also a process that has left the kernel's session.
    """
    with _uninterrupted():
        for force in (False, True):
            alive = [one for one in psutil.process_iter() if one.pid != os.getpid() and _belongs(one, pid, mark)]
            for process in alive:
                with contextlib.suppress(psutil.Error):  # it has just ended, or has become somebody else's
                    process.kill() if force else process.terminate()
            psutil.wait_procs(alive, timeout=_GRACE_S)


def _belongs(process: psutil.Process, kernel: int | None, mark: tuple[str, str]) -> bool:
    name, value = mark
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # A kernel is started as the leader of a session. That also finds who has cleared its environment.
        in_session = kernel is not None and hasattr(os, "getsid") and os.getsid(process.pid) == kernel
        return in_session or process.environ().get(name) == value
    except (psutil.Error, OSError):
        return False


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off signals that would raise in here, in the main thread: who is impatient must not leave a kernel behind."""
    numbers = [signal.SIGINT, signal.SIGTERM] if threading.current_thread() is threading.main_thread() else []
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    heard: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt
