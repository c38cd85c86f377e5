"""What ``memcell check`` says, line by line: in a terminal, in the log of a CI run, and in a failed test."""

from __future__ import annotations

from collections.abc import Sequence

from memcell.records.checked import CellCheck, CheckOptions, NotebookCheck, Problem
from memcell.records.explained import Verdict
from memcell.units import MIB, format_bytes, format_duration, format_round
from memcell.view import phrases

_LABEL_WIDTH = 60
_INDENT = " " * 10


def head(path: str, kernel: str, cells: int) -> str:
    """The line above the cells of a notebook."""
    return f"{path} · kernel {kernel} · {phrases.count(cells, 'code cell')}"


def cell_lines(cell: CellCheck, options: CheckOptions) -> list[str]:
    """What is to be said of one cell: its verdict and, where something is wrong, what and how to mend it."""
    verdict = cell.verdict
    parts = [state_words(cell)]
    if verdict is not None and verdict.kind == "growing":
        parts.append(f"{phrases.per_run(verdict)} a run")
        if verdict.runs_until_limit:
            parts.append(f"the limit in {phrases.runs_left(verdict)}")
        parts.append(phrases.sparkline(verdict.levels, 12))
    label = phrases.one_line(cell.label, _LABEL_WIDTH)
    lines = [f"  cell {cell.number:<3} {' · '.join(parts):<22}  {label}"]
    return [*lines, *(f"{_INDENT}{line}" for line in detail_lines(cell, options))]


def detail_lines(cell: CellCheck, options: CheckOptions) -> list[str]:
    """What is to be said of a cell beside its verdict: its error, what holds its growth, how to mend it, its peak."""
    lines = []
    verdict = cell.verdict
    if cell.problem is not None:
        lines.append(f"run {cell.problem.run}: {cell.problem.message}")
    if verdict is not None and verdict.kind == "growing":
        lines += culprit_lines(verdict)
    elif cell.is_undecided and verdict is not None and verdict.note:
        lines.append(verdict.note)
    if cell.is_above(options.limit_bytes):
        lines.append(above_limit(cell, options))
    return lines


def state_words(cell: CellCheck) -> str:
    """What became of a cell, in a word or two: its verdict where there is one."""
    if cell.state == "checked":
        return cell.verdict.kind if cell.verdict is not None else "not measured"
    words = {"not re-runnable": "cannot be re-run", "once": "run once, as tagged", "skipped": "not run, as tagged"}
    state = words.get(cell.state, cell.state)
    return f"growing · {state}" if cell.leaks else state


def culprit_lines(verdict: Verdict) -> list[str]:
    """What holds the growth of a cell, and the line that fixes it."""
    lines = []
    if held_by := phrases.held_by(verdict):
        lines.append(f"held by {held_by}" if verdict.culprits else held_by)
    return [*lines, *(f"to fix it: {fix}" for fix in verdict.fixes)]


def leak_words(verdict: Verdict) -> list[str]:
    """A leak outside notebooks: what grows, how fast, what holds it, and how to mend it."""
    growth = f"{phrases.per_run(verdict)} a run, over {verdict.runs} runs  {phrases.sparkline(verdict.levels, 12)}"
    return [f"{phrases.one_line(verdict.label, _LABEL_WIDTH)} leaks: {growth}", *culprit_lines(verdict)]


def above_limit(cell: CellCheck, options: CheckOptions) -> str:
    """Which run passed the limit, and how far."""
    limit_bytes = options.limit_bytes or 0
    over = format_bytes(cell.total_peak_bytes - limit_bytes)
    children_bytes = 0 if cell.highest_run is None else cell.highest_run.children_peak_bytes
    part = f", {format_bytes(children_bytes)} of it in child processes" if children_bytes >= MIB else ""
    return (
        f"run {cell.total_peak_run} peaked at {format_bytes(cell.total_peak_bytes)}{part}: "
        f"{over} above the limit of {format_bytes(limit_bytes)}"
    )


def problem_line(problem: Problem) -> str:
    """Why a notebook could not be checked to its end."""
    where = "" if problem.cell is None else f"cell {problem.cell}, run {problem.run}: "
    return f"{where}{problem.message}"


def notebook_lines(check: NotebookCheck) -> list[str]:
    """The end of one notebook's lines: why it could not be checked further, and peaks that nobody has told yet."""
    untold = [cell for cell in check.above_limit if cell.state in ("failed", "not checked")]
    lines = [f"  cell {cell.number:<3} {above_limit(cell, check.options)}" for cell in untold]
    if check.problem is not None:
        lines.append(f"{check.path}: {problem_line(check.problem)}")
    elif not check.cells and not check.interrupted:
        lines.append(f"{check.path}: no code cells, nothing to check")
    if check.problem is not None or check.interrupted:
        left = sum(cell.state == "not checked" for cell in check.cells)
        if left:
            lines.append(f"  not checked: {phrases.count(left, 'cell')}")
    return lines


def summary(checks: Sequence[NotebookCheck]) -> str:
    """Everything in one line."""
    cells = [cell for check in checks for cell in check.cells]
    strict = any(check.options.strict for check in checks)
    parts = [
        _several(sum(cell.leaks for cell in cells), "leaks", "leak"),
        _several(sum(len(check.above_limit) for check in checks), "passes the limit", "pass the limit"),
        _several(sum(cell.state == "not re-runnable" for cell in cells), "cannot be re-run", "cannot be re-run"),
        _several(sum(cell.is_undecided for cell in cells), "is undecided", "are undecided"),
        _several(
            sum(check.problem is not None for check in checks),
            "notebook could not be checked to its end",
            "notebooks could not be checked to their end",
        ),
    ]
    found = ", ".join(filter(None, parts)) or ("nothing leaks" if cells else "nothing to check")
    if any(check.interrupted for check in checks):
        found += "; interrupted"
    elif strict and any(check.doubtful for check in checks):
        found += "; strict, so that fails"
    size = f"{phrases.count(len(checks), 'notebook')}, {phrases.count(len(cells), 'cell')}"
    highest = max((cell.total_peak_bytes for cell in cells), default=0)
    peak = f", highest peak {format_round(highest)}" if highest else ""
    return f"{size}: {found}{peak}, {format_duration(sum(check.duration_s for check in checks))}"


def _several(number: int, one: str, many: str) -> str:
    return phrases.count(number, one, many) if number else ""
