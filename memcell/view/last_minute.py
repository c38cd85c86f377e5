"""The picture of the last minute before a death: in letters for a terminal, in SVG for a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from memcell.records.deaths import Death
from memcell.units import MIB, format_bytes, format_round
from memcell.view import colours, drawing
from memcell.view.ticks import limit_in_sight, size_ticks, time_ticks

_BLOCKS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 60
_ROWS = 8
#: The watcher takes no more samples than this allows: a narrower column would be empty.
_FINEST_S = 0.05
#: A pause this many times longer than the usual one between two samples is a time in which nothing ran.
_PAUSE = 3.0
_SPAN_BYTES = 16 * MIB
_WIDTH, _HEIGHT = 640, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 632, 38, 206


def highest_bytes(death: Death) -> int:
    """The highest level of the last minute; 0 where nothing was sampled."""
    return max(death.levels, default=0)


def last_minute_text(death: Death) -> str:
    """The picture in letters; empty for fewer than two samples."""
    stretches = _stretches(death)
    if sum(map(len, stretches)) < 2:
        return ""
    top, limit_bytes = _top(death)
    begin = death.times_s[0]
    columns = max(2, min(_COLUMNS, round(-begin / _FINEST_S)))
    eighths = [_eighths(stretches, begin, index, columns, top) for index in range(columns)]
    labels = {_ROWS - 1: format_round(top)}
    if limit_bytes is not None:
        labels[-(-limit_bytes * _ROWS // top) - 1] = f"{format_round(limit_bytes)} limit"
    width = max(map(len, labels.values()))
    lines = []
    for row in reversed(range(_ROWS)):
        letters = "".join(_BLOCKS[min(max(height - 8 * row, 0), 8)] for height in eighths)
        lines.append(f"{labels.get(row, ''):>{width}} │{letters}".rstrip())
    lines.append(f"{'0':>{width}} └{'─' * columns}")
    first = f"{begin:.0f} s" if begin <= -10 else f"{begin:.1f} s"
    lines.append(f"{'':>{width}}  {first.replace('-', '−'):<{max(columns - 5, len(first) + 1)}}death")
    return "\n".join(lines)


def last_minute_svg(death: Death) -> str:
    """The picture in SVG; an empty string for fewer than two samples."""
    stretches = _stretches(death)
    if sum(map(len, stretches)) < 2:
        return ""
    top, limit_bytes = _top(death)
    levels = drawing.Scale(0, top * 1.04, _BOTTOM, _TOP)
    span_s = max(-death.times_s[0], 2 * _FINEST_S)
    times = drawing.Scale(-span_s, 0, _LEFT, _RIGHT)
    body = [
        drawing.text(0, 14, "The last minute", size=13, colour=drawing.INK, bold=True),
        drawing.level_axis(size_ticks(0, levels.high), levels, _LEFT, _RIGHT),
        # Counted backwards: the marks are those of a span, put where the death is their zero.
        drawing.time_axis(time_ticks(span_s), drawing.Scale(0, span_s, _RIGHT, _LEFT), _BOTTOM),
        drawing.text(_RIGHT, 14, "time before the death", anchor="end"),
    ]
    for stretch in stretches:
        xs, ys = zip(*stretch, strict=True)
        path = drawing.points(map(times, xs), map(levels, ys))
        body.append(drawing.area(path, times(xs[0]), times(xs[-1]), _BOTTOM, colour=drawing.KERNEL, opacity=0.2))
        body.append(drawing.curve(path, colour=drawing.KERNEL, width=1.6))
    last_x, last_y = stretches[-1][-1]
    body.append(drawing.text(times(last_x), levels(last_y) - 6, "×", size=15, colour=colours.LIMIT, anchor="middle"))
    if limit_bytes is not None:
        y = levels(limit_bytes)
        body.append(drawing.line(_LEFT, y, _RIGHT, y, colour=colours.LIMIT, width=1.5))
        body.append(drawing.text(_LEFT + 4, y - 4, f"limit {format_round(limit_bytes)}", colour=colours.LIMIT))
    description = f"{format_bytes(death.levels[-1])} at the end, at most {format_bytes(highest_bytes(death))}"
    return drawing.document(_WIDTH, _HEIGHT, "Memory in the last minute", description, body)


def _stretches(death: Death) -> list[list[tuple[float, int]]]:
    """The samples, parted where nothing ran and so nothing was sampled."""
    points = list(zip(death.times_s, death.levels, strict=True))
    if not points:
        return []
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(points)]
    pause_s = _PAUSE * max(median(gaps), _FINEST_S) if gaps else 0.0
    parts = [[points[0]]]
    for gap, point in zip(gaps, points[1:], strict=True):
        if gap > pause_s:
            parts.append([])
        parts[-1].append(point)
    return parts


def _top(death: Death) -> tuple[int, int | None]:
    """Where the axis ends, and the limit if it is in sight."""
    highest = max(highest_bytes(death), _SPAN_BYTES)
    limit_bytes = limit_in_sight(death.run.limit_bytes if death.run else None, 0, highest)
    return max(highest, limit_bytes or 0), limit_bytes


def _eighths(stretches: Sequence[Sequence[tuple[float, int]]], begin: float, index: int, columns: int, top: int) -> int:
    """The height of a column in eighths of a row: the highest level of its time, 0 where nothing ran."""
    low, high = begin * (1 - index / columns), begin * (1 - (index + 1) / columns)
    for stretch in stretches:
        inside = [level for at, level in stretch if low <= at < high]
        if not inside and stretch[0][0] < low and high <= stretch[-1][0]:
            inside = [max((at, level) for at, level in stretch if at < low)[1]]  # between two samples of a run
        if inside:
            return max(1, round(max(inside) / top * 8 * _ROWS))
    return 0
