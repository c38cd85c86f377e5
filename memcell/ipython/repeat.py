"""``%%memwatch --repeat N``: runs a cell several times in a row, and says whether it leaks.

Every run is one of the shell's own, in the user's namespace, and counts for the same cell run by hand; but only the
first one shows what it shows, and none is numbered anew: ``In``, ``Out`` and ``_`` are as after one run.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

from memcell.errors import error_words
from memcell.ipython.hooks import Asked, Hooks
from memcell.ipython.progress import Progress
from memcell.ipython.semicolon import Semicolon
from memcell.ipython.shown import raise_shown
from memcell.ipython.silence import Silence
from memcell.ipython.stopping import is_in_event_loop
from memcell.ipython.watching import WatchOptions, needs_await
from memcell.records.explained import AllocationSites, FreshReport, RepeatReport
from memcell.runs import outcome_of

if TYPE_CHECKING:
    from memcell.ipython.frontend import Frontend
    from memcell.ipython.tracing import Top
    from memcell.records.measured import Run
    from memcell.session import Session

#: So many runs are all measured thoroughly; of more, some are, and the others as far as it takes no more than this
#: part of the time that the cell itself takes.
_ALL_MEASURED = 8
_MEASURING_SHARE = 0.25


class Repeat:
    """One use of the option.

    Args:
        shell: The shell.
        session: The session of this process.
        frontend: Shows what comes of it.
        hooks: Measure the runs.
        options: What was asked for.
        cell: The cell, without the line of the magic.
        make_top: Starts to trace allocations, given the number of the cell and how many sites to tell.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        frontend: Frontend,
        hooks: Hooks,
        options: WatchOptions,
        cell: str,
        make_top: Callable[[int, int], Top],
    ) -> None:
        self._shell = shell
        self._session = session
        self._frontend = frontend
        self._hooks = hooks
        self._options = options
        self._cell = cell
        self._make_top = make_top
        self._top: Top | None = None
        self._wanted = options.repeat or 1
        self._silence = Silence(shell)
        self._semicolon = Semicolon(shell, cell)
        self._progress: Progress | None = None
        self._runs: list[Run] = []
        self._key = ""
        self._fresh: FreshReport | None = None
        self._error: BaseException | None = None
        self._unshown: BaseException | None = None
        self._is_told = self._has_ended = self._is_reported = False
        self._running_s = self._measuring_s = 0.0
        self._began = time.perf_counter()
        self._cell_id: str | None = None
        self._number = 0

    def start(self) -> Awaitable[None] | None:
        """Run the cell; returns what is to be awaited if the cell awaits.

        Raises:
            UsageError: The cell awaits where the loop that would run it is running already, or is repeated already.
        """
        if self._hooks.is_repeating:
            raise UsageError("%%memwatch --repeat: it cannot be used inside a cell that is being repeated")
        awaits = needs_await(self._shell, self._cell)
        own = self._hooks.repeat_instead(self._end)
        if own is None and awaits and is_in_event_loop():
            raise UsageError(
                "%%memwatch --repeat: a cell with await cannot be repeated from inside other code; "
                "make %%memwatch its first line"
            )
        self._cell_id, self._number = own or (None, self._shell.execution_count)
        if own is not None and awaits:
            return self._run_awaiting()
        with self._all_runs():
            while not self._has_ended:
                with self._one_run():
                    result = self._shell.run_cell(self._cell, store_history=False, cell_id=self._cell_id)
                    self._note_end(result)
        self._end(None)
        if own is None:
            self._hooks.note_failure(self._error)
        self._show_interrupt()
        return None

    def _show_interrupt(self) -> None:
        """A Ctrl-C in a run was shown with it; one that came while memcell worked was not."""
        if self._unshown is not None:
            raise_shown(self._unshown, ["KeyboardInterrupt"])

    async def _run_awaiting(self) -> None:
        """The same for a cell with ``await``, in the loop that is running."""
        shell, cell = self._shell, self._cell
        with self._all_runs():
            while not self._has_ended:
                with self._one_run():
                    result = await shell.run_cell_async(
                        cell, store_history=False, transformed_cell=shell.transform_cell(cell), cell_id=self._cell_id
                    )
                    if self._is_reported:  # left in a loop that was interrupted, and resumed by the next cell's
                        return
                    # Who awaits the shell's coroutine has to tell of the end himself.
                    shell.events.trigger("post_execute")
                    shell.events.trigger("post_run_cell", result)
                    self._note_end(result)
        self._end(None)
        self._show_interrupt()

    @contextmanager
    def _all_runs(self) -> Iterator[None]:
        self._progress = None if self._options.quiet else Progress(self._frontend.kind, self._wanted)
        self._show_progress()
        try:
            began = time.perf_counter()
            with self._session.meter.own():
                self._session.leaks.warm_up()
            self._measuring_s += time.perf_counter() - began
            if self._options.top:
                self._top = self._make_top(self._number, self._options.top)
        except KeyboardInterrupt as error:
            self._error, self._has_ended, self._unshown = error, True, error
        try:
            yield
        except KeyboardInterrupt as error:  # between two runs
            self._error = self._unshown = error

    @contextmanager
    def _one_run(self) -> Iterator[None]:
        """What stands around each run: its number is that of the whole cell, and all but the first are silent."""
        before = self._shell.execution_count
        self._is_told = False
        options = replace(self._options, repeat=None, output=None, quiet=True, clean=False, top=None)
        # The shell reads the number for its tracebacks, then tells of the cell; for the prompt it counts on its own.
        self._hooks.expect(Asked(options, lambda: setattr(self._shell, "execution_count", before), self._note))
        self._shell.execution_count = self._number
        try:
            with self._semicolon, self._silence if self._runs else nullcontext():
                yield
        finally:
            if not self._is_reported:
                self._shell.execution_count = before
                self._hooks.expect(None)
        if not self._has_ended:
            self._show_progress()

    def _note(self, run: Run, fresh: FreshReport | None) -> None:
        """A run has been recorded."""
        self._is_told, self._fresh, self._key = True, fresh, run.cell
        self._running_s += run.duration_s
        if run.outcome != "ok":
            return
        began = time.perf_counter()
        try:
            with self._session.meter.own():
                run = self._session.follow(run, **self._due(len(self._runs) + 1))
        except KeyboardInterrupt as error:
            self._error = self._unshown = error
        self._runs.append(run)
        self._measuring_s += time.perf_counter() - began

    def _due(self, number: int) -> dict[str, bool]:
        """What to find out after this run, whatever it costs."""
        thirds = {1, ceil(self._wanted / 3), ceil(2 * self._wanted / 3), self._wanted}
        is_cheap = self._measuring_s < _MEASURING_SHARE * self._running_s
        is_due = self._wanted <= _ALL_MEASURED or number in thirds or is_cheap
        # While allocations are traced, counting is slow: once, and again when they no longer are.
        return {"settle": is_due, "count": is_due if self._top is None else number == 1}

    def _note_end(self, result: ExecutionResult) -> None:
        self._error = result.error_before_exec or result.error_in_exec or self._error
        self._has_ended = self._error is not None or not self._is_told or len(self._runs) >= self._wanted

    def _show_progress(self, *, ended: bool = False) -> None:
        if self._progress is not None:
            kept_bytes = sum(run.retained_bytes + run.cleaned_bytes for run in self._runs)
            self._progress.show(len(self._runs), kept_bytes, ended=ended)

    def _end(self, result: ExecutionResult | None) -> None:
        """Say what came of it, once; and let the cell end as its last run did.

        Args:
            result: That of the cell with the magic, where there is one and it is over.
        """
        if not self._is_reported:
            self._is_reported = True
            self._silence.end()
            self._semicolon.end()
            if not self._has_ended and result is not None:  # a loop that was interrupted forgets what it ran
                self._error = result.error_in_exec
            self._report()
        if result is not None and self._error is not None and result.success:
            result.error_in_exec = self._error
            self._shell.last_execution_succeeded = False

    def _report(self) -> None:
        options, session = self._options, self._session
        self._show_progress(ended=True)
        began = time.perf_counter()
        sites = self._end_top()
        verdict = session.leaks.verdict(self._key) if self._runs else None
        self._measuring_s += time.perf_counter() - began
        report = RepeatReport(
            runs=tuple(self._runs),
            wanted=self._wanted,
            verdict=verdict,
            duration_s=time.perf_counter() - self._began,
            measuring_s=self._measuring_s,
            outcome=outcome_of(self._error) if self._error is not None or self._is_told else "error",
            error=self._why(),
            sites=sites,
        )
        if options.output:
            self._shell.user_ns[options.output] = report
        if not options.quiet:
            self._frontend.show_repeat(report)
            if sites is not None:
                self._frontend.show_sites(sites)
            if self._fresh is not None:
                self._frontend.show_fresh(self._fresh)
        if options.clean:
            cleaned = session.cleaning.clean()
            if not options.quiet:
                self._frontend.show_report(cleaned)

    def _end_top(self) -> AllocationSites | None:
        top, self._top = self._top, None
        if top is None:
            return None
        try:
            return top.end(None, max(1, len(self._runs)))
        finally:
            top.cancel()

    def _why(self) -> str:
        if self._error is not None:
            return error_words(self._error)
        return "" if self._is_told else "no measurement: memcell was unloaded, or its measuring is switched off"
