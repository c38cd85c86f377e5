"""What this shell's front end can show, and showing it there.

The views are imported where they are first needed: ``%load_ext`` is to take some milliseconds only.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from memcell.measure.process import trim_heap
from memcell.records.cleaned import CleanerInfo, CleanReport, Notice

if TYPE_CHECKING:
    from memcell.ipython.deep import Reached
    from memcell.records.deaths import Death
    from memcell.records.explained import AllocationSites, FreshReport, RepeatReport, Verdict
    from memcell.records.measured import Run
    from memcell.records.protected import ChildProcess, EndOutcome, LimitInfo
    from memcell.records.sized import NamespaceSizes
    from memcell.session import Session
    from memcell.view.live import LiveView
    from memcell.view.tables import Table

#: ``terminal``: text only. ``headless``: a kernel whose outputs are collected (nbclient, papermill). ``live``: a
#: kernel with a front end that shows widgets while a cell runs.
Kind = Literal["terminal", "headless", "live"]


def detect_kind(shell: InteractiveShell) -> Kind:
    """What kind of front end a shell has."""
    if not hasattr(shell, "kernel"):
        return "terminal"
    # Set by a Jupyter server for a notebook's kernel; VS Code and Colab start their kernels themselves.
    if os.environ.get("JPY_SESSION_NAME") or "__vsc_ipynb_file__" in shell.user_ns or "google.colab" in sys.modules:
        return "live"
    return "headless"


class Frontend:
    """Shows records in a shell, in the ways its front end knows.

    What is loaded for a picture is left out of the runs that are open meanwhile.
    """

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self._shell = shell
        self._session = session
        self._live: LiveView | None = None

    @property
    def kind(self) -> Kind:
        """What kind of front end this is. VS Code shows itself only with its first cell, so it is asked anew."""
        return detect_kind(self._shell)

    def show_run(self, run: Run) -> None:
        """The summary line."""
        views = self._views()
        limit = self._session.limits.read()
        self._show(views.text.summary_line(run, limit), views.html.summary_html(run, limit))

    def show_picture(self, run: Run) -> None:
        """A static picture of a run, which stays in the notebook. Nothing in a terminal."""
        if self.kind != "terminal":
            with self._session.meter.own():
                from memcell.view.figure import run_png  # loads matplotlib

                self._show_png(run_png(run, self._session.limits.read()), f"<memory of run [{run.number}]>")

    def show_history(self) -> None:
        """A static picture of all runs. Nothing in a terminal, or before the first run."""
        if self.kind != "terminal" and len(self._session.history):
            with self._session.meter.own():
                from memcell.view.figure import png  # loads matplotlib

                runs = tuple(self._session.history)
                self._show_png(png(runs, self._session.limits.read()), f"<memory of {len(runs)} runs>")

    def show_report(self, report: CleanReport) -> None:
        """The table of what cleaners freed."""
        self._show_table(self._views().tables.clean_report(report))

    def show_notice(self, notice: Notice) -> None:
        """One line on what memcell did of its own accord."""
        self._show_lines([self._views().phrases.notice_words(notice)])

    def show_last_death(self) -> None:
        """One line if the last kernel in this folder has died and nobody was told yet."""
        with self._session.meter.own():
            death = self._session.untold_death()
            if death is not None:
                from memcell.view.deaths import death_line

                self.show_notice(Notice(f"{death_line(death)}; %mempostmortem tells more"))

    def show_deaths(self, deaths: Sequence[Death], *, in_full: bool) -> None:
        """What killed kernels: the latest in full, or a line for each."""
        views = self._views()
        if in_full and deaths:
            self._show(views.text.death_report(deaths[0]), views.html.death_html(deaths[0]))
            return
        with self._session.meter.own():
            from memcell.view.deaths import deaths_table
        self._show_table(deaths_table(deaths))

    def show_limit(self, info: LimitInfo) -> None:
        """The session's memory limit."""
        with self._session.meter.own():
            from memcell.view.limits import limit_lines
        _print("\n".join(limit_lines(info)))

    def show_cleaners(self, infos: list[CleanerInfo], *, dry_run: bool = False) -> None:
        """The list of cleaners; of those that would run in a dry run."""
        self._show_table(self._views().tables.cleaners(infos, dry_run=dry_run))

    def show_verdicts(self, verdicts: list[Verdict]) -> None:
        """The cells that were run again: whether they leak, and what holds the growth."""
        self._show_table(self._views().tables.verdicts(verdicts))

    def show_repeat(self, report: RepeatReport) -> None:
        """The verdict of a cell that was repeated."""
        self._show_table(self._views().tables.repeat(report))

    def show_sites(self, sites: AllocationSites) -> None:
        """The allocation sites that retain most."""
        self._show_table(self._views().tables.sites(sites))

    def show_fresh(self, report: FreshReport) -> None:
        """What was dropped before it was rebound, and what was not."""
        self._show_lines(self._views().phrases.fresh_words(report))

    def show_reached(self, reached: Reached, *, dry_run: bool = False) -> None:
        """The variables and modules that went, or would go. Nothing where there are none."""
        tables = self._views().tables
        if reached.variables:
            self._show_table(tables.variables(reached.variables, dry_run=dry_run))
        if reached.modules:
            self._show_table(tables.modules(reached.modules, dry_run=dry_run))
        if dry_run and reached.children:
            self.show_children(reached.children, dry_run=True)
        if reached.ended or (reached.children and not dry_run):
            self.show_ended(reached.ended, reached.children)

    def show_children(
        self, children: Sequence[ChildProcess], orphans: Sequence[ChildProcess] = (), *, dry_run: bool = False
    ) -> None:
        """The processes of this session, or what a clean-up would do with them, and those of dead kernels."""
        self._show_table(self._views().process_tables.children(children, orphans, dry_run=dry_run))

    def show_ended(self, outcomes: Sequence[EndOutcome], left: Sequence[ChildProcess] = ()) -> None:
        """What became of processes that were to be ended, and which of the session are still there."""
        self._show_table(self._views().process_tables.ended(outcomes, left))

    def show_orphans(self, orphans: Sequence[ChildProcess]) -> None:
        """One line on what dead kernels left."""
        self._show_lines([self._views().process_tables.orphans_words(orphans)])

    def show_namespace(self, sizes: NamespaceSizes) -> None:
        """The namespace by size."""
        self._show_table(self._views().tables.memtop(sizes))

    def show_live(self) -> bool:
        """Show the live view in the present cell's output; tells whether this front end can."""
        if self.kind != "live":
            return False
        with self._session.meter.own():
            if self._live is not None and not self._live.is_open:
                self.close_live()
            if self._live is None:
                from memcell.view.live import LiveView  # loads ipywidgets
                from memcell.view.svg import live_svg

                self._live = LiveView(lambda: live_svg(self._session.meter.snapshot()))
            display(self._live.widget)
        self._live.begin()
        return True

    def begin_live(self) -> None:
        """Let the live view, if there is one, move."""
        if self._live is not None:
            self._live.begin()

    def end_live(self) -> None:
        """Let the live view, if there is one, rest, and show what is recorded; unless a run still goes on elsewhere."""
        if self._live is not None and not self._session.meter.open_runs:
            self._live.end()

    def close_live(self) -> bool:
        """Close the live view; tells whether there was one. May be called twice."""
        live, self._live = self._live, None
        if live is not None:
            live.close()
        return live is not None

    def _views(self) -> ModuleType:
        """The package of the views, with those loaded that say and lay out words."""
        with self._session.meter.own():
            from memcell import view
            from memcell.view import html, phrases, process_tables, tables, text  # noqa: F401

            return view

    @staticmethod
    def _show_png(png: bytes, plain: str) -> None:
        # No text/html beside it: it would outrank the picture.
        display({"image/png": base64.b64encode(png).decode(), "text/plain": plain}, raw=True)
        trim_heap()  # drawing leaves megabytes in malloc's free lists

    def _show_table(self, table: Table) -> None:
        views = self._views()
        self._show(views.text.table_text(table), views.html.table_html(table))

    def _show_lines(self, lines: Sequence[str]) -> None:
        self._show("\n".join(lines), self._views().html.lines_html(lines))

    def _show(self, plain: str, rich: str) -> None:
        if self.kind == "terminal":
            _print(plain)  # display() would keep the text in IPython's output history
        else:
            display({"text/plain": plain, "text/html": rich}, raw=True)


def _print(text: str) -> None:
    try:
        print(text)
    except UnicodeEncodeError:  # a terminal that knows few characters
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding))
