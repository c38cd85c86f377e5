"""The pictures in SVG: the live view, and the two charts of a page.

The live view sends a picture five times a second while a user's cell runs, so making one must cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

from memcell.records.measured import Limit, Run, Snapshot
from memcell.units import MIB, format_bytes, format_duration, format_round
from memcell.view import colours, drawing
from memcell.view.bars import PEAK_OPACITY, bars
from memcell.view.phrases import bins, count, limit_use, summary_parts
from memcell.view.ticks import limit_in_sight, size_ticks, time_ticks
from memcell.view.timeline import timeline

_WIDTH = 640
_HEIGHT = 248
_LEFT = 66
#: Half a letter at the right, so that a figure in the middle of the last mark is not cut off.
_MARGIN = 8
_RIGHT = _WIDTH - _MARGIN
_TOP = 68
#: More points than pixels would only make the message longer.
_MOST_POINTS = 300
_MOST_BARS = 40
_MOST_BARS_ON_PAGE = 60
#: The level axis spans this at least, so that noise does not look like a mountain.
_SPAN_BYTES = 16 * MIB
_SPAN_S = 0.2
_LETTERS_PER_LINE = 104
_AREA_OPACITY = 0.2


def live_svg(snapshot: Snapshot) -> str:
    """Draw the live view: the curve of the run that is going on or, between runs, a bar for each recent run.

    Args:
        snapshot: The run that is going on, if any, and the runs before it.

    Returns:
        An ``<svg>`` element, 640 pixels wide at most, that takes the colours of the page around it.
    """
    return _between_runs(snapshot) if snapshot.number is None else _during_run(snapshot)


def runs_svg(runs: Sequence[Run], limit: Limit | None = None, width: int = _WIDTH) -> str:
    """Draw retained memory and peak growth of the most recent runs; an empty string without any."""
    if not runs:
        return ""
    shown = runs[-_MOST_BARS_ON_PAGE:]
    right = width - _MARGIN
    body = [
        drawing.text(0, 14, f"Memory per run{_shown(shown, runs)}", size=13, colour=drawing.INK, bold=True),
        _legend(right, 14),
        bars(shown, limit, left=_LEFT, right=right - 8, top=38, bottom=190),
    ]
    return drawing.document(width, 228, "Memory kept and peak growth per run", count(len(shown), "run"), body)


def level_svg(runs: Sequence[Run], limit: Limit | None = None, width: int = _WIDTH) -> str:
    """Draw the level of the kernel over all runs, with the limit where it is in sight; an empty string without runs."""
    if not runs:
        return ""
    line = timeline(runs)
    highest = max(line.highest_bytes, _SPAN_BYTES)
    limit_bytes = limit_in_sight(limit.limit_bytes if limit else None, 0, highest)
    right, top, bottom = width - _MARGIN, 38, 190
    levels = drawing.Scale(0, max(highest, limit_bytes or 0), bottom, top)
    times = drawing.Scale(0, max(line.duration_s, _SPAN_S), _LEFT, right)
    path = drawing.points(map(times, line.times_s), map(levels, line.level_bytes))
    end = times(line.duration_s)
    body = [
        drawing.text(0, 14, "Kernel over time", size=13, colour=drawing.INK, bold=True),
        drawing.dot(right - 80, 10, 2.5, colour=drawing.KERNEL),
        drawing.text(right, 14, "peak of a run", anchor="end"),
        drawing.level_axis(size_ticks(0, levels.high), levels, _LEFT, right),
        drawing.time_axis(time_ticks(times.high), times, bottom),
        drawing.area(path, _LEFT, end, bottom, colour=drawing.KERNEL, opacity=_AREA_OPACITY),
        drawing.curve(path, colour=drawing.KERNEL, width=1.6),
        *(
            drawing.dot(times(time_s), levels(peak), 2.5, colour=drawing.KERNEL)
            for time_s, peak in zip(line.peak_times_s, line.peak_bytes, strict=True)
        ),
    ]
    if limit_bytes is None:
        body.append(drawing.text(right - 98, 14, limit_use(limit), anchor="end"))
    else:
        y = levels(limit_bytes)
        body.append(drawing.line(_LEFT, y, right, y, colour=colours.LIMIT, width=1.5))
        body.append(drawing.text(_LEFT + 4, y - 4, limit_use(limit), colour=colours.LIMIT))
    return drawing.document(width, 214, "Memory of the kernel over time", f"up to {format_round(highest)}", body)


def _during_run(snapshot: Snapshot) -> str:
    bottom, right = 216, _RIGHT - 92  # room for the labels of the lines
    before, peak = snapshot.before_bytes, max(snapshot.peak_bytes, snapshot.level_bytes)
    own = snapshot.curve.rss_bytes
    with_children = tuple(map(add, own, snapshot.curve.children_bytes)) if any(snapshot.curve.children_bytes) else ()

    low = min(before, snapshot.level_bytes, *own)
    high = max(peak, low + _SPAN_BYTES, *own, *with_children)
    limit_bytes = limit_in_sight(snapshot.limit.limit_bytes if snapshot.limit else None, low, high)
    high = max(high, limit_bytes or 0)
    margin = (high - low) * 0.04
    levels = drawing.Scale(low - margin, high + margin, bottom, _TOP)
    elapsed_s = max(snapshot.elapsed_s, len(own) * snapshot.curve.slice_s, _SPAN_S)
    times = drawing.Scale(0, elapsed_s, _LEFT, right)

    path = _path(own, snapshot, levels, times)
    now = (times(elapsed_s), levels(snapshot.level_bytes))
    base = levels(before)
    body = [
        *_run_header(snapshot, peak),
        drawing.level_axis(size_ticks(levels.low, levels.high), levels, _LEFT, right),
        drawing.time_axis(time_ticks(elapsed_s), times, bottom),
        drawing.area(path, _LEFT, now[0], base, colour=drawing.KERNEL, opacity=_AREA_OPACITY),
        drawing.line(_LEFT, base, right, base, colour=drawing.MUTED),
        drawing.line(_LEFT, levels(peak), right, levels(peak), colour=drawing.KERNEL, dash="5 4"),
    ]
    labels = [(levels(peak), f"peak {format_round(peak)}", drawing.KERNEL), (base, "before", drawing.MUTED)]
    if with_children:
        end = levels(with_children[-1])
        body.append(
            drawing.curve(_path(with_children, snapshot, levels, times), colour=colours.CHILDREN, width=1.3),
        )
        labels.append((end, "with children", colours.CHILDREN))
    if limit_bytes is None:
        body.append(drawing.text(_RIGHT, 46, limit_use(snapshot.limit), size=12, anchor="end"))
    else:
        y = levels(limit_bytes)
        body.append(drawing.line(_LEFT, y, right, y, colour=colours.LIMIT, width=1.5))
        labels.append((y, f"limit {format_round(limit_bytes)}", colours.LIMIT))
    body.append(drawing.curve(path, colour=drawing.KERNEL, width=2))
    body.append(drawing.dot(*now, 3.5, colour=drawing.KERNEL))
    heights = drawing.spread([y for y, _, _ in labels], 14, _TOP, bottom)
    body += (
        drawing.text(right + 8, y + 3.5, words, colour=colour)
        for y, (_, words, colour) in zip(heights, labels, strict=True)
    )
    description = (
        f"{format_round(snapshot.level_bytes)} now, peak {format_bytes(peak - before, sign=True)}, "
        f"{format_duration(snapshot.elapsed_s)}"
    )
    title = f"Memory while [{snapshot.number}] runs"
    return drawing.document(_WIDTH, _HEIGHT, title, description, body)


def _path(curve: tuple[int, ...], snapshot: Snapshot, levels: drawing.Scale, times: drawing.Scale) -> str:
    """The points of a curve from the beginning of the run until now, each slice in its middle."""
    heights = bins(curve, _MOST_POINTS)
    width_s = snapshot.curve.slice_s * len(curve) / len(heights) if heights else 0.0
    last = snapshot.level_bytes + (curve[-1] - snapshot.curve.rss_bytes[len(curve) - 1] if curve else 0)
    xs = (times(time_s) for time_s in (0.0, *((i + 0.5) * width_s for i in range(len(heights))), times.high))
    return drawing.points(xs, map(levels, (snapshot.before_bytes, *heights, last)))


def _run_header(snapshot: Snapshot, peak: int) -> list[str]:
    number = f"[{snapshot.number}]"
    elapsed = format_duration(snapshot.elapsed_s)
    source_x = 12 + 8 * len(number)
    grown = format_bytes(snapshot.level_bytes - snapshot.before_bytes, sign=True)
    growth = format_bytes(peak - snapshot.before_bytes, sign=True)
    return [
        drawing.text(0, 16, number, size=13, colour=drawing.INK, bold=True, code=True),
        drawing.clipped_code(source_x, 16, _RIGHT - 96 - source_x, snapshot.source_line),
        drawing.text(_RIGHT, 16, elapsed, size=13, colour=drawing.INK, anchor="end", bold=True),
        _level(snapshot.level_bytes, f"{grown} so far · peak {growth}"),
    ]


def _level(level_bytes: int, words: str) -> str:
    """The level in large figures, with words beside it."""
    return (
        f'<text x="0" y="46" style="fill:{drawing.INK};font-size:22px;font-weight:600">{format_round(level_bytes)}'
        f'<tspan dx="10" style="fill:{drawing.MUTED};font-size:12px;font-weight:400">{words}</tspan></text>'
    )


def _between_runs(snapshot: Snapshot) -> str:
    limit = snapshot.limit
    words = " · ".join(filter(None, ("kernel", limit_use(limit))))
    if not snapshot.runs:
        body = [
            drawing.text(0, 16, "Memory per run", size=12, colour=drawing.INK, bold=True),
            _level(snapshot.level_bytes, words),
            drawing.text(
                _WIDTH / 2, 140, "Run a cell: what it keeps and its peak show here.", size=13, anchor="middle"
            ),
        ]
        return drawing.document(_WIDTH, _HEIGHT, "Memory per run", "no runs yet", body)
    shown = snapshot.runs[-_MOST_BARS:]
    last = shown[-1]
    summary = [
        f"[{last.number}] {part}" if not index else part for index, part in enumerate(summary_parts(last, limit))
    ]
    body = [
        drawing.text(0, 16, f"Memory per run{_shown(shown, snapshot.runs)}", size=12, colour=drawing.INK, bold=True),
        _legend(_RIGHT, 16),
        _level(snapshot.level_bytes, words),
        bars(shown, limit, left=_LEFT, right=_RIGHT - 8, top=_TOP, bottom=172),
        *(
            drawing.text(0, 227 + 15 * index, line, colour=drawing.INK)
            for index, line in enumerate(_wrapped(summary)[:2])
        ),
    ]
    return drawing.document(_WIDTH, _HEIGHT, "Memory per run", " · ".join(summary), body)


def _legend(right: float, y: float) -> str:
    return "".join(
        (
            drawing.rectangle(right - 128, y - 9, 10, 10, colour=drawing.KERNEL),
            drawing.text(right - 114, y, "kept"),
            drawing.rectangle(right - 82, y - 9, 10, 10, colour=drawing.KERNEL, opacity=PEAK_OPACITY),
            drawing.text(right - 68, y, "peak growth"),
        )
    )


def _shown(shown: Sequence[Run], runs: Sequence[Run]) -> str:
    return f" (last {len(shown)} of {len(runs)})" if len(shown) < len(runs) else ""


def _wrapped(parts: Sequence[str]) -> list[str]:
    """Join the parts of a summary into lines that are not wider than the picture."""
    lines = [parts[0]]
    for part in parts[1:]:
        joined = f"{lines[-1]} · {part}"
        if len(joined) <= _LETTERS_PER_LINE:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines
