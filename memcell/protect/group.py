"""Ending a group of processes at once, but for those that detached from it and those that clean up after the others."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection

from memcell.protect import processes
from memcell.protect.processes import Process

#: Between two looks a process can fork: so many looks find all that do not do it on and on.
_LOOKS = 20
_LOOK_EVERY_S = 0.005
#: What a resource tracker gets to remove what others left: it does so once they are gone.
_TRACKERS_S = 2.0


def end_group(group: int, spare: Collection[int] = ()) -> None:
    """SIGKILL to the processes of a group.

    Left are those that ignore SIGHUP, as ``nohup`` makes them, while this process does not, and the resource trackers
    of multiprocessing and loky: they remove shared memory and semaphores of the others, and then end.

    Args:
        group: The group. A process that is in it must not have been waited for: then its number is still its own.
        spare: Processes that are left too.
    """
    for _ in range(_LOOKS):
        members = _members(group)
        left = {process.pid for process in members if process.pid in spare or _stays(process)}
        if not left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
            return
        if len(left) == len(members):
            return
        for process in members:
            if process.pid not in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_S)


def wait_for_trackers(group: int) -> None:
    """Wait until the resource trackers of a group, whose other processes are gone, have cleaned up; not for long."""
    ends = time.monotonic() + _TRACKERS_S
    # Found once: one that is just ending has no command line any more.
    trackers = {process.pid for process in _members(group) if processes.is_resource_tracker(process.pid)}
    while trackers.intersection(process.pid for process in _members(group)) and time.monotonic() < ends:
        time.sleep(_LOOK_EVERY_S)


def _members(group: int) -> list[Process]:
    return [
        process
        for process in processes.read_processes().values()
        if not process.has_ended and _group_of(process.pid) == group
    ]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _stays(process: Process) -> bool:
    if processes.is_resource_tracker(process.pid):
        return True
    return processes.ignores_hangup(process.pid) and not processes.ignores_hangup(os.getpid())
