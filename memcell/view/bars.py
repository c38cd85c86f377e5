"""The bars of retained memory and peak growth per run, re-runs of one cell side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memcell.records.measured import Limit, Run
from memcell.units import MIB
from memcell.view import colours, drawing
from memcell.view.phrases import one_line
from memcell.view.text import summary_line
from memcell.view.ticks import size_ticks

#: How pale the peak growth is beside what was kept.
PEAK_OPACITY = 0.4
#: The axis spans this at least, so that noise does not look like a mountain.
_SPAN_BYTES = 8 * MIB
_WIDEST_SLOT_PX = 38
#: The gap between two cells and the width of a bar, as parts of a bar's slot.
_GAP = 0.7
_BAR = 0.84
_DIGIT_PX = 5.4


@dataclass(frozen=True, slots=True)
class _Bar:
    run: Run
    middle: float
    label: str
    is_last_of_cell: bool

    @property
    def label_half(self) -> float:
        return len(self.label) * _DIGIT_PX / 2 + 1.5


def cells(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs by their cell; the cell that ran last comes last, and a cell's runs keep their order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        # Taken out and put back: a dict keeps the order of insertion, here that of the latest run.
        group = groups.pop(run.cell, [])
        group.append(run)
        groups[run.cell] = group
    return list(groups.values())


def bars(runs: Sequence[Run], limit: Limit | None, *, left: float, right: float, top: float, bottom: float) -> str:
    """Draw the bars, with the numbers of the runs and the sources of the cells in the 34 pixels below ``bottom``.

    Args:
        runs: At least one run, oldest first; as many as there is room for.
        limit: The limit, for the tooltips.
        left: Where the plot begins; the sizes stand left of it.
        right: Where it ends.
        top: Its upper edge.
        bottom: Its lower edge.
    """
    low = min(0, *(run.retained_bytes for run in runs))
    high = max(0, *(max(run.peak_growth_bytes, run.retained_bytes) for run in runs))
    high = max(high, low + _SPAN_BYTES)
    scale = drawing.Scale(low, high, bottom, top)
    groups = cells(runs)
    slot = min((right - left) / (len(runs) + _GAP * (len(groups) - 1)), _WIDEST_SLOT_PX)

    parts = [drawing.level_axis(size_ticks(low, high), scale, left, right)]
    placed: list[_Bar] = []
    begins: list[float] = []
    x = left
    for group in groups:
        begins.append(x)
        for run in group:
            bar = _Bar(run, x + slot / 2, f"[{run.number}]", run is group[-1])
            placed.append(bar)
            parts.append(_bar(bar, limit, scale, slot * _BAR))
            x += slot
        x += slot * _GAP
    zero = scale(0)
    parts.append(drawing.line(left, zero, right, zero, colour=drawing.MUTED))
    parts.append(_numbers(placed, bottom + 13))
    ends = [*begins[1:], right + slot * _GAP]
    for group, begin, end in zip(groups, begins, ends, strict=True):
        parts.append(_cell_label(group, begin, end - slot * _GAP, slot, bottom + 19))
    return "".join(parts)


def _bar(bar: _Bar, limit: Limit | None, scale: drawing.Scale, width: float) -> str:
    """One run: the peak growth pale behind what was kept, and a tooltip over the whole height."""
    run = bar.run
    x = bar.middle - width / 2
    top = min(scale(run.peak_growth_bytes), scale(run.retained_bytes), scale(0))
    mark = ""
    if run.outcome != "ok":
        mark = drawing.text(bar.middle, top - 2, "×", size=13, colour=colours.LIMIT, anchor="middle", bold=True)
    tooltip = f"{one_line(run.source_line)}\n{summary_line(run, limit)}"
    hover = drawing.rectangle(x, scale.high_px, width, scale.low_px - scale.high_px, colour=drawing.KERNEL, opacity=0)
    return (
        f"<g><title>{drawing.escape(tooltip)}</title>{hover}"
        f"{_block(x, width, scale, run.peak_growth_bytes, PEAK_OPACITY)}"
        f"{_block(x, width, scale, run.retained_bytes, 1)}{mark}</g>"
    )


def _block(x: float, width: float, scale: drawing.Scale, size: int, opacity: float) -> str:
    y, zero = scale(size), scale(0)
    return drawing.rectangle(x, min(y, zero), width, abs(zero - y), colour=drawing.KERNEL, opacity=opacity)


def _numbers(placed: Sequence[_Bar], y: float) -> str:
    """The numbers of the runs as far as they fit, the last one of each cell first, from the newest on."""
    parts: list[str] = []
    taken: list[_Bar] = []
    for bar in sorted(placed, key=lambda bar: (bar.is_last_of_cell, bar.middle), reverse=True):
        if all(abs(bar.middle - other.middle) >= bar.label_half + other.label_half for other in taken):
            taken.append(bar)
            is_newest = bar is placed[-1]
            colour = drawing.INK if is_newest else drawing.MUTED
            parts.append(
                drawing.text(bar.middle, y, bar.label, size=9.5, colour=colour, anchor="middle", bold=is_newest)
            )
    return "".join(parts)


def _cell_label(group: Sequence[Run], begin: float, end: float, slot: float, y: float) -> str:
    """A line under the runs of a cell, and its source where there is room up to the next cell."""
    inset = slot * (1 - _BAR) / 2
    under = drawing.line(begin + inset, y, begin + slot * len(group) - inset, y, colour=drawing.MUTED)
    room = end - begin - inset
    if room < 36:
        return under
    return under + drawing.clipped_code(
        begin + inset, y + 12.5, room, group[-1].source_line, size=10, colour=drawing.MUTED
    )
