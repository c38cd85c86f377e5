"""The curves that are judged: what the runs of a cell added up to, in MiB, one level after each run.

Left out is what is not the cell's: garbage, mapped files, what other cells did in between, and clean-ups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from memcell.records.explained import Metric
from memcell.records.measured import Run
from memcell.units import MIB

#: Less than this per run is no leak to chase: it takes 8,000 runs to a GiB, and shells keep some kB of each run.
LEAST_RATE = 0.125
#: So many settled levels make the others unnecessary: three points are the fewest that show a line.
ENOUGH_SETTLED = 3
#: Garbage of less than this part of what a run adds does not matter.
_LITTLE = 0.1
#: Beyond this a reading is nonsense; it keeps sums of squares finite.
_MOST = 1 << 60


class Ends(NamedTuple):
    """The level before and after a run in MiB, whether garbage was gone at the end, and how much that was."""

    before: float
    after: float
    cleaned: float = 0.0
    is_settled: bool = False
    garbage: float = 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Levels after the runs, which of them are settled, and whether settling showed that runs leave garbage.

    ``errors_stay`` where other cells ran in between: the noise of a run is then not made good by the gap after it.
    """

    levels: list[float]
    settled_at: list[int]
    has_garbage: bool
    errors_stay: bool

    @property
    def is_settled(self) -> bool:
        return len(self.settled_at) >= ENOUGH_SETTLED

    @property
    def settled(self) -> list[float]:
        return [self.levels[index] for index in self.settled_at]

    def judged(self) -> tuple[Sequence[int], Sequence[float]]:
        """The points to judge: all, or, where runs leave garbage, those that are free of it.

        These are the settled ones, and those that are no higher than the last such point although garbage may be in
        them: without those, a cell that has stopped growing, and is not settled any more, would be judged as it was.
        """
        if not (self.is_settled and self.has_garbage):
            return range(len(self.levels)), self.levels
        x: list[int] = []
        settled = set(self.settled_at)
        for index, level in enumerate(self.levels):
            if index in settled or not x or level <= self.levels[x[-1]] + LEAST_RATE:
                x.append(index)
        return x, [self.levels[index] for index in x]


def _curve(runs: Sequence[Run], ends: Sequence[Ends]) -> Curve:
    """Add up what the runs did, and what happened between them as far as it is this cell's."""
    levels = [ends[0].after - ends[0].before + ends[0].cleaned]
    for gap, end in zip(_gaps(runs, ends), ends[1:], strict=True):
        levels.append(levels[-1] + gap + end.after - end.before + end.cleaned)
    settled_at = [index for index, end in enumerate(ends) if end.is_settled]
    with_garbage = sum(_leaves_garbage(ends[index]) for index in settled_at)
    apart = sum(run.number > last.number + 1 for last, run in pairwise(runs))
    return Curve(levels, settled_at, 4 * with_garbage >= 3 * max(1, len(settled_at)), 4 * apart >= len(runs))


def _leaves_garbage(ends: Ends) -> bool:
    """Whether so much of what a run added was garbage that its raw level would mislead."""
    added = ends.after + ends.garbage - ends.before + ends.cleaned
    return ends.garbage >= max(LEAST_RATE / 2, _LITTLE * added)


def _gaps(runs: Sequence[Run], ends: Sequence[Ends]) -> list[float]:
    """What happened between the runs and belongs to the curve.

    Between runs in a row the level moves with the noise of other threads, and what the cell left behind goes late: that
    belongs to the curve, else the noise of every run would add up. What other cells did does not, nor does a gap unlike
    the others: a clean-up.
    """
    raw = [end.before - last.after for last, end in pairwise(ends)]
    in_row = [run.number <= last.number + 1 for last, run in pairwise(runs)]
    usual = [gap for gap, is_in_row in zip(raw, in_row, strict=True) if is_in_row]
    middle = median(usual) if usual else 0.0
    # Where three in four gaps rise, something grows between the runs.
    drift = max(0.0, sorted(usual)[len(usual) // 4]) if usual else 0.0
    # 1.4826 × the median absolute deviation estimates a standard deviation; four of them are hardly noise.
    far = 4 * 1.4826 * median(abs(gap - middle) for gap in usual) + 1.0 if usual else 0.0
    gaps = []
    pending = 0.0  # what may still be garbage of the runs up to here
    for index, gap in enumerate(raw):
        pending = 0.0 if ends[index].is_settled else pending + max(0.0, ends[index].after - ends[index].before)
        if in_row[index] and abs(gap - middle) <= far:
            gaps.append(gap - drift)
        else:
            # What others add is theirs. What goes may be this cell's garbage, which somebody has collected.
            gaps.append(max(-pending, min(0.0, gap)))
            pending += gaps[-1]
    return gaps


def memory(runs: Sequence[Run]) -> Curve:
    """This process's own memory: resident, and neither mapped files nor shared memory, as far as these are known."""
    ends = [memory_ends(run) for run in runs]
    settled_at = [index for index, one in enumerate(ends) if one.is_settled]
    if len(settled_at) >= ENOUGH_SETTLED:
        # The first collection also finds what was there before the cell ran at all.
        first, most = settled_at[0], max(ends[index].garbage for index in settled_at[1:])
        if ends[first].garbage > most + LEAST_RATE:
            older = ends[first].garbage - max(0.0, most)
            ends[first] = ends[first]._replace(after=ends[first].after + older, garbage=ends[first].garbage - older)
    return _curve(runs, ends)


def raw_memory(runs: Sequence[Run]) -> Curve:
    """The same without a look at what was garbage."""
    return _curve(runs, [_raw_ends(memory_ends(run)) for run in runs])


def _raw_ends(ends: Ends) -> Ends:
    return Ends(ends.before, ends.after + ends.garbage, ends.cleaned)


def memory_ends(run: Run) -> Ends:
    if run.anon_before_bytes is not None and run.anon_after_bytes is not None:
        before, after = run.anon_before_bytes, run.anon_after_bytes
    else:
        before = run.before_bytes - (run.file_before_bytes or 0) - (run.shmem_before_bytes or 0)
        after = run.after_bytes - (run.file_after_bytes or 0) - (run.shmem_after_bytes or 0)
    after -= run.own_bytes
    garbage = 0 if run.settled_bytes is None else run.after_bytes - run.settled_bytes
    is_settled = run.settled_bytes is not None
    return Ends(_mib(before), _mib(after - garbage), _mib(max(0, run.cleaned_bytes)), is_settled, _mib(garbage))


def heap(runs: Sequence[Run]) -> Curve | None:
    """What malloc has handed out; None where it does not tell, or was too dear to ask in most runs."""
    known = [_heap_ends(run) for run in runs]
    if 2 * sum(ends is not None for ends in known) <= len(runs):
        return None
    # What the neighbours tell bounds a run that was not asked: it begins where the one before ends.
    ends: list[Ends] = []
    for index, own in enumerate(known):
        if own is None:
            before = ends[-1].after if ends else next(other.before for other in known if other is not None)
            next_one = known[index + 1] if index + 1 < len(known) else None
            is_in_row = next_one is not None and runs[index + 1].number <= runs[index].number + 1
            after = next_one.before if next_one is not None and is_in_row else before
            own = Ends(before, after, _mib(runs[index].cleaned_bytes))
        ends.append(own)
    return _curve(runs, ends)


def _heap_ends(run: Run) -> Ends | None:
    if run.heap_before_bytes is None or run.heap_after_bytes is None:
        return None
    return Ends(_mib(run.heap_before_bytes), _mib(run.heap_after_bytes), cleaned=_mib(run.cleaned_bytes))


SIDES: tuple[Metric, ...] = ("shared memory", "children", "device")


def side_curve(runs: Sequence[Run], metric: Metric) -> list[float]:
    """The curve of what lies outside this process's own memory; empty where there is nothing."""
    if metric == "device":
        return _device_curve(runs)
    if metric == "children":
        pairs = [(run.children_before_bytes, run.children_after_bytes) for run in runs]
    else:
        pairs = [(run.shmem_before_bytes or 0, run.shmem_after_bytes or 0) for run in runs]
    if not any(before or after for before, after in pairs):
        return []
    return _curve(runs, [Ends(_mib(before), _mib(after)) for before, after in pairs]).levels


def _device_curve(runs: Sequence[Run]) -> list[float]:
    """Levels after the runs; what other cells moved cannot be told apart, so gaps that hold one are left out."""
    if not any(run.device_bytes for run in runs):
        return []
    levels = [0.0]
    for last, run in pairwise(runs):
        moved = (run.device_bytes or 0) - (last.device_bytes or 0) if run.number <= last.number + 1 else 0
        levels.append(levels[-1] + _mib(moved))
    return levels


def _mib(size_bytes: int) -> float:
    return max(-_MOST, min(_MOST, size_bytes)) / MIB
