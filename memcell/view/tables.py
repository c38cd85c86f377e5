"""Records to tables of text: what a table says. How it looks is in ``text`` and ``html``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memcell.records.cleaned import CleanerInfo, CleanOutcome, CleanReport, ModuleOutcome, Variable
from memcell.records.explained import AllocationSites, RepeatReport, Verdict
from memcell.records.measured import Run
from memcell.records.sized import NamespaceSizes
from memcell.units import format_bytes, format_duration, format_round
from memcell.view import phrases


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its head and its cells from top to bottom.

    ``figures`` are aligned right; ``prose`` may be broken into lines where room is short.
    """

    head: str
    cells: tuple[str, ...]
    figures: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table and the lines that stand under it."""

    columns: tuple[Column, ...]
    lines: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells row by row, without the heads."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def column(head: str, cells: Iterable[str], *, figures: bool = False, prose: bool = False) -> Column:
    """A column of cells, from top to bottom."""
    return Column(head, tuple(cells), figures, prose)


def with_content(*columns: Column) -> tuple[Column, ...]:
    """Leave out the columns in which no row says anything."""
    return tuple(each for each in columns if any(each.cells))


def clean_report(report: CleanReport) -> Table:
    """What each cleaner freed, and the level before and after all of them."""
    outcomes = report.outcomes
    columns = with_content(
        column("cleaner", (phrases.one_line(outcome.name, 40) for outcome in outcomes)),
        column("freed", (phrases.freed(outcome) for outcome in outcomes), figures=True),
        column(
            "objects",
            ("" if outcome.objects is None else f"{outcome.objects:,}" for outcome in outcomes),
            figures=True,
        ),
        column("time", (_duration(outcome) for outcome in outcomes), figures=True),
        column("error", (phrases.one_line(outcome.error or "", 100) for outcome in outcomes), prose=True),
    )
    difference = format_bytes(report.freed_bytes)
    change = f"{difference[1:]} more than before" if difference.startswith("-") else f"{difference} freed"
    collected = f", {report.objects:,} objects collected" if report.objects else ""
    levels = f"{format_bytes(report.before_bytes)} → {format_bytes(report.after_bytes)}"
    lines = [f"{levels}: {change}{collected}, {format_duration(report.duration_s)}"]
    if not outcomes:
        lines.insert(0, "no cleaner ran")
    if report.interrupted:
        lines.append("interrupted: the cleaners that had not begun did not run")
    if report.note:
        lines.append(phrases.one_line(report.note, 200))
    return Table(columns, tuple(lines))


def _duration(outcome: CleanOutcome) -> str:
    return "" if outcome.freed_bytes is None and not outcome.duration_s else format_duration(outcome.duration_s)


def cleaners(infos: Sequence[CleanerInfo], *, dry_run: bool = False) -> Table:
    """The cleaners that there are or, for a dry run, what each of them would do."""
    columns = with_content(
        column("cleaner", (phrases.one_line(info.name, 40) for info in infos)),
        column("effect", ("" if info.source == "available" else info.effect for info in infos)),
        column("source", (_source(info) for info in infos)),
        column(
            "would free" if dry_run else "size",
            ("" if info.size_bytes is None else format_bytes(info.size_bytes) for info in infos),
            figures=True,
        ),
        column("would run" if dry_run else "", (_remark(info, dry_run=dry_run) for info in infos), prose=True),
    )
    if not infos:
        return Table(columns, ("no cleaner to run" if dry_run else "no cleaners",))
    if not dry_run:
        return Table(columns)
    runnable = [info for info in infos if _would_run(info)]
    known = [info.size_bytes for info in runnable if info.size_bytes is not None]
    line = f"{phrases.count(len(runnable), 'cleaner')} would run"
    if known:
        line += f"; known to free: {format_bytes(sum(known))}"
    return Table(columns, (f"{line}; nothing was cleaned",))


def _source(info: CleanerInfo) -> str:
    owner = phrases.one_line(info.owner, 40)
    return f"{info.source}, {owner}" if owner and owner != info.name else info.source


def _would_run(info: CleanerInfo) -> bool:
    return info.ready and info.source != "available"


def _remark(info: CleanerInfo, *, dry_run: bool) -> str:
    """The last column: why a cleaner does not run, how it can be made to, or what it does."""
    no = "no: " if dry_run else ""
    if info.source == "available":
        name = phrases.one_line(info.name, 60)
        return f'{no}not registered; memcell.register("{name}", {name}.clear_caches)'
    if not info.ready:
        # A built-in cleaner has the name of the library that it clears; any other one clears its owner's.
        library = info.name.partition(".")[0] if info.source == "built-in" else info.owner or info.name
        return f"{no}{phrases.one_line(library, 40)} is not imported"
    return "yes" if dry_run else phrases.one_line(info.about, 80)


def verdicts(found: Sequence[Verdict]) -> Table:
    """One row per cell that was run again; under them the line that fixes each growing one."""
    if not found:
        return Table((), ("no cell was run twice yet; run one again, then ask again",))
    columns = with_content(
        column("verdict", (verdict.kind for verdict in found)),
        column("per run", (phrases.per_run(verdict) for verdict in found), figures=True),
        column("runs", (str(verdict.runs) for verdict in found), figures=True),
        column("limit in", (phrases.runs_left(verdict) for verdict in found), figures=True),
        column("sure", (f"{verdict.confidence:.0%}" if verdict.confidence else "" for verdict in found), figures=True),
        column("curve", (phrases.sparkline(verdict.levels, 12) for verdict in found)),
        column("cell", phrases.labels(found)),
        column("held by", (phrases.held_by(verdict) for verdict in found), prose=True),
    )
    fixes = dict.fromkeys(fix for verdict in found for fix in verdict.fixes)
    return Table(columns, ("to fix it:", *fixes) if fixes else ())


def repeat(report: RepeatReport) -> Table:
    """The verdict of a cell that was run several times in a row, and how that went."""
    outcome = phrases.repeat_outcome(report)
    if report.verdict is None:
        return Table((), (f"{outcome}; a verdict takes two runs at the least",))
    table = verdicts([report.verdict])
    return Table(table.columns, (*table.lines, outcome))


def sites(found: AllocationSites) -> Table:
    """The allocation sites that retain most."""
    rows = found.sites
    columns = with_content(
        column("allocated at", (phrases.one_line(site.where, 60) for site in rows)),
        column("in", (phrases.one_line(site.function, 40) for site in rows)),
        column("called from", (phrases.one_line(site.called_from, 40) for site in rows)),
        column("held", (format_bytes(site.size_bytes) for site in rows), figures=True),
        column("blocks", (f"{site.count:,}" for site in rows), figures=True),
    )
    return Table(columns, (phrases.traced(found),))


def variables(removed: Sequence[Variable], *, dry_run: bool = False) -> Table:
    """The variables that were removed or, for a dry run, would be. Sizes are approximate, and the table says so."""
    columns = with_content(
        column("variable", (phrases.one_line(variable.name, 40) for variable in removed)),
        column("type", (phrases.one_line(variable.type_name, 40) for variable in removed)),
        column(
            "about",
            ("" if variable.size_bytes is None else format_bytes(variable.size_bytes) for variable in removed),
            figures=True,
        ),
    )
    gone = phrases.count(len(removed), "variable")
    return Table(columns, (f"{gone} {'would be removed' if dry_run else 'removed'}",))


def modules(outcomes: Sequence[ModuleOutcome], *, dry_run: bool = False) -> Table:
    """The modules that were dropped and those that stay, with the reason."""
    drop, stay = ("would go", "would stay") if dry_run else ("dropped", "stays")
    columns = with_content(
        column("module", (phrases.one_line(outcome.name, 40) for outcome in outcomes)),
        column("modules", (str(outcome.count) for outcome in outcomes), figures=True),
        column("", (drop if outcome.dropped else stay for outcome in outcomes)),
        column("why", (phrases.one_line(outcome.note, 100) for outcome in outcomes), prose=True),
    )
    return Table(columns)


def memtop(sizes: NamespaceSizes) -> Table:
    """The largest objects of the namespace, what else holds them, and what was not counted."""
    entries = sizes.entries
    columns = with_content(
        column("variable", (phrases.one_line(entry.name, 40) for entry in entries)),
        column("type", (phrases.one_line(entry.type_name, 40) for entry in entries)),
        column(
            "size", (phrases.object_size(entry.size_bytes, complete=entry.complete) for entry in entries), figures=True
        ),
        column("shared with", (phrases.names(entry.shared_with) for entry in entries), prose=True),
        column("also held by", (phrases.names(entry.also_held_by) for entry in entries), prose=True),
        column("del helps?", (phrases.del_helps(entry) for entry in entries)),
        column("note", (phrases.one_line(entry.note, 80) for entry in entries), prose=True),
    )
    lines = [phrases.namespace_total(sizes)]
    lines += (
        f"memcell.shared {phrases.one_line(info.name, 60)}: {format_bytes(info.size_bytes)}, "
        f"{format_duration(info.age_s)} old, {info.hits} hits{'' if info.cell is None else f', built in [{info.cell}]'}"
        for info in sizes.shared
    )
    return Table(columns, tuple(lines))


def runs(history: Sequence[Run]) -> Table:
    """One row per run, oldest first."""
    columns = with_content(
        column("run", (f"[{run.number}]" for run in history), figures=True),
        column("kept", (format_bytes(run.retained_bytes, sign=True) for run in history), figures=True),
        column("peak", (phrases.peak(run) for run in history), figures=True),
        column("children", (phrases.children(run) for run in history), figures=True),
        column("cleaned", (phrases.cleaned(run) for run in history), figures=True),
        column("time", (format_duration(run.duration_s) for run in history), figures=True),
        column("kernel", (format_round(run.after_bytes) for run in history), figures=True),
        column("curve", (phrases.run_sparkline(run, 12) for run in history)),
        column("outcome", ("" if run.outcome == "ok" else run.outcome for run in history)),
        column("cell", (phrases.one_line(run.source_line, 44) for run in history), prose=True),
    )
    return Table(columns, () if history else ("no runs yet",))
