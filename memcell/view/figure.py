"""Static figures by matplotlib, for a notebook's output, a file or a paper.

Figures are made without pyplot, so no window and no global list of figures knows them. While one is made and saved,
matplotlib's own defaults apply: the user's style neither changes the figure nor is it changed. Those settings are
global in matplotlib: call from the main thread, while no other thread is drawing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from memcell.errors import InvalidSettingError
from memcell.records.measured import Limit, Run
from memcell.units import MIB, format_round
from memcell.view import colours
from memcell.view.phrases import summary_parts
from memcell.view.ticks import Ticks, limit_in_sight, size_ticks, time_ticks
from memcell.view.timeline import run_points, timeline

_SUFFIXES = (".png", ".svg")
_MOST_BARS = 60
_MOST_POINTS = 2000
#: Axes span these at least, so that noise does not look like a mountain.
_SPAN_BYTES = 8 * MIB
_SPAN_S = 1e-3
_PEAK_COLOUR = "#99C7E0"  # the kernel's blue at 40 % on white
_TITLE_LETTERS = 100  # a longer title of one run is written smaller
_INK = "#222222"
_MUTED = "#666666"
_GRID = "#E3E3E3"


class StaticFigure(Figure):
    """A figure that a notebook shows by itself: only pyplot's own are shown otherwise."""

    def _repr_png_(self) -> bytes:
        return _png(self, 110)


def figure(runs: Sequence[Run], limit: Limit | None = None) -> Figure:
    """Draw what each run kept and its peak growth, and the level of the kernel over time.

    Args:
        runs: The runs, oldest first. Bars show the last 60 of them, the level all.
        limit: The memory limit that applies: a line where it is in sight, else words.

    Returns:
        A figure of 7 by 3.6 inches that pyplot does not know.
    """
    with _defaults():
        made = _empty(7, 3.6)
        if runs:
            left, right = made.subplots(1, 2)
            _draw_bars(left, runs)
            _draw_level(right, runs, limit)
        else:
            made.text(0.5, 0.5, "no runs yet", ha="center", va="center", color=_MUTED)
    return made


def png(runs: Sequence[Run], limit: Limit | None = None, dpi: float = 110) -> bytes:
    """The bytes of ``figure`` as a PNG with an opaque white background."""
    return _png(figure(runs, limit), dpi)


def save(runs: Sequence[Run], path: str | Path, limit: Limit | None = None) -> None:
    """Write ``figure`` to a file.

    Args:
        runs: The runs, oldest first.
        path: Where to; its suffix, ``.png`` or ``.svg``, is the format.
        limit: The memory limit that applies.

    Raises:
        InvalidSettingError: The suffix is another one; no file is touched.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InvalidSettingError(f"cannot save a figure as {path.name!r}; end its name in {' or '.join(_SUFFIXES)}")
    made = figure(runs, limit)
    with _defaults():
        if suffix == ".svg":
            # The same runs make the same file: no date, and ids that do not depend on chance.
            matplotlib.rcParams["svg.hashsalt"] = "memcell"
            made.savefig(path, format="svg", facecolor="white", metadata={"Date": None})
        else:
            made.savefig(path, format="png", dpi=160, facecolor="white")


def run_png(run: Run, limit: Limit | None = None) -> bytes:
    """The bytes of a small PNG of one run: its curve, the level before, the peak, and its summary as the title."""
    with _defaults():
        made = _empty(7, 1.9)
        axes = made.subplots()
        times_s, levels = zip(*run_points(run), strict=True)
        low, high = min(levels), max(run.peak_bytes, *levels)
        margin = 0.06 * max(high - low, _SPAN_BYTES)
        low, high = low - margin, max(high, low + _SPAN_BYTES) + margin
        _prepare(axes, size_ticks(low, high, 3), time_ticks(max(run.duration_s, _SPAN_S)))
        axes.set(xlim=(0, max(run.duration_s, _SPAN_S)), ylim=(low, high))
        axes.fill_between(times_s, levels, run.before_bytes, color=colours.KERNEL, alpha=0.18, linewidth=0)
        axes.axhline(run.before_bytes, color=_MUTED, linewidth=0.9)
        axes.axhline(run.peak_bytes, color=colours.KERNEL, linewidth=1, linestyle=(0, (5, 4)))
        axes.plot(times_s, levels, color=colours.KERNEL, linewidth=1.8)
        _label_right(axes, run.peak_bytes, f"peak {format_round(run.peak_bytes)}", colours.KERNEL)
        if run.peak_bytes - run.before_bytes > 0.15 * (high - low):  # else the two would stand on one another
            _label_right(axes, run.before_bytes, f"before {format_round(run.before_bytes)}", _MUTED)
        title = f"[{run.number}] {' · '.join(summary_parts(run, limit))}"
        made.suptitle(title, x=0.01, ha="left", fontsize=min(9, 9 * _TITLE_LETTERS / len(title)), color=_INK)
    return _png(made, 110)


@contextmanager
def _defaults() -> Iterator[None]:
    """Matplotlib's own settings, whatever the user's are. The backend stays, as nothing here needs one."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def _empty(width_in: float, height_in: float) -> Figure:
    return StaticFigure(
        figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.08), facecolor="white"
    )


def _png(made: Figure, dpi: float) -> bytes:
    buffer = io.BytesIO()
    with _defaults():
        made.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def _prepare(axes: Axes, sizes: Ticks, times: Ticks | None = None) -> None:
    """Round ticks with their units, a light grid, no box."""
    axes.set_facecolor("white")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", colors=_MUTED, labelsize=8, length=0, labelcolor=_INK)
    axes.set_yticks(sizes.values, sizes.labels)
    axes.set_ylabel(sizes.unit, fontsize=8, color=_INK)
    if times is not None:
        axes.set_xticks(times.values, times.labels)
        axes.set_xlabel(times.unit, fontsize=8, color=_INK)


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=9.5, fontweight="bold", color=_INK)


def _legend(axes: Axes, *, reverse: bool = False) -> None:
    axes.legend(
        loc="upper left",
        ncols=3,
        fontsize=8,
        frameon=False,
        borderpad=0,
        handlelength=1.2,
        columnspacing=1.2,
        reverse=reverse,
    )


def _label_right(axes: Axes, level: float, words: str, colour: str) -> None:
    """Words beside the right end of a level."""
    axes.annotate(
        words,
        (1, level),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=colour,
    )


def _draw_bars(axes: Axes, runs: Sequence[Run]) -> None:
    shown = runs[-_MOST_BARS:]
    kept = [run.retained_bytes for run in shown]
    peaks = [run.peak_growth_bytes for run in shown]
    low = min(0, *kept)
    high = max(low + _SPAN_BYTES, *kept, *peaks)
    positions = range(len(shown))
    _prepare(axes, size_ticks(low, high))
    axes.bar(positions, peaks, width=0.84, color=_PEAK_COLOUR, label="peak growth")
    axes.bar(positions, kept, width=0.84, color=colours.KERNEL, label="kept")
    axes.axhline(0, color=_MUTED, linewidth=0.9)
    axes.spines["bottom"].set_visible(False)
    # At least this many places, so that one run is not drawn as wide as the panel.
    axes.set(xlim=(-0.7, max(len(shown), 8) - 0.3), ylim=(low - 0.04 * (high - low), high + 0.16 * (high - low)))
    every = max(1, -(-len(shown) // 10))
    marked = list(positions)[::every]
    axes.set_xticks(marked, [f"{shown[index].number}" for index in marked])
    axes.set_xlabel("run", fontsize=8, color=_INK)
    _title(axes, "Memory per run" if len(shown) == len(runs) else f"Memory per run (last {len(shown)} of {len(runs)})")
    _legend(axes, reverse=True)


def _draw_level(axes: Axes, runs: Sequence[Run], limit: Limit | None) -> None:
    line = timeline(runs, _MOST_POINTS)
    highest = max(line.highest_bytes, _SPAN_BYTES)
    duration_s = max(line.duration_s, _SPAN_S)
    limit_bytes = limit.limit_bytes if limit else None
    in_sight = limit_in_sight(limit_bytes, 0, highest)
    high = max(highest, in_sight or 0)
    _prepare(axes, size_ticks(0, high), time_ticks(duration_s, 5))
    axes.set(xlim=(0, duration_s), ylim=(0, high * 1.16))
    axes.fill_between(line.times_s, line.level_bytes, color=colours.KERNEL, alpha=0.18, linewidth=0)
    axes.plot(line.times_s, line.level_bytes, color=colours.KERNEL, linewidth=1.5, label="kernel")
    axes.plot(
        line.peak_times_s,
        line.peak_bytes,
        color=colours.KERNEL,
        linestyle="none",
        marker="o",
        markersize=2.5,
        label="peak",
    )
    if in_sight is not None:
        axes.axhline(in_sight, color=colours.LIMIT, linewidth=1.4, label=f"limit {format_round(in_sight)}")
    elif limit_bytes is not None:
        axes.set_title(f"limit {format_round(limit_bytes)}", loc="right", fontsize=8, color=_MUTED)
    _title(axes, "Kernel over time")
    _legend(axes)
