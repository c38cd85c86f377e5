"""A thousand re-runs of a cell that caches 20 MiB each time, within half a gibibyte.

``python -m benchmarks.soak [--quick] [--write]``. The cell keeps an array of C memory in a cache on a function, whose
clear-callback is registered. With memcell and ``auto_clean="growth"`` the kernel lives, and its level stays; without
memcell the same kernel meets the limit. That is a memory control group's where one can be made (as root), else a
resource limit (``RLIMIT_DATA``).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import reached
from benchmarks.kernels import MeasuredKernel, measured_kernel
from benchmarks.reclaim_page import mib, put
from benchmarks.report import KERNEL, provenance, table
from memcell.units import GIB, MIB

#: What the level at the end may be above that of run 10.
GOAL_BYTES = 30 * MIB
LIMIT_BYTES = 512 * MIB
CACHED_BYTES = 20 * MIB
RUNS, QUICK_RUNS = 1000, 60
_COMPARED_RUN = 10

_SETUP = """
import numpy as np
def simulate(seed):
    graph = np.ones(20 * 2**20 // 8)
    simulate.cache[len(simulate.cache)] = graph
    return graph[seed % 10]
simulate.cache = {}
"""
_LOAD = """
%load_ext memcell
%config Memcell.auto_clean = "growth"
import memcell
memcell.register("simulations", simulate.cache.clear)
"""
_CELL = "total = simulate(3)"
#: A cell takes some ten milliseconds; one that says nothing for this long is looked after.
_SILENT_S = 5.0
_REMOVE_S = 10.0

_CGROUPS = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))
Confine = Callable[[int], None]


@dataclass(frozen=True)
class Soak:
    """The level after each run that ended, in bytes, and how the kernel ended: empty if it lives."""

    levels: tuple[int, ...]
    death: str

    @property
    def growth_bytes(self) -> int:
        """The level at the end above that of run 10."""
        return self.levels[-1] - self.levels[_COMPARED_RUN - 1]


def soak(runs: int, confine: Confine, *, with_memcell: bool) -> Soak:
    """Run the cell again and again in a kernel that is confined, until the runs are done or it dies."""
    with measured_kernel() as kernel:
        confine(kernel.pid)
        kernel.must(_SETUP)
        if with_memcell:
            kernel.must(_LOAD)
        levels: list[int] = []
        for _ in range(runs):
            death = _run(kernel)
            if death:
                return Soak(tuple(levels), death)
            levels.append(kernel.rss_bytes())
    return Soak(tuple(levels), "")


@contextlib.contextmanager
def confinement() -> Iterator[tuple[Confine, str]]:
    """How to confine a process to the limit, and the name of it: a control group of its own, or a resource limit."""
    group = _make_group()
    if group is None:
        yield _limit_data, "`RLIMIT_DATA`"
        return
    try:
        yield functools.partial(_join, group), "a memory control group"
    finally:
        _remove(group)


def _make_group() -> Path | None:
    for top, limit_file in _CGROUPS:
        group = Path(top, f"memcell-soak-{os.getpid()}")
        if not Path(top, "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit_file).write_text(str(LIMIT_BYTES))
        except OSError:  # version 2 without the memory controller
            group.rmdir()
            continue
        return group
    return None


def _join(group: Path, pid: int) -> None:
    (group / "cgroup.procs").write_text(str(pid))


def _remove(group: Path) -> None:
    """Remove the group once the last process in it has ended: children of a kernel follow it a little later."""
    ends = time.monotonic() + _REMOVE_S
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return


def _limit_data(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))


def _run(kernel: MeasuredKernel) -> str:
    """Run the cell once; how the kernel came to its end in it, or an empty text."""
    sent = kernel.send(_CELL)
    while True:
        try:
            result = kernel.collect(sent, _SILENT_S)
        except TimeoutError:
            if kernel.is_alive():
                continue
            return "killed by the limit (SIGKILL)"
        return "" if result.status == "ok" else result.error.splitlines()[0]


def section(runs: int, place: str, with_memcell: Soak, without: Soak) -> str:
    """The section of the page."""
    rows = [_row('with memcell, `auto_clean="growth"`', with_memcell, reached(with_memcell.growth_bytes, GOAL_BYTES))]
    rows.append(_row("without", without, "yes" if without.death else "**no**"))
    columns = [
        "kernel",
        "runs",
        "level after run 1",
        f"run {_COMPARED_RUN}",
        "the highest",
        "the last",
        "end",
        "reached",
    ]
    total_gib = runs * CACHED_BYTES / GIB
    return f"""## A soak

{runs:,} runs of a cell that caches {CACHED_BYTES // MIB} MiB of C memory each time, {total_gib:.0f} GiB in all, in a
kernel that {place} holds to {LIMIT_BYTES // MIB} MiB. The goals: with memcell the last level is at most
{GOAL_BYTES // MIB} MiB above that of run {_COMPARED_RUN}; without it the limit ends the kernel.

{table(columns, rows)}

{provenance("benchmarks.soak --write", [*KERNEL, "numpy"])}"""


def _row(name: str, soak: Soak, verdict: str) -> list[str]:
    levels = (soak.levels[0], soak.levels[_COMPARED_RUN - 1], max(soak.levels), soak.levels[-1])
    return [name, f"{len(soak.levels):,}", *map(mib, levels), soak.death or "it lives", verdict]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs")
    parser.add_argument("--write", action="store_true", help="put the section into docs/reclaim.md")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick measures too little to be written down; leave one of the two out")
    runs = QUICK_RUNS if options.quick else RUNS
    with confinement() as (confine, place):
        text = section(runs, place, soak(runs, confine, with_memcell=True), soak(runs, confine, with_memcell=False))
    print(text)
    if options.write:
        put("soak", text)


if __name__ == "__main__":
    main()
