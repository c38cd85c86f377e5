"""The record of a process that has died."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

#: Whether it was the operating system's out-of-memory killer. ``likely``: it ended some process on this host just then.
OutOfMemory = Literal["yes", "likely", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run that was on when a process died, or the last one before.

    Attributes:
        cell: The key of the cell, or the label of a ``watch`` block.
        number: The execution count, or the how-many-eth run of a label.
        is_block: Whether it is a ``watch`` block and no cell.
        source: The source of the cell, its beginning if it is long.
        source_characters: How long the whole source is.
        started: When it began, in seconds since the epoch.
        before_bytes: Resident memory then.
        kept_bytes: What earlier runs of the same source kept, oldest first; the latest few.
        peak_growth_bytes: How far above their start the same runs went.
        limit_bytes: The limit that applied; None where none was known.
        limit_source: Who set it.
        bytes_per_run: The growth that the last verdict told of; None without one.
        culprit: What that verdict named.
    """

    cell: str
    number: int
    is_block: bool
    source: str
    source_characters: int
    started: float
    before_bytes: int
    kept_bytes: tuple[int, ...] = ()
    peak_growth_bytes: tuple[int, ...] = ()
    limit_bytes: int | None = None
    limit_source: str = ""
    bytes_per_run: int | None = None
    culprit: str = ""


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended without a goodbye: what its black box tells.

    Attributes:
        name: The name of the file.
        folder: The folder in which the process worked when it loaded memcell.
        notebook: The notebook, where a Jupyter server named it.
        pid: The process.
        died: When, in seconds since the epoch.
        signal: The signal that ended it; None where it was none, or where that is not known.
        exit_status: Its exit status; None where a signal ended it, or where that is not known.
        oom: Whether it was the out-of-memory killer.
        run: The run that was on, or the last one; None where none was noted.
        is_running: Whether that run was on.
        ended: When it ended; None while it was on.
        times_s: When the last minute's samples were taken, in seconds before the death (0 and less).
        rss_bytes: Resident memory in them.
        children_bytes: The child processes; empty where there were none.
        memcell: The version of memcell.
        python: The version of Python.
    """

    name: str
    folder: str
    notebook: str
    pid: int
    died: float
    signal: str | None
    exit_status: int | None
    oom: OutOfMemory
    run: LastRun | None
    is_running: bool
    ended: float | None
    times_s: tuple[float, ...] = ()
    rss_bytes: tuple[int, ...] = ()
    children_bytes: tuple[int, ...] = ()
    memcell: str = ""
    python: str = ""

    @property
    def levels(self) -> tuple[int, ...]:
        """Resident memory with the child processes in each sample."""
        return tuple(map(sum, zip(self.rss_bytes, self.children_bytes or (0,) * len(self.rss_bytes), strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values for JSON."""
        return dataclasses.asdict(self)
