"""The memory limit of a session: what it is, and how runs are kept below it.

Here the room that reads limits, the one that guards and the one that words things meet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from memcell.errors import LimitTooLowError, MemoryLimitExceeded, NotInMainThreadError
from memcell.measure.process import trim_heap
from memcell.protect.guard import Guard, Near, Stoppable
from memcell.protect.stop_levels import stop_bytes
from memcell.records.protected import Ceiling, LimitInfo, Stop
from memcell.units import format_bytes, format_limit

if TYPE_CHECKING:
    from memcell.measure.limits import LimitReader
    from memcell.measure.sampler import Sampler
    from memcell.protect.policy import Thresholds
    from memcell.records.measured import Limit, Sample
    from memcell.records.sized import ObjectSize
    from memcell.runs import OpenRun

#: How many variables of a run that is being stopped are named.
_LARGEST = 3
#: Nobody means so few bytes: the unit was left out.
_SLIP_BYTES = 10_000


class Relieve(Protocol):
    """Warns, or runs cleaners, while a run goes on."""

    def __call__(self, why: str, *, is_clean_due: bool) -> None: ...


class LimitWatch:
    """Reads the limit, and guards runs against passing it.

    Args:
        sampler: What samples this process, and can stop it from outside.
        settings: The limit that was set (``auto``, ``off`` or bytes), and the thresholds.
        sample: Reads the memory of this process.
        children_bytes: Reads that of its children.
        relieve: Called in a thread when a run comes near a limit.

    Attributes:
        stopped: Why the main thread's run that ended last was stopped, also if it ended by another error, such as the
            ``MemoryError`` of an allocation that was refused; None if it was not stopped.
        known: What was read last; None before that, and after a change of the settings.
    """

    def __init__(
        self,
        *,
        sampler: Callable[[], Sampler],
        settings: Callable[[], tuple[int | str, Thresholds]],
        sample: Callable[[], Sample],
        children_bytes: Callable[[], int],
        relieve: Relieve,
    ) -> None:
        self._sampler = sampler
        self._settings = settings
        self._sample = sample
        self._children_bytes = children_bytes
        self._relieve = relieve
        self._reader: LimitReader | None = None
        self._guard = Guard(
            orders=lambda: sampler().stop_orders,
            ceiling=self._ceiling,
            thresholds=lambda: settings()[1],
            own_bytes=lambda: _own_bytes(sample()),
            find_largest=_find_largest,
            explain=_explain,
            relieve=self._relieve_near,
        )
        self.stopped: MemoryLimitExceeded | None = None
        self.known: Limit | None = None

    def read(self) -> Limit:
        """The limit that applies, and what is used of it."""
        self.known = self._limits().read()
        return self.known

    def reconsider(self) -> None:
        """The settings are others."""
        self._reader = self.known = None
        self._guard.reconsider()

    def used_bytes(self) -> int:
        """The memory of this process and its children that cannot be dropped: pages of mapped files can."""
        return _own_bytes(self._sample()) + self._children_bytes()

    def has_room(self) -> bool:
        """Whether less is in use than would be cleaned at."""
        limit, thresholds = self.read(), self._settings()[1]
        if limit.limit_bytes is None or limit.used_bytes is None:
            return True
        return limit.used_bytes < thresholds.clean_fraction * limit.limit_bytes

    def check(self, limit_bytes: int) -> None:
        """Make sure that a limit can be kept here.

        Raises:
            NotInMainThreadError: Only the main thread can be stopped.
            LimitTooLowError: More is in use already.
        """
        thread = threading.current_thread()
        if thread is not threading.main_thread():
            raise NotInMainThreadError(
                f"a limit works in the main thread only, which alone can be stopped, and this is {thread.name!r};"
                " leave the limit out to measure only"
            )
        problem = self.problem(limit_bytes)
        if problem is not None:
            raise LimitTooLowError(problem)

    def problem(self, limit_bytes: int) -> str | None:
        """Why a limit is too low; None if less is in use."""
        used_bytes = self.used_bytes()
        if limit_bytes <= used_bytes:
            trim_heap()  # what was freed and is only kept for later may be much
            used_bytes = self.used_bytes()
        if limit_bytes > used_bytes:
            return None
        hint = "free some (%memtop says what is large) or set a higher one"
        if limit_bytes < _SLIP_BYTES:
            hint = f"did you mean {limit_bytes}MB?"
        return (
            f"a limit of {format_limit(limit_bytes)} is below the {format_bytes(used_bytes)} that are used already;"
            f" {hint}"
        )

    def info(self) -> LimitInfo:
        """The limit, and what happens on the way to it."""
        from memcell.view.limits import LIMIT_NOTES

        limit, thresholds, ceiling = self.read(), self._settings()[1], self._ceiling()
        used_bytes = self.used_bytes()
        if ceiling is None:
            return LimitInfo(limit, None, None, None, used_bytes)
        if ceiling.kind == "own":
            limit = replace(limit, used_bytes=used_bytes)
        can_stop = self._sampler().can_stop
        is_cleaning = thresholds.auto_clean != "never"
        return LimitInfo(
            limit=limit,
            warn_bytes=int(thresholds.warn_fraction * ceiling.limit_bytes),
            clean_bytes=int(thresholds.clean_fraction * ceiling.limit_bytes) if is_cleaning else None,
            stop_bytes=stop_bytes(ceiling, thresholds) if can_stop else None,
            own_bytes=used_bytes,
            note=LIMIT_NOTES["no watcher"] if not can_stop else LIMIT_NOTES["host"] if ceiling.kind == "host" else "",
        )

    def arm(self, run: OpenRun, code: Stoppable, limit_bytes: int | None) -> None:
        """Guard a run that begins."""
        self._guard.arm(run, _own_bytes(run.before) + run.children_before_bytes, code, limit_bytes)

    def disarm(self, run: OpenRun) -> bool:
        """Guard a run no more; tells whether it was stopped."""
        stop = self._guard.disarm(run)
        if threading.current_thread() is threading.main_thread():  # which alone is stopped: others leave its word alone
            self.stopped = None if stop is None else MemoryLimitExceeded(_explain(stop), stop)
        return stop is not None

    def end_words(
        self, error: BaseException | None, peak_growth_bytes: int, variables: Callable[[], dict[str, object]]
    ) -> str | None:
        """What to say below the run that ended last; None if it was not stopped, or its error says all.

        Args:
            error: What it ended with; None if with nothing.
            peak_growth_bytes: How far memory had grown at its peak.
            variables: What its code could name then. Asked where it was not on the stack when it was to be stopped.
        """
        if self.stopped is None or isinstance(error, MemoryLimitExceeded):
            return None
        from memcell.view.limits import end_message

        stop: Stop = self.stopped.stop
        if not stop.largest:
            stop = replace(stop, largest=_find_largest(variables()))
        return end_message(stop, error, peak_growth_bytes)

    def close(self) -> None:
        """Let go of what the guard holds. May be called twice."""
        self._guard.close()

    def forget_parent(self) -> None:
        """In a forked child: its runs are not guarded, and the parent's are not its own."""
        self._guard.forget_parent()

    def _limits(self) -> LimitReader:
        if self._reader is None:
            from memcell.measure.limits import LimitReader  # found out when it is first asked for

            self._reader = LimitReader(self._settings()[0])
        return self._reader

    def _ceiling(self) -> Ceiling | None:
        return self._limits().ceiling()

    def _relieve_near(self, near: Near) -> None:
        from memcell.view.limits import near_message

        why = near_message(near.used_bytes, near.limit_bytes, near.source)
        self._relieve(why, is_clean_due=near.is_clean_due)


def _own_bytes(sample: Sample) -> int:
    if sample.anon_bytes is None:
        return sample.rss_bytes
    return sample.anon_bytes + (sample.shmem_bytes or 0)


def _find_largest(variables: dict[str, object]) -> tuple[ObjectSize, ...]:
    from memcell.clean.namespace import data_size
    from memcell.measure.rough_sizes import rough_sizes

    return rough_sizes(variables, data_size, _LARGEST)


def _explain(stop: Stop) -> str:
    from memcell.view.limits import stop_message

    return stop_message(stop)
