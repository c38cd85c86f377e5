"""Plain text: the summary line, tables for a terminal, and the line for a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memcell.records.cleaned import CleanerInfo, CleanReport, ModuleOutcome, Notice, Variable
from memcell.records.explained import AllocationSites, FreshReport, RepeatReport, Verdict
from memcell.records.measured import Limit, Run
from memcell.records.protected import ChildProcess, EndOutcome
from memcell.records.sized import NamespaceSizes
from memcell.units import MIB
from memcell.view import process_tables, tables
from memcell.view.phrases import fresh_words, notice_words, repeat_progress, run_sparkline, sparkline, summary_parts

if TYPE_CHECKING:
    from memcell.records.deaths import Death

__all__ = [
    "children_table",
    "clean_table",
    "cleaners_table",
    "death_report",
    "deaths_table",
    "ended_table",
    "fresh_lines",
    "left_line",
    "log_line",
    "memtop_table",
    "modules_table",
    "notice_line",
    "orphans_line",
    "orphans_table",
    "progress_line",
    "repeat_table",
    "runs_table",
    "sites_table",
    "sparkline",
    "summary_line",
    "variables_table",
    "verdicts_table",
]


def summary_line(run: Run, limit: Limit | None = None) -> str:
    """What a run cost, in one line.

    ``[3] +105.2 MiB kept · peak +310.0 MiB · 1.24 s · kernel 612 MiB of 24 GiB  ▁▂▃▅▆▇█``

    Args:
        run: The run.
        limit: The memory limit that applies, if one is known.

    Returns:
        One line, with a sparkline where the run was long enough to be sampled.
    """
    curve = run_sparkline(run)
    return f"[{run.number}] {' · '.join(summary_parts(run, limit))}{'  ' if curve else ''}{curve}"


def notice_line(notice: Notice) -> str:
    """What memcell did of its own accord, and why, in one line."""
    return notice_words(notice)


def clean_table(report: CleanReport) -> str:
    """What each cleaner measurably freed, then the level before and after."""
    return _plain(tables.clean_report(report))


def cleaners_table(infos: Sequence[CleanerInfo], *, dry_run: bool = False) -> str:
    """The cleaners that there are or, for a dry run, what each of them would do."""
    return _plain(tables.cleaners(infos, dry_run=dry_run))


def variables_table(variables: Sequence[Variable], *, dry_run: bool = False) -> str:
    """The variables that were removed or, for a dry run, would be."""
    return _plain(tables.variables(variables, dry_run=dry_run))


def modules_table(modules: Sequence[ModuleOutcome], *, dry_run: bool = False) -> str:
    """The modules that were dropped and those that stay or, for a dry run, would be and would stay."""
    return _plain(tables.modules(modules, dry_run=dry_run))


def memtop_table(sizes: NamespaceSizes) -> str:
    """The largest objects of the namespace, and what else holds them."""
    return _plain(tables.memtop(sizes))


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    """The cells that were run again: verdict, growth and culprit, then the lines that fix it."""
    return _plain(tables.verdicts(verdicts))


def repeat_table(report: RepeatReport) -> str:
    """The verdict of a cell that was run several times in a row."""
    return _plain(tables.repeat(report))


def sites_table(sites: AllocationSites) -> str:
    """The allocation sites that retain most."""
    return _plain(tables.sites(sites))


def fresh_lines(report: FreshReport) -> str:
    """What was dropped before it was rebound, and what was not."""
    return "\n".join(fresh_words(report))


def progress_line(done: int, wanted: int, kept_bytes: int, *, ended: bool = False) -> str:
    """How far a repeated cell has got."""
    return repeat_progress(done, wanted, kept_bytes, ended=ended)


def children_table(
    children: Sequence[ChildProcess], orphans: Sequence[ChildProcess] = (), *, dry_run: bool = False
) -> str:
    """The processes that cells started and those of dead kernels or, for a dry run, which of them would be ended."""
    return _plain(process_tables.children(children, orphans, dry_run=dry_run))


def orphans_table(orphans: Sequence[ChildProcess]) -> str:
    """The processes that dead kernels left, for a shell."""
    return _plain(process_tables.orphans(orphans))


def ended_table(outcomes: Sequence[EndOutcome], left: Sequence[ChildProcess] = ()) -> str:
    """What became of processes that were to be ended, and which are still there."""
    return _plain(process_tables.ended(outcomes, left))


def orphans_line(orphans: Sequence[ChildProcess]) -> str:
    """What dead kernels left, in one line, with the next step."""
    return process_tables.orphans_words(orphans)


def left_line(left: Sequence[ChildProcess]) -> str:
    """For the log of a kernel that ends: the processes that stay, in one line."""
    return process_tables.left_words(left)


def death_report(death: Death, now: float | None = None) -> str:
    """All that is known of the death of a process: what it ran, how its memory went, and what to try next.

    Args:
        death: What its black box tells.
        now: The time, in seconds since the epoch; for tests.
    """
    from memcell.view import deaths as death_words  # here, because few sessions ever show one
    from memcell.view.last_minute import last_minute_text

    blocks = [f"The {death_words.who(death)} died {death_words.where(death)}, {death_words.ago(death, now)}."]
    if death.run is not None and not death.run.is_block:
        blocks.append("\n".join(f"    {line}".rstrip() for line in death_words.source_lines(death.run)))
    blocks.append(_aligned(death_words.facts(death)))
    blocks.append(last_minute_text(death))
    if advice := death_words.advice(death):
        blocks.append(f"What to try next:\n{_aligned(advice)}")
    return "\n\n".join(filter(None, blocks))


def deaths_table(deaths: Sequence[Death], now: float | None = None) -> str:
    """One line per death, the latest first."""
    from memcell.view import deaths as death_words

    return _plain(death_words.deaths_table(deaths, now))


def runs_table(runs: Sequence[Run]) -> str:
    """One line per run, oldest first."""
    return _plain(tables.runs(runs))


def log_line(report: CleanReport) -> str:
    """The line that goes to the log for each clean-up: always in MiB, so that a program can read it."""
    before, after, freed = (_mib(size) for size in (report.before_bytes, report.after_bytes, report.freed_bytes))
    return f"Memory cleanup: Before={before}, After={after}, Freed={freed}, Objects={report.objects}"


def _mib(size: int) -> str:
    return f"{round(size / MIB, 1) + 0.0:.1f}MiB"  # + 0.0 turns a rounded -0.0 into 0.0


def _aligned(pairs: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"  {name:<{width}}  {words}" for name, words in pairs)


def _plain(table: tables.Table) -> str:
    """Align the columns: figures at the right, words at the left; the heads are underlined."""
    widths = [max(map(len, (column.head, *column.cells))) for column in table.columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column.figures else cell.ljust(width)
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        )
        return "  ".join(padded).rstrip()

    lines = []
    if table.columns:
        lines = [line([column.head for column in table.columns]), line(["─" * width for width in widths])]
        lines += map(line, table.rows)
    return "\n".join([*lines, *table.lines])
