"""Runs cleaners one after the other, each on its own, and measures what each of them gave back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memcell.clean.cleaner import Cleaner, Stage
from memcell.clean.ctrl_c import CtrlC
from memcell.clean.hourglass import Hourglass
from memcell.records.cleaned import CleanOutcome, CleanReport
from memcell.units import MIB

if TYPE_CHECKING:
    from memcell.clean.catalogue import Catalogue
    from memcell.clean.heap import Collector

#: Memory that a cleaner gave back to malloc, and that RSS does not show, from which on the heap is trimmed at once.
_TRIM_FROM_BYTES = MIB
#: The heap is read after each cleaner, which takes a microsecond, or 10 ms with 200,000 free blocks in it. Beyond this
#: much time in one clean-up it is not read any more, and what trimming returns is credited to the trim.
_HEAP_READING_S = 0.25
_ERROR_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Gauges:
    """How memory is read and trimmed; must not raise.

    Attributes:
        rss_bytes: Resident memory now.
        heap_bytes: What malloc has handed out and not got back; None where it does not tell.
        trim: Makes malloc return its free pages to the system.
        noise_bytes: Within how many bytes a difference of two RSS readings says nothing.
    """

    rss_bytes: Callable[[], int]
    heap_bytes: Callable[[], int | None]
    trim: Callable[[], object]
    noise_bytes: int


class Runner:
    """Runs clean-ups, one at a time.

    Args:
        catalogue: Where the cleaners are found.
        gauges: How memory is read and trimmed.
        collector: Tells whether an unasked garbage collection would exceed its budget.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, catalogue: Catalogue, gauges: Gauges, collector: Collector, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._catalogue = catalogue
        self._gauges = gauges
        self._collector = collector
        self._clock = clock
        self._running = threading.Lock()
        self._thread: int | None = None

    def clean(
        self,
        names: Iterable[str] = (),
        *,
        deep: bool = False,
        budgeted: bool = False,
        more: Iterable[Cleaner] = (),
    ) -> CleanReport:
        """Run cleaners.

        While they run, Ctrl-C skips the one that is running, and a second one within two seconds stops. A cleaner or
        another thread that calls this meanwhile gets an empty report at once, whose note says why.

        Args:
            names: Exactly these; without any, all of effect ``none`` or ``recompute``.
            deep: Also those of effect ``state`` that are meant for a deep clean-up.
            budgeted: Leave the garbage collection out if it would exceed its budget: for clean-ups nobody asked for.
            more: Cleaners for this time only, each after the others of its stage.

        Returns:
            What each cleaner measurably freed; the outcomes add up to the whole.

        Raises:
            UnknownCleanerError: One of the names is not known; then nothing has run.
        """
        cleaners = sorted([*self._catalogue.select(names, deep=deep), *more], key=lambda cleaner: cleaner.stage)
        if self._running.locked():
            return self._already_running()
        # The lock is taken inside, where a Ctrl-C no longer escapes: nothing can come between taking and releasing it.
        with CtrlC() as ctrl_c:
            if not self._running.acquire(blocking=False):
                return self._already_running()
            self._thread = threading.get_ident()
            try:
                return self._run(cleaners, ctrl_c, self._collector.over_budget() if budgeted else None)
            finally:
                self._thread = None
                self._running.release()

    def forget_parent(self) -> None:
        """In a forked child: a clean-up that went on in the parent does not go on here."""
        self._running = threading.Lock()
        self._thread = None

    def _run(self, cleaners: list[Cleaner], ctrl_c: CtrlC, gc_over_budget: str | None) -> CleanReport:
        started = self._clock()
        meter = _Meter(self._gauges, self._clock)
        before = meter.rss_bytes
        outcomes = []
        with Hourglass() as hourglass:
            for cleaner in cleaners:
                if ctrl_c.is_stopped:
                    outcomes.append(_not_run(cleaner, "stopped by Ctrl-C"))
                elif gc_over_budget and cleaner.stage is Stage.GARBAGE:
                    outcomes.append(_not_run(cleaner, gc_over_budget))
                else:
                    hourglass.turn(cleaner.name)
                    outcomes.append(self._run_one(cleaner, ctrl_c, meter))
        if meter.surplus_bytes and all(cleaner.stage is not Stage.TRIM for cleaner in cleaners):
            outcomes.append(CleanOutcome("trim", "none", meter.surplus_bytes, self._gauges.noise_bytes))
        return CleanReport(
            before_bytes=before,
            after_bytes=meter.rss_bytes,
            outcomes=tuple(outcomes),
            duration_s=self._clock() - started,
            interrupted=ctrl_c.is_stopped,
        )

    def _run_one(self, cleaner: Cleaner, ctrl_c: CtrlC, meter: _Meter) -> CleanOutcome:
        started = self._clock()
        objects, error = None, None
        try:
            objects = ctrl_c.call(_Call(cleaner))
        except _NothingToRunError as reason:
            return _not_run(cleaner, str(reason))
        except BaseException as raised:  # a cleaner that raises SystemExit must not end the session, nor the clean-up
            error = _one_line(raised)
        if ctrl_c.has_skipped:  # asked of the handler, since the cleaner may have swallowed the interrupt
            error = "skipped by Ctrl-C"
        freed = meter.freed_bytes()
        if cleaner.stage is Stage.TRIM:
            freed += meter.surplus_bytes
        return CleanOutcome(
            name=cleaner.name,
            effect=cleaner.effect,
            freed_bytes=freed,
            noise_bytes=self._gauges.noise_bytes,
            duration_s=self._clock() - started,
            objects=objects,
            error=error,
        )

    def _already_running(self) -> CleanReport:
        rss = self._gauges.rss_bytes()
        if self._thread == threading.get_ident():
            note = "a clean-up is already running, and this was called from one of its cleaners: nothing was done"
        else:
            note = "a clean-up is already running in another thread: nothing was done; try again when it has ended"
        return CleanReport(before_bytes=rss, after_bytes=rss, note=note)


class _Meter:
    """Resident memory from one cleaner to the next.

    A cleaner that frees small blocks gives them back to malloc, which keeps the pages: RSS falls only with a trim. So
    that the gain is credited to that cleaner, the trim follows at once. It also returns what was free before; the heap
    in use tells the two apart, and the surplus is the merit of the trim alone.
    """

    def __init__(self, gauges: Gauges, clock: Callable[[], float]) -> None:
        self._gauges = gauges
        self._clock = clock
        self._spent_s = 0.0
        self.rss_bytes = gauges.rss_bytes()
        self._heap_bytes = self._read_heap()
        self.surplus_bytes = 0

    def freed_bytes(self) -> int:
        """How far resident memory fell since the last call, less the surplus of a trim."""
        rss, heap = self._gauges.rss_bytes(), self._read_heap()
        freed = self.rss_bytes - rss
        if self._heap_bytes is not None and heap is not None:
            hidden = self._heap_bytes - heap - freed
            if hidden >= _TRIM_FROM_BYTES:
                self._gauges.trim()
                trimmed = self._gauges.rss_bytes()
                returned = rss - trimmed
                rss = trimmed
                surplus = returned - hidden
                if surplus > self._gauges.noise_bytes:
                    self.surplus_bytes += surplus
                    returned = hidden
                freed += returned
        self.rss_bytes, self._heap_bytes = rss, heap
        return freed

    def _read_heap(self) -> int | None:
        if self._spent_s > _HEAP_READING_S:
            return None
        started = self._clock()
        heap = self._gauges.heap_bytes()
        self._spent_s += self._clock() - started
        return heap


class _NothingToRunError(Exception):
    """The cleaner has no callback now; the message says why."""


class _Call:
    """Finds a cleaner's callback and calls it. Both run foreign code, so Ctrl-C may break off either."""

    __slots__ = ("_cleaner",)

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    def __call__(self) -> int | None:
        """Run the cleaner.

        Returns:
            The number of objects collected, from the garbage collection only.
        """
        cleaner = self._cleaner
        clear = cleaner.find()
        if clear is None:
            raise _NothingToRunError(
                "it is no longer registered" if cleaner.is_ready else f"{cleaner.library} is not imported"
            )
        result = clear()
        return result if cleaner.stage is Stage.GARBAGE and isinstance(result, int) else None


def _not_run(cleaner: Cleaner, why: str) -> CleanOutcome:
    return CleanOutcome(cleaner.name, cleaner.effect, freed_bytes=None, error=f"not run: {why}")


def _one_line(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = " ".join(str(error)[: 2 * _ERROR_LENGTH].split())
    except BaseException:  # an error whose own __str__ raises
        return f"{kind} (its message cannot be read)"
    line = f"{kind}: {text}" if text else kind
    return line if len(line) <= _ERROR_LENGTH else line[: _ERROR_LENGTH - 1] + "…"
