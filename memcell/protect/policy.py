"""When to clean of our own accord: pure decisions, in bytes and seconds, made from what the session knows."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from memcell.units import MIB, format_bytes, format_round

if TYPE_CHECKING:
    from memcell.records.cleaned import CleanReport
    from memcell.records.measured import Limit, Run

AutoClean = Literal["pressure", "growth", "always", "never"]

#: After a clean-up that freed less than 1 % of the limit the next waits this long: what fills the memory is no cache.
WAIT_AFTER_USELESS_S = 600.0
_USELESS_FRACTION = 0.01
#: Reading the limit takes 0.1 to 0.3 ms: it is read when the level has moved this much, else once in a while.
_MOVED_BYTES = 16 * MIB
_LOOK_EVERY_S = 30.0
#: A re-run cell that has kept this much since the last clean-up counts as growing.
GROWN_BYTES = 16 * MIB
#: A cell that needed less than this does not matter to whether the next run fits.
_NOTABLE_PEAK_BYTES = 32 * MIB
_CELLS_KEPT = 1000
#: A warning is given again only after the level was this much (of the limit) below its threshold.
_REARM_FRACTION = 0.05


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When to act, as fractions of the limit. ``every`` runs a clean-up comes in any case, 0 for never."""

    auto_clean: AutoClean = "pressure"
    every: int = 0
    warn_fraction: float = 0.70
    clean_fraction: float = 0.80
    limit_fraction: float = 0.95


@dataclass(slots=True)
class _Cell:
    runs: int = 0
    grown_bytes: int = 0
    peak_growth_bytes: int = 0
    clean_from_bytes: int = GROWN_BYTES


class Policy:
    """Decides before and after each run whether to clean or to warn. It remembers the cells, at most 1,000 of them.

    Args:
        limit: Reads the limit and what is used of it.
        clock: Seconds; for tests.
    """

    def __init__(self, limit: Callable[[], Limit], clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._cells: OrderedDict[str, _Cell] = OrderedDict()
        self._runs_since_clean = 0
        self._next_look = float("-inf")
        self._seen_bytes = 0
        self._not_before = float("-inf")
        self._has_warned = False
        self._is_under_pressure = False
        self.knows_heavy_cells = False

    def reason_before(self, cell: str, rss_bytes: Callable[[], int], thresholds: Thresholds) -> str | None:
        """Why to clean before a run of this cell; None if there is no reason. O(1), and mostly one look-up."""
        known = self._cells.get(cell)
        if known is None or known.peak_growth_bytes < _NOTABLE_PEAK_BYTES or thresholds.auto_clean == "never":
            return None
        if self._clock() < self._not_before:
            return None
        limit = self._limit()
        if limit.limit_bytes is None or limit.used_bytes is None:
            return None
        missing = limit.used_bytes + known.peak_growth_bytes - thresholds.limit_fraction * limit.limit_bytes
        if missing <= 0 or not can_relieve(rss_bytes(), missing, limit.limit_bytes):
            return None
        self._is_under_pressure = True
        return (
            f"this cell's last run peaked {format_bytes(known.peak_growth_bytes)} above its start, and"
            f" {format_round(limit.used_bytes)} of {format_round(limit.limit_bytes)} are in use"
        )

    def reason_after(self, run: Run, thresholds: Thresholds) -> str | None:
        """Why to clean after this run; None if there is no reason."""
        cell = self._remember(run)
        self._runs_since_clean += 1
        if thresholds.every and self._runs_since_clean >= thresholds.every:
            return f"{self._runs_since_clean} runs since the last clean-up"
        if thresholds.auto_clean == "always":
            return "auto_clean is 'always'"
        if thresholds.auto_clean == "growth" and cell.runs > 1 and cell.grown_bytes >= cell.clean_from_bytes:
            return f"this cell has kept {format_bytes(cell.grown_bytes)} since the last clean-up"
        if thresholds.auto_clean == "never" or self._clock() < self._not_before or not self._is_time_to_look(run):
            return None
        limit = self._limit()
        if limit.limit_bytes is None or limit.used_bytes is None:
            return None
        self._rearm(limit.used_bytes / limit.limit_bytes, thresholds)
        over = limit.used_bytes - thresholds.clean_fraction * limit.limit_bytes
        if over < 0 or not can_relieve(run.after_bytes, over, limit.limit_bytes):
            return None
        self._is_under_pressure = True
        return f"{_use(limit)} is above {thresholds.clean_fraction:.0%}"

    def warning_after(self, run: Run, thresholds: Thresholds) -> str | None:
        """What to warn of after this run; None if nothing, or if it was said already."""
        if abs(run.retained_bytes) < _MOVED_BYTES:
            return None
        limit = self._limit()
        if limit.limit_bytes is None or limit.used_bytes is None:
            return None
        fraction = limit.used_bytes / limit.limit_bytes
        self._rearm(fraction, thresholds)
        if fraction < thresholds.warn_fraction or self._has_warned:
            return None
        self._has_warned = True
        return f"{_use(limit)} is above {thresholds.warn_fraction:.0%}; the kernel has {format_round(run.after_bytes)}"

    def may_clean_during(self, thresholds: Thresholds) -> bool:
        """Whether to clean while a run comes near its limit."""
        if thresholds.auto_clean == "never" or self._clock() < self._not_before:
            return False
        self._is_under_pressure = True
        return True

    def may_warn_during(self) -> bool:
        """Whether to warn while a run comes near its limit: not if it was said already, and not again after it."""
        has_warned, self._has_warned = self._has_warned, True
        return not has_warned

    def note_clean(self, report: CleanReport, *, automatic: bool) -> None:
        """A clean-up has run: count anew from here, and wait longer if one of ours was of no use."""
        self._runs_since_clean = 0
        self._next_look = float("-inf")
        for cell in self._cells.values():
            if automatic and cell.grown_bytes >= cell.clean_from_bytes:
                # No cleaner knows what this cell leaves behind: do not ask them after each run.
                was_useless = report.freed_bytes < cell.grown_bytes / 4
                cell.clean_from_bytes = 2 * cell.clean_from_bytes if was_useless else GROWN_BYTES
            cell.grown_bytes = 0
        if self._is_under_pressure:
            self._is_under_pressure = False
            if report.freed_bytes < _USELESS_FRACTION * (self._limit().limit_bytes or 0):
                self._not_before = self._clock() + WAIT_AFTER_USELESS_S

    def _rearm(self, fraction: float, thresholds: Thresholds) -> None:
        if fraction < thresholds.warn_fraction - _REARM_FRACTION:
            self._has_warned = False

    def _remember(self, run: Run) -> _Cell:
        cell = self._cells.setdefault(run.cell, _Cell())
        self._cells.move_to_end(run.cell)
        if len(self._cells) > _CELLS_KEPT:
            self._cells.popitem(last=False)
        cell.runs += 1
        cell.grown_bytes = max(0, cell.grown_bytes + run.retained_bytes + run.cleaned_bytes)
        cell.peak_growth_bytes = run.peak_growth_bytes
        self.knows_heavy_cells = self.knows_heavy_cells or run.peak_growth_bytes >= _NOTABLE_PEAK_BYTES
        return cell

    def _is_time_to_look(self, run: Run) -> bool:
        now = self._clock()
        if abs(run.after_bytes - self._seen_bytes) < _MOVED_BYTES and now < self._next_look:
            return False
        self._seen_bytes, self._next_look = run.after_bytes, now + _LOOK_EVERY_S
        return True


def can_relieve(rss_bytes: int, over_bytes: float, limit_bytes: int) -> bool:
    """Whether the pressure is of this process's making: another's memory and page cache are not ours to give back."""
    return rss_bytes >= max(over_bytes, 0.1 * limit_bytes)


def _use(limit: Limit) -> str:
    if not limit.limit_bytes or limit.used_bytes is None:
        return "memory"
    share = limit.used_bytes / limit.limit_bytes
    return f"{format_round(limit.used_bytes)} of {format_round(limit.limit_bytes)} ({limit.source}), {share:.0%},"
