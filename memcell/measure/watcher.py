"""The small process beside the kernel that samples its memory while Python code there cannot run.

A thread sees nothing while C code holds the interpreter's lock; another process does. This file is run by path
(``python -I -S watcher.py``), so it imports the standard library only, and as little of it as it can: it takes 10 MB
and starts in some 20 ms. The kernel's side is in ``sampler.py``, which imports the layout and the readings from here.

The two share one page-aligned buffer (``SharedCurve``) and a pipe. The kernel writes which period to sample into the
buffer; the watcher writes the curve of that period. While nothing runs the watcher sleeps on the pipe and takes no
processor time. It ends when the kernel ends, and may be given a file to run then and a command to become after that.

Its other tasks lie beside this file: ``stopper.py`` stops a run that would pass its limit, ``recorder.py`` remembers
what a black box is to tell. It must outlive a kernel that the OOM killer has ended, so it does not ask for memory while
that is possible: what it reads again and again stays open (``kept_files.py``).
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import sys
import time

TYPE_CHECKING = False  # as in typing, which takes 5 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

    from memcell.measure.kept_files import DirectChildren
    from memcell.measure.recorder import Recorder
    from memcell.measure.stopper import Stopper

#: Slices of a curve. When they are full, neighbours are merged and each slice covers twice the time, so that a curve
#: always shows the whole run at a resolution of at least 1/256 of it, in the same few kilobytes.
SLICES = 256
#: Reading the children may take this part of the watcher's time: their PSS costs about 32 ms per GB.
CHILDREN_SHARE = 0.2

_ORDERS = struct.Struct("=Qdd")  # period (0: none), when it began (monotonic, s), sampling interval (s)
_STATE = struct.Struct("=QQQd")  # parked, version (odd while written), period of the curve, slice (s)
_COUNT = struct.Struct("=Q")
_LEVEL = struct.Struct("=qq")  # RSS and children's PSS, bytes
_STATE_AT = _ORDERS.size
_COUNT_AT = _STATE_AT + _STATE.size
_LEVELS_AT = _COUNT_AT + _COUNT.size
#: What follows the curve: a page for each of the watcher's other tasks.
STOP_ORDERS_AT = mmap.PAGESIZE * -(-(_LEVELS_AT + SLICES * _LEVEL.size) // mmap.PAGESIZE)
SIZE = STOP_ORDERS_AT + mmap.PAGESIZE

PAGE = mmap.PAGESIZE

_PF_EXITING = 0x4  # include/linux/sched.h
#: Behind the curve is room for what the kernel wants to leave behind if it dies; only what is run then reads it.
NOTES_SIZE = 32 * 4096
#: Twice what libc takes to list a folder.
_ROOM_BYTES = 64 << 10
#: How often a sleeping watcher looks whether the kernel lives, where no pidfd tells.
_LOOK_EVERY_S = 2.0
#: A process that gives gigabytes back takes seconds to end. Where no pidfd tells when it has, nobody waits so long:
#: what it ended with is lost once its parent has asked for it.
_DYING_S, _DYING_UNTOLD_S = 30.0, 0.5
_DYING_LOOK_S = 0.005
#: What comes through the pipe if the watcher is to end while the process lives on; anything else wakes it.
SENT_AWAY = b"."


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
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib takes 5 ms to import
    except OSError:
        return found  # it has just ended
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
        except OSError:
            pass  # this thread has just ended
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


def watch(
    memory: int,
    pipe: int,
    recorder: Recorder,
    make_stopper: Callable[[mmap.mmap], Stopper],
    children_reader: Callable[[int], DirectChildren],
) -> bool:
    """Sample the process, and stop its runs where that was ordered, until it ends or closes its end of the pipe.

    Returns:
        Whether the process has sent the watcher away; if not, it has died.
    """
    buffer = mmap.mmap(memory, SIZE)
    try:
        stopper, direct_children = make_stopper(buffer), children_reader(recorder.pid)
        statm = os.open(f"/proc/{recorder.pid}/statm", os.O_RDONLY)
    except OSError:
        return is_sent_away(pipe)  # ended while this process started
    sent_away = _sample(SharedCurve(buffer), pipe, recorder, stopper, direct_children, statm)
    if not sent_away:
        wait_while_dying(statm, recorder.pidfd)
    return sent_away


def _sample(
    curve: SharedCurve, pipe: int, recorder: Recorder, stopper: Stopper, direct_children: DirectChildren, statm: int
) -> bool:
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
            pages = tuple(map(int, os.pread(statm, 200, 0).split()))
        except OSError:
            return is_sent_away(pipe)
        if not pages or not pages[0]:
            return is_sent_away(pipe)  # it has given all its memory back: it is dying, or dead and not collected
        rss_bytes = pages[1] * PAGE
        if period:
            if now >= children_next or children_period != period:
                pids = [child for child in direct_children.read() if child != own]
                children_bytes = sum(map(pss_of, descendants_of(pids))) if pids else 0
                children_period = period
                children_next = now + (time.monotonic() - now) / CHILDREN_SHARE
            curve.add(period, now - started, rss_bytes, children_bytes, interval_s)
            recorder.add(now, rss_bytes, children_bytes)
            try:
                timeout_s = min(interval_s, stopper.tick(now, pages, children_bytes))
            except ProcessLookupError:
                return is_sent_away(pipe)  # it is dying
        else:
            curve.park(True)
            timeout_s = None if kernel >= 0 else _LOOK_EVERY_S
            if curve.orders()[0]:
                timeout_s = 0.0  # an order that came in between must not wait
        events = dict(poll.poll(None if timeout_s is None else timeout_s * 1000))
        said = os.read(pipe, 4096) if events.get(pipe, 0) & select.POLLIN else b""
        if SENT_AWAY in said:
            return True
        if kernel in events or (pipe in events and not said):
            return is_sent_away(pipe)
        if not period:
            curve.park(False)
            recorder.begin()


def wait_while_dying(statm: int, pidfd: int) -> None:
    """Wait until a process that is dying has given its memory back.

    It dies because its control group is full, perhaps. Then what the group's next allocation gets is the OOM killer
    again, which sees nothing any more of the memory that is just being freed: it ends who is left, which is this
    process. So nothing is imported or opened here, and no file is read but one that was read before.

    Args:
        statm: Its open /proc/PID/statm.
        pidfd: A descriptor of it, or -1.
    """
    poll = select.poll()
    if pidfd >= 0:
        poll.register(pidfd, select.POLLIN)
    ends = time.monotonic() + (_DYING_S if pidfd >= 0 else _DYING_UNTOLD_S)
    while time.monotonic() < ends:
        try:
            if not os.pread(statm, 200, 0).startswith(b"0 "):
                return  # it lives: something else has closed the pipe, such as exec
        except OSError:
            return  # it is gone
        if poll.poll(_DYING_LOOK_S * 1000):
            return


def is_sent_away(pipe: int) -> bool:
    """Whether the process that is gone had sent the watcher away before."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0)) and SENT_AWAY in os.read(pipe, 4096)


def look_back(afterwards: str, memory: int, recorder: Recorder) -> None:
    """Run the file that knows what to do when the kernel has ended, if it wants anything done."""
    import runpy  # only now: the kernel's memory is its user's

    notes = mmap.mmap(memory, NOTES_SIZE, offset=SIZE)
    runpy.run_path(afterwards)["write"](recorder, notes)


def be_spared() -> None:
    """Ask the OOM killer to end anything but this process, which takes 10 MB; needs CAP_SYS_RESOURCE.

    Who has not got that lives as long as this process asks for no memory while there is none. So it gets the room for
    listing a folder now: malloc keeps what is freed at the end of its heap, up to 128 KiB.
    """
    bytearray(b"x") * _ROOM_BYTES
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")
    except OSError:
        pass  # usual


def is_ending(pid: int) -> bool:
    """Whether a process has ended, or is about to: its pipes are closed some time before it is a zombie."""
    fields = stat_of(pid)
    return not fields or fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _PF_EXITING)


def stat_of(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on, the state (see proc(5)); none of a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name stands in brackets, and may itself hold brackets and spaces.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def main(arguments: list[str]) -> None:
    """Watch a process to its end, then do what is to be done after it.

    Args:
        arguments: The process; the descriptors of the shared memory, the pipe and the pidfd (-1: none); the file to run
            afterwards, if any; and the command to become after that, if any.
    """
    pid, memory, pipe, pidfd = map(int, arguments[:4])
    afterwards, last_act = arguments[4], arguments[5:]
    # Not from the package, which would import what the watcher can do without.
    sys.path.append(os.path.dirname(__file__))  # noqa: PTH120 - pathlib takes 5 ms to import
    recorders, orders, stoppers, kept_files = map(__import__, ("recorder", "stop_orders", "stopper", "kept_files"))
    be_spared()
    recorder: Recorder = recorders.Recorder(pid, pidfd)

    def make_stopper(buffer: mmap.mmap) -> Stopper:
        kernel = stoppers.Kernel(pid)
        shared = orders.StopOrders(buffer, STOP_ORDERS_AT)
        stopper: Stopper = stoppers.Stopper(shared, kernel, kept_files.KeptFiles().text)
        return stopper

    # Whatever fails, what comes after it is still done.
    sent_away = False
    try:
        sent_away = watch(memory, pipe, recorder, make_stopper, kept_files.DirectChildren)
    finally:
        try:
            if afterwards:
                look_back(afterwards, memory, recorder)
        finally:
            if last_act and not sent_away and is_ending(pid):
                os.execv(last_act[0], last_act)  # noqa: S606 - the command is memcell's own


if __name__ == "__main__":
    main(sys.argv[1:])
