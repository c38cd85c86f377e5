"""Whether a cell that is run again and again leaks: from its runs to a verdict. Pure; ``docs/verdicts.md`` says why so.

What each run added is put together to a curve, by ``curves``. ``shapes`` says whether that curve goes on rising.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import linear_regression

from memcell.explain import curves
from memcell.explain.curves import ENOUGH_SETTLED, LEAST_RATE
from memcell.explain.shapes import EVIDENCE, Shape, fit
from memcell.records.explained import Metric, Verdict, VerdictKind
from memcell.records.measured import Limit, Run
from memcell.units import MIB, format_bytes

#: The latest points that are judged: enough for the faintest leak, and a verdict costs the same after 10,000 runs.
WINDOW = 64
#: The latest runs of which a curve is made: those before would change nothing.
_LOOKED_AT = 4 * WINDOW
#: Growth is not claimed from fewer: the first run is often a warm-up, and two steps are no trend.
_FEWEST_RUNS = 4
#: Levels that spread less than this (standard deviation, MiB) around their mean are called steady.
_STEADY_NOISE = 1.0
#: What the first run alone leaves counts as a warm-up from here on (MiB); below, it is what the cell computes.
_NOTABLE = 16.0
#: A run that added less, wherever that shows, is no part of a leak that is worth a word.
_LEAST_GROWTH_BYTES = int(LEAST_RATE * MIB / 2)
#: Runs that ``is_suspicious`` looks at.
_RECENT = 6
#: Where settled levels have shown that nothing stays, it is looked again after so many runs.
_LOOK_AGAIN = 8
#: Settled levels older than this many runs are forgotten.
_FAR_BACK = 32


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


def has_grown(run: Run) -> bool:
    """Whether a run by itself may have left something behind, wherever that shows. A hook asks at every run.

    Args:
        run: The run.
    """
    if run.anon_before_bytes is not None and run.anon_after_bytes is not None:
        own = run.anon_after_bytes - run.anon_before_bytes
    else:
        own = run.after_bytes - run.before_bytes
        own -= (run.file_after_bytes or 0) - (run.file_before_bytes or 0)
        own -= (run.shmem_after_bytes or 0) - (run.shmem_before_bytes or 0)
    return (
        own - run.own_bytes + run.cleaned_bytes >= _LEAST_GROWTH_BYTES
        or (run.heap_after_bytes or 0) - (run.heap_before_bytes or 0) >= _LEAST_GROWTH_BYTES
        or (run.shmem_after_bytes or 0) - (run.shmem_before_bytes or 0) >= _LEAST_GROWTH_BYTES
        or run.children_after_bytes - run.children_before_bytes >= _LEAST_GROWTH_BYTES
    )


def is_suspicious(runs: Sequence[Run]) -> bool:
    """Whether the last run of a re-run cell is worth a garbage collection and a trim, to see what stays.

    True if the run grew, ended higher than all recent runs, and settled levels have not yet shown that nothing stays.
    Looks at the last few runs only.

    Args:
        runs: The runs of one cell and source, oldest first; the last has no settled level yet.
    """
    if len(runs) < 2 or not has_grown(runs[-1]):
        return False
    recent = runs[-_RECENT:]
    if any(_sets_record(curve) for curve in (curves.side_curve(recent, side) for side in curves.SIDES) if curve):
        return True
    settled_at = [
        index for index in range(max(0, len(runs) - _FAR_BACK), len(runs)) if runs[index].settled_bytes is not None
    ]
    if len(settled_at) >= ENOUGH_SETTLED:
        levels = curves.memory(runs[settled_at[-ENOUGH_SETTLED] :]).settled
        if levels[-1] - levels[0] < LEAST_RATE * (len(levels) - 1):
            return len(runs) - 1 - settled_at[-1] >= _LOOK_AGAIN or _has_risen_since(runs, settled_at)
    heap = curves.heap(recent)
    return _sets_record(curves.memory(recent).levels) or (heap is not None and _sets_record(heap.levels))


def _has_risen_since(runs: Sequence[Run], settled_at: Sequence[int]) -> bool:
    """Whether it has risen since the last settled level by more than garbage that comes and goes explains."""
    most = max(curves.memory_ends(runs[index]).garbage for index in settled_at)
    levels = curves.raw_memory(runs[settled_at[-1] :]).levels
    return levels[-1] - levels[0] > 2 * max(0.0, most) + _STEADY_NOISE


def rises(runs: Sequence[Run]) -> bool:
    """Whether the levels of a cell rise, garbage and all: who asks should know what of that stays.

    Args:
        runs: The runs of one cell and source, oldest first.
    """
    levels = curves.raw_memory(runs[-_LOOKED_AT:]).levels
    return len(runs) > 1 and _judged("memory", range(len(levels)), levels, levels).kind == "growing"


def judge(runs: Sequence[Run], limit: Limit | None = None) -> Verdict:
    """Say whether a cell leaks.

    Args:
        runs: The runs of one cell and source, oldest first.
        limit: The memory limit and what is used of it.
    """
    if not runs:
        return Verdict("", "", "unknown", "memory", 0, 0.0, 0, note="never run")
    count, runs = len(runs), runs[-_LOOKED_AT:]
    candidates = [_judge_memory(runs)]
    for side in curves.SIDES:
        levels = curves.side_curve(runs, side)
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
        runs=count,
        runs_until_limit=runs_until(limit, found.rate * MIB) if is_growing and found.metric != "device" else None,
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
    memory = curves.memory(runs)
    if not memory.is_settled:
        return _judge_unsettled(runs, memory)
    x, y = memory.judged()
    found = _judged("memory", x, y, memory.levels, errors_stay=memory.errors_stay)
    return found if found.kind != "growing" or _settled_grow(memory, found.rate) else _unconfirmed(found)


def _judge_unsettled(runs: Sequence[Run], settled: curves.Curve) -> _Finding:
    """The finding from raw levels; a last one that is settled, since somebody asked, confirms or refutes it."""
    memory, heap = curves.raw_memory(runs), curves.heap(runs)
    found = _judged("memory", range(len(runs)), memory.levels, settled.levels, errors_stay=memory.errors_stay)
    in_use = None
    if heap is not None and len(runs) >= 3:
        in_use = _judged("memory", range(len(runs)), heap.levels, heap.levels, errors_stay=heap.errors_stay)
    if found.kind == "growing" and settled.settled_at and settled.settled_at[-1] == len(runs) - 1:
        return _checked(found, settled, in_use)
    if heap is None or in_use is None:
        return _doubted(found, "garbage was not collected") if found.kind == "growing" else found
    is_past_heap = heap.levels[-1] - heap.levels[0] < (memory.levels[-1] - memory.levels[0]) / 4
    if found.kind == "growing" and is_past_heap and not _has_stayed(settled, found.rate):
        note = "the heap in use is flat: what grows is kept by the allocator, or past it"
        return _Finding("memory", "steady", 0.0, 0.5, memory.levels, note=note)
    if found.kind == "growing":
        return _doubted(found, "garbage was not collected")
    if in_use.kind == "growing" and _fits(runs[-1]):
        return _doubted(in_use, "inside memory that the process had already")
    return found


def _has_stayed(settled: curves.Curve, rate: float) -> bool:
    """Whether the levels that are settled, however few, have risen: what the allocator keeps is trimmed there."""
    if len(settled.settled_at) < 2:
        return False
    first, last = settled.settled_at[0], settled.settled_at[-1]
    return settled.levels[last] - settled.levels[first] >= rate / 3 * (last - first)


def _checked(found: _Finding, settled: curves.Curve, in_use: _Finding | None) -> _Finding:
    """Growth of raw levels, in the light of what is left of it after a garbage collection at its end."""
    count, levels = len(settled.levels), settled.levels
    rate = (levels[-1] - levels[0]) / (count - 1)
    if rate < max(LEAST_RATE, found.rate / 3):
        kind: VerdictKind = "steady" if levels[-1] - levels[0] < _STEADY_NOISE else "warming"
        note = "what grew was garbage, which was collected now"
        return _Finding("memory", kind, 0.0, 0.5, levels, levels[-1] - levels[0], note)
    if in_use is None or in_use.kind != "growing":
        # What was above a later level did not stay. Garbage may hide so that a leak goes on, but not for most runs.
        stayed = list(accumulate(reversed(levels), min))[::-1]
        resting = _judged("memory", range(count), stayed, levels, errors_stay=settled.errors_stay)
        if resting.kind != "growing" and stayed[count // 2] >= levels[-1] - _STEADY_NOISE:
            return resting
    return replace(found, rate=min(found.rate, rate))


def _settled_grow(memory: curves.Curve, rate: float) -> bool:
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


def runs_until(limit: Limit | None, bytes_per_run: float) -> int | None:
    """How many more runs of a cell fit below a limit; None where it, or what is used of it, is not known."""
    if limit is None or limit.limit_bytes is None or limit.used_bytes is None:
        return None
    return int(max(0, limit.limit_bytes - limit.used_bytes) // max(1, round(bytes_per_run)))


def _sets_record(levels: Sequence[float]) -> bool:
    """Whether the last level is clearly above all before it."""
    return levels[-1] >= max(levels[:-1]) + LEAST_RATE
