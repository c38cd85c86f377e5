"""Stops a run before its memory passes a limit beyond which the process dies, and keeps the process.

The watcher sees it coming, also while C code keeps the interpreter; here is what this process does at its signals. The
signal is SIGURG: nobody else uses it, and a process without a handler ignores it, so it does no harm wherever it
lands. The handler raises ``MemoryLimitExceeded`` only where a guarded run's own code is what was interrupted. Between
runs the watcher may not signal at all: ``disarm`` takes the permission back and waits for a signal that is under way.

Only the main thread can be interrupted, so only runs there are guarded.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from memcell.errors import MemoryLimitExceeded
from memcell.protect.cell_threads import CellThreads
from memcell.protect.frames import insist, stop_insisting, variables_of
from memcell.protect.stop_levels import GROWN_BYTES, Levels, Listener, StopLevels
from memcell.records.protected import Ceiling, Stop

if TYPE_CHECKING:
    from memcell.protect.policy import Thresholds
    from memcell.records.sized import ObjectSize

_SIGNAL = int(getattr(signal, "SIGURG", 0))  # Windows has none, and no watcher
#: How long the end of a run waits for a signal that is under way. The watcher takes about a millisecond for one.
_FIRES_WITHIN_S = 0.1
#: The force of the third firing; the watcher limits such a run's memory (``SWALLOWED_TWICE`` there as well).
SWALLOWED_TWICE = 3
#: How long a thread that warns may take to start, where somebody waits for its end.
_STARTS_WITHIN_S = 1.0
#: How long a stopped run's threads are watched for further growth.
_THREADS_END_WITHIN_S = 0.3


class Orders(Listener, Protocol):
    """What is shared with the watcher; see ``measure/stop_orders.py``."""

    def allow(self, run: int, signal: int, first: Levels | None, second: Levels | None) -> None: ...
    def forbid(self) -> None: ...
    def state(self) -> tuple[int, int, int]: ...
    def take(self, run: int) -> tuple[int, int, tuple[int, int, int, int]]: ...
    def bound(self) -> tuple[int, int] | None: ...
    def note_unbound(self) -> None: ...


class Stoppable(Protocol):
    """The code of a run, as the handler meets it.

    Attributes:
        not_variables: Names in its namespace that are no variables of the user.
    """

    not_variables: Container[str]

    def frames(self, frame: FrameType | None) -> list[FrameType]:
        """The frames of its own among those that were interrupted, the innermost first; none if it is not there."""

    def cancel(self) -> bool:
        """End it where it waits for something in an event loop; tells whether it does."""


@dataclass(slots=True)
class _Guarded:
    """A run that may be stopped."""

    run: object
    own_bytes: int
    limit_bytes: int | None
    code: Stoppable
    threads: CellThreads
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """A limit that a run comes near to. ``is_clean_due``: near enough to run cleaners."""

    used_bytes: int
    limit_bytes: int
    source: str
    is_clean_due: bool


class Guard:
    """Guards the runs of this process.

    Args:
        orders: Where the watcher is told what it may do; None without a watcher.
        ceiling: Reads the limit of the session.
        thresholds: The settings.
        own_bytes: The memory of this process that cannot be dropped.
        find_largest: Sizes variables, the largest first.
        explain: Words a stop.
        relieve: Warns, or cleans, while the run goes on; called in a thread.
    """

    def __init__(
        self,
        *,
        orders: Callable[[], Orders | None],
        ceiling: Callable[[], Ceiling | None],
        thresholds: Callable[[], Thresholds],
        own_bytes: Callable[[], int],
        find_largest: Callable[[dict[str, object]], tuple[ObjectSize, ...]],
        explain: Callable[[Stop], str],
        relieve: Callable[[Near], object],
    ) -> None:
        self._orders = orders
        self._levels = StopLevels(ceiling, thresholds)
        self._own_bytes = own_bytes
        self._find_largest = find_largest
        self._explain = explain
        self._relieve = relieve
        self._entries: list[_Guarded] = []
        self._told: Orders | None = None
        self._number = 0
        self._words = 0
        self._fired = self._interrupts = 0
        self._previous: Any = None
        self._is_listening = False
        self._is_stopping = False
        self._is_relief_starting = False
        self._thread: threading.Thread | None = None

    # Around runs, in the main thread

    def arm(self, run: object, own_bytes: int, code: Stoppable, limit_bytes: int | None = None) -> None:
        """Guard a run from now on. Nothing happens in another thread than the main one, or without a watcher.

        Args:
            run: The run.
            own_bytes: The memory of this process and its children that cannot be dropped, now.
            code: The code that may be stopped.
            limit_bytes: A limit of this run's own.
        """
        orders = self._orders()
        if orders is None or not _is_main_thread():
            return
        self._listen()
        if orders is not self._told:
            self._told = orders
            self._levels.reconsider()
        if self._entries:
            orders.forbid()
        threads = CellThreads(time.clock_gettime(time.CLOCK_BOOTTIME))
        self._entries.append(_Guarded(run, own_bytes, limit_bytes, code, threads))
        self._allow(orders)

    def disarm(self, run: object) -> Stop | None:
        """Guard a run no more; the runs around it still are. No signal comes for it from now on.

        Returns:
            Why it was stopped; None if it was not.
        """
        orders = self._told
        if orders is None or not self._entries or not _is_main_thread():
            return None
        entry = next((entry for entry in self._entries if entry.run is run), None)
        if entry is None:
            return None
        ended = self._entries[self._entries.index(entry) :]
        try:
            try:
                is_stopped = self._hold_fire(orders)
            finally:
                del self._entries[-len(ended) :]
            if is_stopped:
                self._lift(orders)
                stop_insisting()
            if entry.stop is not None:
                self._end_threads(entry)
        finally:
            for each in ended:
                each.threads.withdraw()
        if self._entries:
            self._allow(orders)
        return entry.stop

    def reconsider(self) -> None:
        """The limit is another one."""
        self._levels.reconsider()

    def close(self) -> None:
        """Let go of the signal. May be called twice."""
        until = time.monotonic() + _STARTS_WITHIN_S
        while self._is_relief_starting and time.monotonic() < until:
            time.sleep(0.001)
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(10.0)
        if self._is_listening and _is_main_thread():
            if signal.getsignal(signal.SIGURG) == self._hear:
                signal.signal(signal.SIGURG, self._previous)
            self._is_listening = False
        if not self._entries:
            self._told = None

    def forget_parent(self) -> None:
        """In a forked child: the watcher is the parent's, and so are its runs. A lowered RLIMIT_DATA was inherited."""
        if self._told is not None:
            bound = self._told.bound()
            if bound is not None:
                _set_data_limit(*bound)
        self._entries.clear()
        self._told = None
        self._thread = None

    def _listen(self) -> None:
        if not self._is_listening:
            previous = signal.getsignal(signal.SIGURG)
            self._previous = signal.SIG_DFL if previous is None else previous
            signal.signal(signal.SIGURG, self._hear)
            # A warning must not end what a library waits for in a system call.
            signal.siginterrupt(signal.SIGURG, False)
            self._is_listening = True

    def _allow(self, orders: Orders) -> None:
        shared, own = self._levels.of_session(orders, self._entries[0].own_bytes), None
        limited = self._tightest()
        if limited is not None and limited.limit_bytes is not None:
            own = self._levels.of_run(orders, limited.limit_bytes, limited.own_bytes)
        self._number += 1
        self._words = 0
        _, self._fired, self._interrupts = orders.state()
        orders.allow(self._number, _SIGNAL, shared, own)

    def _tightest(self) -> _Guarded | None:
        limited = [entry for entry in self._entries if entry.limit_bytes is not None]
        return min(limited, key=lambda entry: entry.limit_bytes or 0) if limited else None

    def _hold_fire(self, orders: Orders) -> bool:
        """Forbid to fire, and let what is under way arrive; tells whether something was fired in this run."""
        try:
            orders.forbid()
            firing, fired, _ = orders.state()
            if not firing and fired == self._fired:
                return False  # which is nearly always so
            until = time.monotonic() + _FIRES_WITHIN_S
            while orders.state()[0] and time.monotonic() < until:
                time.sleep(0.0005)
            if orders.state()[2] > self._interrupts:
                time.sleep(0.001)  # its Ctrl-C comes here, if it has not come yet
        except KeyboardInterrupt:
            if orders.state()[2] == self._interrupts:
                raise  # the user's own
        # Taken, so that the next run does not hear of it; new where the signal did not come to our handler.
        _, force, found = orders.take(self._number)
        if force and self._owner(found[0])[0].stop is None:
            self._note_stop(found, [])
        return True

    def _lift(self, orders: Orders) -> None:
        bound = orders.bound()
        if bound is not None:
            _set_data_limit(*bound)
            orders.note_unbound()

    def _end_threads(self, entry: _Guarded) -> None:
        """End threads that a stopped run has started, if memory still grows although its main thread was stopped."""
        level = self._own_bytes()
        until = time.monotonic() + _THREADS_END_WITHIN_S
        while time.monotonic() < until:
            time.sleep(0.02)
            if self._own_bytes() > level + GROWN_BYTES:
                level = self._own_bytes()
                entry.threads.stop()

    # At a signal

    def _hear(self, _number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # the traceback is to end in the user's code
        orders = self._told
        if orders is None or not self._entries:
            return
        try:
            self._attend(orders, frame)
            return
        except MemoryLimitExceeded:
            raise
        except KeyboardInterrupt:
            if orders.state()[2] == self._interrupts:
                raise  # the user's own
        # The watcher's Ctrl-C, which it had sent before we got here, ended our own work instead of the run's.
        self._stop(1, orders.take(self._number)[2], frame)

    def _attend(self, orders: Orders, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        words, force, found = orders.take(self._number)
        if orders.state()[1] == self._fired:
            force = 0  # what there is to hear is about an earlier run
        if words & ~self._words:
            self._words |= words
            with contextlib.suppress(Exception):  # a warning is not worth an error in the user's code
                self._start_relief(words, found)
        is_threads_doing = False
        if force > 1:
            # Memory has grown although the main thread was stopped: perhaps the run's threads fill it.
            threads = self._owner(found[0])[0].threads
            is_threads_doing = threads.stop()
            if not is_threads_doing:
                threads.withdraw()
        if force and not self._is_stopping:
            self._is_stopping = True  # threads may go on while the error is made, and the watcher come again
            try:
                self._stop(force, found, frame, insists=force > 1 and not is_threads_doing)
            finally:
                self._is_stopping = False

    def _stop(
        self, force: int, found: tuple[int, int, int, int], frame: FrameType | None, *, insists: bool = False
    ) -> None:
        __tracebackhide__ = True
        entry = self._owner(found[0])[0]
        frames = entry.code.frames(frame)
        if self._told is not None and (force < SWALLOWED_TWICE or not frames):
            # An error that cannot be made or shown for want of memory helps nobody. But code that swallows it again and
            # again would go on to fill what it is given.
            self._lift(self._told)
        stop = entry.stop or self._note_stop(found, frames)
        is_raised = bool(frames) or entry.code.cancel()
        entry.stop = stop = replace(stop, is_raised=stop.is_raised or is_raised)
        if not frames:
            return
        error = MemoryLimitExceeded(self._explain(stop), stop)
        if insists:  # not while an error is pending in a thread: where code is traced, CPython 3.11 hangs then
            insist(frames, error)
        try:
            raise error
        finally:
            del error  # which its own traceback would keep alive

    def _note_stop(self, found: tuple[int, int, int, int], frames: list[FrameType]) -> Stop:
        slot, used_bytes, own_bytes, children_bytes = found
        entry, limit_bytes, source = self._owner(slot)
        entry.stop = Stop(used_bytes, limit_bytes, source, own_bytes - entry.own_bytes, children_bytes)
        try:
            largest = self._find_largest(variables_of(frames, entry.code.not_variables))
        except Exception:  # above all MemoryError: it may be looked for at the very end of memory
            return entry.stop
        entry.stop = replace(entry.stop, largest=largest)
        return entry.stop

    def _owner(self, slot: int) -> tuple[_Guarded, int, str]:
        limited = self._tightest()
        if slot == 1 and limited is not None and limited.limit_bytes is not None:
            return limited, limited.limit_bytes, "this run"
        ceiling = self._levels.ceiling
        return self._entries[0], ceiling.limit_bytes if ceiling else 0, ceiling.source if ceiling else ""

    def _start_relief(self, words: int, found: tuple[int, int, int, int]) -> None:
        """In a thread, because a handler may have interrupted what it would need: a print, a lock."""
        _, limit_bytes, source = self._owner(found[0])
        near = Near(found[1], limit_bytes, source, is_clean_due=bool(words & 2))
        # Starting a Thread takes locks as well: that, too, is done beside the main thread.
        self._is_relief_starting = True
        _thread.start_new_thread(self._relieve_in_thread, (near,))

    def _relieve_in_thread(self, near: Near) -> None:
        thread = threading.Thread(target=self._relieve, args=(near,), name="memcell-guard", daemon=True)
        self._thread = thread
        with contextlib.suppress(RuntimeError):  # no memory for a thread: the run is about to be stopped anyway
            thread.start()
        self._is_relief_starting = False


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _set_data_limit(before: int, value: int) -> None:
    """Set RLIMIT_DATA back, unless the user has set it meanwhile."""
    import resource  # there is one where the watcher runs

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == value:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))
