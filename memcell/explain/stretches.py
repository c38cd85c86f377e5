"""Between which censuses a cell's growth is looked for: over which of its runs, and whether other cells grew meanwhile.

Two cells that leak in turns both grow between two censuses of either. So a census is compared with the latest of all,
also one that was taken for another cell, if only this cell has grown since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from memcell.explain.census import Census, Sizes

#: How many stretches of a cell are compared.
_KEPT = 3
#: Runs that are remembered, of a cell and in all.
_RUNS = 256


@dataclass(frozen=True, slots=True)
class Stretch:
    """What lies between two censuses.

    Attributes:
        begin: The census at its beginning, without its sizes.
        end: That at its end, taken with the other as ``previous``, without its sizes.
        runs: How many runs of the cell there were in it.
        is_own: Whether no other cell has grown in it.
    """

    begin: Census
    end: Census
    runs: int
    is_own: bool


@dataclass(slots=True)
class Counted:
    """What censuses have told of one cell."""

    numbers: deque[int] = field(default_factory=lambda: deque(maxlen=_RUNS))
    stretches: deque[Stretch] = field(default_factory=lambda: deque(maxlen=_KEPT))
    last: Census | None = None
    last_at: int = 0

    def runs_since(self, number: int) -> int:
        """How many of its runs came after a number."""
        return sum(one > number for one in self.numbers)

    def compared(self) -> list[Stretch]:
        """Those to look for culprits in: where there are some in which no other cell has grown, only these."""
        own = [stretch for stretch in self.stretches if stretch.is_own]
        return own or list(self.stretches)

    def forget(self) -> None:
        """Let go of what takes memory."""
        self.stretches.clear()
        self.last = None


class Ledger:
    """Numbers the runs of all cells, and takes censuses for them.

    Args:
        take_census: Counts what has a name, given the census before; None where nobody knows names.
    """

    def __init__(self, take_census: Callable[[Census | None], Census | None]) -> None:
        self._take_census = take_census
        self._number = 0
        self._grown: deque[tuple[int, Counted]] = deque(maxlen=_RUNS)
        self._latest: Census | None = None
        self._latest_at = 0

    def note(self, cell: Counted, *, has_grown: bool) -> None:
        """A run of a cell has ended."""
        self._number += 1
        cell.numbers.append(self._number)
        if has_grown:
            self._grown.append((self._number, cell))

    def count(self, cell: Counted) -> None:
        """Take a census after a run of a cell."""
        previous, since = cell.last, cell.last_at
        if self._latest is not None and cell.runs_since(self._latest_at) and self._is_own(cell, self._latest_at):
            previous, since = self._latest, self._latest_at
        census = self._take_census(previous)
        if census is None:
            return
        if previous is not None:
            runs, is_own = cell.runs_since(since), self._is_own(cell, since)
            cell.stretches.append(Stretch(_without_sizes(previous), _without_sizes(census), runs, is_own))
        cell.last = self._latest = census
        cell.last_at = self._latest_at = self._number

    def _is_own(self, cell: Counted, since: int) -> bool:
        return all(other is cell for number, other in self._grown if number > since)


def _without_sizes(census: Census) -> Census:
    """What an older census is still needed for: what had grown then."""
    return replace(census, sizes=Sizes({}), counts=Sizes({}))
