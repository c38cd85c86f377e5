"""How the level of a process moves over time: a slope. A peak only ever rises, which hides that cleaning works."""

from __future__ import annotations

import threading
from collections import deque

#: Levels of this long are looked at.
WINDOW_S = 3600.0
#: A slope over less than this says nothing: a clean-up every minute makes a saw-tooth of a flat service.
SHORTEST_S = 600.0
_RESOLUTION_S = 5.0
_MOST_LEVELS = 1000  # an hour of them, with room for levels that come a little closer


class Trend:
    """Levels of the last hour, at most one every few seconds, and the slope of a straight line through them."""

    def __init__(self) -> None:
        self._levels: deque[tuple[float, int]] = deque(maxlen=_MOST_LEVELS)
        self._lock = threading.Lock()  # a health check, a monitor and a cell may look at the same time

    def forget_parent(self) -> None:
        """In a forked child: begin anew."""
        self._lock = threading.Lock()
        self._levels.clear()

    def add(self, now_s: float, level_bytes: int) -> None:
        """Note a level. One that follows the last within the resolution takes its place."""
        with self._lock:
            levels = self._levels
            if len(levels) > 1 and now_s - levels[-2][0] < _RESOLUTION_S:
                levels.pop()
            levels.append((now_s, level_bytes))

    def bytes_per_hour(self, now_s: float) -> int | None:
        """The slope by ordinary least squares; None before there are ten minutes of levels."""
        with self._lock:
            recent = [(at, level) for at, level in self._levels if now_s - at <= WINDOW_S]
        if len(recent) < 3 or recent[-1][0] - recent[0][0] < SHORTEST_S:
            return None
        from statistics import linear_regression  # brings decimal and random, which %load_ext can do without

        slope, _ = linear_regression([at for at, _ in recent], [level for _, level in recent])
        return round(slope * 3600)
