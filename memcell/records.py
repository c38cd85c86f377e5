"""What the rooms hand to one another: frozen records, in bytes and seconds.

Text is made from them in ``view``; nothing here reads memory, draws or judges. The file is long because every field
is described; records that belong together are read together, so it is not split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: How a run ended. ``interrupted``: by Ctrl-C. ``limit``: memcell stopped it before its memory passed a limit.
Outcome = Literal["ok", "error", "interrupted", "limit"]
#: Where a peak comes from. ``high-water``: the operating system's own mark, reset when the run began, so exact up to
#: the error of its counters. ``sampled``: the highest of the samples, so a lower bound. ``ends``: the run was too
#: short to be sampled, the higher of the levels before and after it, a lower bound too.
PeakMethod = Literal["high-water", "sampled", "ends"]
#: What a user may notice after a cleaner ran. ``none``: nothing. ``recompute``: a cache is gone, which costs time
#: later. ``state``: something the user could miss.
Effect = Literal["none", "recompute", "state"]
CleanerSource = Literal["built-in", "registered", "entry point", "available"]


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
class Ceiling:
    """Where memory ends for this process, and what has to be read to see it coming.

    Attributes:
        kind: What counts against it. ``own``: the memory of this process and its children. ``address``, ``data``: its
            address space, its private writable memory. ``group``: the working set of a control group. ``host``: all of
            the machine's.
        limit_bytes: The limit.
        source: Who sets it.
        usage_file: Of a control group: the file that tells its usage,
        statistics_file: the one that tells how much of that can be dropped,
        droppable_key: and by which name.
    """

    kind: Literal["own", "address", "data", "group", "host"]
    limit_bytes: int
    source: str
    usage_file: str = ""
    statistics_file: str = ""
    droppable_key: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run was stopped, in bytes.

    Attributes:
        used_bytes: What counted against the limit at that moment.
        limit_bytes: The limit.
        source: Whose limit it is.
        grown_bytes: How far the memory of this process and its children had grown since the run began.
        children_bytes: What the children held of it.
        largest: The largest variables that the run could reach.
    """

    used_bytes: int
    limit_bytes: int
    source: str
    grown_bytes: int
    children_bytes: int
    largest: tuple[ObjectSize, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """The session's limit and what happens on the way to it, in bytes; None for what does not happen.

    Attributes:
        limit: The limit that applies, and what is used of it.
        warn_bytes: From here on memcell warns,
        clean_bytes: from here on it cleans,
        stop_bytes: and here it stops the cell that grows.
        own_bytes: The memory of this process and its children that cannot be dropped.
        note: Why no cell is stopped, or when only.
    """

    limit: Limit
    warn_bytes: int | None
    clean_bytes: int | None
    stop_bytes: int | None
    own_bytes: int
    note: str = ""


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
        return cls(**{**_fields_of(cls, values), "curve_bytes": tuple(values["curve_bytes"])})


@dataclass(frozen=True, slots=True)
class CleanerInfo:
    """One line of the list of cleaners.

    ``source`` is ``available`` for a module that has a ``clear_caches()`` of its own and has not registered it:
    memcell lists it and never calls it unasked. ``size_bytes`` is what the cleaner's own ``size`` callable says it
    would free, None without one. ``ready`` is false while the library that it clears is not imported. ``deep`` says
    that ``--deep`` runs it although its effect is ``state``.
    """

    name: str
    effect: Effect
    source: CleanerSource
    owner: str
    ready: bool = True
    size_bytes: int | None = None
    about: str = ""
    deep: bool = False


@dataclass(frozen=True, slots=True)
class CleanOutcome:
    """What one cleaner did.

    ``freed_bytes`` is measured: resident memory before minus after it, negative where it rose, None where the cleaner
    did not run (``error`` says why). A figure within ``noise_bytes`` of zero cannot be told from zero.
    ``objects`` is the number of objects collected, None where nobody counts them.
    """

    name: str
    effect: Effect
    freed_bytes: int | None
    noise_bytes: int = 0
    duration_s: float = 0.0
    objects: int | None = None
    error: str | None = None

    @property
    def is_measurable(self) -> bool:
        """Whether the freed bytes can be told from zero."""
        return self.freed_bytes is not None and abs(self.freed_bytes) > self.noise_bytes


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What one clean-up gave back, measured. ``objects`` is the number of objects the collector found."""

    before_bytes: int
    after_bytes: int
    outcomes: tuple[CleanOutcome, ...] = ()
    duration_s: float = 0.0
    interrupted: bool = False
    note: str = ""

    @property
    def freed_bytes(self) -> int:
        """Resident memory before the clean-up minus after it; negative where it rose."""
        return self.before_bytes - self.after_bytes

    @property
    def objects(self) -> int:
        """The number of objects collected."""
        return sum(outcome.objects or 0 for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the derived ones, as plain values for JSON."""
        return {**dataclasses.asdict(self), "freed_bytes": self.freed_bytes, "objects": self.objects}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CleanReport:
        """The report that ``to_dict`` wrote, also after a way through JSON."""
        outcomes = tuple(CleanOutcome(**outcome) for outcome in values["outcomes"])
        return cls(**{**_fields_of(cls, values), "outcomes": outcomes})


#: What the runs of one cell show. ``growing``: a leak. ``warming``: it grew, then stayed flat. ``steady``: nothing
#: stays. ``noisy``: ups and downs without a trend. ``unknown``: too few runs to tell.
VerdictKind = Literal["growing", "warming", "steady", "noisy", "unknown"]
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

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The verdict that ``to_dict`` wrote, also after a way through JSON."""
        culprits = tuple(
            Culprit(**{**_fields_of(Culprit, culprit), "sizes": tuple(culprit["sizes"])})
            for culprit in values["culprits"]
        )
        return cls(**{**_fields_of(cls, values), "levels": tuple(values["levels"]), "culprits": culprits})


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
        lost: Those of the dropped that have no value now, because what was to become their value raised.
    """

    dropped: tuple[tuple[str, int], ...] = ()
    left: tuple[LeftName, ...] = ()
    lost: tuple[str, ...] = ()


State = Literal["healthy", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Status:
    """How this process is, for a health check. ``to_dict`` is a body for it.

    Attributes:
        state: ``warning`` above the warning threshold, ``critical`` above the one at which is cleaned.
        rss_bytes: Resident memory now.
        limit_bytes: The limit that applies; None where none is known.
        percent: How much of the limit is used, by everything that counts against it; None without a limit.
        growth_bytes_per_hour: The slope of the level over time, from the levels that were seen; None before there are
            ten minutes of them. A peak never falls, so it cannot tell a leak from a busy moment; the slope can.
        last_clean_s: Seconds since the last clean-up; None before the first.
        last_freed_bytes: What that one freed.
        children: How many child processes there are.
    """

    state: State
    rss_bytes: int
    limit_bytes: int | None
    percent: float | None
    growth_bytes_per_hour: int | None
    last_clean_s: float | None
    last_freed_bytes: int | None
    children: int

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class SharedInfo:
    """What a shared function holds.

    ``size_bytes`` is what resident memory grew by while its instances were built, ``age_s`` the age of the oldest,
    ``cell`` the number of the cell that built the latest, None outside cells.
    """

    name: str
    entries: int
    size_bytes: int
    age_s: float
    hits: int
    cell: int | None


@dataclass(frozen=True, slots=True)
class Notice:
    """What memcell did or advises of its own accord, and why; ``report`` is there if it cleaned."""

    why: str
    report: CleanReport | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the user created.

    ``size_bytes`` is approximate: the data of an array or data frame, the object alone, without what it refers to, for
    everything else; None where the object does not tell.
    """

    name: str
    type_name: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModuleOutcome:
    """What becomes of a package or module that was imported since memcell was loaded.

    ``count`` is the number of modules: it and its submodules. ``note`` is the reason why it stays in ``sys.modules``,
    or, for one that is dropped, what keeps it in memory still.
    """

    name: str
    dropped: bool
    note: str = ""
    count: int = 1


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


@dataclass(frozen=True, slots=True)
class ObjectSize:
    """How large an object is with all that it holds; memory that several hold counts for one of them.

    Attributes:
        name: The name by which a person knows it.
        type_name: The dotted name of its class.
        size_bytes: What counts for it.
        complete: False where time ran out before all of it was counted: then the size is a lower bound.
        whole_held_by: Names of others that hold all of it, or nearly so.
        part_held_by: Names of others that hold a part of it.
        note: What a person should know about the size: estimated, or mapped from a file.
    """

    name: str
    type_name: str
    size_bytes: int
    complete: bool = True
    whole_held_by: tuple[str, ...] = ()
    part_held_by: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class NamespaceEntry:
    """One row of the namespace by size: a variable, or something else of the session that holds memory.

    Attributes:
        name: The name of the variable, or how a person knows what it is: ``Out[3]``.
        type_name: The dotted name of its class.
        size_bytes: What counts for it: memory that several share counts for one of them.
        complete: False where the size is a lower bound, for want of time.
        shared_with: Variables that hold all or a part of it too.
        also_held_by: What else does, as a person can find it: ``Out[3]``, ``pkg.mod.NAME``.
        freed_by_del: How much ``del`` gives back; None for what is no variable.
        freed_by: The line that gives back what is no variable.
        note: What a person should know about the size.
    """

    name: str
    type_name: str
    size_bytes: int
    complete: bool = True
    shared_with: tuple[str, ...] = ()
    also_held_by: tuple[str, ...] = ()
    freed_by_del: Literal["all", "part", "nothing"] | None = None
    freed_by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class NamespaceSizes:
    """The namespace by size.

    Attributes:
        entries: The largest, the largest first.
        count: How many there are in all.
        total_bytes: What all of them hold, shared memory counted once.
        rss_bytes: Resident memory of the process.
        uncounted: Names of those that were not counted to their end, for want of time.
        holders_complete: False where time ran out in the search for what else holds them.
        shared: What functions under ``memcell.shared`` hold.
    """

    entries: tuple[NamespaceEntry, ...]
    count: int
    total_bytes: int
    rss_bytes: int
    uncounted: tuple[str, ...] = ()
    holders_complete: bool = True
    shared: tuple[SharedInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A process that a cell started, directly or not.

    Attributes:
        pid: Its pid.
        birth: When it was started, in the system's own unit. With the pid it is its identity: a pid is used again.
        command: Its command line.
        started: When it was started, in seconds since the epoch.
        age_s: How long it has been running.
        memory_bytes: What it holds: PSS, shared pages counted once, or RSS where the system does not tell that.
        cell: The number of the run during which it was started; None where that is not known.
        cell_line: The first line of that cell.
        detached: Whether it was detached on purpose: a session of its own without a terminal, or SIGHUP ignored.
        state: ``ended`` is a zombie: it holds no memory, only the exit status that its parent has not asked for.
        kernel: The pid of the kernel that started it, if that one has died; None for this session's own.
    """

    pid: int
    birth: int
    command: str
    started: float
    age_s: float
    memory_bytes: int
    cell: int | None = None
    cell_line: str = ""
    detached: bool = False
    state: Literal["running", "stopped", "ended"] = "running"
    kernel: int | None = None


#: How a process ended. ``terminated``: on SIGTERM, or told so by the library that owns it. ``killed``: on SIGKILL,
#: because it did not heed SIGTERM. ``gone``: by itself, before it was signalled. ``left``: it is still there.
Ending = Literal["terminated", "killed", "gone", "left"]


@dataclass(frozen=True, slots=True)
class EndOutcome:
    """What became of one process that was to be ended.

    ``memory_bytes`` is what it held right before, as in ``ChildProcess``; ``why`` says why it was left.
    """

    pid: int
    command: str
    ending: Ending
    memory_bytes: int
    duration_s: float = 0.0
    why: str = ""


def _fields_of(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in dataclasses.fields(record)}
