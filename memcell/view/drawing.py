"""SVG by hand: scales, text, lines and the frame of a plot. No picture of its own.

The colours of text, grid and frame are JupyterLab's theme variables; elsewhere the text's own colour is taken, so that
a picture fits a light and a dark page alike. Nothing here has an id, because many pictures share a page.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from memcell.view import colours
from memcell.view.phrases import one_line
from memcell.view.ticks import Ticks

INK = "var(--jp-ui-font-color1, currentColor)"
#: Secondary text. The third level of JupyterLab's theme is too pale for small text.
MUTED = "var(--jp-ui-font-color2, currentColor)"
#: Rules, and the lines of a grid.
RULE = "var(--jp-border-color2, rgba(128, 128, 128, 0.35))"
_UI_FONT = "var(--jp-ui-font-family, system-ui, sans-serif)"
#: Blue in both of JupyterLab's own themes, brighter in the dark one.
KERNEL = f"var(--jp-brand-color1, {colours.KERNEL})"
CODE_FONT = "var(--jp-code-font-family, ui-monospace, monospace)"

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a range of data to a range of pixels; the ranges must not be empty."""

    low: float
    high: float
    low_px: float
    high_px: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.low_px + (value - self.low) / (self.high - self.low) * (self.high_px - self.low_px)


def escape(words: str) -> str:
    """Make text safe between tags and in attributes."""
    return html.escape(words, quote=True)


def document(width: int, height: int, title: str, description: str, body: Iterable[str]) -> str:
    """The whole picture. Its title and description are what a screen reader says; it keeps its shape when narrowed."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(f"{title}. {description}")}" '
        f'style="display:block;width:100%;max-width:{width}px;height:auto;font-family:{_UI_FONT};'
        f'font-variant-numeric:tabular-nums"><title>{escape(title)}</title>{"".join(body)}</svg>'
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 11,
    colour: str = MUTED,
    anchor: Anchor = "start",
    bold: bool = False,
    code: bool = False,
) -> str:
    """One line of text; ``code`` takes the font of code and keeps its spaces."""
    style = f"fill:{colour};font-size:{size}px"
    if bold:
        style += ";font-weight:600"
    if code:
        style += f";font-family:{CODE_FONT}"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{escape(words)}</text>'


def clipped_code(x: float, y: float, width: float, source: str, *, size: float = 12, colour: str = INK) -> str:
    """One line of a user's source, cut off at ``width`` pixels whatever its letters are.

    Most monospaced letters are 0.6 em wide: the text is shortened to that. A nested picture cuts off wider ones.
    """
    words = one_line(source, int(width / (0.602 * size)))
    line = text(0, size, words, size=size, colour=colour, code=True)
    return f'<svg x="{x:.1f}" y="{y - size:.1f}" width="{width:.1f}" height="{size * 1.4:.1f}">{line}</svg>'


def line(x1: float, y1: float, x2: float, y2: float, *, colour: str, width: float = 1, dash: str = "") -> str:
    """A straight line."""
    dashed = f";stroke-dasharray:{dash}" if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'style="stroke:{colour};stroke-width:{width}{dashed}"/>'
    )


def rectangle(x: float, y: float, width: float, height: float, *, colour: str, opacity: float = 1) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'style="fill:{colour};fill-opacity:{opacity}"/>'
    )


def points(xs: Iterable[float], ys: Iterable[float]) -> str:
    """The points of a curve, for the two that follow."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))


def curve(path: str, *, colour: str, width: float) -> str:
    """A curve through points."""
    return (
        f'<polyline points="{path}" '
        f'style="fill:none;stroke:{colour};stroke-width:{width};stroke-linejoin:round;stroke-linecap:round"/>'
    )


def area(path: str, first_x: float, last_x: float, base_y: float, *, colour: str, opacity: float) -> str:
    """The area between a curve and a level."""
    return (
        f'<polygon points="{first_x:.1f},{base_y:.1f} {path} {last_x:.1f},{base_y:.1f}" '
        f'style="fill:{colour};fill-opacity:{opacity}"/>'
    )


def dot(x: float, y: float, radius: float, *, colour: str) -> str:
    """A filled circle."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" style="fill:{colour}"/>'


def level_axis(ticks: Ticks, scale: Scale, left: float, right: float) -> str:
    """Light grid lines with their sizes at the left."""
    parts = []
    for value, label in zip(ticks.values, ticks.labels, strict=True):
        y = scale(value)
        parts.append(line(left, y, right, y, colour=RULE))
        words = label if label == "0" else f"{label} {ticks.unit}"
        parts.append(text(left - 8, y + 3.5, words, size=10, anchor="end"))
    return "".join(parts)


def time_axis(ticks: Ticks, scale: Scale, y: float) -> str:
    """Small marks with their times below a plot."""
    parts = []
    for value, label in zip(ticks.values, ticks.labels, strict=True):
        x = scale(value)
        parts.append(line(x, y, x, y + 4, colour=RULE))
        words = label if label == "0" else f"{label} {ticks.unit}"
        parts.append(text(x, y + 15, words, size=10, anchor="middle"))
    return "".join(parts)


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart: at least ``gap`` between two, within ``low`` and ``high``, in the order that they have."""
    order = sorted(range(len(positions)), key=positions.__getitem__)
    placed = [0.0] * len(positions)
    floor = low
    for index in order:
        placed[index] = max(positions[index], floor)
        floor = placed[index] + gap
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed
