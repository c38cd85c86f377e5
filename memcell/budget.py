"""A share of wall time that a dear measurement may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Budget:
    """Allows something only when its last cost is small beside the time since: at most ``share`` of wall time.

    The first time is always allowed, because nobody knows the cost before.

    Args:
        share: The part of wall time, such as 0.05.
        clock: Returns seconds; for tests.
    """

    __slots__ = ("_clock", "_not_before", "_share")

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share = share
        self._clock = clock
        self._not_before = float("-inf")

    def allows(self) -> bool:
        """Whether the share has room for another time."""
        return self._clock() >= self._not_before

    def spend(self, measure: Callable[[], Result]) -> Result:
        """Call something, and charge what it cost to the budget."""
        began = self._clock()
        try:
            return measure()
        finally:
            ended = self._clock()
            self._not_before = ended + (ended - began) / self._share
