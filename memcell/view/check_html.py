"""The page of ``memcell check --html``: needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from memcell.records.checked import CellCheck, NotebookCheck
from memcell.records.measured import Limit
from memcell.units import format_round
from memcell.view import check_text, colours, drawing, phrases
from memcell.view.drawing import escape
from memcell.view.html import document
from memcell.view.svg import level_svg

_CHART_PX = 1000
_CURVE_PX, _CURVE_HEIGHT_PX = 150, 34
#: The full height of a curve is this at least, so that noise looks like noise.
_SPAN_BYTES = 8 << 20
_RULE = f"border-bottom:1px solid {drawing.RULE}"
_CELL = f"padding:7px 14px 7px 0;vertical-align:top;text-align:left;{_RULE}"


def page(checks: Sequence[NotebookCheck]) -> str:
    """The page: a section for each notebook, in it a row for each cell and the level of its kernel over time."""
    body = [f"<p>{escape(check_text.summary(checks))}</p>", *map(_notebook, checks)]
    return document("memcell check", "\n".join(body))


def _notebook(check: NotebookCheck) -> str:
    runs = sorted((run for cell in check.cells for run in cell.runs), key=lambda run: run.started)
    parts = [f"<h2>{escape(check.path)}</h2>"]
    parts += (f"<p>{escape(line.strip())}</p>" for line in check_text.notebook_lines(check))
    if check.cells:
        heads = "".join(
            f'<th style="{_CELL};color:{drawing.MUTED};font-weight:600;white-space:nowrap">{head}</th>'
            for head in ("cell", "verdict", "memory over its runs", "runs", "peak", "source, and what holds the growth")
        )
        rows = "".join(_row(cell, check) for cell in check.cells)
        parts.append(
            '<div class="wide"><table style="border-collapse:collapse;width:100%;font-size:14px">'
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    if runs:
        limit = Limit(check.options.limit_bytes, None, "check")
        parts.append(f"<figure>{level_svg(runs, limit, _CHART_PX)}</figure>")
    return "\n".join(parts)


def _row(cell: CellCheck, check: NotebookCheck) -> str:
    is_above = cell.is_above(check.options.limit_bytes)
    colour = colours.LIMIT if cell.leaks or is_above or cell.state == "failed" else drawing.INK
    words = [check_text.state_words(cell)]
    if cell.leaks and cell.verdict is not None:
        words.append(f"{phrases.per_run(cell.verdict)} a run")
    if is_above:
        words.append("above the limit")
    fields = (
        str(cell.number),
        f'<span style="color:{colour};font-weight:600">{"<br>".join(map(escape, words))}</span>',
        curve(cell),
        str(len(cell.runs)),
        format_round(cell.total_peak_bytes) if cell.runs else "",
    )
    figures = "".join(f'<td style="{_CELL};white-space:nowrap">{field}</td>' for field in fields)
    return f'<tr>{figures}<td style="{_CELL}">{_details(cell, check)}</td></tr>'


def _details(cell: CellCheck, check: NotebookCheck) -> str:
    """The source of a cell and, below it, what is to be said of it beside its verdict."""
    lines = [f"<code>{escape(phrases.one_line(cell.label, 100))}</code>"]
    more = check_text.detail_lines(cell, check.options)
    lines += (f'<div style="color:{drawing.MUTED};margin-top:3px">{escape(line)}</div>' for line in more)
    return "".join(lines)


def curve(cell: CellCheck) -> str:
    """What the runs of a cell added up to, as a small picture; nothing for a cell that was not judged."""
    levels = cell.verdict.levels if cell.verdict is not None else ()
    if len(levels) < 2:
        return ""
    low = min(0, *levels)
    xs = drawing.Scale(0, len(levels) - 1, 3, _CURVE_PX - 3)
    ys = drawing.Scale(low, max(low + _SPAN_BYTES, *levels), _CURVE_HEIGHT_PX - 4, 4)
    path = drawing.points((xs(number) for number in range(len(levels))), map(ys, levels))
    colour = colours.LIMIT if cell.leaks else drawing.KERNEL
    body = [
        drawing.line(0, ys(0), _CURVE_PX, ys(0), colour="var(--jp-border-color2, currentColor)"),
        drawing.curve(path, colour=colour, width=1.8),
        drawing.dot(xs(len(levels) - 1), ys(levels[-1]), 2.6, colour=colour),
    ]
    described = f"{check_text.state_words(cell)}, {len(levels)} runs, up to {format_round(max(levels))}"
    picture = drawing.document(_CURVE_PX, _CURVE_HEIGHT_PX, f"Memory of cell {cell.number}", described, body)
    return f'<div style="width:{_CURVE_PX}px">{picture}</div>'
