"""Plain text: the summary line, tables for a terminal, and the line for a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memcell.records.cleaned import CleanReport
from memcell.records.measured import Limit, Run
from memcell.units import MIB
from memcell.view import tables
from memcell.view.phrases import run_sparkline, summary_parts

if TYPE_CHECKING:
    from memcell.records.deaths import Death


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


def table_text(table: tables.Table) -> str:
    """A table for a terminal: figures at the right, words at the left; the heads are underlined."""
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


def log_line(report: CleanReport) -> str:
    """The line that goes to the log for each clean-up: always in MiB, so that a program can read it."""
    before, after, freed = (_mib(size) for size in (report.before_bytes, report.after_bytes, report.freed_bytes))
    return f"Memory cleanup: Before={before}, After={after}, Freed={freed}, Objects={report.objects}"


def _mib(size: int) -> str:
    return f"{round(size / MIB, 1) + 0.0:.1f}MiB"  # + 0.0 turns a rounded -0.0 into 0.0


def _aligned(pairs: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"  {name:<{width}}  {words}" for name, words in pairs)
