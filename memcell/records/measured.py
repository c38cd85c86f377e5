"""What was measured: runs, their curves, and the limit that applies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from memcell.records.fields import fields_of

#: How a run ended. ``interrupted``: by Ctrl-C. ``limit``: memcell stopped it before its memory passed a limit.
Outcome = Literal["ok", "error", "interrupted", "limit"]
#: Where a peak comes from. ``high-water``: the operating system's own mark, reset when the run began, so exact up to
#: the error of its counters. ``sampled``: the highest of the samples, so a lower bound. ``ends``: the run was too
#: short to be sampled, the higher of the levels before and after it, a lower bound too.
PeakMethod = Literal["high-water", "sampled", "ends"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The memory of this process at one moment, in bytes; None where the platform does not tell.

    ``heap_bytes`` is what malloc has handed out and not got back: it tells memory in use from memory that the
    allocator merely keeps.
    """

    rss_bytes: int
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    heap_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """How the memory of a run went: the highest level in each of equal slices of time.

    ``children_bytes`` has the level of the child processes (PSS) in the same slices.
    """

    slice_s: float
    rss_bytes: tuple[int, ...] = ()
    children_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """The memory limit that applies to this process, in bytes, and who sets it.

    ``used_bytes`` is what counts against it: the working set of the control group or host, without page cache that
    can be dropped. ``limit_bytes`` is None where no limit is known.
    """

    limit_bytes: int | None
    used_bytes: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a cell. Sizes are bytes, times are seconds, ``started`` is seconds since the epoch.

    Attributes:
        cell: The key of the cell: the front end's cell id, else a hash of its source.
        number: The execution count (``In[number]``), or the how-many-eth run of a ``watch`` label.
        source_hash: A hash of the source: it changes when the cell is edited.
        source_line: The first line of the source, shortened.
        before_bytes: Resident memory (RSS) when the run began.
        after_bytes: Resident memory when it ended.
        peak_bytes: The highest resident memory during the run, without what memcell itself took.
        peak_method: Where the peak comes from.
        peak_error_bytes: How far the peak may be off; None where only a lower bound is known.
        own_bytes: What memcell itself took during the run (a library loaded for a picture): not the cell's.
        settled_bytes: Resident memory after the run once garbage was collected and the heap trimmed; None where that
            was not done, which is so unless the cell was re-run and seems to grow.
        cleaned_bytes: What cleaners gave back during the run.
        children_before_bytes: The child processes when the run began (PSS, shared pages counted once).
        children_after_bytes: The same when it ended.
        children_peak_bytes: The highest of the two and of the samples in between.
        device_bytes: GPU memory that this process holds after the run; None without one in use.
        curve_bytes: The highest level in each of equal slices of the run; empty for a run too short to sample.
    """

    cell: str
    number: int
    source_hash: str
    source_line: str
    started: float
    duration_s: float
    before_bytes: int
    after_bytes: int
    peak_bytes: int
    peak_method: PeakMethod
    outcome: Outcome
    peak_error_bytes: int | None = None
    anon_before_bytes: int | None = None
    anon_after_bytes: int | None = None
    file_before_bytes: int | None = None
    file_after_bytes: int | None = None
    shmem_before_bytes: int | None = None
    shmem_after_bytes: int | None = None
    heap_before_bytes: int | None = None
    heap_after_bytes: int | None = None
    own_bytes: int = 0
    settled_bytes: int | None = None
    cleaned_bytes: int = 0
    children_before_bytes: int = 0
    children_after_bytes: int = 0
    children_peak_bytes: int = 0
    device_bytes: int | None = None
    curve_bytes: tuple[int, ...] = ()

    @property
    def retained_bytes(self) -> int:
        """What the run left behind: the level after it minus the level before, without what memcell itself took."""
        return self.after_bytes - self.before_bytes - self.own_bytes

    @property
    def peak_growth_bytes(self) -> int:
        """The peak minus the level before the run."""
        return self.peak_bytes - self.before_bytes

    def to_dict(self) -> dict[str, Any]:
        """All fields and the two derived ones, as plain values for JSON."""
        return {
            **dataclasses.asdict(self),
            "retained_bytes": self.retained_bytes,
            "peak_growth_bytes": self.peak_growth_bytes,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        """The run that ``to_dict`` wrote, also after a way through JSON."""
        return cls(**{**fields_of(cls, values), "curve_bytes": tuple(values["curve_bytes"])})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the live view draws: the run that is going on, if any, and the runs before it.

    Attributes:
        runs: The recorded runs, oldest first.
        level_bytes: Resident memory now.
        limit: The limit that applies.
        number: The execution count of the run that is going on; None between runs.
        source_line: Its first line.
        elapsed_s: How long it has been going on.
        before_bytes: Resident memory when it began.
        peak_bytes: The highest level so far (exact where the platform allows).
        curve: Its samples so far.
    """

    runs: tuple[Run, ...]
    level_bytes: int
    limit: Limit
    number: int | None = None
    source_line: str = ""
    elapsed_s: float = 0.0
    before_bytes: int = 0
    peak_bytes: int = 0
    curve: Curve = Curve(0.0)
