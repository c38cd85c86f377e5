"""What the system tells about its processes: one reading of all of them, and what is dearer about a single one.

On Linux ``/proc`` is read directly: psutil takes ten times as long for the same. Elsewhere psutil tells (untested on
macOS and Windows). A process that ends meanwhile, or that may not be read, is left out and never an error.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_LINUX = sys.platform == "linux"
_ENDED = ("Z", "X")
_STOPPED = "T"


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as cheaply as the system tells it.

    ``birth`` is when it was started, in the system's own unit: with the pid it is its identity, because a pid is used
    again. ``session`` is the process that leads its session, ``has_terminal`` whether that session has a terminal.
    """

    pid: int
    parent: int
    session: int
    birth: int
    state: str
    user: int
    has_terminal: bool

    @property
    def has_ended(self) -> bool:
        """Whether it is a zombie: it holds no memory, only its exit status for its parent."""
        return self.state in _ENDED

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped: a signal that it could handle reaches it only once it goes on."""
        return self.state == _STOPPED

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to the user of this process."""
        return self.user == _user()


def read_process(pid: int) -> Process | None:
    """One process; None where there is none, or no more."""
    return _read_stat(pid) if _LINUX else _ask_psutil(pid)


def read_processes() -> dict[int, Process]:
    """All processes, by pid."""
    return {process.pid: process for process in map(read_process, psutil.pids()) if process is not None}


def descendants(processes: Mapping[int, Process], roots: Iterable[int]) -> dict[int, int]:
    """The processes below some others, each with its depth (1: a child of a root). Roots are not in it."""
    children = defaultdict(list)
    for process in processes.values():
        children[process.parent].append(process.pid)
    depths: dict[int, int] = {}
    level, depth = list(dict.fromkeys(roots)), 0
    seen = set(level)
    while level:
        depth += 1
        level = [child for parent in level for child in children[parent] if child not in seen]
        seen.update(level)
        depths.update(dict.fromkeys(level, depth))
    return depths


def started_at(process: Process) -> float:
    """When it was started, in seconds since the epoch; on Linux to half a tick of its clock, 5 ms."""
    if not _LINUX:
        return process.birth / 1e6
    # Not by way of /proc/stat's time of booting, which is in whole seconds: a cell may be shorter than that.
    since_boot = (process.birth + 0.5) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def boot_id() -> str:
    """What tells this run of the machine from others."""
    if not _LINUX:
        return f"{psutil.boot_time():.0f}"
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip().replace("-", "")


def environment_value(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with; None without it, or where it may not be read."""
    if not _LINUX:
        try:
            value: str | None = psutil.Process(pid).environ().get(name)
            return value
        except (psutil.Error, OSError):
            return None
    found = (b"\0" + _read(f"/proc/{pid}/environ")).rpartition(b"\0%s=" % os.fsencode(name))
    return os.fsdecode(found[2].partition(b"\0")[0]) if found[1] else None


def arguments_of(pid: int) -> list[str]:
    """The command line; empty for a zombie and where it may not be read."""
    if not _LINUX:
        try:
            return list(psutil.Process(pid).cmdline())
        except (psutil.Error, OSError):
            return []
    data = _read(f"/proc/{pid}/cmdline")
    return [os.fsdecode(part) for part in data.rstrip(b"\0").split(b"\0")] if data else []


def command_of(pid: int) -> str:
    """The command line as a person would type it; the bare name in brackets where there is none."""
    arguments = arguments_of(pid)
    if arguments:
        return shlex.join(arguments)
    try:
        return f"[{psutil.Process(pid).name()}]"
    except psutil.Error:
        return ""


def rss_of(pid: int) -> int:
    """Resident memory in bytes; 0 for a process that has ended or may not be read."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def ignores_hangup(pid: int) -> bool:
    """Whether it ignores SIGHUP, as ``nohup`` makes a process and all that it starts do."""
    for line in _read(f"/proc/{pid}/status").splitlines() if _LINUX else ():
        if line.startswith(b"SigIgn:"):
            return bool(int(line.split()[1], 16) & 1)
    return False


def is_resource_tracker(pid: int) -> bool:
    """Whether it is one of multiprocessing's or loky's: it cleans up after those that it serves, and then ends."""
    return any("resource_tracker import main" in word for word in arguments_of(pid))


def shares_pid_namespace(pid: int) -> bool:
    """Whether its pids are ours: a pid in the environment of a process in a container means another one here."""
    if not _LINUX:
        return True
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except OSError:
        return False


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # ended, or another user's
        return b""


def _read_stat(pid: int) -> Process | None:
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            user = os.fstat(descriptor).st_uid
            # The name stands in brackets, and may itself hold brackets and spaces.
            fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
        state, parent, session, terminal, birth = (fields[at] for at in (0, 1, 3, 4, 19))
    except (OSError, IndexError):
        return None
    return Process(pid, int(parent), int(session), int(birth), state.decode(), user, terminal != b"0")


def _ask_psutil(pid: int) -> Process | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            status = process.status()
            state = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: _STOPPED}.get(status)
            user = process.uids().effective if hasattr(process, "uids") else 0
            has_terminal = bool(process.terminal()) if hasattr(process, "terminal") else False
            session = os.getsid(pid) if hasattr(os, "getsid") else 0
            birth = int(process.create_time() * 1e6)
            return Process(pid, process.ppid(), session, birth, state or "S", user, has_terminal)
    except (psutil.Error, OSError):
        return None
