"""Medians, their spread, and whether a goal is reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values and the quartiles around it."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 0) -> str:
        """For a table: ``41 (38 to 45)``."""
        return f"{number(self.median, digits)} ({number(self.low, digits)} to {number(self.high, digits)})"


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """A confidence interval of 95 % for the median, which assumes nothing about the distribution.

    The ranks are those of the normal approximation of the binomial distribution, rounded outwards.
    """
    ordered = sorted(values)
    half = 1.96 * math.sqrt(len(ordered)) / 2
    low = max(0, math.floor(len(ordered) / 2 - half))
    high = min(len(ordered) - 1, math.ceil(len(ordered) / 2 + half))
    return ordered[low], ordered[high]


def number(value: float, digits: int = 0) -> str:
    """A number with a true minus, thousands apart, and no minus before a zero."""
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def reached(value: float, at_most: float) -> str:
    """The cell of the column that says whether a goal is reached."""
    return "yes" if value <= at_most else "**no**"
