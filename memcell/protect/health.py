"""How this process is, for a health check, and whether something more would fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from memcell.protect.trend import Trend
from memcell.records.protected import State, Status
from memcell.units import parse_size

if TYPE_CHECKING:
    from memcell.protect.policy import Thresholds
    from memcell.records.cleaned import CleanReport
    from memcell.records.measured import Limit


class Health:
    """Sees levels and clean-ups go by, and answers from them.

    Args:
        rss: Reads resident memory.
        limit: Reads the limit that applies and what is used of it.
        children: Counts the child processes.
        thresholds: The present settings.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        *,
        rss: Callable[[], int],
        limit: Callable[[], Limit],
        children: Callable[[], int],
        thresholds: Callable[[], Thresholds],
        clock: Callable[[], float],
    ) -> None:
        self._rss = rss
        self._limit = limit
        self._children = children
        self._thresholds = thresholds
        self._clock = clock
        self._trend = Trend()
        self._last_clean: tuple[float, CleanReport] | None = None

    def forget_parent(self) -> None:
        """In a forked child: its levels are its own."""
        self._trend.forget_parent()
        self._last_clean = None

    def look(self) -> int:
        """Resident memory now, noted for the trend."""
        rss_bytes = self._rss()
        self.note_level(rss_bytes)
        return rss_bytes

    def note_level(self, rss_bytes: int) -> None:
        """Note a level that somebody has read."""
        self._trend.add(self._clock(), rss_bytes)

    def note_clean(self, report: CleanReport) -> None:
        """Note a clean-up."""
        self._last_clean = self._clock(), report

    def status(self) -> Status:
        """See ``memcell.status``."""
        rss_bytes, now, limit = self.look(), self._clock(), self._limit()
        state: State = "healthy"
        percent = None
        if limit.limit_bytes and limit.used_bytes is not None:
            fraction, thresholds = limit.used_bytes / limit.limit_bytes, self._thresholds()
            percent = round(100 * fraction, 1)
            if fraction >= thresholds.clean_fraction:
                state = "critical"
            elif fraction >= thresholds.warn_fraction:
                state = "warning"
        last = self._last_clean
        return Status(
            state=state,
            rss_bytes=rss_bytes,
            limit_bytes=limit.limit_bytes,
            percent=percent,
            growth_bytes_per_hour=self._trend.bytes_per_hour(now),
            last_clean_s=now - last[0] if last else None,
            last_freed_bytes=last[1].freed_bytes if last else None,
            children=self._children(),
        )

    def fits(self, size: int | str) -> bool:
        """See ``memcell.fits``."""
        size_bytes, limit = parse_size(size), self._limit()
        if limit.limit_bytes is None or limit.used_bytes is None:
            return True
        return limit.used_bytes + size_bytes <= self._thresholds().limit_fraction * limit.limit_bytes
