"""Clean-ups: the cleaners that a session knows, what a person asks for, and what its settings want unasked."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memcell.clean.catalogue import SHELL_CLEANERS, Catalogue
from memcell.clean.cleaner import Cleaner
from memcell.clean.heap import Collector, gc_cleaner, trim_cleaner
from memcell.clean.registry import Registry
from memcell.clean.runner import Gauges, Runner
from memcell.measure.process import trim_heap
from memcell.protect.policy import Policy, Thresholds
from memcell.records.cleaned import CleanerInfo, CleanReport, Notice
from memcell.runs import hash_source
from memcell.units import format_duration

if TYPE_CHECKING:
    from memcell.measure.process import ProcessReader
    from memcell.meter import Meter
    from memcell.protect.health import Health
    from memcell.protect.shared import SharedTable
    from memcell.records.measured import Limit, Run
    from memcell.records.protected import SharedInfo

logger = logging.getLogger("memcell")


class Cleaning:
    """Knows the cleaners and runs them.

    Args:
        reader: Reads this process.
        collector: Collects garbage, within a budget where nobody asked for it.
        meter: Knows the runs that are going on.
        shared: The objects of ``memcell.shared``, each of which can be cleaned.
        health: Told of each clean-up.
        limit: Reads the memory limit.
        thresholds: Tells when to clean and to warn without being asked.

    Attributes:
        registry: The cleaners that were registered.
        catalogue: All cleaners.
        tell: Says what was done unasked while a run goes on.
    """

    def __init__(
        self,
        *,
        reader: ProcessReader,
        collector: Collector,
        meter: Meter,
        shared: SharedTable,
        health: Health,
        limit: Callable[[], Limit],
        thresholds: Callable[[], Thresholds],
    ) -> None:
        self._reader = reader
        self._collector = collector
        self._meter = meter
        self._shared = shared
        self._health = health
        self._thresholds = thresholds
        self._policy = Policy(limit)
        self._built_in: tuple[Cleaner, ...] = ()
        self.registry = Registry(self._reserved_names)
        self.catalogue = Catalogue(self._built_in_cleaners, self.registry, present=self._shared_cleaners)
        gauges = Gauges(reader.rss, reader.heap, trim_heap, reader.error_bytes())
        self._runner = Runner(self.catalogue, gauges, collector)
        self.tell: Callable[[Notice], None] = _log_notice  # a shell has a better place

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
        self._meter.note_cleaned(report.freed_bytes)
        self._health.note_clean(report)
        self._policy.note_clean(report, automatic=automatic)
        with self._meter.own():
            from memcell.view.text import log_line  # views are loaded with the first thing that is shown
        logger.info(log_line(report))
        return report

    def before(self, source: str, cell: str | None = None) -> Notice | None:
        """Clean before a run of this cell if its last peak would not fit now; tells what was done and why."""
        if not self._policy.knows_heavy_cells:
            return None
        key = cell or hash_source(source)
        why = self._policy.reason_before(key, self._reader.rss, self._thresholds())
        return Notice(f"cleaned before the run: {why}", self.clean(automatic=True)) if why else None

    def after(self, run: Run) -> Notice | None:
        """Clean or warn after a run where the settings want it; tells what was done and why."""
        self._health.note_level(run.after_bytes)
        why = self._policy.reason_after(run, self._thresholds())
        if why:
            return Notice(f"cleaned: {why}", self.clean(automatic=True))
        warning = self._policy.warning_after(run, self._thresholds())
        return Notice(f"{warning}; %memclean gives caches back") if warning else None

    def during(self, why: str, *, is_clean_due: bool) -> None:
        """While a run comes near a limit: warn, or clean. In a thread."""
        # Loaded before anything asks for it under own(), which would take what the run does meanwhile for memcell's.
        from memcell.clean import libraries  # noqa: F401
        from memcell.view import html, process_tables, text  # noqa: F401

        self.plan()
        if is_clean_due and self._policy.may_clean_during(self._thresholds()):
            self.tell(Notice(f"cleaned: {why}", self.clean(automatic=True)))
        elif self._policy.may_warn_during():
            self.tell(Notice(why))

    def plan(self, *names: str, deep: bool = False) -> list[CleanerInfo]:
        """The cleaners that ``clean`` would run, in their order."""
        return [cleaner.info() for cleaner in self.catalogue.select(names, deep=deep)]

    def _built_in_cleaners(self) -> tuple[Cleaner, ...]:
        if not self._built_in:
            with self._meter.own():
                from memcell.clean.libraries import LIBRARIES  # a file for each library: 5 ms that %load_ext can spare

            self._built_in = (*LIBRARIES, gc_cleaner(self._collector), trim_cleaner(trim_heap))
        return self._built_in

    def _reserved_names(self) -> set[str]:
        return {*(cleaner.name for cleaner in self._built_in_cleaners()), *SHELL_CLEANERS}

    def _shared_cleaners(self) -> list[Cleaner]:
        return [self._shared_cleaner(info) for info in self._shared.infos()]

    def _shared_cleaner(self, info: SharedInfo) -> Cleaner:
        entries = "one object" if info.entries == 1 else f"{info.entries} objects"
        cell = f", built in [{info.cell}]" if info.cell is not None else ""
        return Cleaner(
            name=f"shared:{info.name}",
            effect="state",
            source="registered",
            owner="memcell.shared",
            find=lambda: functools.partial(self._shared.clear, info.name),
            size=lambda: info.size_bytes,
            about=f"{entries}, {format_duration(info.age_s)} old, {info.hits} hits{cell}",
        )

    def forget_parent(self) -> None:
        """In a forked child: let go of locks that the parent's threads may hold."""
        self.registry.forget_parent()
        self._runner.forget_parent()


def _log_notice(notice: Notice) -> None:
    from memcell.view.phrases import notice_words

    logger.warning("%s", notice_words(notice))
