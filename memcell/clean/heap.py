"""Garbage collection, which may have a budget, and the trim of malloc's heap."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from memcell.clean.cleaner import Cleaner, Stage, built_in_cleaner
from memcell.units import format_duration

#: The share of wall time that unasked collections may take: what dask.distributed allows itself as well.
GC_TIME_SHARE = 0.05


class Collector:
    """A full garbage collection that knows what it last cost: 10 ms in a young kernel, 10 s beside 5e6 linked objects.

    Args:
        collect: Collects, and returns how many unreachable objects it found.
        clock: Seconds, monotonic.
    """

    def __init__(self, collect: Callable[[], int] = gc.collect, clock: Callable[[], float] = time.monotonic) -> None:
        self._collect = collect
        self._clock = clock
        self._ended: float | None = None
        self._cost_s = 0.0

    def collect(self) -> int:
        """Collect now, whatever it costs.

        Returns:
            How many unreachable objects were found.
        """
        started = self._clock()
        try:
            return self._collect()
        finally:
            self._ended = self._clock()
            self._cost_s = self._ended - started

    def over_budget(self) -> str | None:
        """Why a collection that nobody asked for has to wait; None if it need not.

        One that costs as much as the last may follow when it would take no more than ``GC_TIME_SHARE`` of the time
        since then.
        """
        if self._ended is None:
            return None
        wait_s = self._cost_s / GC_TIME_SHARE - (self._clock() - self._ended)
        if wait_s <= 0:
            return None
        cost, wait = format_duration(self._cost_s), format_duration(wait_s)
        return (
            f"over its budget of {GC_TIME_SHARE:.0%} of the time: the last one took {cost}, the next is due in {wait}"
        )


def gc_cleaner(collector: Collector) -> Cleaner:
    """The built-in cleaner ``gc``. Its callback returns the number of objects that were collected."""
    return built_in_cleaner(
        "gc",
        collector.collect,
        effect="none",
        stage=Stage.GARBAGE,
        about="collects objects that only refer to one another",
    )


def trim_cleaner(trim: Callable[[], object]) -> Cleaner:
    """The built-in cleaner ``trim``, given how malloc is made to return its free pages."""
    return built_in_cleaner(
        "trim", trim, effect="none", stage=Stage.TRIM, about="returns memory that malloc keeps free to the system"
    )
