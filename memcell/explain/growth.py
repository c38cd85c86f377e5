"""Whether a cell that is run again and again leaks: from its runs to a verdict. Pure; ``docs/verdicts.md`` says why so.

What each run added is put together to a curve, from which is left out what is not the cell's: garbage, mapped files,
what other cells did in between, and clean-ups. ``shapes`` says whether that curve goes on rising.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import linear_regression, median
from typing import NamedTuple

from memcell.explain.shapes import EVIDENCE, Shape, fit
from memcell.records import Limit, Metric, Run, Verdict, VerdictKind
from memcell.units import MIB, format_bytes

#: Less than this per run is no leak to chase: it takes 8,000 runs to a GiB, and shells keep some kB of each run.
LEAST_RATE = 0.125
#: The latest points that are judged: enough for the faintest leak, and a verdict costs the same after 10,000 runs.
WINDOW = 64
#: Growth is not claimed from fewer: the first run is often a warm-up, and two steps are no trend.
_FEWEST_RUNS = 4
#: So many settled levels make the others unnecessary: three points are the fewest that show a line.
_ENOUGH_SETTLED = 3
#: Levels that spread less than this (standard deviation, MiB) around their mean are called steady.
_STEADY_NOISE = 1.0
#: What the first run alone leaves counts as a warm-up from here on (MiB); below, it is what the cell computes.
_NOTABLE = 16.0
#: Garbage of less than this part of what a run adds does not matter.
_LITTLE = 0.1
#: Runs that ``is_suspicious`` looks at.
_RECENT = 6
#: Where settled levels have shown that nothing stays, it is looked again after so many runs.
_LOOK_AGAIN = 8
#: Settled levels older than this many runs are forgotten.
_FAR_BACK = 32
#: Beyond this a reading is nonsense; it keeps sums of squares finite.
_MOST = 1 << 60


def series(history: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by cell: those since the cell was last edited, for cells with at least two of them.

    Args:
        history: Runs of any cells, oldest first.

    Returns:
        Cell key to its runs, oldest first; the cell that ran last is the last.
    """
    cells: dict[str, list[Run]] = {}
    for run in history:
        runs = cells.pop(run.cell, [])
        if runs and runs[-1].source_hash != run.source_hash:
            runs = []
        runs.append(run)
        cells[run.cell] = runs
    return {cell: runs for cell, runs in cells.items() if len(runs) > 1}


def is_suspicious(runs: Sequence[Run]) -> bool:
    """Whether the last run of a re-run cell is worth a garbage collection and a trim, to see what stays.

    True if the run grew, ended higher than all recent runs, and settled levels have not yet shown that nothing stays.
    Looks at the last few runs only.

    Args:
        runs: The runs of one cell and source, oldest first; the last has no settled level yet.
    """
    if len(runs) < 2 or not _has_grown(runs[-1]):
        return False
    recent = runs[-_RECENT:]
    if any(_sets_record(curve) for curve in (_side_curve(recent, side) for side in _SIDES) if curve):
        return True
    settled_at = [
        index for index in range(max(0, len(runs) - _FAR_BACK), len(runs)) if runs[index].settled_bytes is not None
    ]
    if len(settled_at) >= _ENOUGH_SETTLED:
        levels = _memory(runs[settled_at[-_ENOUGH_SETTLED] :]).settled
        if levels[-1] - levels[0] < LEAST_RATE * (len(levels) - 1):
            return len(runs) - 1 - settled_at[-1] >= _LOOK_AGAIN
    heap = _heap(recent)
    return _sets_record(_memory(recent).levels) or (heap is not None and _sets_record(heap.levels))


def judge(runs: Sequence[Run], limit: Limit | None = None) -> Verdict:
    """Say whether a cell leaks.

    Args:
        runs: The runs of one cell and source, oldest first.
        limit: The memory limit and what is used of it.
    """
    if not runs:
        return Verdict("", "", "unknown", "memory", 0, 0.0, 0, note="never run")
    candidates = [_judge_memory(runs)]
    for side in _SIDES:
        levels = _side_curve(runs, side)
        if levels:
            candidates.append(_judged(side, range(len(levels)), levels, levels))
    found = max(candidates, key=_weight)
    is_growing = found.kind == "growing"
    return Verdict(
        cell=runs[-1].cell,
        label=runs[-1].source_line,
        kind=found.kind,
        metric=found.metric,
        bytes_per_run=round(found.rate * MIB) if is_growing else 0,
        confidence=round(found.confidence, 2),
        runs=len(runs),
        runs_until_limit=_runs_until(limit, found.rate) if is_growing and found.metric != "device" else None,
        levels=tuple(round(level * MIB) for level in found.levels),
        note=found.note,
    )


# One metric


@dataclass(frozen=True, slots=True)
class _Finding:
    metric: Metric
    kind: VerdictKind
    rate: float
    confidence: float
    levels: Sequence[float]
    rise: float = 0.0
    note: str = ""


def _weight(finding: _Finding) -> tuple[int, float]:
    """Growth first, the fastest first; then what rose; then this process's own memory."""
    if finding.kind == "growing":
        return 2, finding.rate
    if finding.kind in ("warming", "unknown"):
        return 1, max(finding.rise, 0.0)
    return (1, 0.0) if finding.metric == "memory" else (0, 0.0)


def _judged(
    metric: Metric, x: Sequence[float], y: Sequence[float], levels: Sequence[float], *, errors_stay: bool = False
) -> _Finding:
    """The finding for a curve of which the points at ``x`` are judged; ``levels`` is all of it, from the first run."""
    spread = max(y) - min(y)
    if len(y) < 3 or (len(levels) < _FEWEST_RUNS and spread > _STEADY_NOISE):
        note = "one more run is needed" if len(levels) == _FEWEST_RUNS - 1 else "run it again"
        return _Finding(metric, "unknown", 0.0, 0.0, levels, spread, note)
    shape = fit(x[-WINDOW:], y[-WINDOW:], errors_stay=errors_stay)
    rise = shape.level - y[0]
    if shape.grows and shape.slope >= LEAST_RATE:
        return _Finding(metric, "growing", shape.slope, _probability(shape.evidence), levels, rise)
    kind, note = _resting_kind(shape, rise, levels, len(y))
    confidence = 0.0 if kind == "unknown" else min(0.95, 1 - 1 / len(y))
    return _Finding(metric, kind, 0.0, confidence, levels, max(rise, shape.level), note)


def _resting_kind(shape: Shape, rise: float, levels: Sequence[float], points: int) -> tuple[VerdictKind, str]:
    """What a curve that does not go on rising is called."""
    if shape.grows:  # by less than anybody should chase
        return "steady", f"{format_bytes(shape.slope * MIB)} a run"
    is_rising = shape.slope >= LEAST_RATE and shape.evidence > EVIDENCE / 2
    if is_rising and points <= _RECENT and points - shape.start < 3:
        return "unknown", "it has grown; one more run is needed"
    if rise > max(2 * LEAST_RATE * shape.start, 1.0, 3 * shape.noise):
        return "warming", ""
    if shape.noise > _STEADY_NOISE:
        return "noisy", ""
    return ("warming" if min(levels[0], shape.level) >= _NOTABLE else "steady"), ""


def _probability(deviations: float) -> float:
    return min(0.99, 0.5 * math.erfc(-deviations / math.sqrt(2)))


def _judge_memory(runs: Sequence[Run]) -> _Finding:
    """Settled levels where there are enough of them; else raw ones, of which the heap in use tells leak from slack."""
    memory = _memory(runs)
    if not memory.is_settled:
        return _judge_unsettled(runs, memory)
    x, y = memory.judged()
    found = _judged("memory", x, y, memory.levels, errors_stay=memory.errors_stay)
    return found if found.kind != "growing" or _settled_grow(memory, found.rate) else _unconfirmed(found)


def _judge_unsettled(runs: Sequence[Run], settled: _Curve) -> _Finding:
    """The finding from raw levels; a last one that is settled, since somebody asked, confirms or refutes it."""
    memory, heap = _raw(runs), _heap(runs)
    found = _judged("memory", range(len(runs)), memory.levels, settled.levels, errors_stay=memory.errors_stay)
    in_use = None
    if heap is not None and len(runs) >= 3:
        in_use = _judged("memory", range(len(runs)), heap.levels, heap.levels, errors_stay=heap.errors_stay)
    if found.kind == "growing" and settled.settled_at and settled.settled_at[-1] == len(runs) - 1:
        return _checked(found, settled, in_use)
    if heap is None or in_use is None:
        return _doubted(found, "garbage was not collected") if found.kind == "growing" else found
    if found.kind == "growing" and heap.levels[-1] - heap.levels[0] < (memory.levels[-1] - memory.levels[0]) / 4:
        note = "the heap in use is flat: what grows is kept by the allocator, or past it"
        return _Finding("memory", "steady", 0.0, 0.5, memory.levels, note=note)
    if found.kind == "growing":
        return _doubted(found, "garbage was not collected")
    if in_use.kind == "growing" and _fits(runs[-1]):
        return _doubted(in_use, "inside memory that the process had already")
    return found


def _checked(found: _Finding, settled: _Curve, in_use: _Finding | None) -> _Finding:
    """Growth of raw levels, in the light of what is left of it after a garbage collection at its end."""
    count, levels = len(settled.levels), settled.levels
    rate = (levels[-1] - levels[0]) / (count - 1)
    if rate < max(LEAST_RATE, found.rate / 3):
        kind: VerdictKind = "steady" if levels[-1] - levels[0] < _STEADY_NOISE else "warming"
        note = "what grew was garbage, which was collected now"
        return _Finding("memory", kind, 0.0, 0.5, levels, levels[-1] - levels[0], note)
    if in_use is None or in_use.kind != "growing":
        # What was above a later level did not stay.
        stayed = list(accumulate(reversed(levels), min))[::-1]
        resting = _judged("memory", range(count), stayed, levels, errors_stay=settled.errors_stay)
        if resting.kind != "growing":
            return resting
    return replace(found, rate=min(found.rate, rate))


def _settled_grow(memory: _Curve, rate: float) -> bool:
    """Whether the settled levels rise by a good part of what all levels do: garbage makes only the others rise."""
    return linear_regression(memory.settled_at, memory.settled).slope >= rate / 3


def _unconfirmed(finding: _Finding) -> _Finding:
    note = "it rises, but not what stays after a garbage collection"
    return _Finding(finding.metric, "noisy", 0.0, 0.5, finding.levels, finding.rise, note)


def _doubted(finding: _Finding, note: str) -> _Finding:
    return _Finding(
        finding.metric, finding.kind, finding.rate, 0.8 * finding.confidence, finding.levels, finding.rise, note
    )


def _fits(run: Run) -> bool:
    """Whether what malloc has handed out can be resident. More than that are pages that nobody has touched."""
    resident = run.anon_after_bytes if run.anon_after_bytes is not None else run.after_bytes
    return run.heap_after_bytes is not None and run.heap_after_bytes <= resident


def _runs_until(limit: Limit | None, rate: float) -> int | None:
    if limit is None or limit.limit_bytes is None or limit.used_bytes is None:
        return None
    return int(max(0, limit.limit_bytes - limit.used_bytes) // max(1, round(rate * MIB)))


# The curve of a metric: what the runs added up to, in MiB


class _Ends(NamedTuple):
    """The level before and after a run in MiB, whether garbage was gone at the end, and how much that was."""

    before: float
    after: float
    cleaned: float = 0.0
    is_settled: bool = False
    garbage: float = 0.0


@dataclass(frozen=True, slots=True)
class _Curve:
    """Levels after the runs, which of them are settled, and whether settling showed that runs leave garbage.

    ``errors_stay`` where other cells ran in between: the noise of a run is then not made good by the gap after it.
    """

    levels: list[float]
    settled_at: list[int]
    has_garbage: bool
    errors_stay: bool

    @property
    def is_settled(self) -> bool:
        return len(self.settled_at) >= _ENOUGH_SETTLED

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


def _curve(runs: Sequence[Run], ends: Sequence[_Ends]) -> _Curve:
    """Add up what the runs did, and what happened between them as far as it is this cell's."""
    levels = [ends[0].after - ends[0].before + ends[0].cleaned]
    for gap, end in zip(_gaps(runs, ends), ends[1:], strict=True):
        levels.append(levels[-1] + gap + end.after - end.before + end.cleaned)
    settled_at = [index for index, end in enumerate(ends) if end.is_settled]
    with_garbage = sum(_leaves_garbage(ends[index]) for index in settled_at)
    apart = sum(run.number > last.number + 1 for last, run in pairwise(runs))
    return _Curve(levels, settled_at, 4 * with_garbage >= 3 * max(1, len(settled_at)), 4 * apart >= len(runs))


def _leaves_garbage(ends: _Ends) -> bool:
    """Whether so much of what a run added was garbage that its raw level would mislead."""
    added = ends.after + ends.garbage - ends.before + ends.cleaned
    return ends.garbage >= max(LEAST_RATE / 2, _LITTLE * added)


def _gaps(runs: Sequence[Run], ends: Sequence[_Ends]) -> list[float]:
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
    for index, gap in enumerate(raw):
        if in_row[index] and abs(gap - middle) <= far:
            gaps.append(gap - drift)
        elif ends[index].is_settled or gap >= 0:
            gaps.append(0.0)
        else:
            # Garbage of the run before that somebody collected: at most what that run added.
            gaps.append(max(gap, min(0.0, ends[index].before - ends[index].after)))
    return gaps


def _memory(runs: Sequence[Run]) -> _Curve:
    """This process's own memory: resident, and neither mapped files nor shared memory, as far as these are known."""
    return _curve(runs, [_memory_ends(run) for run in runs])


def _raw(runs: Sequence[Run]) -> _Curve:
    """The same without a look at what was garbage."""
    return _curve(runs, [_raw_ends(_memory_ends(run)) for run in runs])


def _raw_ends(ends: _Ends) -> _Ends:
    return _Ends(ends.before, ends.after + ends.garbage, ends.cleaned)


def _memory_ends(run: Run) -> _Ends:
    if run.anon_before_bytes is not None and run.anon_after_bytes is not None:
        before, after = run.anon_before_bytes, run.anon_after_bytes
    else:
        before = run.before_bytes - (run.file_before_bytes or 0) - (run.shmem_before_bytes or 0)
        after = run.after_bytes - (run.file_after_bytes or 0) - (run.shmem_after_bytes or 0)
    after -= run.own_bytes
    garbage = 0 if run.settled_bytes is None else run.after_bytes - run.settled_bytes
    is_settled = run.settled_bytes is not None
    return _Ends(_mib(before), _mib(after - garbage), _mib(max(0, run.cleaned_bytes)), is_settled, _mib(garbage))


def _heap(runs: Sequence[Run]) -> _Curve | None:
    """What malloc has handed out; None where it does not tell."""
    ends = []
    for run in runs:
        if run.heap_before_bytes is None or run.heap_after_bytes is None:
            return None
        ends.append(_Ends(_mib(run.heap_before_bytes), _mib(run.heap_after_bytes), cleaned=_mib(run.cleaned_bytes)))
    return _curve(runs, ends)


_SIDES: tuple[Metric, ...] = ("shared memory", "children", "device")


def _side_curve(runs: Sequence[Run], metric: Metric) -> list[float]:
    """The curve of what lies outside this process's own memory; empty where there is nothing."""
    if metric == "device":
        return _device_curve(runs)
    if metric == "children":
        pairs = [(run.children_before_bytes, run.children_after_bytes) for run in runs]
    else:
        pairs = [(run.shmem_before_bytes or 0, run.shmem_after_bytes or 0) for run in runs]
    if not any(before or after for before, after in pairs):
        return []
    return _curve(runs, [_Ends(_mib(before), _mib(after)) for before, after in pairs]).levels


def _device_curve(runs: Sequence[Run]) -> list[float]:
    """Levels after the runs; what other cells moved cannot be told apart, so gaps that hold one are left out."""
    if not any(run.device_bytes for run in runs):
        return []
    levels = [0.0]
    for last, run in pairwise(runs):
        moved = (run.device_bytes or 0) - (last.device_bytes or 0) if run.number <= last.number + 1 else 0
        levels.append(levels[-1] + _mib(moved))
    return levels


def _has_grown(run: Run) -> bool:
    least = LEAST_RATE * MIB / 2
    ends = _memory_ends(run)
    heap = (run.heap_after_bytes or 0) - (run.heap_before_bytes or 0)
    shared = (run.shmem_after_bytes or 0) - (run.shmem_before_bytes or 0)
    children = run.children_after_bytes - run.children_before_bytes
    return (ends.after - ends.before + ends.cleaned) * MIB >= least or max(heap, shared, children) >= least


def _sets_record(levels: Sequence[float]) -> bool:
    """Whether the last level is clearly above all before it."""
    return levels[-1] >= max(levels[:-1]) + LEAST_RATE


def _mib(size_bytes: int) -> float:
    return max(-_MOST, min(_MOST, size_bytes)) / MIB
