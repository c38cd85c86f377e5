"""The memory limit that really applies to this process, and how much of it is used.

A kernel is killed, or refused memory, by the tightest of several bounds: the control groups (cgroups) it is in, from
its own up to the root; the memory of the host; resource limits set on the process; ``MEM_LIMIT``, by which JupyterHub
and BinderHub tell a container's allowance; and what the user set. The smallest wins. Of two equal ones the wider
counts, because more memory counts against it and it is reached first.

Only what refuses or kills is a limit here. ``memory.high`` (v2) and ``memory.soft_limit_in_bytes`` (v1) make the kernel
reclaim harder and slow the process down, and swap limits decide what happens afterwards: none of them is looked at.

Linux is what this was tried on. On macOS and Windows the host's memory comes from psutil: untested.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import psutil

from memcell.errors import InvalidSizeError
from memcell.records.measured import Limit
from memcell.records.protected import Ceiling
from memcell.units import parse_size

logger = logging.getLogger("memcell")

# "No limit" is a huge number in cgroup v1 (PAGE_COUNTER_MAX pages, 2**63 less one page) and on macOS (RLIM_INFINITY).
_UNLIMITED_FROM = 1 << 62

_LIMIT_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}
_USAGE_FILES = {1: "memory.usage_in_bytes", 2: "memory.current"}
# The keys in memory.stat of the file pages that the kernel drops first. In v1 only the ``total_`` figures include the
# groups below, as the usage does.
_DROPPABLE_KEYS = {1: "total_inactive_file", 2: "inactive_file"}


class LimitReader:
    """Reads the memory limit of this process, again and again.

    Which control groups and settings apply is found out once, here; their values are read each time, because an
    orchestrator may change them while the process runs. A bound that cannot be read is left out.

    Args:
        setting: ``"auto"``, ``"off"``, or a size in bytes or as text. A size counts only where it is lower than the
            limits that apply anyway: a higher one would not keep anybody alive.
        environ: Where ``MEM_LIMIT`` is looked up; the process's environment by default. An unreadable value is
            ignored, with one warning in the log.
        proc: Where the proc filesystem is mounted.

    Raises:
        InvalidSizeError: The setting is not a size.
    """

    def __init__(
        self,
        setting: int | str = "auto",
        *,
        environ: Mapping[str, str] | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._is_off = setting == "off"
        # From the narrowest to the widest: where limits are equal, the last one counts.
        self._bounds: tuple[_Bound, ...] = (
            *_setting_bound(setting),
            *_environment_bound(os.environ if environ is None else environ),
            *_resource_bounds(),
            *_control_groups(proc),
            *_host_bound(),
        )

    def read(self) -> Limit:
        """The limit now. It reads a few small files (about 0.2 ms): not for a hook that runs at every cell."""
        if self._is_off:
            return Limit(None, None, "off")
        tightest = self._tightest()
        if tightest is None:
            return Limit(None, None, "unknown")
        limit, bound = tightest
        return Limit(limit, bound.used_bytes(), bound.source)

    def ceiling(self) -> Ceiling | None:
        """The same limit, and how another process sees it coming; None where there is none."""
        tightest = None if self._is_off else self._tightest()
        return None if tightest is None else tightest[1].ceiling(tightest[0])

    def _tightest(self) -> tuple[int, _Bound] | None:
        tightest: tuple[int, _Bound] | None = None
        for bound in self._bounds:
            limit = _finite(bound.limit_bytes())
            if limit is not None and (tightest is None or limit <= tightest[0]):
                tightest = limit, bound
        return tightest


class _Bound(Protocol):
    """Something that limits memory. It never raises; None is what it cannot tell."""

    @property
    def source(self) -> str: ...

    def limit_bytes(self) -> int | None: ...

    def used_bytes(self) -> int | None: ...

    def ceiling(self, limit_bytes: int) -> Ceiling: ...


@dataclass(frozen=True, slots=True)
class _Allowance:
    """A number that somebody named: the user, or a hub.

    Nothing on this machine counts against it, so the resident memory of this process is the best that is known; child
    processes are not in it.
    """

    source: str
    size: int

    def limit_bytes(self) -> int:
        return self.size

    def used_bytes(self) -> int | None:
        return _own_memory("rss")

    def ceiling(self, limit_bytes: int) -> Ceiling:
        return Ceiling("own", limit_bytes, self.source)


@dataclass(frozen=True, slots=True)
class _ResourceLimit:
    """A soft limit of setrlimit(2): beyond it this process gets no memory (MemoryError), whoever else has some.

    RLIMIT_AS bounds the address space; RLIMIT_DATA bounds private writable memory (Linux 4.7 and newer). Memory that
    was never touched counts against both, so what is used is not the resident memory and usually a good deal more.
    """

    source: Literal["RLIMIT_AS", "RLIMIT_DATA"]

    def limit_bytes(self) -> int:
        import resource  # it is there where one of these was made: see _resource_bounds

        soft, _ = resource.getrlimit(getattr(resource, self.source))
        return soft

    def used_bytes(self) -> int | None:
        return _own_memory("vms" if self.source == "RLIMIT_AS" else "data")

    def ceiling(self, limit_bytes: int) -> Ceiling:
        return Ceiling("address" if self.source == "RLIMIT_AS" else "data", limit_bytes, self.source)


@dataclass(frozen=True, slots=True)
class _ControlGroup:
    """One control group that this process, or one of its group's ancestors, is in."""

    source: str
    version: Literal[1, 2]
    directory: str

    @property
    def is_limitable(self) -> bool:
        """False for the root of v2, and where the memory controller is not enabled."""
        return self._text(_LIMIT_FILES[self.version]) != ""

    def limit_bytes(self) -> int | None:
        # A container sees only its own part of the hierarchy; v1 tells the least of the limits further up, too.
        told = self._statistic("hierarchical_memory_limit") if self.version == 1 else None
        return told if told is not None else self._number(_LIMIT_FILES[self.version])

    def used_bytes(self) -> int | None:
        """The working set: the usage without the page cache that is dropped before anything is killed."""
        usage = self._number(_USAGE_FILES[self.version])
        if usage is None:
            return None
        return max(usage - (self._statistic(_DROPPABLE_KEYS[self.version]) or 0), 0)

    def ceiling(self, limit_bytes: int) -> Ceiling:
        return Ceiling(
            "group",
            limit_bytes,
            self.source,
            usage_file=posixpath.join(self.directory, _USAGE_FILES[self.version]),
            statistics_file=posixpath.join(self.directory, "memory.stat"),
            droppable_key=_DROPPABLE_KEYS[self.version],
        )

    def _number(self, name: str) -> int | None:
        return _parse_number(self._text(name))

    def _statistic(self, key: str) -> int | None:
        for line in self._text("memory.stat").split("\n"):
            name, _, value = line.partition(" ")
            if name == key:
                return _parse_number(value)
        return None

    def _text(self, name: str) -> str:
        return _text(posixpath.join(self.directory, name))


@dataclass(frozen=True, slots=True)
class _Host:
    """The machine, or the part of it that a virtual machine or LXC presents as one."""

    total: int
    source: str = "the machine"

    def limit_bytes(self) -> int:
        return self.total

    def used_bytes(self) -> int | None:
        try:
            return max(self.total - int(psutil.virtual_memory().available), 0)
        except OSError:
            return None

    def ceiling(self, limit_bytes: int) -> Ceiling:
        return Ceiling("host", limit_bytes, self.source)


def _setting_bound(setting: int | str) -> Iterator[_Bound]:
    if setting not in ("auto", "off"):
        yield _Allowance("%memlimit", parse_size(setting))


def _environment_bound(environ: Mapping[str, str]) -> Iterator[_Bound]:
    text = environ.get("MEM_LIMIT", "").strip()
    if text:
        try:
            yield _Allowance("MEM_LIMIT", parse_size(text))
        except InvalidSizeError as error:
            logger.warning("The environment variable MEM_LIMIT is ignored: %s", error)


def _resource_bounds() -> Iterator[_Bound]:
    try:
        import resource  # noqa: F401  # Windows has none
    except ImportError:
        return
    yield _ResourceLimit("RLIMIT_DATA")
    yield _ResourceLimit("RLIMIT_AS")


def _host_bound() -> Iterator[_Bound]:
    try:
        yield _Host(int(psutil.virtual_memory().total))
    except OSError:  # a container without /proc
        return


def _control_groups(proc: Path) -> Iterator[_Bound]:
    """The groups with a memory controller that this process is in, each followed by its ancestors."""
    mounts = list(_mounts(_text(proc / "self" / "mountinfo")))
    for version, path in _memberships(_text(proc / "self" / "cgroup")):
        candidates = [mount for mount in mounts if mount.version == version]
        if not candidates:
            continue
        holders = [mount for mount in candidates if mount.holds(path)]
        if holders:
            # The one that is mounted from furthest up shows the most ancestors.
            mount = min(holders, key=lambda holder: len(holder.root))
            names = mount.names_below(path)
        else:
            # The process is in a group outside what is mounted here, as seen from a foreign namespace or after a
            # move: in a container the top of the mount is the group that holds all of it.
            mount, names = candidates[0], []
        for depth in range(len(names), -1, -1):
            group = _ControlGroup(
                source=f"cgroup v{version} {posixpath.join(mount.root, *names[:depth])}",
                version=version,
                directory=posixpath.join(mount.point, *names[:depth]),
            )
            if group.is_limitable:
                yield group


@dataclass(frozen=True, slots=True)
class _Mount:
    """Where a hierarchy of control groups is mounted: the group ``root`` of it appears at the directory ``point``."""

    version: Literal[1, 2]
    root: str
    point: str

    def holds(self, path: str) -> bool:
        # ".." stands for groups above the root of the namespace, which have no place below a mount.
        is_below = path == self.root or path.startswith(self.root.rstrip("/") + "/")
        return is_below and ".." not in self.names_below(path)

    def names_below(self, path: str) -> list[str]:
        return [name for name in path[len(self.root) :].split("/") if name]


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """The mounted hierarchies that may have a memory controller, from /proc/self/mountinfo (see proc(5)).

    A line is ``36 25 0:31 /root /mount/point rw,nosuid shared:9 - cgroup cgroup rw,memory``, with any number of
    optional fields before the dash.
    """
    for line in mountinfo.split("\n"):
        place, _, kind = line.partition(" - ")
        fields, described = place.split(" "), kind.split(" ")
        if len(fields) < 5:
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4])
        if described[0] == "cgroup2":
            yield _Mount(2, root, point)
        elif described[0] == "cgroup" and "memory" in described[-1].split(","):
            yield _Mount(1, root, point)


def _memberships(cgroup: str) -> Iterator[tuple[Literal[1, 2], str]]:
    """The group of each hierarchy that may limit memory, from /proc/self/cgroup (see cgroups(7)).

    A line is ``4:memory:/path`` in v1, with all controllers of the hierarchy, and ``0::/path`` in v2.
    """
    for line in cgroup.split("\n"):
        fields = line.split(":", 2)
        if len(fields) < 3:
            continue
        _, controllers, path = fields
        if not controllers:
            yield 2, path
        elif "memory" in controllers.split(","):
            yield 1, path


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _text(path: str | Path) -> str:
    """The contents of a small file; nothing where it cannot be read, as a group may vanish at any time."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _parse_number(text: str) -> int | None:
    """A number from a control group's file; None for v2's ``max`` and for nothing."""
    text = text.strip()
    return int(text) if text.isdecimal() else None


def _finite(limit: int | None) -> int | None:
    """None for the many ways to write "no limit": None, -1 (RLIM_INFINITY on Linux), 0 and huge numbers."""
    return limit if limit is not None and 0 < limit < _UNLIMITED_FROM else None


def _own_memory(kind: Literal["rss", "vms", "data"]) -> int | None:
    """One of psutil's figures for this process; ``data`` is known on Linux only."""
    try:
        return getattr(psutil.Process().memory_info(), kind, None)
    except (psutil.Error, OSError):
        return None
