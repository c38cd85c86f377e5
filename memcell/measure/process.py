"""The memory of this process: its level now, and the exact peak since a moment.

On Linux the peak is the kernel's own high-water mark (``VmHWM``), reset by writing ``5`` to ``/proc/self/clear_refs``
(proc(5)); no sampling can miss a spike then. The reset lowers ``ru_maxrss`` too. Where the reset is refused or
does not exist, the lifetime mark still tells the peak exactly if it rose since; else the peak is unknown here.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Protocol

import psutil

from memcell.budget import Budget
from memcell.measure.usage_mark import UsageMark
from memcell.measure.watcher import PAGE
from memcell.records.measured import Sample
from memcell.units import GIB, MIB

#: Reading the heap before a run may take this part of wall time, and as much again after it. glibc's mallinfo2 walks
#: every free block: 0.7 µs on a tidy heap but 10 ms with 200,000 free blocks, which a hook must not pay for each cell.
HEAP_SHARE = 0.025


class ProcessReader(Protocol):
    """Reads the memory of the current process."""

    def rss(self) -> int:
        """Resident memory now, in bytes, the cheapest way."""

    def heap(self) -> int | None:
        """What malloc has handed out, in bytes, whatever reading costs; None where that is unknown."""

    def sample(self) -> Sample:
        """The full reading; the heap only where that is not too dear just now."""

    def read(self, *, heap: bool) -> tuple[Sample, int | None]:
        """The full reading, and the peak as ``peak`` tells it.

        Args:
            heap: Read the heap, too: one end without the other would say nothing.
        """

    def reset_peak(self) -> bool:
        """Begin a new peak at the present level; tells whether the platform allows that."""

    def peak(self) -> int | None:
        """The exact peak since the last reset in bytes; None where the platform cannot tell."""

    def error_bytes(self) -> int:
        """How far resident memory, and so the peak, may be off."""

    def close(self) -> None:
        """Let go of descriptors. May be called twice; the next reading opens them again."""


def make_reader(*, exact_peak: Callable[[], bool]) -> ProcessReader:
    """The best reader for this platform; ``exact_peak`` says whether the high-water mark may be reset."""
    if sys.platform == "linux":
        try:
            return LinuxReader(exact_peak)
        except (OSError, ValueError):
            pass  # no /proc, or one that lacks these fields: psutil knows other ways
    return PsutilReader()


class HeapGauge:
    """What malloc has handed out, read seldom where reading is dear.

    Args:
        read: Returns the bytes in use.
        clock: Seconds; for tests.
    """

    def __init__(self, read: Callable[[], int], clock: Callable[[], float] = time.perf_counter) -> None:
        self._read = read
        self._budget = Budget(HEAP_SHARE, clock)

    def bytes_in_use_now(self) -> int:
        """The bytes in use, whatever reading costs."""
        return self._budget.spend(self._read)

    def is_affordable(self) -> bool:
        """Whether another reading fits into its share of time."""
        return self._budget.allows()

    def bytes_in_use(self) -> int | None:
        """The bytes in use; None while another reading would take more than its share of time."""
        return self.bytes_in_use_now() if self._budget.allows() else None


def make_heap_gauge() -> HeapGauge | None:
    """The gauge for this platform's malloc, None where it tells nothing (musl)."""
    heap_info = getattr(psutil, "heap_info", None)
    if heap_info is None:
        return None

    def in_use() -> int:
        info = heap_info()
        return int(info.heap_used + info.mmap_used)

    return HeapGauge(in_use)


def trim_heap() -> bool:
    """Give the heap's free pages back to the operating system; tells whether the platform can."""
    trim = getattr(psutil, "heap_trim", None)
    if trim is None:
        return False
    trim()
    return True


class LinuxReader:
    """Reads ``/proc/self`` through descriptors that stay open: 1 µs for the level, 2 to 8 µs for everything.

    The descriptors belong to one process: a forked child opens its own.

    Raises:
        OSError: No ``/proc``.
        ValueError: One without the fields of Linux 4.5.
    """

    def __init__(self, exact_peak: Callable[[], bool] = lambda: True) -> None:
        self._exact_peak = exact_peak
        self._heap = make_heap_gauge()
        self._usage_mark = UsageMark()
        self._pid = -1
        self._descriptors: list[int] = []
        self._lifetime_mark: int | None = None
        self._file_and_shmem = -1, -1
        self._open()
        self._error_bytes = rss_error_bytes(self.rss())

    def _open(self) -> None:
        self.close()
        self._status = self._keep("/proc/self/status", os.O_RDONLY)
        self._statm = self._keep("/proc/self/statm", os.O_RDONLY)
        try:
            self._clear_refs: int | None = self._keep("/proc/self/clear_refs", os.O_WRONLY)
        except OSError:
            self._clear_refs = None  # a read-only /proc, or a process that may not look at itself
        self._pid = os.getpid()
        self._fields()

    def _keep(self, path: str, flags: int) -> int:
        descriptor = os.open(path, flags)
        self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._pid = -1

    def rss(self) -> int:
        if self._pid != os.getpid():
            self._open()
        return int(os.pread(self._statm, 200, 0).split(None, 2)[1]) * PAGE

    def heap(self) -> int | None:
        return self._heap.bytes_in_use_now() if self._heap else None

    def sample(self) -> Sample:
        parts = self._quick_parts()
        if parts is None:
            return self.read(heap=self._heap is not None and self._heap.is_affordable())[0]
        return Sample(*parts, self._heap.bytes_in_use() if self._heap else None)

    def read(self, *, heap: bool) -> tuple[Sample, int | None]:
        quick_mark = self._usage_mark.read()
        parts = self._quick_parts() if quick_mark is not None else None
        if quick_mark is not None and parts is not None:
            return Sample(*parts, self.heap() if heap else None), self._known(quick_mark)
        mark, rss, anon, file, shmem = self._fields()
        self._file_and_shmem = file, shmem
        return Sample(rss, anon, file, shmem, self.heap() if heap else None), self._known(mark)

    def _quick_parts(self) -> tuple[int, int, int, int] | None:
        """Resident, anonymous, file-backed and shared memory; None where only status tells them all.

        statm takes 1 µs where status takes 8, but tells file-backed and shared memory in one figure. While that has not
        changed since status was read, neither has what it is the sum of.
        """
        if self._pid != os.getpid():
            self._open()
        _, resident, shared, _ = os.pread(self._statm, 200, 0).split(None, 3)
        rss, both = int(resident) * PAGE, int(shared) * PAGE
        file, shmem = self._file_and_shmem
        return (rss, rss - both, file, shmem) if file + shmem == both else None

    def reset_peak(self) -> bool:
        if self._pid != os.getpid():
            self._open()
        if self._clear_refs is not None and self._exact_peak():
            try:
                os.pwrite(self._clear_refs, b"5", 0)
            except OSError:
                self._clear_refs = None
            else:
                self._lifetime_mark = None
                return True
        self._lifetime_mark = self._fields()[0]
        return False

    def peak(self) -> int | None:
        return self._known(self._fields()[0])

    def _known(self, mark: int) -> int | None:
        return mark if self._lifetime_mark is None or mark > self._lifetime_mark else None

    def error_bytes(self) -> int:
        return self._error_bytes

    def _fields(self) -> tuple[int, int, int, int, int]:
        """VmHWM, VmRSS, RssAnon, RssFile and RssShmem in bytes: five lines that follow one another in status."""
        if self._pid != os.getpid():
            self._open()
        status = os.pread(self._status, 8192, 0)
        at = status.index(b"\nVmHWM:")  # at a line's start: the name of the process may hold anything
        words = status[at : at + 200].split(None, 15)
        if words[3] != b"VmRSS:" or words[12] != b"RssShmem:":
            raise ValueError("this /proc/self/status lacks the fields of Linux 4.5")
        return (
            int(words[1]) * 1024,
            int(words[4]) * 1024,
            int(words[7]) * 1024,
            int(words[10]) * 1024,
            int(words[13]) * 1024,
        )


class PsutilReader:
    """Reads through psutil, for macOS and Windows. Both are untested.

    Windows tells a lifetime peak (``peak_wset``), which is exact for a run in which it rose. macOS tells none here.
    """

    def __init__(self) -> None:
        self._heap = make_heap_gauge()
        self._lifetime_mark = 0

    def rss(self) -> int:
        return int(psutil.Process().memory_info().rss)

    def heap(self) -> int | None:
        return self._heap.bytes_in_use_now() if self._heap else None

    def sample(self) -> Sample:
        return Sample(self.rss(), heap_bytes=self._heap.bytes_in_use() if self._heap else None)

    def read(self, *, heap: bool) -> tuple[Sample, int | None]:
        return Sample(self.rss(), heap_bytes=self.heap() if heap else None), self.peak()

    def reset_peak(self) -> bool:
        self._lifetime_mark = self._mark()
        return False

    def peak(self) -> int | None:
        mark = self._mark()
        return mark if mark > self._lifetime_mark else None

    def error_bytes(self) -> int:
        return PAGE

    def close(self) -> None:
        """Nothing is kept open."""

    @staticmethod
    def _mark() -> int:
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))


def rss_error_bytes(
    rss_bytes: int, *, release: str | None = None, processors: int | None = None, usable: int | None = None
) -> int:
    """How far the kernel's counter of resident pages may be off, in bytes.

    Linux keeps the counter in parts and adds them up late. Up to 6.1 each thread held back at most 64 pages
    (``TASK_RSS_EVENTS_THRESH``, mm/memory.c). Since 6.2 each processor holds back a batch of
    ``max(32, 2 × processors)`` pages (lib/percpu_counter.c): 256 KiB on two processors, but tens of MiB on a hundred.
    There the bound is far above what happens, so the present error is measured once against ``smaps_rollup``, which
    counts pages, and four times that is taken, an estimate.

    Args:
        rss_bytes: The present level: above 1 GiB the comparison would cost more than 30 ms and is left out.
        release: The kernel's release, processors online, and processors this process may use; for tests.
        processors: See ``release``.
        usable: See ``release``.
    """
    match = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < (6, 2):
        return 64 * PAGE * 4  # a few threads allocate at a time
    processors = processors or os.cpu_count() or 1
    usable = usable or len(os.sched_getaffinity(0))
    bound = max(32, 2 * processors) * usable * PAGE
    if bound <= MIB or rss_bytes > GIB:
        return bound
    try:
        with open("/proc/self/smaps_rollup", "rb") as file:
            counted = next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Rss:"))
    except (OSError, StopIteration):
        return bound
    return min(bound, max(MIB, 4 * abs(counted - rss_bytes)))
