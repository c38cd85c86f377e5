"""The processes that cells started: listing and ending them. How they are found is in ``finding.py``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from memcell.errors import UnknownProcessError
from memcell.protect import marker, processes
from memcell.protect.ending import GRACE_S, Ended, collect, end
from memcell.protect.finding import find_orphans, find_started, find_to_end, is_detached
from memcell.protect.marker import Origin
from memcell.protect.processes import Process, descendants
from memcell.records.protected import ChildProcess, EndOutcome

CellAt = Callable[[float], tuple[int, str] | None]
_NAMES_SHOWN = 12


class Children:
    """The processes that cells of this session started, and those that dead kernels of this user left.

    Args:
        memory_of: The memory of a process, in bytes; by default its RSS.
        cell_at: Which run was going on at a time (seconds since the epoch): its number and first line.
        own: The process that is memcell's own, or None.
    """

    def __init__(
        self,
        memory_of: Callable[[int], int] | None = None,
        cell_at: CellAt = lambda _: None,
        own: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._memory_of = memory_of or processes.rss_of
        self._cell_at = cell_at
        self._own = own
        self._origin = Origin.own()

    @property
    def origin(self) -> Origin:
        """This process. A forked child has children of its own, and those of its parent are none of its business."""
        if self._origin.id.pid != os.getpid():
            self._origin = Origin.own()
        return self._origin

    def mark(self) -> None:
        """Mark what is started from now on."""
        marker.put(self.origin.id)

    def children(self) -> list[ChildProcess]:
        """The processes of this session, the oldest first."""
        _collect_workers()
        table = processes.read_processes()
        return self._described(table, dict.fromkeys(self._found(table), self.origin))

    def orphans(self) -> list[ChildProcess]:
        """The processes of dead kernels of this user, the oldest first. Kernels that live are left out."""
        table = processes.read_processes()
        return self._described(table, find_orphans(table))

    def end(
        self, wanted: Collection[int | ChildProcess] | None = None, *, grace_s: float = GRACE_S
    ) -> list[EndOutcome]:
        """End processes, children before parents.

        Args:
            wanted: These and what they started, of this session or of a dead kernel; without it, all of this session
                that were not detached on purpose.
            grace_s: Seconds between SIGTERM and SIGKILL.

        Raises:
            UnknownProcessError: One of them is neither; nothing was signalled then.
        """
        table = processes.read_processes()
        if wanted is None:
            return self.end_found(table, find_to_end(table, self._found(table), self.origin), grace_s)
        started = {*find_orphans(table), *self._found(table)}
        gone = []
        pids = set()
        for one in wanted:
            if not isinstance(one, (int, ChildProcess)):
                raise UnknownProcessError(f"cannot end {one!r}: it is neither a pid nor one of memcell.children()")
            pid = one if isinstance(one, int) else one.pid
            if isinstance(one, ChildProcess) and (pid not in table or table[pid].birth != one.birth):
                gone.append(EndOutcome(pid, one.command, "gone", one.memory_bytes))
            elif pid in started:
                pids.add(pid)
            else:
                raise UnknownProcessError(self._refusal(pid, table, started))
        below = started.intersection(descendants(table, pids))
        return [*gone, *self.end_found(table, pids | below, grace_s)]

    def end_orphans(self, grace_s: float = GRACE_S) -> list[EndOutcome]:
        """End all processes of dead kernels of this user."""
        table = processes.read_processes()
        return self.end_found(table, find_orphans(table), grace_s)

    def end_at_exit(self, grace_s: float) -> list[ChildProcess]:
        """End what was not detached on purpose, now that this process ends; returns what was.

        Exit statuses are taken too, because ipykernel waits for zombies in its own group until it is killed.
        """
        table = processes.read_processes()
        if not self._found(table):
            return []
        self.end(grace_s=grace_s)
        table = processes.read_processes()
        collect(table[pid] for pid in self._found(table) if table[pid].has_ended)
        return [child for child in self.children() if child.detached]

    def _found(self, table: Mapping[int, Process]) -> set[int]:
        started = find_started(table, self.origin) - {self._own()}
        # A zombie that is not below this process goes when its new parent takes note of it.
        below = descendants(table, [os.getpid()])
        return {pid for pid in started if pid in below or not table[pid].has_ended}

    def end_found(
        self, table: Mapping[int, Process], pids: Iterable[int], grace_s: float = GRACE_S
    ) -> list[EndOutcome]:
        """End processes that were found, and tell their owners in this process first."""
        wanted = set(pids)
        depths = descendants(table, [0])
        ordered = sorted((table[pid] for pid in wanted), key=lambda process: -depths.get(process.pid, 0))
        known = {process.pid: (processes.command_of(process.pid), self._memory_of(process.pid)) for process in ordered}
        are_told = False
        if any(process.parent == os.getpid() for process in ordered):
            from memcell.protect.owners import stop_owners

            are_told = stop_owners(wanted, grace_s / 2)
        return [_outcome(ended, *known[ended.process.pid], are_told) for ended in end(ordered, grace_s)]

    def _described(self, table: Mapping[int, Process], origins: Mapping[int, Origin]) -> list[ChildProcess]:
        ordered = sorted((table[pid] for pid in origins), key=lambda process: (process.birth, process.pid))
        return [self._describe(process, origins[process.pid], _oldest(process, table, origins)) for process in ordered]

    def _describe(self, process: Process, origin: Origin, oldest: Process) -> ChildProcess:
        is_own = origin is self.origin
        started = processes.started_at(process)
        # What a process starts later is of the cell that started that one, whatever cell runs then.
        cell = (self._cell_at(processes.started_at(oldest)) or self._cell_at(started)) if is_own else None
        return ChildProcess(
            pid=process.pid,
            birth=process.birth,
            command=processes.command_of(process.pid),
            started=started,
            age_s=max(0.0, time.time() - started),
            memory_bytes=0 if process.has_ended else self._memory_of(process.pid),
            cell=cell[0] if cell else None,
            cell_line=cell[1] if cell else "",
            detached=not process.has_ended and is_detached(process, origin),
            state="ended" if process.has_ended else "stopped" if process.is_stopped else "running",
            kernel=None if is_own else origin.id.pid,
        )

    def _refusal(self, pid: int, table: Mapping[int, Process], started: Iterable[int]) -> str:
        process = table.get(pid)
        if process is None:
            why = "there is no such process"
        elif pid == os.getpid():
            why = "that is this process itself"
        elif pid == self._own():
            why = "that is memcell's own watcher, which ends with the kernel"
        elif not process.is_ours:
            why = "it belongs to another user"
        else:
            why = f"no cell of this session or of a dead kernel started it ({processes.command_of(pid)[:60]})"
        shown = sorted(started)[:_NAMES_SHOWN]
        return f"cannot end {pid}: {why}; can be ended: {', '.join(map(str, shown)) or 'none'}"


def _oldest(process: Process, table: Mapping[int, Process], listed: Collection[int]) -> Process:
    """The uppermost of the listed processes above one, or that one itself."""
    while process.parent in listed:
        process = table[process.parent]
    return process


def _collect_workers() -> None:
    """Take the exit statuses of memcell's own workers that have ended, which nobody else waits for."""
    workers = sys.modules.get("memcell.protect.workers")  # there is none without it, and it loads multiprocessing
    if workers is not None:
        workers.collect_ended()


def _outcome(ended: Ended, command: str, memory_bytes: int, are_told: bool) -> EndOutcome:
    ending, why = ended.ending, ended.why
    if are_told and ending == "gone" and not ended.process.has_ended:
        ending, why = "terminated", ""  # by its owner, before it was signalled
    return EndOutcome(ended.process.pid, command, ending, memory_bytes, ended.duration_s, why)
