"""The level of the kernel over many runs, as points to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from memcell.records.measured import Run


@dataclass(frozen=True, slots=True)
class Timeline:
    """The level over time, and the exact peaks, which a curve of samples may have missed.

    Times are seconds since the first run began, levels are bytes. A peak stands in the middle of its run.
    """

    times_s: tuple[float, ...]
    level_bytes: tuple[int, ...]
    peak_times_s: tuple[float, ...]
    peak_bytes: tuple[int, ...]

    @property
    def duration_s(self) -> float:
        """The time of the last point."""
        return self.times_s[-1] if self.times_s else 0.0

    @property
    def highest_bytes(self) -> int:
        """The highest level or peak."""
        return max((*self.level_bytes, *self.peak_bytes), default=0)


def run_points(run: Run) -> list[tuple[float, int]]:
    """The level during one run: seconds since its start and bytes. A slice of the curve stands in its middle."""
    slices = len(run.curve_bytes)
    inner = [((index + 0.5) * run.duration_s / slices, level) for index, level in enumerate(run.curve_bytes)]
    return [(0.0, run.before_bytes), *inner, (run.duration_s, run.after_bytes)]


def timeline(runs: Sequence[Run], most: int = 600) -> Timeline:
    """Join the curves of runs.

    Args:
        runs: The runs, in any order; nested ones may overlap.
        most: The highest number of points; above it the highest of each part is taken.
    """
    if not runs:
        return Timeline((), (), (), ())
    begin = min(run.started for run in runs)
    points = sorted(
        ((run.started - begin + time_s, level) for run in runs for time_s, level in run_points(run)), key=itemgetter(0)
    )
    times_s, levels = zip(*_thinned(points, most), strict=True)
    peaks = sorted((run.started - begin + run.duration_s / 2, run.peak_bytes) for run in runs)
    peak_times_s, peak_levels = zip(*_thinned(peaks, most), strict=True)
    return Timeline(times_s, levels, peak_times_s, peak_levels)


def _thinned(points: list[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    size = len(points)
    if size <= most:
        return points
    parts = (points[index * size // most : (index + 1) * size // most] for index in range(most))
    return [max(part, key=itemgetter(1)) for part in parts]
