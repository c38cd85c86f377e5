"""The memory of the child processes of this process, cheaply enough for a hook.

In the hook one kept descriptor tells whether the main thread has children (0.5 µs, and mostly there are none). The
scan of all threads and the PSS of each process are paid for only where there are some, or after a long run, and never
take more than a share of wall time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

import psutil

from memcell.budget import Budget
from memcell.measure.watcher import children_of, descendants_of, pss_of, stat_of

#: Reading the children may take this part of wall time, and so much at once after a pause; within it a level is read
#: anew, else the last one stands.
SHARE, BURST_S = 0.05, 0.05
#: What was read so shortly before a run need not be read again: its end is what counts.
_FRESH_S = 0.02


class ChildrenGauge(Protocol):
    """Tells the level of all descendants of this process."""

    def level(self, *, thorough: bool = False, after: bool = False) -> int:
        """The memory of the descendants now, in bytes.

        Args:
            thorough: Look for children of all threads (some 10 µs a thread) and not only of the main thread.
            after: A run has ended: what was read shortly before is no longer good enough.
        """

    def each(self) -> dict[int, int]:
        """The memory of each child process with all below it, in bytes by pid; however long that takes."""

    def count(self) -> int:
        """How many child processes there are, their own children aside."""

    def close(self) -> None:
        """Let go of descriptors. May be called twice; the next reading opens them again."""


def make_children_gauge(exclude: Callable[[], int | None]) -> ChildrenGauge:
    """The gauge for this platform. ``exclude`` returns the process that is memcell's own, or None."""
    return LinuxChildrenGauge(exclude) if sys.platform == "linux" else PsutilChildrenGauge(exclude)


def private_memory_of(pid: int) -> int:
    """The memory of a process that it shares with no file, in bytes; 0 if it has ended."""
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(info.rss - getattr(info, "shared", 0))


class LinuxChildrenGauge:
    """PSS of the descendants, so that pages which forked workers share with this process count once."""

    def __init__(
        self, exclude: Callable[[], int | None] = lambda: None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._exclude = exclude
        self._clock = clock
        self._budget = Budget(SHARE, clock, burst_s=BURST_S)
        self._pid = -1
        self._descriptor = -1
        self._of_other_threads: set[int] = set()
        self._last_bytes = 0
        self._last_pids: set[int] = set()
        self._read_at = float("-inf")

    def level(self, *, thorough: bool = False, after: bool = False) -> int:
        pids = self._children(thorough)
        if not pids:
            self._last_bytes = 0
        elif pids != self._last_pids or (self._budget.allows() and (after or self._is_old())):
            self._last_bytes = self._budget.spend(lambda: sum(map(pss_of, descendants_of(list(pids)))))
            self._read_at = self._clock()
        self._last_pids = pids
        return self._last_bytes

    def _is_old(self) -> bool:
        return self._clock() - self._read_at >= _FRESH_S

    def each(self) -> dict[int, int]:
        return {pid: sum(map(pss_of, descendants_of([pid]))) for pid in self._children(thorough=True)}

    def count(self) -> int:
        return len(self._children(thorough=True))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = self._pid = -1

    def _children(self, thorough: bool) -> set[int]:
        pids = self._of_main_thread()
        if thorough:
            self._of_other_threads = set(children_of(os.getpid())) - pids
        elif self._of_other_threads:
            self._of_other_threads = set(filter(_is_child, self._of_other_threads))
        pids |= self._of_other_threads
        if pids:
            pids.discard(self._exclude() or -1)
        return pids

    def _of_main_thread(self) -> set[int]:
        pid = os.getpid()
        if pid != self._pid:
            self.close()
            try:
                self._descriptor = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
            except OSError:
                return set()  # a Linux without CONFIG_PROC_CHILDREN
            self._pid = pid
        return set(map(int, os.pread(self._descriptor, 65536, 0).split()))


class PsutilChildrenGauge:
    """RSS of the descendants, on platforms without PSS. Untested on macOS and Windows."""

    def __init__(self, exclude: Callable[[], int | None] = lambda: None) -> None:
        self._exclude = exclude
        self._budget = Budget(SHARE, burst_s=BURST_S)
        self._last_bytes = 0

    def level(self, *, thorough: bool = False, after: bool = False) -> int:  # noqa: ARG002 - psutil looks at all threads
        if self._budget.allows():
            self._last_bytes = self._budget.spend(self._read)
        return self._last_bytes

    def _read(self) -> int:
        children = psutil.Process().children(recursive=True)
        return sum(_rss_of(child) for child in children if child.pid != self._exclude())

    def each(self) -> dict[int, int]:
        children = [child for child in psutil.Process().children() if child.pid != self._exclude()]
        return {child.pid: _rss_of(child) + sum(map(_rss_of, _below(child))) for child in children}

    def count(self) -> int:
        return sum(child.pid != self._exclude() for child in psutil.Process().children())

    def close(self) -> None:
        """Nothing is kept open."""


def _is_child(pid: int) -> bool:
    fields = stat_of(pid)
    return bool(fields) and int(fields[1]) == os.getpid()


def _below(child: psutil.Process) -> list[psutil.Process]:
    try:
        return list(child.children(recursive=True))
    except psutil.Error:
        return []  # it has just ended


def _rss_of(child: psutil.Process) -> int:
    try:
        return int(child.memory_info().rss)
    except psutil.Error:
        return 0  # it has just ended
