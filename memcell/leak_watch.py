"""Follows cells that are run again, and says which of them leak and what holds the growth.

After a run whose raw growth is suspicious the garbage is collected and the heap trimmed, so that what is judged is
what really stays, and everything with a name is counted: the first census keeps sizes, the next one names what grew.
Both together take at most 5 % of wall time, and are left out where they would not fit into it.
"""

from __future__ import annotations

import gc
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from memcell.budget import Budget
from memcell.explain.culprits import compare, native_note
from memcell.explain.growth import WINDOW, has_grown, is_suspicious, judge, rises, runs_until
from memcell.explain.named import is_noisy, rate_by_name
from memcell.explain.stretches import Counted, Ledger

if TYPE_CHECKING:
    from memcell.explain.census import Census
    from memcell.records.explained import Verdict
    from memcell.records.measured import Limit, Run

#: The parts of wall time that collecting and trimming, and counting, may take unasked: 5 % together.
_SETTLE_SHARE = 0.025
_CENSUS_SHARE = 0.025
#: Who asks for verdicts waits for censuses of so many cells at the most, some 0.2 s each.
_CENSUSES_WHEN_ASKED = 3
#: Cells that are followed; the one that was not run for the longest is forgotten.
_CELLS = 200
#: Cells whose last census is kept whole, some 100 KB each.
_WHOLE_CENSUSES = 8
#: How sure growth is that only shows in what holds it.
_BY_NAME = 0.8
#: The latest runs that ``known`` tells of.
_RECENT = 8
#: What a culprit still takes: another run, and another look after it. A loop that is over has no more of either.
_AGAIN = "run it once more to learn what holds it"
_AGAIN_BLOCK = (
    "to learn what holds it, ask after one more run; a script that loops calls memcell.leaks() in the loop too"
)
#: The first collection of a session has no known cost: 0.1 s for so many objects that lie in order, seconds at worst.
_MOST_OBJECTS_AT_FIRST = 2_000_000


@dataclass(slots=True)
class _Case:
    """One cell, since it was last edited."""

    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=WINDOW))
    counted: Counted = field(default_factory=Counted)
    recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    said: Verdict | None = None  # when somebody asked last

    @property
    def has_run_since(self) -> bool:
        """Whether it has run since the last census that was taken for it."""
        return self.counted.runs_since(self.counted.last_at) > 0


class LeakWatch:
    """Remembers the runs of each cell, bounded, and judges them when asked.

    Attributes:
        is_thorough: Whether somebody waits for the verdict of every cell.

    Args:
        settle: Collects garbage and trims the heap; returns resident memory afterwards.
        take_census: Counts what has a name, given the census before; None where nobody knows names.
        limit: Reads the limit that applies.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        settle: Callable[[], int],
        take_census: Callable[[Census | None], Census | None],
        limit: Callable[[], Limit],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settle = settle
        self._take_census = take_census
        self._ledger = Ledger(take_census)
        self._limit = limit
        self._settle_budget = Budget(_SETTLE_SHARE, clock)
        self._census_budget = Budget(_CENSUS_SHARE, clock)
        self._has_settled = False
        self.is_thorough = False
        self._cases: OrderedDict[str, _Case] = OrderedDict()

    def warm_up(self) -> None:
        """Settle and take censuses that nobody keeps: what the first two leave in the heap is no growth of a cell."""
        self._take_census(self._take_census(None))
        self._settle()

    def be_thorough(self) -> None:
        """From now on settle after every run, and count after every suspicious one: somebody waits for the verdict."""
        self.is_thorough = True
        self.warm_up()

    def note(self, run: Run, *, settle: bool = False, count: bool = False) -> Run:
        """A run has been recorded.

        Args:
            run: The run.
            settle: Somebody waits for the verdict: collect and trim now, whatever it costs.
            count: The same for the census.

        Returns:
            The run, with its settled level where it was worth finding out.
        """
        case = self._cases.get(run.cell)
        if case is None or case.runs[-1].source_hash != run.source_hash:
            case = self._cases[run.cell] = _Case()
            if len(self._cases) > _CELLS:
                self._cases.popitem(last=False)
        self._cases.move_to_end(run.cell)
        case.runs.append(run)
        case.recent.append((run.retained_bytes + run.cleaned_bytes, run.peak_growth_bytes))
        has_run_grown = has_grown(run)
        self._ledger.note(case.counted, has_grown=has_run_grown)
        is_worth_it = has_run_grown and is_suspicious(tuple(case.runs))
        if settle or count or self.is_thorough:
            # Counting first: the next run would fill the room it leaves in Python's heap, and seem to keep nothing.
            if count or (self.is_thorough and is_worth_it):
                self._count(case)
            if settle or self.is_thorough:
                run = self._settle_last_run(case)
        elif is_worth_it:
            if self._can_settle():
                run = self._settle_last_run(case)
            if self._census_budget.allows():
                self._census_budget.spend(lambda: self._count(case))
        return run

    def verdicts(self) -> list[Verdict]:
        """One verdict for each cell that was run at least twice, growing ones first, the fastest at the top.

        Who asks waits for what was too dear to do unasked: a collection if the last run was left without one, and a
        census of cells that grew since the last one.
        """
        limit = self._limit()
        self._settle_asked()
        judged = [(case, _judge(case, limit)) for case in list(self._cases.values()) if len(case.runs) > 1]
        judged.sort(key=lambda pair: -pair[1].bytes_per_run)
        asked = [case for case, verdict in judged if case.has_run_since and _may_be_held(verdict)]
        for case in asked[:_CENSUSES_WHEN_ASKED]:
            self._count(case)
        for case, verdict in judged:
            case.said = self._explained(case, verdict, limit)
        return [case.said for case, _ in judged if case.said is not None]

    def known(self, cell: str, source_hash: str) -> tuple[tuple[tuple[int, int], ...], Verdict | None]:
        """What the latest runs of a cell kept and their peak growth, oldest first, and what was last said of the cell.

        O(1): a hook asks at every run.
        """
        case = self._cases.get(cell)
        if case is None or case.runs[-1].source_hash != source_hash:
            return (), None
        return tuple(case.recent), case.said

    def verdict(self, cell: str) -> Verdict | None:
        """The verdict of one cell; None before its second run. As for ``verdicts``, who asks waits for a census."""
        case = self._cases.get(cell)
        if case is None or len(case.runs) < 2:
            return None
        limit = self._limit()
        verdict = _judge(case, limit)
        if case.has_run_since and _may_be_held(verdict):
            self._count(case)
        return self._explained(case, verdict, limit)

    def clear(self) -> None:
        """Forget all cells."""
        self._cases.clear()

    def _can_settle(self) -> bool:
        if not self._has_settled:
            return len(gc.get_objects()) <= _MOST_OBJECTS_AT_FIRST
        return self._settle_budget.allows()

    def _settle_asked(self) -> None:
        """Find out how much of what the cell that ran last has added is garbage, if it may be a leak."""
        case = next(reversed(self._cases.values()), None)
        if case is None or case.runs[-1].settled_bytes is not None or len(gc.get_objects()) > _MOST_OBJECTS_AT_FIRST:
            return
        runs = tuple(case.runs)
        if is_suspicious(runs) or rises(runs) or judge(runs).kind == "growing":
            self._settle_last_run(case)

    def _settle_last_run(self, case: _Case) -> Run:
        self._has_settled = True
        run = case.runs[-1]
        settled_bytes = self._settle_budget.spend(self._settle)
        # No more than there was at the run's end: what has come since, if it was asked for later, is not the run's.
        settled = replace(run, settled_bytes=min(settled_bytes, run.after_bytes))
        if case.runs[-1] is run:  # in another thread one may have ended meanwhile
            case.runs[-1] = settled
        return settled

    def _count(self, case: _Case) -> None:
        """Take a census for a cell, and let go of those that have been kept for the longest."""
        self._ledger.count(case.counted)
        whole = [other.counted for other in self._cases.values() if other.counted.last is not None]
        for counted in whole[:-_WHOLE_CENSUSES]:
            counted.forget()

    @staticmethod
    def _explained(case: _Case, verdict: Verdict, limit: Limit) -> Verdict:
        """The verdict with who holds the growth; where levels hide a leak, those who hold it may show it."""
        stretches = case.counted.compared()
        censuses = [stretch.begin for stretch in stretches[:1]] + [stretch.end for stretch in stretches]
        spans = [stretch.runs for stretch in stretches]
        if verdict.kind != "growing" and verdict.metric == "memory":
            rate = rate_by_name(censuses, spans, verdict.levels)
            if rate:
                left = runs_until(limit, rate)
                verdict = replace(
                    verdict, kind="growing", bytes_per_run=rate, confidence=_BY_NAME, runs_until_limit=left, note=""
                )
        if verdict.kind != "growing":
            return verdict
        if not stretches:
            is_block = case.runs[-1].cell == case.runs[-1].source_line  # whose label stands for both
            again = _AGAIN_BLOCK if is_block else _AGAIN
            return replace(verdict, note=f"{verdict.note}; {again}" if verdict.note else again)
        # Not what the runs added: garbage was in that, and what else came and went.
        growths = [verdict.bytes_per_run * runs for runs in spans]
        culprits = tuple(compare(censuses, growths, verdict.metric))
        return replace(verdict, culprits=culprits, note="" if culprits else native_note(censuses, growths))


def _judge(case: _Case, limit: Limit) -> Verdict:
    return replace(judge(tuple(case.runs), limit), number=case.runs[-1].number)


def _may_be_held(verdict: Verdict) -> bool:
    """Whether a census is worth its time where somebody asked."""
    if verdict.kind == "growing":
        return True
    return verdict.metric == "memory" and is_noisy(verdict.levels) and verdict.levels[-1] > verdict.levels[0]
