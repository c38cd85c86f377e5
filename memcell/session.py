"""One session per process: it hands the rooms what they need of one another.

Made on first use; shells and ``watch`` attach to it. It knows no IPython and draws nothing: what comes out are frozen
records. How a run is measured is in ``meter``, how memory is given back in ``cleaning``.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from memcell.clean.heap import Collector
from memcell.cleaning import Cleaning
from memcell.limit_watch import LimitWatch
from memcell.measure.children import ChildrenGauge, make_children_gauge, private_memory_of
from memcell.measure.process import ProcessReader, make_reader, trim_heap
from memcell.measure.sampler import Sampler, make_sampler
from memcell.measure.watcher import pss_of
from memcell.meter import Meter
from memcell.protect import aftermath
from memcell.protect.blackbox import BlackBox, untold_death
from memcell.protect.health import Health
from memcell.protect.monitor import Monitor
from memcell.protect.policy import Thresholds
from memcell.protect.shared import SharedTable
from memcell.records.measured import Outcome, Run
from memcell.run_history import History
from memcell.runs import OpenRun, run_at
from memcell.units import parse_size
from memcell.watch_block import StoppableBlock, Watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from memcell.explain.ballast import Ballast
    from memcell.explain.census import Census
    from memcell.leak_watch import LeakWatch
    from memcell.protect.children import Children
    from memcell.protect.workers import Isolated
    from memcell.records.deaths import Death

logger = logging.getLogger("memcell")

#: What children get to end when a kernel does: its server sends it SIGTERM 2.5 s after it was asked to shut down.
_GRACE_AT_EXIT_S = 1.5


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


class TakeCensus(Protocol):
    """Takes a census, given the one before and the memory of child processes by pid; None where there is no shell."""

    def __call__(self, previous: Census | None, children: Mapping[int, int], /) -> Census | None: ...


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
        self._collector = Collector()
        self.history = History(self.settings.history_size, _draw)
        self.limits = LimitWatch(
            sampler=lambda: self._sampler,
            settings=lambda: (self.settings.limit, self.settings.thresholds),
            sample=self._reader.sample,
            children_bytes=self._children.level,
            relieve=self._relieve,
        )
        self.meter = Meter(
            reader=self._reader,
            children=self._children,
            sampler=self._sampler,
            limits=self.limits,
            history=self.history,
            interval_s=lambda: self.settings.sample_interval_s,
            announce=self._note,
            clock=clock,
        )
        self.shared = SharedTable(self._reader.rss, self._running_cell)
        self.health = Health(
            rss=self._reader.rss,
            limit=self.limits.read,
            children=self._children.count,
            thresholds=lambda: self.settings.thresholds,
            clock=clock,
        )
        self.cleaning = Cleaning(
            reader=self._reader,
            collector=self._collector,
            meter=self.meter,
            shared=self.shared,
            health=self.health,
            limit=self.limits.read,
            thresholds=lambda: self.settings.thresholds,
        )
        self._lock = threading.Lock()
        self._labels: Counter[str] = Counter()
        self._attached: dict[object, Callable[[], None]] = {}
        #: What a person has set in a shell, by its names there: it is the same after memcell was reloaded.
        self.chosen_settings: dict[str, Any] = {}
        #: Whether a shell has told of what dead kernels left: a reload is no reason to say it again.
        self.has_looked_for_orphans = False
        self.take_census: TakeCensus | None = None  # a shell knows more names

    # Runs

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
        return self.meter.open(label, number=number, cell=label, code=code, limit_bytes=limit_bytes)

    def _close_labelled(self, run: OpenRun, outcome: Outcome) -> Run:
        record = self.meter.close(run, outcome)
        self.follow(record)
        return record

    # Explaining

    @functools.cached_property
    def _ballast(self) -> Ballast:
        from memcell.explain.ballast import Ballast  # with the first census

        return Ballast(self._reader.rss)

    @functools.cached_property
    def leaks(self) -> LeakWatch:
        """Follows the cells that are run again. Made after the first run: it loads what ``%load_ext`` can spare."""
        from memcell.leak_watch import LeakWatch

        return LeakWatch(self._settle, self._census, self.limits.read)

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
            self.history.replace(run, noted)
        return noted

    def _census(self, previous: Census | None) -> Census | None:
        from memcell.explain.census import take_census

        with self.meter.own(), self._ballast.lifted():
            children = self._children.each()
            if self.take_census is not None:
                census = self.take_census(previous, children)
            else:
                census = take_census(vars(sys.modules["__main__"]), children=children, previous=previous)
        trim_heap()  # else the next trim would take what the census has freed for garbage of the run before it
        return census

    def _settle(self) -> int:
        with self.meter.own():
            self._collector.collect()
            trim_heap()
        return self._reader.rss()

    # Without a notebook

    def monitor(self, **arguments: Any) -> Monitor:
        """See ``memcell.Monitor``, whose arguments these are."""
        # What a first clean-up imports is imported now: not in a thread, while the process forks.
        self.cleaning.plan()
        return Monitor(
            rss=self.health.look,
            limit=self.limits.read,
            sweep=self.shared.sweep,
            clean_now=lambda: self.cleaning.clean(automatic=True),
            status=self.health.status,
            **arguments,
        )

    def isolated(self, function: Callable[..., Any], **options: Any) -> Isolated[..., Any]:
        """See ``memcell.isolated``, whose options these are."""
        from memcell.protect.workers import Isolated  # loads multiprocessing

        return Isolated(function, private_memory_of, **options)

    def _relieve(self, why: str, *, is_clean_due: bool) -> None:
        self.cleaning.during(why, is_clean_due=is_clean_due)

    def _running_cell(self) -> int | None:
        runs = self.meter.open_runs
        return runs[-1].number if runs else None

    # Child processes

    @functools.cached_property
    def processes(self) -> Children:
        """The processes that cells started. Making it marks what this process starts from then on."""
        from memcell.protect.children import Children  # made when a shell is loaded, or when they are first asked for

        memory_of = pss_of if sys.platform == "linux" else None
        found = Children(
            memory_of, lambda moment: run_at(moment, self.history, self.meter.open_runs), lambda: self._sampler.pid
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

    def _note(self, run: OpenRun | None) -> None:
        """Write into the black box what runs: the outermost run, which is the cell; nothing between runs."""
        if run is None:
            self._black_box.end()
            return
        if not self.settings.blackbox:
            return
        # Both were found out after an earlier run: here they cost next to nothing.
        leaks: LeakWatch | None = vars(self).get("leaks")
        earlier, verdict = leaks.known(run.cell, run.source_hash) if leaks else ((), None)
        self._black_box.note(run, earlier, verdict, self.limits.known)

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
        if changes.get("blackbox") is False:
            self._black_box.goodbye()

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
        self._lock = threading.Lock()
        self.__dict__.pop("processes", None)
        self.limits.forget_parent()
        self._sampler.forget()
        self._black_box.forget_parent()
        self.meter.forget_parent()
        self.cleaning.forget_parent()
        self.shared.forget_parent()
        self.health.forget_parent()


def _draw(runs: Sequence[Run]) -> Figure:
    from memcell.view.figure import figure  # loads matplotlib, which costs 40 MiB

    session = get_session()
    with session.meter.own():
        return figure(runs, session.limits.read())


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
