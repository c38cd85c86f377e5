"""Growth that shows in what holds it, where the level is too noisy to show it.

A cell that keeps 2 MiB a run, and in passing a result of any size up to 20 MiB, has a level that goes up and down; a
list that gets one entry longer with each run is plain. Levels still have the last word: what they rule out is not said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression

from memcell.explain.census import Census, Grown
from memcell.explain.culprits import grown_in_each
from memcell.explain.curves import LEAST_RATE
from memcell.units import MIB

#: Levels that lie this far around a line (standard deviation) may hide a leak.
_NOISE_BYTES = MIB
#: Intervals between censuses, and runs in them, from which on even growth is no chance.
_FEWEST_INTERVALS, _FEWEST_RUNS = 2, 3
#: The least that an interval may add per run, as a part of what the one with most does.
_EVEN = 0.5
#: One interval alone tells only if it is of so many runs, each of which may have added the same number of entries, and
#: if the levels rise by so many standard errors.
_RUNS_IN_ONE, _RISE_WITH_ONE = 6, 2.0
#: Slower growth by name is not told apart from bookkeeping.
_LEAST_BYTES = int(2 * LEAST_RATE * MIB)
#: How far the slope of the levels may be from it: standard errors, and a part of the rate for what sizes leave out.
_ERRORS, _INEXACT = 3.0, 0.25


def rate_by_name(censuses: Sequence[Census], spans: Sequence[int], levels_bytes: Sequence[int]) -> int:
    """The bytes per run by which a container has grown evenly, at most; 0 where none has, or the levels rule it out.

    Args:
        censuses: Those after some runs of a cell, oldest first.
        spans: How many runs there were from each of them to the next.
        levels_bytes: What all runs added up to, one level a run.
    """
    if sum(spans) < _FEWEST_RUNS or not is_noisy(levels_bytes):
        return 0
    slope, error = _trend(levels_bytes)
    if len(spans) < _FEWEST_INTERVALS and (spans[0] < _RUNS_IN_ONE or slope < _RISE_WITH_ONE * error):
        return 0
    rates = []
    for series in grown_in_each(censuses):
        if len(series) == len(spans) and all(one.unit == "entries" and one.added_bytes for one in series):
            added = [(one.added_bytes or 0) / runs for one, runs in zip(series, spans, strict=True)]
            if min(added) >= _EVEN * max(added) and (len(spans) > 1 or _is_divisible(series[0], spans[0])):
                rates.append(sum(one.added_bytes or 0 for one in series) / sum(spans))
    rate = max(rates, default=0.0)
    is_possible = abs(slope - rate) <= _ERRORS * error + _INEXACT * rate
    return round(rate) if rate >= _LEAST_BYTES and is_possible else 0


def is_noisy(levels_bytes: Sequence[int]) -> bool:
    """Whether levels go up and down so much that they may hide a leak."""
    return len(levels_bytes) > _FEWEST_RUNS and _line(levels_bytes)[1] >= _NOISE_BYTES


def _is_divisible(grown: Grown, runs: int) -> bool:
    return (grown.after - grown.before) % runs == 0


def _trend(levels: Sequence[int]) -> tuple[float, float]:
    """The slope of the line through levels, and its standard error."""
    slope, deviation = _line(levels)
    spread = (len(levels) ** 3 - len(levels)) / 12  # of the numbers from 0 on around their mean
    return slope, deviation / math.sqrt(spread)


def _line(levels: Sequence[int]) -> tuple[float, float]:
    """The slope of the line through levels, and their standard deviation around it."""
    x = range(len(levels))
    slope, start = linear_regression(x, levels)
    rest = sum((level - start - slope * at) ** 2 for at, level in zip(x, levels, strict=True))
    return slope, math.sqrt(rest / (len(levels) - 2))
