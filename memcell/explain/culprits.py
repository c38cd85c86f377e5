"""What grew in step with a cell: from censuses after its runs to culprits, the likeliest first.

Two things speak for a culprit. That the entries which were added hold as many bytes as the cell grew by is the better
one. Where they hold memory of C, which cannot be seen, there is only that their number grows with the memory, and the
culprit is named with less confidence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memcell.explain.census import Census, Grown
from memcell.explain.fixes import fix_for
from memcell.explain.names import owner_of, private_steps
from memcell.records.explained import Culprit, Metric

#: A holder of less than this part of the growth explains nothing.
_LEAST_SHARE = 0.03
#: A holder of more than so many times the growth holds something else: pages never touched, or what others hold too.
_MOST_TIMES = 3.0
#: Up to so many times the growth it may well be that: another cell's holder mostly has more.
_AS_MUCH = 1.25
#: Of this part on, the bytes that were seen are the growth.
_EXPLAINED = 0.5
#: A holder with this part of what one inside it explains is named in its stead.
_FOLDED = 0.6
_NAMED = 5
#: How the classes of what stands for child processes are called.
_PROCESSES = ("Process", "Popen", "pool.Pool", "ProcessPoolExecutor")
#: How sure a match in one interval, two, and more is.
_BY_INTERVALS = (0.8, 0.9, 1.0)


def compare(censuses: Sequence[Census], growth_bytes: Sequence[int], metric: Metric = "memory") -> list[Culprit]:
    """Name what grew with a cell.

    Args:
        censuses: Those after successive runs of the cell, oldest first, each taken with the one before it as
            ``previous``. Two are enough; more make it surer.
        growth_bytes: What the cell grew by between each of them and the next: one fewer than there are censuses.
        metric: Where it grew.

    Returns:
        At most five, the likeliest first; none if nothing that has a name grew with it.

    Raises:
        ValueError: The numbers of censuses and of growths do not fit together.
    """
    if len(growth_bytes) != max(0, len(censuses) - 1):
        raise ValueError(f"{len(censuses)} censuses have {len(censuses) - 1} intervals, not {len(growth_bytes)}")
    total = sum(growth_bytes)
    if total <= 0:
        return []
    found = grown_in_each(censuses)
    suspects = [_Suspect(tuple(series), total) for series in _with_parts_joined(_without_wholes(found))]
    suspects = _with_inner([*suspects, *_holding_several(suspects)])
    suspects = [one for one in suspects if one.opaque or one.seen_share >= _LEAST_SHARE]
    explained = max((one.seen_share for one in suspects), default=0.0)
    if explained < _EXPLAINED:
        suspects += _holding_whole(found, total)
    judged = [(one.judge(explained), one) for one in suspects]
    judged.sort(key=lambda pair: _likeliest_first(*pair, of_processes=metric == "children"))
    judged = [(judgement, one) for judgement, one in judged if judgement.share >= _LEAST_SHARE]
    return [one.culprit(judgement) for judgement, one in _without_inner(judged)[:_NAMED]]


def native_note(censuses: Sequence[Census], growth_bytes: Sequence[int]) -> str:
    """What to say where ``compare`` names nobody: which class of objects grew most, if one did, and what helps."""
    text = "native, no Python holder found"
    steady = None
    for census in censuses[1:]:
        names = {name for name, _, _ in census.types}
        steady = names if steady is None else steady & names
    if steady and sum(growth_bytes) > 0:
        more = {name: after - before for name, before, after in censuses[-1].types if name in steady}
        ours = {name: number for name, number in more.items() if _is_told(name)}
        if ours:
            name = max(ours, key=lambda one: ours[one])
            text += f"; live {name} objects: +{ours[name]} in the last run"
    return f"{text}; close or delete what the cell opens, or run it with %%memwatch --isolate"


@dataclass(frozen=True, slots=True)
class _Judgement:
    share: float
    confidence: float

    @property
    def score(self) -> float:
        return self.share * self.confidence


@dataclass(frozen=True, slots=True)
class _Suspect:
    """One name that grew in every interval."""

    series: tuple[Grown, ...]
    total_bytes: int
    inner_share: float = 0.0

    @property
    def name(self) -> str:
        return self.series[-1].name

    @property
    def opaque(self) -> bool:
        return any(one.opaque for one in self.series)

    @property
    def seen_share(self) -> float:
        """The bytes that were seen to be added, to it or inside it, as a part of the growth."""
        return max(self.inner_share, sum(one.added_bytes or 0 for one in self.series) / self.total_bytes)

    def judge(self, explained: float) -> _Judgement:
        """How much of the growth it explains, and how sure that is.

        Args:
            explained: The largest part that one of all suspects explains.
        """
        sure = _BY_INTERVALS[min(len(self.series), len(_BY_INTERVALS)) - 1]
        seen = self.seen_share
        if _EXPLAINED <= seen <= _MOST_TIMES:
            return _Judgement(min(1.0, seen), 0.95 * sure * min(1.0, _AS_MUCH / seen))
        if seen > _MOST_TIMES:
            return _Judgement(1.0, 0.95 * sure * _AS_MUCH / seen)
        if self.opaque:
            explained = explained if explained > seen else 0.0
            # The rest that nobody explains may be its own; the user's own things and stores of their own likelier.
            near = 0.6 if self.name.startswith(("__main__.", "Out")) else 0.5
            return _Judgement(max(seen, 1.0 - min(1.0, explained)), near * sure)
        return _Judgement(seen, 0.7 * sure)

    def culprit(self, judgement: _Judgement) -> Culprit:
        last = self.series[-1]
        return Culprit(
            name=self.name,
            kind=last.kind,
            sizes=(self.series[0].before, *(one.after for one in self.series)),
            unit=last.unit,
            share=round(judgement.share, 2),
            confidence=round(judgement.confidence, 2),
            fix=fix_for(last),
        )


def _likeliest_first(judgement: _Judgement, one: _Suspect, *, of_processes: bool) -> tuple[float, bool, bool, int]:
    """Of those that are as likely: who holds processes if these grow; what stays; what a person may touch."""
    last = one.series[-1]
    holds_none = of_processes and not last.holds.endswith(_PROCESSES)
    return -round(judgement.score, 2), holds_none, last.rebound, private_steps(one.name)


def _holding_several(suspects: list[_Suspect]) -> list[_Suspect]:
    """Who holds several that grew, such as lists by key, each of which explains little; the innermost such holder."""
    below: dict[str, list[_Suspect]] = {}
    for one in suspects:
        owner = owner_of(one.name)
        while owner:
            below.setdefault(owner, []).append(one)
            owner = owner_of(owner)
    found: dict[str, _Suspect] = {}
    for owner in sorted(below, key=len, reverse=True):
        parts = [one for one in below[owner] if not any(_is_inside(one.name, other.name) for other in below[owner])]
        shares = [one.seen_share for one in parts]
        is_one_of_many = max(shares) < _EXPLAINED <= sum(shares)
        if is_one_of_many and not any(_is_inside(inner, owner) for inner in found) and owner not in sys.modules:
            length = min(len(one.series) for one in parts)
            kind = "nested dict" if parts[0].name[len(owner)] == "[" else "object"
            series = [_sum(owner, [one.series[at] for one in parts], kind) for at in range(-length, 0)]
            found[owner] = _Suspect(tuple(series), parts[0].total_bytes)
    return list(found.values())


def _with_inner(suspects: list[_Suspect]) -> list[_Suspect]:
    """The same, where one that holds several others that grew explains what all of them do."""
    found = []
    for one in suspects:
        inner = [other for other in suspects if _is_inside(other.name, one.name)]
        outermost = [other for other in inner if not any(_is_inside(other.name, between.name) for between in inner)]
        found.append(replace(one, inner_share=sum(other.seen_share for other in outermost)))
    return found


def grown_in_each(censuses: Sequence[Census]) -> list[list[Grown]]:
    """What grew in every interval; from three on, it may have stood still in one of four."""
    intervals = len(censuses) - 1
    by_name: dict[tuple[str, bool], list[Grown]] = {}
    for census in censuses[1:]:
        for one in census.grown:
            by_name.setdefault((one.name, one.whole), []).append(one)
    last = {(one.name, one.whole) for one in censuses[-1].grown} if censuses else set()
    enough = intervals - intervals // 4
    return [series for name, series in by_name.items() if len(series) >= enough and name in last]


def _without_wholes(found: list[list[Grown]]) -> list[list[Grown]]:
    return [series for series in found if not series[-1].whole]


def _holding_whole(found: list[list[Grown]], total: int) -> list[_Suspect]:
    """Those that hold the growth somewhere in them, for where no container in them tells it; the smallest first.

    What a small one holds a large one may hold, too; the small one is the better answer.
    """
    wholes = [_Suspect(tuple(series), total) for series in found if series[-1].whole]
    wholes = [one for one in wholes if _EXPLAINED <= one.seen_share <= _MOST_TIMES]
    return sorted(wholes, key=lambda one: one.series[-1].after)


def _with_parts_joined(found: list[list[Grown]]) -> list[list[Grown]]:
    """A part of a library's object is named by that object, if it is private or several parts of it grow."""
    parts: dict[tuple[str, str], list[list[Grown]]] = {}
    joined = []
    for series in found:
        if series[-1].of:
            parts.setdefault((series[-1].name.rpartition(".")[0], series[-1].unit), []).append(series)
        else:
            joined.append(series)
    for (owner, _), several in parts.items():
        if len(several) == 1 and not several[0][-1].name[len(owner) + 1 :].startswith("_"):
            joined += several
            continue
        length = min(map(len, several))
        kind = several[0][-1].of
        joined.append([_sum(owner, [series[at] for series in several], kind) for at in range(-length, 0)])
    return joined


def _sum(owner: str, parts: Sequence[Grown], kind: str) -> Grown:
    return replace(
        parts[0],
        name=owner,
        kind=kind,
        before=sum(part.before for part in parts),
        after=sum(part.after for part in parts),
        added_bytes=None if parts[0].added_bytes is None else sum(part.added_bytes or 0 for part in parts),
        opaque=any(part.opaque for part in parts),
        of="",
    )


def _without_inner(judged: list[tuple[_Judgement, _Suspect]]) -> list[tuple[_Judgement, _Suspect]]:
    """Without what is inside another that explains about as much, and without what contains a better one."""
    kept: list[tuple[_Judgement, _Suspect]] = []
    for judgement, one in judged:
        outer = [
            other
            for other, holder in judged
            if holder is not one and _is_inside(one.name, holder.name) and other.score >= _FOLDED * judgement.score
        ]
        inner = [holder for _, holder in kept if _is_inside(holder.name, one.name)]
        if not outer and not inner:
            kept.append((judgement, one))
    return kept


def _is_told(name: str) -> bool:
    """Whether a class says something about the growth: one of the user's or a library's, not of Python's own."""
    package, dot, _ = name.partition(".")
    return bool(dot) and package not in sys.stdlib_module_names


def _is_inside(name: str, holder: str) -> bool:
    return name.startswith((holder + ".", holder + "["))
