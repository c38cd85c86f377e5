"""What was found out: verdicts and culprits, allocation sites."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from memcell.records.fields import fields_of

if TYPE_CHECKING:
    from memcell.records.measured import Outcome, Run

#: What the runs of one cell show. ``growing``: a leak. ``warming``: it grew, then stayed flat. ``steady``: nothing
#: stays. ``noisy``: ups and downs without a trend. ``unknown``: too few runs to tell.
VerdictKind = Literal["growing", "warming", "steady", "noisy", "unknown"]
#: Who explains this part of what the first culprit does, and so surely, has to let go as well.
_AS_MUCH, _SURE = 0.5, 0.7
#: Where growth shows: in this process's own memory, in shared memory, in its child processes, or on a GPU.
Metric = Literal["memory", "shared memory", "children", "device"]


@dataclass(frozen=True, slots=True)
class Culprit:
    """An object whose growth goes with the growth of a cell.

    Attributes:
        name: The dotted name that a person can type: ``pkg.mod.func._metadata_cache``.
        kind: What it is: ``dict``, ``function attribute``, ``functools cache``, ``Out``, …
        sizes: Its length (or bytes, if ``unit`` says so) at successive runs.
        unit: What the sizes count: ``entries`` or ``bytes``.
        share: The part of the cell's growth that it explains, 0 to 1, as far as that can be told.
        confidence: How sure that is, 0 to 1.
        fix: A line to paste that gives the memory back or prevents the growth.
    """

    name: str
    kind: str
    sizes: tuple[int, ...]
    unit: Literal["entries", "bytes"]
    share: float
    confidence: float
    fix: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a re-run cell leaks.

    Attributes:
        cell: The key of the cell.
        label: The first line of its source.
        kind: The verdict.
        metric: Where the growth shows.
        bytes_per_run: Growth per run after any warm-up; 0 where there is none.
        confidence: How sure the verdict is, 0 to 1.
        runs: How many runs were judged.
        runs_until_limit: How many more until the limit is reached at this pace; None where it does not grow, or no
            limit is known.
        levels: What the runs added up to, one level a run, in bytes from 0: for a sparkline.
        culprits: What holds the growth, the largest share first.
        note: What a person should know beside it, such as that one more run is needed to name the culprit.
        number: The number of its last run, as of ``Out[3]``; of a labelled block its how-many-eth run that was.
    """

    cell: str
    label: str
    kind: VerdictKind
    metric: Metric
    bytes_per_run: int
    confidence: float
    runs: int
    runs_until_limit: int | None = None
    levels: tuple[int, ...] = ()
    culprits: tuple[Culprit, ...] = ()
    note: str = ""
    number: int | None = None

    @property
    def holders(self) -> tuple[Culprit, ...]:
        """The culprits that all have to let go: the first, and those that hold the same objects or others as large."""
        return tuple(
            one
            for one in self.culprits
            if one is self.culprits[0] or (one.share >= _AS_MUCH * self.culprits[0].share and one.confidence >= _SURE)
        )

    @property
    def fixes(self) -> tuple[str, ...]:
        """The lines that make all of them let go."""
        return tuple(dict.fromkeys(culprit.fix for culprit in self.holders if culprit.fix))

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The verdict that ``to_dict`` wrote, also after a way through JSON."""
        culprits = tuple(
            Culprit(**{**fields_of(Culprit, culprit), "sizes": tuple(culprit["sizes"])})
            for culprit in values["culprits"]
        )
        return cls(**{**fields_of(cls, values), "levels": tuple(values["levels"]), "culprits": culprits})


@dataclass(frozen=True, slots=True)
class AllocationSite:
    """A line of code that allocated memory which is still held.

    Attributes:
        where: The line: ``[cell] line 3``, ``In[2] line 1``, ``module.py:12``.
        function: The function there; empty for the top level of a cell or module.
        called_from: The lines of cells that led there, the nearest and the outermost; empty where there is none.
        size_bytes: What it allocated and is still held.
        count: How many blocks that is.
    """

    where: str
    function: str
    called_from: str
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class AllocationSites:
    """The allocation sites that retain most, the largest first.

    Attributes:
        sites: The largest.
        count: How many there are in all.
        total_bytes: What all of them retain.
        tracer: Who traced the allocations.
        runs: Over how many runs.
        note: What a person should know: what the tracer does not see, why it was not another one.
    """

    sites: tuple[AllocationSite, ...]
    count: int
    total_bytes: int
    tracer: Literal["tracemalloc", "memray"]
    runs: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class RepeatReport:
    """What ``%%memwatch --repeat`` found.

    Attributes:
        runs: The runs that were finished, in their order.
        wanted: How many were asked for.
        verdict: The verdict of the cell, with all its runs since it was last edited; None before the second.
        duration_s: How long it took in all.
        measuring_s: How much of that went into collecting garbage and counting what has a name.
        outcome: How the last run ended.
        error: The error that ended it, in one line; empty without one.
        sites: The allocation sites that retain most; None unless they were asked for.
    """

    runs: tuple[Run, ...]
    wanted: int
    verdict: Verdict | None
    duration_s: float
    measuring_s: float
    outcome: Outcome = "ok"
    error: str = ""
    sites: AllocationSites | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class LeftName:
    """A variable whose old value was not dropped before it was rebound, and why.

    ``size_bytes`` is 0 where all of it counts for another variable that shares it.
    """

    name: str
    size_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class FreshReport:
    """What ``%%memwatch --fresh`` did.

    Attributes:
        dropped: The variables that were dropped just before they were rebound, and their sizes in bytes.
        left: Large variables that the cell rebinds and that were left until then.
        lost: Those of the dropped that have no value now that the cell has failed.
    """

    dropped: tuple[tuple[str, int], ...] = ()
    left: tuple[LeftName, ...] = ()
    lost: tuple[str, ...] = ()
