"""Which variable holds a child process: found without asking the objects of any library."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from memcell import looking
from memcell.explain.containers import CONTAINERS, built_in_length, copied

#: Where objects that stand for a process keep its pid: subprocess, multiprocessing, asyncio, psutil, pexpect.
_PIDS = frozenset({"pid", "_pid"})
#: Where those that own processes keep them: executors and pools of the standard library, loky, dask, launchers.
_PARTS = frozenset({"_popen", "_pool", "_process", "_processes", "process", "processes", "proc", "workers"})
_DEPTH = 4
#: Longer containers are not looked through.
_MOST_ENTRIES = 200


def holders_of(names: Mapping[str, Any], pids: Collection[int]) -> dict[int, tuple[str, str]]:
    """For each of these processes that a variable holds: how to type it, and the dotted name of its class."""
    found: dict[int, tuple[str, str]] = {}
    for name, value in list(names.items()):
        if type(name) is str and not name.startswith("_"):
            for holder, kind, pid in _held(value, f"__main__.{name}", 0):
                if pid in pids:
                    found.setdefault(pid, (holder, kind))
    return found


def _held(value: Any, name: str, depth: int) -> Iterator[tuple[str, str, int]]:
    """The processes that an object stands for or owns. In a container each has a name of its own."""
    kind = type(value)
    length = built_in_length(kind)
    if length is not None:
        size, entries = CONTAINERS[length]
        if depth < _DEPTH and size(value) <= _MOST_ENTRIES:
            for key, held in copied(lambda: entries(value)):
                if type(key) in (str, int):
                    yield from _held(held, f"{name}[{key!r}]", depth + 1)
        return
    for attribute, held in looking.Layout(kind).attributes(value):
        if attribute in _PIDS and type(held) is int:
            yield name, looking.class_name(kind), held
        elif attribute in _PARTS and depth < _DEPTH:
            # A pool's worker has no name that anybody types: it is the pool's.
            yield from ((name, looking.class_name(kind), pid) for _, _, pid in _held(held, name, depth + 1))
