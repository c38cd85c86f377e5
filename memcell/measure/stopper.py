"""The watcher's second task: to see that a cell is about to pass its memory limit, and to stop it from outside.

Like ``watcher.py``, which loads this file by its path, it imports the standard library only. The kernel's side is
``protect/guard.py``; what the two tell each other stands in ``stop_orders.py``.

What is done, in this order: a signal that nobody else uses (SIGURG, whose default is to be ignored), at which the
kernel's handler warns, cleans, or raises in the user's code; SIGINT, if the main thread does not get to that handler
because C code keeps it, for the libraries that listen to Ctrl-C; a limit on private memory (RLIMIT_DATA), so that an
allocation fails.
"""

from __future__ import annotations

import mmap
import os
import resource
import time

TYPE_CHECKING = False  # as in typing, which takes 5 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable

    from memcell.measure.stop_orders import Slot, StopOrders

PAGE = mmap.PAGESIZE
MIB = 1 << 20
SIGINT = 2

#: A cell is looked at this often, at the least and at the most. In between, as often as memory that fills at this
#: speed could reach the limit: about what one core writes.
SHORTEST_S, LONGEST_S = 0.01, 0.05
_FILLS_PER_S = 8 << 30

#: The main thread has not come to the handler after this time: C code keeps it, or it waits.
INTERRUPT_AFTER_S, INTERRUPT_AGAIN_S = 0.05, 0.5
#: Nothing helped: let allocations fail. Only now, because some libraries abort then.
BOUND_AFTER_S = 0.2
#: More growth than this after the handler ran: the user's code has swallowed the exception.
SWALLOWED_BYTES = 16 * MIB
#: It is told so again no sooner than this.
AGAIN_AFTER_S = 0.02
#: The force of the third firing.
SWALLOWED_TWICE = 3
#: CPython can spin for ever where not even the error can be allocated, and crawls where each small object first tries
#: for a new arena in vain: such a process gets some air.
AIR_BYTES, AIR_AFTER_S, AIR_TIMES = 32 * MIB, 0.3, 8
_HEADROOM_BYTES = 32 * MIB, 200 * MIB
#: A host is nearly out of swap below this part of it.
_SWAP_LEFT = 0.05
#: Libraries that stop what they do at Ctrl-C, by the names of their shared objects.
LISTENING = ("polars", "_polars_runtime", "libarrow")
#: Libraries that end the process when an allocation fails, by the names of their shared objects.
ABORTING = ("polars", "_polars_runtime")


class Kernel:
    """The process that is watched, as far as it has to be read and stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status = os.open(f"/proc/{pid}/status", os.O_RDONLY)
        self._main_thread = os.open(f"/proc/{pid}/task/{pid}/stat", os.O_RDONLY)

    def undroppable_bytes(self) -> int:
        """Anonymous and shared resident memory: pages of mapped files can be dropped, so they are no danger."""
        status = os.pread(self._status, 8192, 0)
        return sum(int(_value(status, name)) for name in (b"\nRssAnon:", b"\nRssShmem:")) * 1024

    def catches(self, signal: int) -> bool:
        """Whether it has a handler for a signal: one that it has not would end it, or be ignored."""
        caught = int(_value(os.pread(self._status, 8192, 0), b"\nSigCgt:"), 16)
        return bool(caught >> (signal - 1) & 1)

    def is_waiting(self) -> bool:
        """Whether the main thread sleeps: for a lock, a thread, a child, a socket."""
        return os.pread(self._main_thread, 4096, 0).rpartition(b")")[2].split(None, 1)[0] == b"S"

    def send(self, signal: int) -> None:
        """Send a signal."""
        os.kill(self._pid, signal)

    def bound_data(self, soft: int) -> int:
        """Set RLIMIT_DATA and return what it was. It is never raised above that, and the hard limit stays."""
        before, hard = resource.prlimit(self._pid, resource.RLIMIT_DATA)
        if before == resource.RLIM_INFINITY or soft < before:
            resource.prlimit(self._pid, resource.RLIMIT_DATA, (soft, hard))
        return before

    def restore_data(self, before: int, value: int) -> None:
        """Set RLIMIT_DATA back, unless somebody else has set it meanwhile."""
        soft, hard = resource.prlimit(self._pid, resource.RLIMIT_DATA)
        if soft == value:
            resource.prlimit(self._pid, resource.RLIMIT_DATA, (before, hard))

    def libraries(self) -> frozenset[str]:
        """The names of the shared objects that it has mapped."""
        names = set[str]()
        with open(f"/proc/{self._pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                name = line.rstrip("\n").rpartition("/")[2]
                if ".so" in name:
                    names.add(name)
        return frozenset(names)


class Stopper:
    """Decides at each sample what to do, and does it.

    Args:
        orders: What is shared with the kernel.
        kernel: The process.
        read: The contents of a small file, empty where it cannot be read.
        pause: Sleeps; for tests.
    """

    def __init__(
        self,
        orders: StopOrders,
        kernel: Kernel,
        read: Callable[[str], str],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._orders = orders
        self._kernel = kernel
        self._read = read
        self._pause = pause
        self._run = 0
        self._said = 0
        self._forget()

    def _forget(self) -> None:
        self._force = 0
        self._count = 0
        self._first = self._last = self._tried = 0.0
        self._own_then = 0
        self._interrupt_at = 0.0
        self._libraries: frozenset[str] = frozenset()
        self._air_at, self._airs = 0.0, 0

    def tick(self, now: float, statm: tuple[int, ...], children_bytes: int) -> float:
        """Look once.

        Args:
            now: Seconds, monotonic.
            statm: The fields of the process's statm, in pages.
            children_bytes: What its children take.

        Returns:
            The time until the next look is due.
        """
        run = self._orders.run()
        if run != self._run:
            self._begin(run)
        if not run:
            return LONGEST_S
        own: int | None = None
        nearest, over = LONGEST_S, None
        for number, slot in self._orders.slots():
            level = self._rough_level(slot.kind, statm, children_bytes)
            if level >= slot.warn:
                own = self._kernel.undroppable_bytes() + children_bytes if own is None else own
                level = self._exact_level(slot.kind, level, own)
                if level >= slot.warn and own >= slot.grown_from:
                    self._say(
                        self._orders.CLEAN if level >= slot.clean else self._orders.WARN,
                        (number, level, own, children_bytes),
                    )
                    if level >= slot.stop and over is None and self._is_deadly(slot.kind):
                        over = number, slot, level
            nearest = min(nearest, max(SHORTEST_S, (slot.stop - level) / _FILLS_PER_S))
        if over is not None and own is not None:
            self._press(now, over, own, children_bytes, statm[5] * PAGE)
        elif self._force and (own is None or own < self._own_then - SWALLOWED_BYTES):
            self._recover()
        return SHORTEST_S if self._force else nearest

    def _begin(self, run: int) -> None:
        self._run = run
        self._said = 0
        self._recover()

    def _recover(self) -> None:
        """There is room again: the next time begins gently."""
        bound = self._orders.bound()
        if bound is not None:
            self._kernel.restore_data(*bound)
            self._orders.note_unbound()
        self._forget()

    def _rough_level(self, kind: str, statm: tuple[int, ...], children_bytes: int) -> int:
        """What counts against a limit or, where that is dear to read, an upper bound of it."""
        if kind == "own":
            return statm[1] * PAGE + children_bytes
        if kind == "address":
            return statm[0] * PAGE
        if kind == "data":
            return statm[5] * PAGE
        if kind == "group":
            usage = self._read(self._orders.files()[0]).strip()
            return int(usage) if usage.isdigit() else 0
        memory = self._read("/proc/meminfo")
        return _bytes_of(memory, "MemTotal") - _bytes_of(memory, "MemAvailable")

    def _exact_level(self, kind: str, rough: int, own_bytes: int) -> int:
        if kind == "own":
            return own_bytes
        if kind == "group":
            _, statistics, key = self._orders.files()
            for line in self._read(statistics).split("\n"):
                name, _, value = line.partition(" ")
                if name == key:
                    return rough - int(value)
        return rough

    def _is_deadly(self, kind: str) -> bool:
        """A host kills only once there is no swap left either."""
        if kind != "host":
            return True
        memory = self._read("/proc/meminfo")
        return _bytes_of(memory, "SwapFree") <= _SWAP_LEFT * _bytes_of(memory, "SwapTotal")

    def _say(self, word: int, found: tuple[int, int, int, int]) -> None:
        if self._said & word or self._force:
            return
        self._orders.note_found(*found)
        self._said |= word | self._orders.WARN  # who is told to clean need not be warned afterwards
        self._act(lambda: self._signal(self._orders.signal()), words=word)

    def _press(self, now: float, over: tuple[int, Slot, int], own: int, children: int, data: int) -> None:
        number, slot, level = over
        if not self._force:
            self._first = now
            self._fire(now, number, level, own, children)
            return
        is_heard = self._orders.handled() >= self._count
        is_growing = own > self._own_then + SWALLOWED_BYTES
        # Death may come before the time is up: half of the room above the stopping level is gone.
        is_urgent = slot.limit > slot.stop and level > (slot.stop + slot.limit) / 2
        if not is_heard and now >= self._interrupt_at and self._would_interrupt():
            self._interrupt_at = now + INTERRUPT_AGAIN_S
            self._act(lambda: self._signal(SIGINT), interrupt=True)
        # Code that has heard it is given the memory to show its error, unless it goes on and on.
        is_deaf = not is_heard or (is_growing and self._force >= SWALLOWED_TWICE)
        if is_deaf and (now - self._first >= BOUND_AFTER_S or is_urgent or self._force >= SWALLOWED_TWICE):
            self._bound(now, data, slot.limit - slot.stop)
        is_pinned = self._give_air(now, data)
        if is_heard and (is_growing or is_pinned) and now - self._last >= AGAIN_AFTER_S:
            self._fire(now, number, level, own, children)

    def _fire(self, now: float, slot: int, level: int, own: int, children: int) -> None:
        self._force += 1
        self._last, self._own_then, self._interrupt_at = now, own, now + INTERRUPT_AFTER_S
        self._orders.note_found(slot, level, own, children)
        word = self._orders.signal()
        # A user who took the signal for other ends gets what Ctrl-C does.
        signal = word if self._kernel.catches(word) else SIGINT
        self._act(lambda: self._signal(signal), stop=True, force=self._force, interrupt=signal == SIGINT)
        self._count = self._orders.state()[1]
        if self._force == 1:
            self._libraries = self._kernel.libraries()

    def _would_interrupt(self) -> bool:
        """Whether SIGINT does more than the first signal: it ends a wait, and what listens to it."""
        return self._kernel.is_waiting() or any(name.startswith(LISTENING) for name in self._libraries)

    def _bound(self, now: float, data: int, room: int) -> None:
        if self._orders.bound() is not None or now - self._tried < BOUND_AFTER_S:
            return
        libraries = self._kernel.libraries()
        if any(name.startswith(ABORTING) for name in libraries):
            self._tried = float("inf")
            return
        if libraries != self._libraries:
            # Something is being imported: OpenBLAS, torch and others abort if their first allocations fail.
            self._libraries, self._tried = libraries, now
            return
        low, high = _HEADROOM_BYTES
        self._air_at = now
        self._act(lambda: self._set_bound(data + min(high, max(low, room // 8))))

    def _set_bound(self, value: int) -> None:
        self._orders.note_bound(self._kernel.bound_data(value), value)

    def _give_air(self, now: float, data: int) -> bool:
        """Whether the process sits at the limit that was set, which then is raised a little."""
        bound = self._orders.bound()
        if bound is None or data < bound[1] - MIB or now - self._air_at < AIR_AFTER_S or self._airs >= AIR_TIMES:
            return False
        self._air_at = now
        self._airs += 1
        if self._force >= SWALLOWED_TWICE:
            return True  # which would use the air to go on
        before, value = bound

        def raise_bound() -> None:
            self._kernel.restore_data(before, value)
            self._set_bound(value + AIR_BYTES)

        self._act(raise_bound)
        return True

    def _signal(self, number: int) -> None:
        if self._kernel.catches(number):
            self._kernel.send(number)

    def _act(
        self, deed: Callable[[], None], *, stop: bool = False, force: int = 0, interrupt: bool = False, words: int = 0
    ) -> None:
        """Do something to the kernel, unless the run has just ended.

        The kernel forbids, then looks whether a firing is on. Here it is the other way round, with a pause in between
        that is far longer than a processor takes to show a write to others. So one of the two always sees the other.
        """
        self._orders.begin_firing(stop=stop, force=force, interrupt=interrupt, words=words)
        try:
            self._pause(0.001)
            if self._orders.run() == self._run:
                deed()
        except OSError:
            pass  # the process has just ended, or is not ours to limit
        finally:
            self._orders.end_firing()


def _value(status: bytes, name: bytes) -> bytes:
    """A value of /proc/PID/status; the name begins with the end of the line before it."""
    at = status.find(name)
    if at < 0:
        raise ProcessLookupError(f"no {name.decode().strip()} of a process that is dying")
    return status[at + len(name) :].split(None, 1)[0]


def _bytes_of(text: str, name: str) -> int:
    """A figure of /proc/meminfo in bytes; 0 where it is not told."""
    for line in text.split("\n"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0
