"""The hooks around every cell. They never raise into the cell: what fails says so once and is switched off."""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

from memcell.ipython.stopping import StoppableCell, is_in_event_loop, variables_at_end
from memcell.ipython.watching import WatchOptions, split_raw_cell
from memcell.records.cleaned import Notice
from memcell.runs import OpenRun, outcome_of
from memcell.units import MIB

if TYPE_CHECKING:
    from memcell.ipython.deep import DeepCleaning
    from memcell.ipython.fresh import Fresh
    from memcell.ipython.frontend import Frontend
    from memcell.ipython.settings import Memcell
    from memcell.ipython.tracing import Top
    from memcell.records.explained import AllocationSites, FreshReport
    from memcell.records.measured import Run
    from memcell.session import Session

logger = logging.getLogger("memcell")

#: Cells that look at the last error, and need its variables.
_LOOKS_AT_ERROR = re.compile(r"\s*%?(debug|tb|pdb|xmode|memtop)\b")
#: Cells that only ask memcell something: a line magic of its own, maybe below comments.
_ASKS_MEMCELL = re.compile(
    r"(?:\s*#.*\n)*\s*%?mem(?:clean|leaks|limit|postmortem|procs|top|watch)(?:[ \t]+[-#\w].*)?\s*"
)
#: A cell that keeps or peaks above this is worth a line.
NOTABLE_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that memcell asked for: its options, what to do as it begins, and who is told what came of it."""

    options: WatchOptions
    begin: Callable[[], None]
    tell: Callable[[Run, FreshReport | None], None]


@dataclass(slots=True)
class _Entry:
    """A cell that is running."""

    info: ExecutionInfo
    run: OpenRun
    options: WatchOptions | None
    asked: Asked | None = None
    #: Ends what the cell is instead of a run: the runs that ``%%memwatch --repeat`` makes.
    end: Callable[[ExecutionResult | None], None] | None = None
    fresh: Fresh | None = None
    top: Top | None = None
    sites: AllocationSites | None = None
    #: The latest run before the first that it makes instead.
    last: Run | None = None
    #: What ended a cell that a magic ran inside it, and swallowed.
    failure: BaseException | None = None


class _Stacks(threading.local):
    """The cells that run in each thread: subshells run beside the main one."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.expected: Asked | None = None


class Hooks:
    """Opens a run before each cell and closes it afterwards, between ``__enter__`` and ``__exit__``."""

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        frontend: Frontend,
        settings: Memcell,
        deep: DeepCleaning,
        make_fresh: Callable[[], Fresh],
        make_top: Callable[[int, int], Top],
    ) -> None:
        self._make_fresh = make_fresh
        self._make_top = make_top
        self._shell = shell
        self._session = session
        self._frontend = frontend
        self._settings = settings
        self._deep = deep
        self._stacks = _Stacks()
        self._off: set[str] = set()
        self._was_stopped = False

    def __enter__(self) -> Hooks:
        self._shell.events.register("pre_run_cell", self.pre_run_cell)
        self._shell.events.register("post_run_cell", self.post_run_cell)
        return self

    def __exit__(self, *_: object) -> None:
        callbacks = self._shell.events.callbacks
        for event, hook in (("pre_run_cell", self.pre_run_cell), ("post_run_cell", self.post_run_cell)):
            if hook in callbacks[event]:
                self._shell.events.unregister(event, hook)
        # The cell that unloads memcell never tells us its end: it ends here.
        while self._stacks.entries:
            self._guarded("measuring", self._finish, self._stacks.entries.pop(), None)

    def forget_parent(self) -> None:
        """In a process that only runs a cell for the kernel: the kernel tells what became of it."""
        self._stacks.entries.clear()

    @property
    def is_repeating(self) -> bool:
        """Whether a cell is being repeated."""
        return any(entry.asked is not None for entry in self._stacks.entries)

    def repeat_instead(self, end: Callable[[ExecutionResult | None], None]) -> tuple[str | None, int] | None:
        """The running cell is no run itself but repeats one.

        Args:
            end: Is called with its result when it ends.

        Returns:
            The front end's id of the cell, and its number; None where the magic was called by other code.
        """
        entries = self._stacks.entries
        if not entries or entries[-1].options is None or not entries[-1].options.repeat:
            return None
        entry = entries[-1]
        self._session.meter.abandon(entry.run)
        entry.end, entry.last = end, self._last_run()
        return entry.info.cell_id, entry.run.number

    @property
    def is_isolating(self) -> bool:
        """Whether the running cell itself, and none inside it, has ``--isolate``."""
        entries = self._stacks.entries
        return bool(entries) and entries[-1].options is not None and entries[-1].options.isolate

    def note_failure(self, error: BaseException | None) -> None:
        """What a magic ran inside the running cell has failed, and was shown: that cell is no success either."""
        if error is not None and self._stacks.entries:
            self._stacks.entries[-1].failure = error

    def expect(self, asked: Asked | None) -> None:
        """The next cell to run is one that was asked for; None: it is not."""
        self._stacks.expected = asked

    def pre_run_cell(self, info: ExecutionInfo) -> None:
        """Before a cell, also before one that another cell runs."""
        self._guarded("measuring", self._begin, info)

    def post_run_cell(self, result: ExecutionResult) -> None:
        """After a cell. The cell that loads memcell has a post without a pre."""
        self._guarded("measuring", self._end, result)

    def _begin(self, info: ExecutionInfo) -> None:
        _ = self._session.processes  # marks what the cell starts, also in a kernel that was forked from another
        entries = self._stacks.entries
        if entries and (info.store_history or not is_in_event_loop()):
            self._drop_stale(entries)
        raw_cell = info.raw_cell or ""
        split = split_raw_cell(raw_cell, self._shell.input_transformers_cleanup)
        options, source = split or (None, raw_cell)
        asked, self._stacks.expected = self._stacks.expected, None
        if asked is not None:
            options = asked.options
            asked.begin()
        if options is not None and not options.quiet and not options.repeat:
            self._guarded("live view", self._frontend.show_live)
        if not entries:
            if self._was_stopped and not _LOOKS_AT_ERROR.match(source):
                self._guarded("automatic cleaning", self._relieve_stopped)
            self._guarded("automatic cleaning", self._relieve_before, source, info.cell_id)
        self._frontend.begin_live()
        is_repeated = options is not None and options.repeat is not None  # no run itself: those it makes are stopped
        run = self._session.meter.open(
            source,
            number=self._number(info),
            cell=info.cell_id,
            code=None if is_repeated else StoppableCell(self._shell.user_ns, self._shell.user_ns_hidden),
            limit_bytes=options.limit if options is not None else None,
        )
        entries.append(_Entry(info, run, options, asked))
        if options is not None and not options.repeat:
            self._guarded("%%memwatch's options", self._begin_options, entries[-1], options)

    def _begin_options(self, entry: _Entry, options: WatchOptions) -> None:
        if options.fresh:
            entry.fresh = self._make_fresh()
        if options.top:
            entry.top = self._make_top(entry.run.number, options.top)

    def _end(self, result: ExecutionResult) -> None:
        entries = self._stacks.entries
        for index in reversed(range(len(entries))):
            if result.info is not None and _is_same_cell(entries[index].info, result.info):
                break
        else:  # the cell that loaded memcell, or an empty one inside another
            if not entries:
                self._frontend.end_live()
            return
        while len(entries) > index + 1:
            self._abandon(entries.pop())
        entry = entries.pop()
        if entry.info.store_history and result.execution_count is not None:
            entry.run.number = result.execution_count
        if entry.failure is not None and result.success:
            result.error_in_exec = entry.failure
            self._shell.last_execution_succeeded = False
        if entry.end is not None:
            self._guarded("repeating", entry.end, result)
            if not entries:
                self._frontend.end_live()
            last = self._last_run()
            self._after_outermost(last if last is not entry.last else None)
            return
        self._finish(entry, result.error_before_exec or result.error_in_exec)

    def _last_run(self) -> Run | None:
        history = self._session.history
        return history[-1] if len(history) else None

    def _end_top(self, entry: _Entry, top: Top) -> None:
        try:
            entry.sites = top.end(entry.run)
        finally:
            top.cancel()

    def _finish(self, entry: _Entry, error: BaseException | None) -> None:
        if entry.end is not None:
            self._guarded("repeating", entry.end, None)
            return
        fresh = entry.fresh.end(error) if entry.fresh is not None else None
        if entry.top is not None:
            self._guarded("--top", self._end_top, entry, entry.top)
        run = self._session.meter.close(entry.run, outcome_of(error))
        if self._session.limits.stopped is not None:
            self._was_stopped = True
            self._guarded("showing", self._tell_of_stop, run, error)
        if entry.asked is not None:
            self._guarded("repeating", entry.asked.tell, run, fresh)
            return
        if entry.options is not None and entry.options.output:
            self._shell.user_ns[entry.options.output] = run
        self._guarded("showing", self._show, entry, run, fresh)
        if entry.options is not None and entry.options.clean:
            self._guarded("cleaning", self._clean, entry.options)
        if not self._stacks.entries:
            self._guarded("explaining", self._follow, entry.run.source, run)
        self._after_outermost(run)

    def _follow(self, source: str, run: Run) -> None:
        # What memcell itself needs at first is no leak of the user's; but who checks a notebook checks every cell.
        if self._session.leaks.is_thorough or not _ASKS_MEMCELL.fullmatch(source):
            self._session.follow(run)

    def _after_outermost(self, run: Run | None) -> None:
        """What the settings want after a cell, unless it ran inside another."""
        if self._stacks.entries:
            return
        if run is not None:
            self._guarded("automatic cleaning", self._relieve_after, run)
        if self._settings.after_run == "reset":
            self._guarded("reset", self._deep.reset)
        if not self._session.has_looked_for_orphans:
            self._session.has_looked_for_orphans = True
            self._guarded("looking for orphans", self._tell_of_orphans)

    def _show(self, entry: _Entry, run: Run, fresh: FreshReport | None) -> None:
        options, is_outermost = entry.options, not self._stacks.entries
        if is_outermost:
            self._frontend.end_live()
        if options is None:
            # Inside another cell's run the outer line tells it all.
            if is_outermost and self._is_worth_a_line(run):
                self._frontend.show_run(run)
            return
        if not options.quiet:
            self._frontend.show_run(run)
            if fresh is not None:
                self._frontend.show_fresh(fresh)
            if entry.sites is not None:
                self._frontend.show_sites(entry.sites)
            self._frontend.show_picture(run)

    def _tell_of_stop(self, run: Run, error: BaseException | None) -> None:
        variables = functools.partial(variables_at_end, self._shell.user_ns, self._shell.user_ns_hidden, error)
        words = self._session.limits.end_words(error, run.peak_growth_bytes, variables)
        if words is not None:
            self._frontend.show_notice(Notice(words))

    def _clean(self, options: WatchOptions) -> None:
        report = self._session.cleaning.clean()
        if not options.quiet:
            self._frontend.show_report(report)

    def _relieve_stopped(self) -> None:
        """Give back what a stopped cell left, before its remains let the next one be stopped, too.

        Its traceback holds the variables of its functions, partly in cycles; what it freed, or the user has deleted
        since, may lie in the heap.
        """
        report = self._session.cleaning.clean("traceback", "gc", "trim", automatic=True)
        if report.freed_bytes >= NOTABLE_BYTES:
            self.tell(Notice("cleaned: what the stopped cell left, and what was deleted since", report))
        self._was_stopped = not self._session.limits.has_room()

    def _relieve_before(self, source: str, cell: str | None) -> None:
        self.tell(self._session.cleaning.before(source, cell))

    def _relieve_after(self, run: Run) -> None:
        self.tell(self._session.cleaning.after(run))

    def tell(self, notice: Notice | None) -> None:
        """Show what memcell did of its own accord, if it did something and that is wanted."""
        if notice is not None and self._settings.show != "never":
            self._frontend.show_notice(notice)

    def _tell_of_orphans(self) -> None:
        # After the first run, and not while memcell is loaded: it reads the environment of every process of the user.
        orphans = self._session.processes.orphans()
        if orphans and self._settings.show != "never":
            self._frontend.show_orphans(orphans)

    def _is_worth_a_line(self, run: Run) -> bool:
        show = self._settings.show
        return show == "always" or (
            show == "notable"
            and (
                # What %memclean gave back stands in its own table.
                abs(run.retained_bytes + run.cleaned_bytes) >= NOTABLE_BYTES
                or run.peak_growth_bytes >= NOTABLE_BYTES
                or run.children_peak_bytes - run.children_before_bytes >= NOTABLE_BYTES
            )
        )

    def _number(self, info: ExecutionInfo) -> int:
        """The number that the cell will have in ``In``: the shell's own counter may be a step ahead already."""
        if self._stacks.entries and not info.store_history:
            return self._stacks.entries[-1].run.number
        manager = self._shell.history_manager
        if info.store_history and manager is not None:
            return len(manager.input_hist_parsed)
        return self._shell.execution_count

    def _drop_stale(self, entries: list[_Entry]) -> None:
        """Abandon runs whose end was never told, so that they do not stay open for ever.

        A cell that runs inside another has the other's ``run_cell_async`` above it in the call stack; as many cells are
        really running. Not asked where the outer one may be waiting for a task, out of the stack; but a cell of the
        front end comes only when the last has ended.
        """
        running = 0
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            running += frame.f_code.co_name == "run_cell_async"
            frame = frame.f_back
        while len(entries) > max(0, running - 1):
            self._abandon(entries.pop())

    def _abandon(self, entry: _Entry) -> None:
        self._session.meter.abandon(entry.run)
        if entry.fresh is not None:
            entry.fresh.end(None)
        if entry.top is not None:
            entry.top.cancel()

    def _guarded(self, part: str, call: Callable[..., object], *arguments: Any) -> None:
        if part in self._off:
            return
        try:
            call(*arguments)
        except KeyboardInterrupt:
            logger.info("memcell: %s was interrupted", part)
        except Exception as error:
            self._off.add(part)
            logger.warning(
                "memcell: %s failed and is switched off: %s: %s; %%reload_ext memcell switches it on again",
                part,
                type(error).__name__,
                error,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )


def _is_same_cell(one: ExecutionInfo, other: ExecutionInfo) -> bool:
    # A cell that was interrupted early comes back with another info object that says the same.
    return one is other or (one.raw_cell == other.raw_cell and one.cell_id == other.cell_id)
