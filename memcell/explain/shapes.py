"""Which simple shape a curve of levels has: flat, a step, a warm-up, a cache that fills, or a line that goes on.

Pure arithmetic on numbers, without a unit of its own but for ``RESOLUTION``. ``docs/verdicts.md`` has the reasons and
the sources of the statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

#: Differences below this (in MiB, the unit of the levels) are never evidence: pages, and the bookkeeping of the shell.
RESOLUTION = 0.05
#: Evidence, in standard deviations, from which a line counts as rising. One-sided, 0.1 % of flat series pass by chance.
EVIDENCE = 3.1
#: How much better a line must explain the curve than what comes to rest does, as a difference of BIC; from 2 on Kass
#: and Raftery (1995) call it positive evidence.
_MARGIN = 2.0
#: A shape that is as good as the best, for the same reason.
_AS_GOOD = 4.0
#: The same for a bend towards level, which is looked for only where a line was found: 1 %.
_BENDING = 2.33
#: Durbin and Watson's statistic is about 2 for errors that come and go, and near 0 for a walk.
_WANDERING = 1.4
#: Of steps that stay, the mean must be this much less sure: there the line is tested as well.
_STEPS_FALL_SHORT = 0.5
#: Three points in a row are the fewest that can be called flat, or a line.
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """What a curve looks like.

    Attributes:
        grows: Whether it ends in a line that rises, and nothing that comes to rest explains it as well.
        slope: Of the line at the end, per unit of ``x``.
        evidence: For that line, in standard deviations.
        start: The index at which the line, or the plateau if it does not grow, begins.
        level: The mean of the plateau.
        noise: The standard deviation around the line or plateau.
    """

    grows: bool
    slope: float
    evidence: float
    start: int
    level: float
    noise: float


def fit(x: Sequence[float], y: Sequence[float], *, errors_stay: bool = False) -> Shape:
    """The shape that explains a curve best.

    Args:
        x: Positions, rising.
        y: The levels there, at least three, in MiB.
        errors_stay: The levels are sums of steps that were measured one by one, so that the error of each stays.
    """
    sums = _Sums(x, _without_spikes(y), errors_stay)
    resting, plateau = min(_resting(sums))
    rising = list(_rising(sums))
    best, best_start = min(rising)
    enough = best + _AS_GOOD
    if sums.count - best_start == _FEWEST:  # however well a line over three points fits, it cannot be sure enough
        enough = max(enough, resting - _MARGIN)
    evidence, start = max((_evidence(sums, start), start) for bic, start in rising if bic <= enough)
    if evidence >= EVIDENCE and best + _MARGIN <= resting and not _comes_to_rest(sums, start):
        slope, rss = sums.line(start)
        return Shape(True, slope, evidence, start, sums.mean(start), _deviation(rss, sums.count - start))
    slope, _ = sums.line(0)
    noise = _deviation(sums.flat(plateau, sums.count), sums.count - plateau)
    return Shape(False, slope, _evidence(sums, 0), plateau, sums.mean(plateau), noise)


class _Sums:
    """Least squares over any part of a curve in constant time, from running sums."""

    def __init__(self, x: Sequence[float], y: Sequence[float], errors_stay: bool) -> None:
        self.errors_stay = errors_stay
        self.count = len(x)
        # The origin in the first point keeps the sums small, and with them what rounding takes away.
        self.x = [value - x[0] for value in x]
        self.y = [value - y[0] for value in y]
        self._origin = y[0]
        self._x = _running(self.x)
        self._y = _running(self.y)
        self._xx = _running([value * value for value in self.x])
        self._xy = _running([a * b for a, b in zip(self.x, self.y, strict=True)])
        self._yy = _running([value * value for value in self.y])

    def mean(self, start: int) -> float:
        """The mean level from a point on."""
        return self._origin + (self._y[-1] - self._y[start]) / (self.count - start)

    def flat(self, start: int, stop: int) -> float:
        """The squares that a constant leaves over in a part of the curve."""
        total = self._y[stop] - self._y[start]
        return max(0.0, self._yy[stop] - self._yy[start] - total * total / (stop - start))

    def line(self, start: int) -> tuple[float, float]:
        """The slope of a line from a point to the end, and the squares that it leaves over."""
        count = self.count - start
        total_x, total_y = self._x[-1] - self._x[start], self._y[-1] - self._y[start]
        spread = self._xx[-1] - self._xx[start] - total_x * total_x / count
        slope = (self._xy[-1] - self._xy[start] - total_x * total_y / count) / spread
        return slope, max(0.0, self.flat(start, self.count) - slope * slope * spread)

    def spread(self, start: int) -> float:
        """How far the positions from a point on lie apart, as a sum of squares."""
        total = self._x[-1] - self._x[start]
        return self._xx[-1] - self._xx[start] - total * total / (self.count - start)

    def bent(self, start: int, bend: int, *, rises_first: bool) -> float:
        """The squares that two joined pieces leave over, one level and one rising, from ``start`` to the end."""
        count, at = self.count - start, self.x[bend]
        # The second piece alone: u = max(0, x - at). The first alone is x - u, up to a constant.
        tail = self.count - bend
        tail_x = self._x[-1] - self._x[bend]
        u = tail_x - tail * at
        uu = self._xx[-1] - self._xx[bend] - 2 * at * tail_x + tail * at * at
        uy = self._xy[-1] - self._xy[bend] - at * (self._y[-1] - self._y[bend])
        if rises_first:
            whole_x, whole_xx = self._x[-1] - self._x[start], self._xx[-1] - self._xx[start]
            ux = self._xx[-1] - self._xx[bend] - at * tail_x
            u, uu, uy = whole_x - u, whole_xx - 2 * ux + uu, self._xy[-1] - self._xy[start] - uy
        spread = uu - u * u / count
        if spread <= 0:
            return self.flat(start, self.count)
        shared = uy - u * (self._y[-1] - self._y[start]) / count
        # Only a bend upwards is one: a curve that falls has no warm-up.
        return max(0.0, self.flat(start, self.count) - (shared * shared / spread if shared > 0 else 0.0))


def _running(values: Sequence[float]) -> list[float]:
    return list(accumulate(values, initial=0.0))


def _resting(sums: _Sums) -> Iterator[tuple[float, int]]:
    """Shapes that end level: their BIC, and where the level part begins. Points of a warm-up cost a parameter each."""
    count = sums.count
    for start in range(_longest_warm_up(count) + 1):
        yield _bic(sums.flat(start, count), start + 1, count), start
    for first in (0, 1):
        for bend in range(first + 1, count):
            steps = sums.flat(first, bend) + sums.flat(bend, count)
            yield _bic(steps, first + 3, count), bend
        for bend in range(first + 1, count - _FEWEST + 1):
            # Where it bends costs as much as what it is: a few level points at the end of a loud line are chance.
            yield _bic(sums.bent(first, bend, rises_first=True), first + 4, count) + _MARGIN, bend


def _rising(sums: _Sums) -> Iterator[tuple[float, int]]:
    """Shapes that end in a line: their BIC, and where the line begins."""
    count = sums.count
    for start in range(_longest_warm_up(count) + 1):
        yield _bic(sums.line(start)[1], start + 2, count), start
    for first in (0, 1):
        for bend in range(first + 2, count - _FEWEST):
            yield _bic(sums.bent(first, bend, rises_first=False), first + 3, count), bend


def _longest_warm_up(count: int) -> int:
    """How many points may be left out as a warm-up of any form: with more of them free, anything can be explained."""
    return min(max(1, count // 3), count - _FEWEST)


def _bic(rss: float, parameters: int, count: int) -> float:
    """Schwarz's criterion, with what cannot be resolved as the least noise."""
    return count * math.log(rss / count + RESOLUTION**2) + parameters * math.log(count)


def _evidence(sums: _Sums, start: int) -> float:
    """How sure the line from a point on rises, in standard deviations."""
    count = sums.count - start
    slope, rss = sums.line(start)
    deviation = math.sqrt(rss / (count - 2) + RESOLUTION**2)
    level_evidence = _as_normal(slope * math.sqrt(sums.spread(start)) / deviation, count - 2)
    if count <= _FEWEST or not (sums.errors_stay or _wanders(sums, start)):
        return level_evidence
    # A step over several positions is the sum of as many, and so is its variance.
    steps = [b - a for a, b in pairwise(sums.y[start:])]
    widths = [b - a for a, b in pairwise(sums.x[start:])]
    mean = sum(steps) / sum(widths)
    squares = sum((step - mean * width) ** 2 / width for step, width in zip(steps, widths, strict=True))
    deviation = math.sqrt(squares / (len(steps) - 1) + RESOLUTION**2)
    step_evidence = _as_normal(mean * math.sqrt(sum(widths)) / deviation, len(steps) - 1)
    return min(level_evidence, step_evidence + _STEPS_FALL_SHORT)


def _wanders(sums: _Sums, start: int) -> bool:
    """Whether neighbours lie on the same side of the line, as they do where the error of each run stays."""
    slope, rss = sums.line(start)
    x, y = sums.x[start:], sums.y[start:]
    if rss / len(x) <= RESOLUTION**2:
        return False
    turns = sum((y1 - y0 - slope * (x1 - x0)) ** 2 for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False))
    return turns < _WANDERING * rss


def _comes_to_rest(sums: _Sums, start: int) -> bool:
    """Whether the line bends towards level: a parabola fits better, and at its end has lost half of the mean slope."""
    x, y = sums.x[start:], sums.y[start:]
    count = len(x)
    if count <= _FEWEST + 1:
        return False
    slope, rss = sums.line(start)
    centre = sum(x) / count
    a = [value - centre for value in x]
    spread = sum(value * value for value in a)
    skew, fourth = sum(value**3 for value in a) / spread, sum(value**2 for value in a) / count
    # The part of the parabola that no line explains.
    curve = [value * value - skew * value - fourth for value in a]
    size = sum(value * value for value in curve)
    if size <= 0:
        return False
    bend = sum(p * q for p, q in zip(curve, y, strict=True)) / size
    deviation = math.sqrt(max(0.0, rss - bend * bend * size) / (count - 3) + RESOLUTION**2)
    z = _as_normal(bend * math.sqrt(size) / deviation, count - 3)
    return z < -_BENDING and slope + bend * (2 * a[-1] - skew) < slope / 2


def _as_normal(t: float, degrees: int) -> float:
    """Student's t as standard deviations of a normal distribution, after Wallace (1959)."""
    size = math.sqrt(degrees * math.log1p(t * t / degrees)) * (8 * degrees + 1) / (8 * degrees + 3)
    return math.copysign(size, t)


def _deviation(rss: float, count: int) -> float:
    return math.sqrt(rss / max(1, count - 1))


def _without_spikes(y: Sequence[float]) -> list[float]:
    """The curve with single points that stand far out on one side of both neighbours laid between them."""
    if len(y) < 2 * _FEWEST:
        return list(y)
    steps = sorted(abs(b - a) for a, b in pairwise(y))
    far = 6 * steps[len(steps) // 2] + RESOLUTION
    smooth = list(y)
    for index in range(1, len(y) - 1):
        before, here, after = y[index - 1 : index + 2]
        if min(here - before, here - after) > far or max(here - before, here - after) < -far:
            smooth[index] = (before + after) / 2
    return smooth
