"""What ``%load_ext`` takes, in time and in memory, before anything is displayed."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.figures import reached, spread
from benchmarks.fresh import FreshCallError, call
from benchmarks.report import table
from benchmarks.tools import MEMCELL, MIB, PEERS, TOOLS, Shell

TITLE = "What loading costs"

_GOAL_MS, _GOAL_MIB = 30.0, 5.0
_HOSTS = {"kernel": "ipykernel", "terminal": "terminal IPython"}


def run(quick: bool) -> list[str]:
    rounds = 1 if quick else 15
    tools = (MEMCELL, *PEERS)
    loads: dict[tuple[str, str], list[dict[str, float]]] = {(host, tool.name): [] for host in _HOSTS for tool in tools}
    failures: dict[tuple[str, str], str] = {}
    for turn in range(1 if quick else 0, rounds + 1):
        for host, name in loads:
            if (host, name) not in failures:
                try:
                    load = call(measure, host, name)
                    if turn > 0:  # the first compiles the modules and fills the page cache
                        loads[host, name].append(load)
                except FreshCallError as error:
                    if name == MEMCELL.name:
                        raise
                    failures[host, name] = f"does not run: {error}"
    rows = []
    for (host, name), found in loads.items():
        row = [_HOSTS[host], name]
        if (host, name) in failures:
            rows.append([*row, failures[host, name], *[""] * 4])
            continue
        took, spent, grown = (spread([load[key] for load in found]) for key in ("ms", "cpu_ms", "mib"))
        row += [took.text(1), spent.text(1), grown.text(1)]
        if name == MEMCELL.name:
            both = reached(max(took.median / _GOAL_MS, grown.median / _GOAL_MIB), 1.0)
            row += [f"≤ {_GOAL_MS:.0f} ms, ≤ {_GOAL_MIB:.0f} MiB", both]
        else:
            row += ["", ""]
        rows.append(row)
    return [
        (
            f"`%load_ext` in {rounds} fresh processes for each line, the tools in turns. Two peers have no extension:"
            " their line is the import (tracemalloc with its `start()`), and ipython-memory-usage includes"
            " `%imu_start`."
        ),
        table(["shell", "tool", "time, ms", "processor time, ms", "resident memory, MiB", "goal", "reached"], rows),
    ]


# In a process of its own


def measure(host: str, name: str) -> dict[str, float]:
    """The time, the processor time and the growth of resident memory that loading one tool takes."""
    shell, tool = _shell(host), TOOLS[name]
    shell.run_cell("pass")
    before, spent, began = _rss(), time.process_time(), time.perf_counter()
    tool.start(shell)
    took, spent = time.perf_counter() - began, time.process_time() - spent
    return {"ms": took * 1e3, "cpu_ms": spent * 1e3, "mib": (_rss() - before) / MIB}


def _shell(host: str) -> Shell:
    if host == "kernel":
        from ipykernel.kernelapp import IPKernelApp

        kernel: Any = IPKernelApp.instance()
        # Everything that a kernel does before it takes messages: sockets, threads, the shell with its extensions.
        kernel.initialize([])
        return kernel.shell
    from IPython.terminal.ipapp import TerminalIPythonApp

    terminal: Any = TerminalIPythonApp.instance()
    terminal.initialize(["--simple-prompt", "--no-banner"])
    return terminal.shell


def _rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
