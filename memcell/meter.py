"""Measures runs: opens them, closes them into records, and leaves memcell's own work out of them.

The hooks of a shell call ``open`` and ``close`` for every cell, so what stands there has a budget of some ten
microseconds and must not grow with the namespace, the history or the resident memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memcell.measure.device import DeviceGauge
from memcell.records.measured import Curve, Outcome, Run, Snapshot
from memcell.runs import OpenRun, last_part

if TYPE_CHECKING:
    from memcell.limit_watch import LimitWatch
    from memcell.measure.children import ChildrenGauge
    from memcell.measure.process import ProcessReader
    from memcell.measure.sampler import Sampler
    from memcell.protect.guard import Stoppable
    from memcell.run_history import History

#: A run has to last this long before its samples are looked at and all threads are searched for children.
LONG_RUN_S = 0.2
#: Levels kept of each run's curve: as many as a sparkline or a figure can show.
CURVE_POINTS = 48


class Meter:
    """Measures runs.

    Args:
        reader: Reads this process.
        children: Reads the child processes.
        sampler: Takes samples during runs.
        limits: Stops runs that pass a limit.
        history: Gets the record of each run.
        interval_s: Tells how often a run is sampled, in seconds.
        announce: Told which run is the outermost one when that changes, and None when there is none any more.
        clock: Returns seconds.
    """

    def __init__(
        self,
        *,
        reader: ProcessReader,
        children: ChildrenGauge,
        sampler: Sampler,
        limits: LimitWatch,
        history: History,
        interval_s: Callable[[], float],
        announce: Callable[[OpenRun | None], None],
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._children = children
        self._sampler = sampler
        self._limits = limits
        self._history = history
        self._interval_s = interval_s
        self._announce = announce
        self._clock = clock
        self._devices = DeviceGauge()
        self._open: list[OpenRun] = []
        self._lock = threading.RLock()
        self._within_own = False

    @property
    def open_runs(self) -> tuple[OpenRun, ...]:
        """The runs that are going on, the outermost first."""
        with self._lock:
            return tuple(self._open)

    def open(
        self,
        source: str,
        *,
        number: int,
        cell: str | None = None,
        code: Stoppable | None = None,
        limit_bytes: int | None = None,
    ) -> OpenRun:
        """Begin a run.

        Args:
            source: The source of the cell.
            number: Its execution count.
            cell: The front end's id of the cell; without one a hash of the source is the key.
            code: What may be stopped before its memory passes a limit; None for a run that only is measured.
            limit_bytes: A limit of this run's own.
        """
        run = OpenRun(source, number, cell)
        run.children_before_bytes = self._children.level()
        with self._lock:
            try:
                if self._open:
                    self._fold(self._reader.peak())
                else:
                    self._sampler.begin(self._interval_s())
                    if self._limits.known is None and self._sampler.notes is not None:
                        self._limits.read()  # for the black box: once, before anything is billed to the run
                self._open.append(run)
                run.started = time.time()
                self._reader.reset_peak()
                run.before = self._reader.sample()
                run.peak_bytes = run.before.rss_bytes
                if run is self._open[0]:
                    self._announce(run)
                if code is not None:
                    self._limits.arm(run, code, limit_bytes)
                run.began = self._clock()
            except BaseException:  # a Ctrl-C may come anywhere
                self._limits.disarm(run)
                self._leave(run)
                raise
        return run

    def close(self, run: OpenRun, outcome: Outcome = "ok") -> Run:
        """End a run and record it."""
        ended = self._clock()
        is_long = ended - run.began >= LONG_RUN_S
        try:
            if self._limits.disarm(run) and outcome != "ok":
                outcome = "limit"
            with self._lock:
                after, mark = self._reader.read(heap=run.before.heap_bytes is not None)
                self._fold(mark)
                curve = last_part(self._sampler.curve(), ended - run.began, CURVE_POINTS) if is_long else Curve(0.0)
                self._leave(run)
        except BaseException:  # a Ctrl-C, above all while the threads of a stopped run end
            self._leave(run)
            raise
        record = run.record(
            ended=ended,
            after=after,
            curve=curve,
            outcome=outcome,
            error_bytes=self._reader.error_bytes(),
            children_after_bytes=self._children.level(thorough=is_long, after=True),
            device_bytes=self._devices.bytes_held(),
        )
        self._history.append(record)
        return record

    def abandon(self, run: OpenRun) -> None:
        """End a run without a record: its end was never told."""
        try:
            self._limits.disarm(run)
            with self._lock:
                self._fold(self._reader.peak())
        finally:
            self._leave(run)

    def _leave(self, run: OpenRun) -> None:
        """Take a run out of those that are open. May be called twice."""
        with self._lock:
            was_announced = bool(self._open) and self._open[0] is run
            if run in self._open:
                self._open.remove(run)
            if not self._open:
                self._announce(None)
                self._sampler.end()
            elif was_announced:
                self._announce(self._open[0])

    def _fold(self, mark: int | None) -> None:
        """Give every open run the peak since the last reset: the next reset will forget it."""
        for run in self._open:
            run.fold(mark)

    @contextmanager
    def own(self) -> Iterator[None]:
        """Leave the memory and time that the body takes out of the open runs: they are memcell's, not the cell's."""
        with self._lock:
            if self._within_own or not self._open:
                outermost = False
            else:
                outermost = self._within_own = True
                self._fold(self._reader.peak())
        if not outermost:
            yield
            return
        before_bytes, began = self._reader.rss(), self._clock()
        try:
            yield
        finally:
            grown_bytes, took_s = self._reader.rss() - before_bytes, self._clock() - began
            with self._lock:
                self._within_own = False
                is_reset = self._reader.reset_peak()
                for run in self._open:
                    run.own_bytes += grown_bytes
                    run.own_s += took_s
                    # A lifetime mark that memcell's own work may have raised hides what the cell does next.
                    run.exact = run.exact and is_reset

    def peak_growth(self) -> Callable[[], int]:
        """Measure from now on; the result tells how far memory has risen since, file pages aside.

        For a forked child: it maps the pages of libraries anew as it runs them, and they are no growth.
        """
        is_exact = self._reader.reset_peak()
        before = self._reader.sample()

        def tell() -> int:
            after = self._reader.sample()
            mark = self._reader.peak() if is_exact else None
            mapped_bytes = (after.file_bytes or 0) - (before.file_bytes or 0)
            return max(0, max(mark or 0, after.rss_bytes) - before.rss_bytes - mapped_bytes)

        return tell

    def note_isolated(self, peak_bytes: int) -> None:
        """Take into the open runs by how much an isolated cell's process had grown at its highest."""
        with self._lock:
            for run in self._open:
                run.isolated_peak_bytes = max(peak_bytes, run.isolated_peak_bytes or 0)

    def note_cleaned(self, freed_bytes: int) -> None:
        """Take into the open runs what cleaners gave back while they were going on."""
        with self._lock:
            for run in self._open:
                run.cleaned_bytes += max(0, freed_bytes)

    def snapshot(self) -> Snapshot:
        """What the live view draws."""
        level_bytes, limit, runs = self._reader.rss(), self._limits.read(), tuple(self._history)
        with self._lock:
            if not self._open:
                return Snapshot(runs, level_bytes, limit)
            run = self._open[0]
            elapsed_s = self._clock() - run.began
            mark = self._reader.peak()
            curve = last_part(self._sampler.curve(), elapsed_s)
            known = mark - run.own_bytes if mark is not None else max(curve.rss_bytes, default=0)
        return Snapshot(
            runs=runs,
            level_bytes=level_bytes,
            limit=limit,
            number=run.number,
            source_line=run.source_line,
            elapsed_s=elapsed_s,
            before_bytes=run.before.rss_bytes,
            peak_bytes=max(run.peak_bytes, known, level_bytes),
            curve=curve,
        )

    def forget_parent(self) -> None:
        """In a forked child: let go of the parent's open runs, and of a lock that its threads may hold."""
        self._lock = threading.RLock()
        self._open.clear()
        self._within_own = False
