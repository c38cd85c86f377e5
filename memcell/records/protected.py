"""What protects the kernel: limits and stops, the health of the process, child processes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from memcell.records.measured import Limit
    from memcell.records.sized import ObjectSize


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
        is_raised: Whether the error came in the run's own code: not where C code kept the interpreter to the run's end.
    """

    used_bytes: int
    limit_bytes: int
    source: str
    grown_bytes: int
    children_bytes: int
    largest: tuple[ObjectSize, ...] = ()
    is_raised: bool = False


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
