"""Which processes a kernel's cells started, and which of them a user detached.

A process is a cell's if it is below the kernel in the process tree, or in the session that the kernel leads (nobody
can join that from outside), or carries the kernel's marker, or is below such a one. Of a dead kernel the tree is
lost; the marker names it, and its session counts once a marked process in it proves whose it was.

Detached on purpose is what has a session of its own without a terminal (``setsid``, ``start_new_session=True``, a
daemon's double fork), or ignores SIGHUP while its kernel does not (``nohup``). When in doubt it is: it then stays.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePath

from memcell.protect import marker, processes
from memcell.protect.marker import Origin, SessionId
from memcell.protect.processes import Process, descendants


def find_started(table: Mapping[int, Process], origin: Origin) -> set[int]:
    """The processes that a kernel's cells started, whether it lives or has died.

    Args:
        table: All processes.
        origin: The kernel.
    """
    kernel = table.get(origin.id.pid)
    is_alive = kernel is not None and kernel.birth == origin.id.birth
    found = set(descendants(table, [origin.id.pid])) if is_alive else set()
    for process in table.values():
        if process.birth < origin.id.birth or not process.is_ours:
            continue  # it was there before the kernel
        in_session = origin.leads_session and process.session == origin.id.pid
        if in_session or (process.pid not in found and marker.of_process(process.pid) == origin.id):
            found.add(process.pid)
    found.update(descendants(table, found))
    # Never the kernel itself: its own environment may name it after it has replaced itself by another program.
    return {pid for pid in found if table[pid].is_ours and pid not in (origin.id.pid, os.getpid())}


def find_orphans(table: Mapping[int, Process]) -> dict[int, Origin]:
    """The processes that dead kernels of this user left, each with its kernel."""
    marked = {
        process.pid: identity
        for process in table.values()
        if process.is_ours
        and (identity := marker.of_process(process.pid))
        and processes.shares_pid_namespace(process.pid)
    }
    dead = {identity for identity in set(marked.values()) if identity.is_dead()}
    orphans: dict[int, Origin] = {}
    for identity in dead:
        carriers = {pid for pid, found in marked.items() if found == identity}
        # The number of a session cannot be used again while a process is in it.
        proves_session = any(table[pid].session == identity.pid for pid in carriers)
        origin = Origin(identity, identity.pid if proves_session else 0)
        orphans.update(dict.fromkeys(find_started(table, origin), origin))
    spared = _spared(table, marked, dead) if orphans else set()
    return {pid: origin for pid, origin in orphans.items() if pid not in spared and not table[pid].has_ended}


def _spared(table: Mapping[int, Process], marked: Mapping[int, SessionId], dead: Collection[SessionId]) -> set[int]:
    """Kernels that live, all below them and all above them: a server that a dead kernel's cell started may serve them.

    A living kernel is known by the marker of what it started, by its watcher, or by its command line.
    """
    living = {identity.pid for identity in marked.values() if identity not in dead} | {os.getpid()}
    living.update(pid for pid, identity in marked.items() if identity not in dead)
    for process in table.values():
        if process.is_ours:
            arguments = processes.arguments_of(process.pid)
            if process.pid in marked and any("ipykernel" in argument for argument in arguments[1:4]):
                living.add(process.pid)
            living.update(_watched_by(arguments))
    spared = living | set(descendants(table, living))
    for pid in living:
        at = table.get(pid)
        while at is not None and at.parent not in spared:
            spared.add(at.parent)
            at = table.get(at.parent)
    return spared


def _watched_by(arguments: list[str]) -> set[int]:
    """The kernel beside which a process is memcell's watcher, and nothing for any other process."""
    for script, pid in itertools.pairwise(arguments[1:6]):
        if PurePath(script).parts[-3:] == ("memcell", "measure", "watcher.py") and pid.isdecimal():
            return {int(pid)}
    return set()


def find_to_end(table: Mapping[int, Process], started: Iterable[int], origin: Origin) -> set[int]:
    """Which of a kernel's processes are ended when none is named.

    Left are zombies, what was detached on purpose, and multiprocessing's resource trackers: they ignore SIGTERM, clean
    up shared memory after the rest, and end with the kernel.
    """
    return {
        pid
        for pid in started
        if not table[pid].has_ended and not is_detached(table[pid], origin) and not processes.is_resource_tracker(pid)
    }


def is_detached(process: Process, origin: Origin) -> bool:
    """Whether somebody detached a process from its kernel on purpose."""
    own_session = process.session != origin.session and not process.has_terminal
    return own_session or (not origin.ignores_hangup and processes.ignores_hangup(process.pid))
