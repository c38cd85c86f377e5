"""The small process beside the kernel that samples its memory while Python code there cannot run.

A thread sees nothing while C code holds the interpreter's lock; another process does. This file is run by path
(``python -I -S watcher.py``), so it imports the standard library only, and as little of it as it can: it takes 10 MB
and starts in some 20 ms. The kernel's side is in ``sampler.py``, which imports the layout and the readings from here.

The two share one page-aligned buffer (``SharedCurve``) and a pipe. The kernel writes which period to sample into the
buffer; the watcher writes the curve of that period. While nothing runs the watcher sleeps on the pipe and takes no
processor time. It ends when the kernel ends, and may be given a file to run then (``Recorder``) and a command to become
after that.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import sys
import time

#: Slices of a curve. When they are full, neighbours are merged and each slice covers twice the time, so that a curve
#: always shows the whole run at a resolution of at least 1/256 of it, in the same few kilobytes.
SLICES = 256
#: Reading the children may take this part of the watcher's time: their PSS costs about 32 ms per GB.
CHILDREN_SHARE = 0.2

_ORDERS = struct.Struct("=Qdd")  # period (0: none), when it began (monotonic, s), sampling interval (s)
_STATE = struct.Struct("=QQQd")  # parked, version (odd while written), period of the curve, slice (s)
_COUNT = struct.Struct("=Q")
_LEVEL = struct.Struct("=qq")  # RSS and children's PSS, bytes
_MINUTE = struct.Struct("=Qdqq")  # number of the slice since the boot (0: none), time, RSS and children's PSS
_STATE_AT = _ORDERS.size
_COUNT_AT = _STATE_AT + _STATE.size
_LEVELS_AT = _COUNT_AT + _COUNT.size
SIZE = mmap.PAGESIZE * -(-(_LEVELS_AT + SLICES * _LEVEL.size) // mmap.PAGESIZE)

PAGE = mmap.PAGESIZE

_PF_EXITING = 0x4  # include/linux/sched.h
#: Behind the curve is room for what the kernel wants to leave behind if it dies; only what is run then reads it.
NOTES_SIZE = 32 * 4096
#: The samples of the last minute: the highest in each slice, whatever the sampling interval is.
_MINUTE_SLICE_S = 0.05
_MINUTE_SLICES = 1200
#: A count of OOM kills is compared with one that is older than this: the kill itself may be in the latest.
_COUNT_EVERY_S = 10.0
#: How often a sleeping watcher looks whether the kernel lives, where no pidfd tells.
_LOOK_EVERY_S = 2.0


class SharedCurve:
    """A curve in a buffer that two processes (or two threads) share: one writes, the other reads.

    Args:
        buffer: A writable buffer of ``SIZE`` bytes, zeroed.
    """

    def __init__(self, buffer: mmap.mmap | bytearray) -> None:
        self._buffer = buffer

    # The reader's side: orders.

    def order(self, period: int, started: float, interval_s: float) -> bool:
        """Ask for the samples of a period (0: of none) and tell whether the writer sleeps and has to be woken."""
        _ORDERS.pack_into(self._buffer, 0, period, started, interval_s)
        return bool(_STATE.unpack_from(self._buffer, _STATE_AT)[0])

    def read(self, period: int) -> tuple[float, list[tuple[int, int]]]:
        """The length of a slice in seconds and the (RSS, children) levels of a period, empty without samples."""
        for _ in range(100):  # the writer holds the curve for some microseconds at a time
            _, version, current, slice_s = _STATE.unpack_from(self._buffer, _STATE_AT)
            (count,) = _COUNT.unpack_from(self._buffer, _COUNT_AT)
            raw = bytes(self._buffer[_LEVELS_AT : _LEVELS_AT + min(count, SLICES) * _LEVEL.size])
            if version % 2 == 0 and _STATE.unpack_from(self._buffer, _STATE_AT)[1] == version:
                return slice_s, list(_LEVEL.iter_unpack(raw)) if current == period else []
            time.sleep(0.0001)
        return 0.0, []

    # The writer's side.

    def orders(self) -> tuple[int, float, float]:
        """The period that is asked for (0: none), when it began, and the sampling interval."""
        orders = _ORDERS.unpack_from(self._buffer, 0)
        while (again := _ORDERS.unpack_from(self._buffer, 0)) != orders:
            orders = again  # read while it was being written
        return orders

    def park(self, parked: bool) -> None:
        """Say whether the writer sleeps."""
        _, version, period, slice_s = _STATE.unpack_from(self._buffer, _STATE_AT)
        _STATE.pack_into(self._buffer, _STATE_AT, parked, version, period, slice_s)

    def add(self, period: int, elapsed_s: float, rss_bytes: int, children_bytes: int, slice_s: float) -> None:
        """Add one sample. A new period begins a new curve, with slices of ``slice_s`` seconds."""
        _, version, current, current_slice_s = _STATE.unpack_from(self._buffer, _STATE_AT)
        if current == period:
            slice_s = current_slice_s
            (count,) = _COUNT.unpack_from(self._buffer, _COUNT_AT)
        else:
            count = 0
        _STATE.pack_into(self._buffer, _STATE_AT, 0, version + 1, period, slice_s)
        index = max(0, int(elapsed_s / slice_s))
        while index >= SLICES:
            count = self._merge_neighbours(count)
            slice_s *= 2
            index //= 2
        level = (rss_bytes, children_bytes)
        if index < count:
            level = self._higher(self._level(index), level)
        else:
            # Slices without a sample of their own keep the level before them.
            before = self._level(count - 1) if count else level
            for gap in range(count, index):
                _LEVEL.pack_into(self._buffer, _LEVELS_AT + gap * _LEVEL.size, *before)
            count = index + 1
        _LEVEL.pack_into(self._buffer, _LEVELS_AT + index * _LEVEL.size, *level)
        _COUNT.pack_into(self._buffer, _COUNT_AT, count)
        _STATE.pack_into(self._buffer, _STATE_AT, 0, version + 2, period, slice_s)

    def _level(self, index: int) -> tuple[int, int]:
        return _LEVEL.unpack_from(self._buffer, _LEVELS_AT + index * _LEVEL.size)

    @staticmethod
    def _higher(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return max(one[0], other[0]), max(one[1], other[1])

    def _merge_neighbours(self, count: int) -> int:
        for index in range(0, count, 2):
            pair = self._higher(self._level(index), self._level(min(index + 1, count - 1)))
            _LEVEL.pack_into(self._buffer, _LEVELS_AT + index // 2 * _LEVEL.size, *pair)
        return (count + 1) // 2


def children_of(pid: int) -> list[int]:
    """The direct child processes of a process, of all its threads. Linux with CONFIG_PROC_CHILDREN."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib takes 5 ms to import
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # the process or the thread has just ended
    return found


def descendants_of(pids: list[int]) -> list[int]:
    """The given processes and all their descendants."""
    found = list(pids)
    for pid in found:  # grows while it is walked
        found += children_of(pid)
    return found


def pss_of(pid: int) -> int:
    """The proportional set size of a process in bytes: each page divided by how many processes share it.

    A forked worker shares most of its pages with the kernel: RSS would count them again for every worker. Where the
    figure is refused, RSS without shared pages; 0 for a process that has ended.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # ended, a zombie, or another user's: the next reading tells which
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
            return (resident - shared) * PAGE
    except (OSError, ValueError):
        return 0


class Recorder:
    """What is remembered for the case that the kernel dies: its last minute, and how many OOM kills there were.

    Args:
        pid: The process that is watched.
        pidfd: A descriptor that tells when it ends, or -1: then reading its memory tells.
    """

    def __init__(self, pid: int, pidfd: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._ring = bytearray(_MINUTE_SLICES * _MINUTE.size)
        self._counters = _oom_counters(pid)
        self.begin()

    def begin(self) -> None:
        """The kernel has just woken the watcher: what is counted now was before the run."""
        self.oom_kills_before = self._latest_count = self.count_oom_kills()
        self._next_count = time.monotonic() + _COUNT_EVERY_S

    def add(self, now: float, rss_bytes: int, children_bytes: int) -> None:
        """Add one sample of a run."""
        slot = int(now / _MINUTE_SLICE_S)
        at = slot % _MINUTE_SLICES * _MINUTE.size
        before = _MINUTE.unpack_from(self._ring, at)
        if before[0] == slot:
            rss_bytes, children_bytes = max(rss_bytes, before[2]), max(children_bytes, before[3])
        _MINUTE.pack_into(self._ring, at, slot, now, rss_bytes, children_bytes)
        if now >= self._next_count:
            self.oom_kills_before, self._latest_count = self._latest_count, self.count_oom_kills()
            self._next_count = now + _COUNT_EVERY_S

    def samples(self) -> list[tuple[float, int, int]]:
        """Time (monotonic, s), RSS and children's PSS of the minute before now, oldest first."""
        oldest = time.monotonic() / _MINUTE_SLICE_S - _MINUTE_SLICES
        found = sorted(sample for sample in _MINUTE.iter_unpack(self._ring) if sample[0] > max(oldest, 0))
        return [sample[1:] for sample in found]

    def count_oom_kills(self) -> tuple[int | None, int | None]:
        """How many processes the OOM killer has ended, in the control group and on the host; None where untold."""
        group, host = (None if name is None else _counted(name) for name in self._counters)
        return group, host


def _oom_counters(pid: int) -> tuple[str | None, str]:
    """The files that count OOM kills: of the control group that the process is in, if it has one, and of the host."""
    names = []
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file.read().splitlines():
                _, controllers, path = line.split(":", 2)
                if "memory" in controllers.split(","):
                    names += [f"/sys/fs/cgroup/memory{part}/memory.oom_control" for part in (path, "")]
                elif not controllers:
                    names += [f"/sys/fs/cgroup{part}/memory.events" for part in (path, "")]
    except (OSError, ValueError):
        pass  # no control groups here
    # A container may see only its own part of the hierarchy, at the top; the path is told from outside then.
    return next((name for name in names if os.access(name, os.R_OK)), None), "/proc/vmstat"


def _counted(name: str) -> int | None:
    try:
        with open(name, "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass  # the group is gone, or a Linux before 4.13
    return None


def watch(pid: int, memory: int, pipe: int, recorder: Recorder) -> None:
    """Sample the process until it ends or closes its end of the pipe."""
    curve = SharedCurve(mmap.mmap(memory, SIZE))
    try:
        statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
    except OSError:
        return  # ended while this process started
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    kernel = recorder.pidfd
    if kernel >= 0:
        poll.register(kernel, select.POLLIN)
    own = os.getpid()
    children_bytes, children_next, children_period = 0, 0.0, 0
    while True:
        period, started, interval_s = curve.orders()
        now = time.monotonic()
        timeout_s: float | None = interval_s
        try:
            size, resident, *_ = os.pread(statm, 200, 0).split()
        except (OSError, ValueError):
            return
        if size == b"0":
            return  # it has given all its memory back: it is dying, or dead and not collected
        rss_bytes = int(resident) * PAGE
        if period:
            if now >= children_next or children_period != period:
                pids = [child for child in children_of(pid) if child != own]
                children_bytes = sum(map(pss_of, descendants_of(pids))) if pids else 0
                children_period = period
                children_next = now + (time.monotonic() - now) / CHILDREN_SHARE
            curve.add(period, now - started, rss_bytes, children_bytes, interval_s)
            recorder.add(now, rss_bytes, children_bytes)
        else:
            curve.park(True)
            timeout_s = None if kernel >= 0 else _LOOK_EVERY_S
            if curve.orders()[0]:
                timeout_s = 0.0  # an order that came in between must not wait
        events = poll.poll(None if timeout_s is None else timeout_s * 1000)
        for descriptor, event in events:
            if descriptor == kernel or event & ~select.POLLIN or not os.read(pipe, 4096):
                return
        if not period:
            curve.park(False)
            recorder.begin()


def look_back(afterwards: str, memory: int, recorder: Recorder) -> None:
    """Run the file that knows what to do when the kernel has ended, if it wants anything done."""
    import runpy  # only now: the kernel's memory is its user's

    notes = mmap.mmap(memory, NOTES_SIZE, offset=SIZE)
    runpy.run_path(afterwards)["write"](recorder, notes)


def is_ending(pid: int) -> bool:
    """Whether a process has ended, or is about to: its pipes are closed some time before it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _PF_EXITING)
    except OSError:
        return True


if __name__ == "__main__":
    _pid, _memory, _pipe, _pidfd = map(int, sys.argv[1:5])
    _recorder = Recorder(_pid, _pidfd)
    watch(_pid, _memory, _pipe, _recorder)
    try:
        if sys.argv[5]:
            look_back(sys.argv[5], _memory, _recorder)
    finally:
        if sys.argv[6:] and is_ending(_pid):
            os.execv(sys.argv[6], sys.argv[6:])  # noqa: S606 - the command is memcell's own
