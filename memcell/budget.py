"""A share of wall time that a dear measurement may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Budget:
    """Allows something as long as its costs stay below ``share`` of wall time.

    The first time is always allowed, because nobody knows the cost before.

    Args:
        share: The part of wall time, such as 0.05.
        clock: Returns seconds; for tests.
        burst_s: What a pause saves up at the most, in seconds of cost: several times in a row are allowed then.
    """

    __slots__ = ("_at", "_burst_s", "_clock", "_debt_s", "_share")

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter, burst_s: float = 0.0) -> None:
        self._share = share
        self._clock = clock
        self._burst_s = burst_s
        self._at = clock()
        self._debt_s = -burst_s

    def allows(self) -> bool:
        """Whether the share has room for another time."""
        now = self._clock()
        self._debt_s = max(-self._burst_s, self._debt_s - (now - self._at) * self._share)
        self._at = now
        return self._debt_s <= 0.0

    def spend(self, measure: Callable[[], Result]) -> Result:
        """Call something, and charge what it cost to the budget."""
        began = self._clock()
        try:
            return measure()
        finally:
            ended = self._clock()
            # What was spent although it was not allowed, because somebody waited for it, is not added up.
            self._debt_s = min(self._debt_s, 0.0) + ended - began
            self._at += ended - began  # which pays nothing back
