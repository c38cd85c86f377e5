"""A share of wall time that a dear measurement may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Measure the cost of the body and charge it to the budget."""
        began = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            self._not_before = ended + (ended - began) / self._share
