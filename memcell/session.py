"""One session per process: it opens and closes runs, and hands the rooms what they need of one another.

Made on first use; shells and ``watch`` attach to it. It knows no IPython and draws nothing: what comes out are frozen
records. The hooks of a shell call ``open`` and ``close`` for every cell, so what stands there has a budget of
some ten microseconds and must not grow with the namespace, the history or the resident memory. It is the one place
where the rooms meet, and so longer than most modules.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from memcell.clean.catalogue import SHELL_CLEANERS, Catalogue
from memcell.clean.cleaner import Cleaner
from memcell.clean.heap import Collector, gc_cleaner, trim_cleaner
from memcell.clean.registry import Registry
from memcell.clean.runner import Gauges, Runner
from memcell.limit_watch import LimitWatch
from memcell.measure.children import ChildrenGauge, make_children_gauge, private_memory_of
from memcell.measure.device import DeviceGauge
from memcell.measure.process import ProcessReader, make_reader, trim_heap
from memcell.measure.sampler import Sampler, make_sampler
from memcell.measure.watcher import pss_of
from memcell.protect import aftermath
from memcell.protect.blackbox import BlackBox, untold_death
from memcell.protect.health import Health
from memcell.protect.monitor import Monitor
from memcell.protect.policy import Policy, Thresholds
from memcell.protect.shared import SharedTable
from memcell.records.cleaned import CleanerInfo, CleanReport, Notice
from memcell.records.measured import Curve, Limit, Outcome, Run, Snapshot
from memcell.run_history import History
from memcell.runs import OpenRun, hash_source, last_part, run_at
from memcell.units import format_duration, parse_size
from memcell.watch_block import StoppableBlock, Watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memcell.explain.ballast import Ballast
    from memcell.explain.census import Census
    from memcell.leak_watch import LeakWatch
    from memcell.protect.children import Children
    from memcell.protect.guard import Stoppable
    from memcell.protect.workers import Isolated
    from memcell.records.deaths import Death
    from memcell.records.protected import SharedInfo

logger = logging.getLogger("memcell")

#: A run has to last this long before its samples are looked at and all threads are searched for children.
LONG_RUN_S = 0.2
#: What children get to end when a kernel does: its server sends it SIGTERM 2.5 s after it was asked to shut down.
_GRACE_AT_EXIT_S = 1.5
#: Levels kept of each run's curve: as many as a sparkline or a figure can show.
CURVE_POINTS = 48


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set about a session. The shell's traitlets hold the same with their help texts.

    Attributes:
        limit: The session's memory limit: ``auto``, ``off`` or bytes.
        exact_peak: Whether the kernel's high-water mark may be reset for each run.
        history_size: How many runs are kept.
        sample_interval_s: How often a run is sampled, in seconds.
        thresholds: When to clean and to warn without being asked.
        end_children: Whether children that nobody detached are ended when this process ends.
        blackbox: Whether a file tells of the last run if this process dies.
    """

    limit: int | str = "auto"
    exact_peak: bool = True
    history_size: int = 1000
    sample_interval_s: float = 0.05
    thresholds: Thresholds = field(default_factory=Thresholds)
    end_children: bool = False
    blackbox: bool = True


class Session:
    """Measures runs, keeps their history and the registry of cleaners.

    Args:
        reader: Reads this process; for tests.
        sampler: Takes samples during runs; for tests.
        children: Reads the child processes; for tests.
        clock: Returns seconds; for tests.
    """

    def __init__(
        self,
        reader: ProcessReader | None = None,
        sampler: Sampler | None = None,
        children: ChildrenGauge | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.settings = Settings()
        self._reader = reader or make_reader(exact_peak=lambda: self.settings.exact_peak)
        self._children = children or make_children_gauge(lambda: self._sampler.pid)
        self._sampler = sampler or make_sampler(
            self._reader.rss, self._children.level, aftermath.__file__, self._last_act
        )
        self._black_box = BlackBox(lambda: self._sampler.notes)
        self._devices = DeviceGauge()
        self._clock = clock
        self._known_limit: Limit | None = None
        self.history = History(self.settings.history_size, _draw)
        self._collector = Collector()
        self._built_in: tuple[Cleaner, ...] = ()
        self.registry = Registry(self._reserved_names)
        self.shared = SharedTable(self._reader.rss, self._running_cell)
        self.catalogue = Catalogue(self._built_in_cleaners, self.registry, present=self._shared_cleaners)
        gauges = Gauges(self._reader.rss, self._reader.heap, trim_heap, self._reader.error_bytes())
        self._runner = Runner(self.catalogue, gauges, self._collector)
        self._policy = Policy(self.limit)
        self.health = Health(
            rss=self._reader.rss,
            limit=self.limit,
            children=self._children.count,
            thresholds=lambda: self.settings.thresholds,
            clock=clock,
        )
        self.limits = LimitWatch(
            sampler=lambda: self._sampler,
            settings=lambda: (self.settings.limit, self.settings.thresholds),
            sample=self._reader.sample,
            children_bytes=self._children.level,
            relieve=self._relieve_during,
        )
        self.tell: Callable[[Notice], None] = _log_notice  # a shell has a better place
        self._open: list[OpenRun] = []
        self._lock = threading.RLock()
        self._within_own = False
        self._labels: Counter[str] = Counter()
        self._attached: dict[object, Callable[[], None]] = {}
        self.take_census: Callable[[Census | None], Census | None] | None = None  # a shell knows more names

    # Runs

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
                    self._sampler.begin(self.settings.sample_interval_s)
                    if self._known_limit is None and self._sampler.notes is not None:
                        self.limit()  # for the black box: once, before anything is billed to the run
                self._open.append(run)
                run.started = time.time()
                self._reader.reset_peak()
                run.before = self._reader.sample()
            except BaseException:
                self._leave(run)
                raise
            run.peak_bytes = run.before.rss_bytes
            if run is self._open[0]:
                self._note(run)
            if code is not None:
                self.limits.arm(run, code, limit_bytes)
            run.began = self._clock()
        return run

    def close(self, run: OpenRun, outcome: Outcome = "ok") -> Run:
        """End a run and record it."""
        ended = self._clock()
        if self.limits.disarm(run) and outcome != "ok":
            outcome = "limit"
        is_long = ended - run.began >= LONG_RUN_S
        with self._lock:
            try:
                after, mark = self._reader.read(heap=run.before.heap_bytes is not None)
                self._fold(mark)
                curve = last_part(self._sampler.curve(), ended - run.began, CURVE_POINTS) if is_long else Curve(0.0)
            finally:
                self._leave(run)
        record = run.record(
            ended=ended,
            after=after,
            curve=curve,
            outcome=outcome,
            error_bytes=self._reader.error_bytes(),
            children_after_bytes=self._children.level(thorough=is_long),
            device_bytes=self._devices.bytes_held(),
        )
        self.history.append(record)
        return record

    def abandon(self, run: OpenRun) -> None:
        """End a run without a record: its end was never told."""
        self.limits.disarm(run)
        with self._lock:
            try:
                self._fold(self._reader.peak())
            finally:
                self._leave(run)

    def _leave(self, run: OpenRun) -> None:
        was_noted = bool(self._open) and self._open[0] is run
        if run in self._open:
            self._open.remove(run)
        if not self._open:
            self._black_box.end()
            self._sampler.end()
        elif was_noted:
            self._note(self._open[0])

    def _note(self, run: OpenRun) -> None:
        """Write into the black box what runs: the outermost run, which is the cell."""
        if not self.settings.blackbox:
            return
        # Both were found out after an earlier run: here they cost next to nothing.
        leaks: LeakWatch | None = vars(self).get("leaks")
        earlier, verdict = leaks.known(run.cell, run.source_hash) if leaks else ((), None)
        self._black_box.note(run, earlier, verdict, self._known_limit)

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

    def watch(self, label: str | None = None, limit: int | str | None = None) -> Watch:
        """See ``memcell.watch``."""
        limit_bytes = None if limit is None else parse_size(limit)
        begin = functools.partial(self._open_labelled, limit_bytes=limit_bytes)
        return Watch(label, begin, self._close_labelled, lambda: self.limits.stopped, has_limit=limit is not None)

    def _open_labelled(self, label: str, code: StoppableBlock | None, limit_bytes: int | None) -> OpenRun:
        if limit_bytes is not None:
            self.limits.check(limit_bytes)
        with self._lock:
            self._labels[label] += 1
            number = self._labels[label]
        return self.open(label, number=number, cell=label, code=code, limit_bytes=limit_bytes)

    def _close_labelled(self, run: OpenRun, outcome: Outcome) -> Run:
        record = self.close(run, outcome)
        self.follow(record)
        return record

    def snapshot(self) -> Snapshot:
        """What the live view draws."""
        level_bytes, limit, runs = self._reader.rss(), self.limit(), tuple(self.history)
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

    # Explaining

    @functools.cached_property
    def _ballast(self) -> Ballast:
        from memcell.explain.ballast import Ballast  # with the first census

        return Ballast(self._reader.rss)

    @functools.cached_property
    def leaks(self) -> LeakWatch:
        """Follows the cells that are run again. Made after the first run: it loads what ``%load_ext`` can spare."""
        from memcell.leak_watch import LeakWatch

        return LeakWatch(self._settle, self._census, self.limit)

    def follow(self, run: Run, *, settle: bool = False, count: bool = False) -> Run:
        """Look whether a run that has just been recorded makes its cell suspicious, and if so, at what stays.

        Args:
            run: The latest run.
            settle: Find out what stays in any case, whatever that costs.
            count: The same for a census of what has a name.

        Returns:
            The run, with its settled level where it was found out.
        """
        noted = self.leaks.note(run, settle=settle, count=count)
        if noted is not run:
            self.history.replace_last(noted)
        return noted

    def _census(self, previous: Census | None) -> Census | None:
        from memcell.explain.census import take_census

        with self.own(), self._ballast.lifted():
            if self.take_census is not None:
                census = self.take_census(previous)
            else:
                census = take_census(vars(sys.modules["__main__"]), previous=previous)
        trim_heap()  # else the next trim would take what the census has freed for garbage of the run before it
        return census

    def _settle(self) -> int:
        with self.own():
            self._collector.collect()
            trim_heap()
        return self._reader.rss()

    # Cleaning

    def clean(
        self, *names: str, deep: bool = False, automatic: bool = False, more: Sequence[Cleaner] = ()
    ) -> CleanReport:
        """See ``memcell.clear_caches``; without the table.

        Args:
            names: Exactly these cleaners; without any, those of effect ``none`` or ``recompute``.
            deep: Also those of effect ``state`` that are meant for it: outputs, tracebacks, figures, widgets.
            automatic: Nobody asked for it: the garbage collection keeps to its budget.
            more: Cleaners for this time only.
        """
        report = self._runner.clean(names, deep=deep, budgeted=automatic, more=more)
        if report.note:
            return report  # nothing ran
        with self._lock:
            for run in self._open:
                run.cleaned_bytes += max(0, report.freed_bytes)
        self.health.note_clean(report)
        self._policy.note_clean(report, automatic=automatic)
        with self.own():
            from memcell.view.text import log_line  # views are loaded with the first thing that is shown

            logger.info(log_line(report))
        return report

    def relieve_before(self, source: str, cell: str | None = None) -> Notice | None:
        """Clean before a run of this cell if its last peak would not fit now; tells what was done and why."""
        if not self._policy.knows_heavy_cells:
            return None
        key = cell or hash_source(source)
        why = self._policy.reason_before(key, self._reader.rss, self.settings.thresholds)
        return Notice(f"cleaned before the run: {why}", self.clean(automatic=True)) if why else None

    def relieve_after(self, run: Run) -> Notice | None:
        """Clean or warn after a run where the settings want it; tells what was done and why."""
        self.health.note_level(run.after_bytes)
        why = self._policy.reason_after(run, self.settings.thresholds)
        if why:
            return Notice(f"cleaned: {why}", self.clean(automatic=True))
        warning = self._policy.warning_after(run, self.settings.thresholds)
        return Notice(f"{warning}; %memclean gives caches back") if warning else None

    def _relieve_during(self, why: str, *, is_clean_due: bool) -> None:
        """While a run comes near a limit: warn, or clean. In a thread."""
        # Loaded before anything asks for it under own(), which would take what the run does meanwhile for memcell's.
        from memcell.view import html, process_tables, text  # noqa: F401

        self.plan()
        if is_clean_due and self._policy.may_clean_during(self.settings.thresholds):
            self.tell(Notice(f"cleaned: {why}", self.clean(automatic=True)))
        elif self._policy.may_warn_during():
            self.tell(Notice(why))

    def plan(self, *names: str, deep: bool = False) -> list[CleanerInfo]:
        """The cleaners that ``clean`` would run, in their order."""
        return [cleaner.info() for cleaner in self.catalogue.select(names, deep=deep)]

    def _built_in_cleaners(self) -> tuple[Cleaner, ...]:
        if not self._built_in:
            with self.own():
                from memcell.clean.libraries import LIBRARIES  # a file for each library: 5 ms that %load_ext can spare

            self._built_in = (*LIBRARIES, gc_cleaner(self._collector), trim_cleaner(trim_heap))
        return self._built_in

    def _reserved_names(self) -> set[str]:
        return {*(cleaner.name for cleaner in self._built_in_cleaners()), *SHELL_CLEANERS}

    def _shared_cleaners(self) -> list[Cleaner]:
        return [self._shared_cleaner(info) for info in self.shared.infos()]

    def _shared_cleaner(self, info: SharedInfo) -> Cleaner:
        entries = "one object" if info.entries == 1 else f"{info.entries} objects"
        cell = f", built in [{info.cell}]" if info.cell is not None else ""
        return Cleaner(
            name=f"shared:{info.name}",
            effect="state",
            source="registered",
            owner="memcell.shared",
            find=lambda: functools.partial(self.shared.clear, info.name),
            size=lambda: info.size_bytes,
            about=f"{entries}, {format_duration(info.age_s)} old, {info.hits} hits{cell}",
        )

    # Without a notebook

    def monitor(self, **arguments: Any) -> Monitor:
        """See ``memcell.Monitor``, whose arguments these are."""
        # What a first clean-up imports is imported now: not in a thread, while the process forks.
        self.plan()
        return Monitor(
            rss=self.health.look,
            limit=self.limit,
            sweep=self.shared.sweep,
            clean_now=lambda: self.clean(automatic=True),
            status=self.health.status,
            **arguments,
        )

    def isolated(self, function: Callable[..., Any], **options: Any) -> Isolated[..., Any]:
        """See ``memcell.isolated``, whose options these are."""
        from memcell.protect.workers import Isolated  # loads multiprocessing

        return Isolated(function, private_memory_of, **options)

    def _running_cell(self) -> int | None:
        with self._lock:
            return self._open[-1].number if self._open else None

    # Child processes

    @functools.cached_property
    def processes(self) -> Children:
        """The processes that cells started. Making it marks what this process starts from then on."""
        from memcell.protect.children import Children  # made when a shell is loaded, or when they are first asked for

        memory_of = pss_of if sys.platform == "linux" else None
        found = Children(
            memory_of, lambda moment: run_at(moment, self.history, tuple(self._open)), lambda: self._sampler.pid
        )
        found.mark()
        return found

    def forget_processes(self) -> None:
        """Mark what is started no more. May be called twice."""
        if self.__dict__.pop("processes", None) is not None:
            from memcell.protect.marker import take_away

            take_away()

    def end_at_exit(self) -> None:
        """End the children that nobody detached, now that this process ends; the others are said in the log."""
        if not self.settings.end_children:
            return
        left = self.processes.end_at_exit(grace_s=_GRACE_AT_EXIT_S)
        if left:
            from memcell.view.process_tables import left_words

            logger.warning(left_words(left))

    def _last_act(self) -> list[str]:
        if not self.settings.end_children:
            return []
        from memcell.protect.last_act import command

        return command(self.processes.origin)

    # After a death

    @property
    def folder(self) -> str | None:
        """The working folder at the beginning; None if it is gone."""
        return self._black_box.folder

    def untold_death(self) -> Death | None:
        """What killed the last kernel in this folder, if nobody was told yet; from now on it counts as told."""
        name = untold_death(self.folder) if self.settings.blackbox else None
        if name is None:
            return None
        from memcell.protect.deaths import Boxes

        return Boxes().get(name)

    # The rest

    def configure(self, **changes: Any) -> None:
        """Change settings. The names are those of ``Settings``."""
        before, self.settings = self.settings, replace(self.settings, **changes)
        if self.settings.end_children != before.end_children:
            self._black_box.goodbye()
            self._sampler.close()  # the next run starts a watcher that knows of it
        self.history.resize(self.settings.history_size)
        self.limits.reconsider()
        if "limit" in changes:
            self._known_limit = None
        if changes.get("blackbox") is False:
            self._black_box.goodbye()

    def limit(self) -> Limit:
        """The memory limit that applies, and what is used of it."""
        self._known_limit = self.limits.read()
        return self._known_limit

    def attach(self, shell: object, detach: Callable[[], None]) -> None:
        """Remember how to take a shell's hooks away again."""
        self._attached[shell] = detach

    def detach(self, shell: object) -> None:
        """Take a shell's hooks away. May be called twice."""
        detach = self._attached.pop(shell, None)
        if detach is not None:
            detach()

    def is_attached(self, shell: object) -> bool:
        """Whether a shell has hooks of this session."""
        return shell in self._attached

    def close_all(self) -> None:
        """End what the session started outside this process's memory. A later run starts it again."""
        self._black_box.goodbye()
        self.limits.close()
        self._sampler.close()
        self._children.close()
        self._reader.close()

    def forget_parent(self) -> None:
        """In a forked child: let go of the parent's watcher and open runs, and of locks that its threads may hold."""
        self._lock = threading.RLock()
        self.__dict__.pop("processes", None)
        self.limits.forget_parent()
        self._sampler.forget()
        self._black_box.forget_parent()
        self._open.clear()
        self._within_own = False
        self.registry.forget_parent()
        self._runner.forget_parent()
        self.shared.forget_parent()
        self.health.forget_parent()


def _draw(runs: Sequence[Run]) -> Figure:
    from memcell.view.figure import figure  # loads matplotlib, which costs 40 MiB

    session = get_session()
    with session.own():
        return figure(runs, session.limit())


def _log_notice(notice: Notice) -> None:
    from memcell.view.phrases import notice_words

    logger.warning("%s", notice_words(notice))


_session: Session | None = None
_session_lock = threading.Lock()


def get_session() -> Session:
    """The session of this process, made on first use."""
    global _session
    with _session_lock:
        if _session is None:
            _session = Session()
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forget_parent)
        return _session


def _forget_parent() -> None:
    global _session_lock
    _session_lock = threading.Lock()
    if _session is not None:
        _session.forget_parent()
