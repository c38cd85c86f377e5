"""How large objects are, and what else holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from memcell.records.protected import SharedInfo


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
