"""Round figures for the axes of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from memcell.units import GIB, MIB

#: A limit is drawn as a line up to this many times the range of the curve: else it would flatten it.
_LIMIT_IN_SIGHT = 3
_SIZE_UNITS = ((MIB, "MiB"), (GIB, "GiB"), (GIB << 10, "TiB"), (GIB << 20, "PiB"))
_TIME_UNITS = ((1, "s"), (60, "min"), (3600, "h"))
#: A longer unit is taken from this many of it on: 90 s read better than 1.5 min.
_TIME_UNITS_FROM = 2


@dataclass(frozen=True, slots=True)
class Ticks:
    """Where an axis has its marks, in the unit of the data, what is written there, and in which unit."""

    values: tuple[float, ...]
    labels: tuple[str, ...]
    unit: str


def size_ticks(low: float, high: float, count: int = 4) -> Ticks:
    """Round sizes between two different sizes in bytes, about ``count`` of them, in the unit that suits the larger one.

    >>> size_ticks(0, 430 * MIB).labels, size_ticks(0, 430 * MIB).unit
    (('0', '100', '200', '300', '400'), 'MiB')
    """
    largest = max(abs(low), abs(high))
    factor, unit = max((pair for pair in _SIZE_UNITS if pair[0] <= largest), default=_SIZE_UNITS[0])
    return _ticks(low, high, count, factor, unit)


def time_ticks(seconds: float, count: int = 6) -> Ticks:
    """Round times from 0 to ``seconds`` (above 0), about ``count`` of them, in seconds, minutes or hours.

    >>> time_ticks(300).labels, time_ticks(300).unit
    (('0', '1', '2', '3', '4', '5'), 'min')
    """
    suitable = (pair for pair in _TIME_UNITS if pair[0] * _TIME_UNITS_FROM <= seconds)
    factor, unit = max(suitable, default=_TIME_UNITS[0])
    return _ticks(0, seconds, count, factor, unit)


def _ticks(low: float, high: float, count: int, factor: int, unit: str) -> Ticks:
    step = _round_step((high - low) / factor / count)
    # The tolerance keeps a mark that only the rounding of floats puts outside.
    first = math.ceil(low / factor / step - 1e-9)
    last = math.floor(high / factor / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = [index * step for index in range(first, last + 1)]
    labels = tuple(f"{number:.{digits}f}" if number else "0" for number in numbers)
    return Ticks(tuple(number * factor for number in numbers), labels, unit)


def _round_step(step: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten, as ratios go."""
    power = 10.0 ** math.floor(math.log10(step))
    mantissa = step / power
    # Between two round numbers the middle, as ratios go, is the root of their product.
    return power * next((nice for nice, next_nice in ((1, 2), (2, 5), (5, 10)) if mantissa**2 < nice * next_nice), 10)


def limit_in_sight(limit_bytes: int | None, low: float, high: float) -> int | None:
    """The limit, if an axis from ``low`` to ``high`` may be stretched up to it."""
    if limit_bytes is None or not low < limit_bytes <= low + _LIMIT_IN_SIGHT * (high - low):
        return None
    return limit_bytes
