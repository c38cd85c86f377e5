"""What the process beside the kernel takes, and what peers take in its place, while a cell only sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psutil

from benchmarks.figures import number, spread
from benchmarks.fresh import FreshCallError, call
from benchmarks.report import table
from benchmarks.tools import MEMCELL, MIB, PEERS, TOOLS, make_shell

TITLE = "What sampling costs"

_CHILD = "import time; block = bytearray(b'x') * (300 << 20); print(flush=True); time.sleep(600)"
#: memcell's watcher goes to sleep this long after a run, at the latest.
_PARKED_S = 3.0


def run(quick: bool) -> list[str]:
    seconds, repetitions = (0.3, 1) if quick else (5.0, 3)
    states = {
        "between runs (asleep)": "parked",
        "during a run": "running",
        "during a run, a child of 300 MiB": "child",
        "during a run close to its limit": "limit",
    }
    own = []
    for label, state in states.items():
        found = [call(watch, state, seconds) for _ in range(repetitions)]
        cpu, pss = spread([one["cpu"] for one in found]), spread([one["pss"] for one in found])
        own.append([label, cpu.text(2), pss.text(1)])
    peers = []
    for tool in (MEMCELL, *PEERS):
        try:
            found = [call(sleep, tool.name, seconds) for _ in range(repetitions)]
        except FreshCallError as error:
            peers.append([tool.name, f"does not run: {error}", ""])
            continue
        cpu = spread([one["cpu"] for one in found])
        peers.append([tool.name, cpu.text(2), f"{max(one['processes'] for one in found):.0f}"])
    return [
        "The watcher process: its processor time as a share of one CPU, and its memory (PSS).",
        table(["the watcher", "CPU, %", "memory, MiB"], own),
        (
            "What each tool takes of one CPU, in the kernel and beside it, while a cell sleeps for"
            f" {number(seconds, 1)} s; without a tool it is the figure of tracemalloc, which does nothing meanwhile."
        ),
        table(["tool", "CPU, %", "processes beside the kernel"], peers),
    ]


# In a process of its own

#: What a run takes to be guarded closely, and how far above that its limit is: close enough to be looked at most often.
_GROWN, _SPARE = 32 * MIB, 24 * MIB


def _limit() -> int:
    from memcell.session import get_session

    return get_session().limits.used_bytes() + _GROWN + _SPARE


def watch(state: str, seconds: float) -> dict[str, float]:
    """The watcher's share of a processor in per cent, and its PSS in MiB."""
    import memcell

    with _child() if state == "child" else nullcontext():
        with memcell.watch("start"):
            pass
        watcher = _find_watcher()
        if state == "parked":
            time.sleep(_PARKED_S)
            cpu = _share(watcher, seconds)
        else:
            with memcell.watch("run", limit=_limit() if state == "limit" else None):
                ballast = bytearray(b"x") * _GROWN if state == "limit" else None
                time.sleep(0.2)
                cpu = _share(watcher, seconds)
                del ballast
        return {"cpu": cpu, "pss": watcher.memory_full_info().pss / MIB}


def sleep(name: str, seconds: float) -> dict[str, float]:
    """The processor time that all processes take while a measured cell sleeps, in per cent of one processor."""
    shell, tool = make_shell(), TOOLS[name]
    tool.start(shell)
    shell.user_ns["begun"] = begun = threading.Event()
    tool.run(shell, "import time")
    beside: set[int] = set()
    spent: list[float] = []

    def observe() -> None:
        """Within the cell's sleep, so that what happens before and after it is not counted."""
        begun.wait()
        time.sleep(0.1 * seconds)
        own = psutil.Process()
        found = [own, *own.children(recursive=True), *_watchers()]
        began, before = time.perf_counter(), sum(map(_seconds_used, found))
        time.sleep(0.7 * seconds)
        spent.append((sum(map(_seconds_used, found)) - before) / (time.perf_counter() - began) * 100)
        beside.update(process.pid for process in found if process.pid != own.pid)

    observer = threading.Thread(target=observe)
    observer.start()
    tool.run(shell, f"begun.set()\ntime.sleep({seconds})")
    observer.join()
    return {"cpu": spent[0], "processes": len(beside)}


def _find_watcher() -> psutil.Process:
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        for process in _watchers():
            return process
        time.sleep(0.01)
    raise RuntimeError("memcell's watcher did not start")


def _watchers() -> list[psutil.Process]:
    """Those of this process: they are run by path and are given its pid. They are nobody's children."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue  # it has just ended
        if str(os.getpid()) in command and any(word.endswith("watcher.py") for word in command):
            found.append(process)
    return found


def _share(process: psutil.Process, seconds: float) -> float:
    began, before = time.perf_counter(), _seconds_used(process)
    time.sleep(seconds)
    return (_seconds_used(process) - before) / (time.perf_counter() - began) * 100


def _seconds_used(process: psutil.Process) -> float:
    """All threads' time on a processor. schedstat counts nanoseconds, where stat counts ticks of 10 ms."""
    total = 0
    for thread in process.threads():
        with open(f"/proc/{process.pid}/task/{thread.id}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


@contextmanager
def _child() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", _CHILD], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield
        finally:
            child.kill()
