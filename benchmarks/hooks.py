"""What measuring adds to a trivial cell.

Two kinds of cells take turns in one process: with everything that the tool hangs into the shell, and without it.
"""

from __future__ import annotations

import gc
import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import Spread, number, reached, spread
from benchmarks.fresh import FreshCallError, call
from benchmarks.report import table
from benchmarks.tools import PEERS, TOOLS, Shell, make_shell

TITLE = "What a trivial cell costs"

_GOAL_US = 60.0
_CELL = "pass"
_RUNS, _NAMES, _RESIDENT = 20_000, 10_000, 4 << 30
#: Left free beside the resident memory of the test.
_SPARE = 2 << 30
#: Longer than the time after which memcell's watcher goes to sleep.
_PAUSE_S = 2.7


def run(quick: bool) -> list[str]:
    pairs = 150 if quick else 3000
    resident = _RESIDENT // 8 if quick else _RESIDENT
    runs = _RUNS // 20 if quick else _RUNS
    states = {
        "fresh kernel": ("fresh", 0),
        f"after {number(runs)} recorded runs": ("runs", runs),
        f"{number(_NAMES)} names in the namespace": ("names", _NAMES),
        f"{resident / 2**30:g} GiB resident": ("resident", resident),
    }
    own, peers = [], []
    for label, (state, size) in states.items():
        own.append(_own_row(label, state, size, pairs))
        if state == "fresh" or (state != "runs" and not quick):  # cells of some peers take 100 ms
            peers.append([label, *(_peer_cell(tool.name, state, size, pairs, quick) for tool in PEERS)])
    if not quick:
        own.append(_own_row(f"{_PAUSE_S:g} s after the last cell", "paused", 0, 12))
    return [
        (
            "One cell, `pass`, in one process: with everything that `%load_ext memcell` connects, and without it, in"
            " µs. The last line is a cell that comes after a pause, as a person's do: the processor's caches are"
            " cold, and memcell's watcher is asleep."
        ),
        table(["kernel", "bare cell", "with memcell", "added", "goal", "reached"], own),
        (
            "What other tools add to the same cell, µs. Those with magics are called by them (`%%memit`,"
            " `%%memray_flamegraph`); tracemalloc is switched on for the cell and off again."
        ),
        table(["kernel", *(tool.name for tool in PEERS)], peers),
    ]


def _own_row(label: str, state: str, size: int, pairs: int) -> list[str]:
    if state == "resident" and _available() < size + _SPARE:
        return [label, "too little free memory", "", "", f"≤ {_GOAL_US:.0f}", "not measured"]
    bare, measured, added = _spreads(call(measure, "memcell", state, size, pairs, 120.0))
    return [label, bare.text(), measured.text(), added.text(), f"≤ {_GOAL_US:.0f}", reached(added.median, _GOAL_US)]


def _peer_cell(tool: str, state: str, size: int, pairs: int, quick: bool) -> str:
    if state == "resident" and _available() < size + _SPARE:
        return "not measured"
    try:
        _, _, added = _spreads(call(measure, tool, state, size, pairs, 0.3 if quick else 3.0))
    except FreshCallError as error:
        return f"does not run: {error}"
    return added.text()


def _spreads(times: dict[str, list[float]]) -> tuple[Spread, Spread, Spread]:
    differences = [measured - bare for bare, measured in zip(times["bare"], times["measured"], strict=True)]
    return spread(times["bare"]), spread(times["measured"]), spread(differences)


def _available() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


# In a process of its own


def measure(name: str, state: str, size: int, pairs: int, seconds: float) -> dict[str, list[float]]:
    """The times of bare and of measured cells in µs, in pairs: at most so many, for about so long, at least three."""
    shell, tool = make_shell(), TOOLS[name]
    connections: tuple[list[Any], ...] = (
        shell.events.callbacks["pre_run_cell"],
        shell.events.callbacks["post_run_cell"],
        shell.input_transformers_cleanup,
    )
    without = [list(connection) for connection in connections]
    tool.start(shell)
    within = [list(connection) for connection in connections]

    def bare() -> None:
        shell.run_cell(_CELL, store_history=True)

    def measured() -> None:
        tool.run(shell, _CELL)

    def timed(cell: Callable[[], None], connected: list[list[Any]], pause_s: float) -> float:
        for connection, callbacks in zip(connections, connected, strict=True):
            connection[:] = callbacks
        if pause_s:
            time.sleep(pause_s)
        began = time.perf_counter()
        cell()
        return (time.perf_counter() - began) * 1e6

    kept = _prepare(shell, state, size, measured)
    for _ in range(3):
        timed(bare, without, 0.0)
        timed(measured, within, 0.0)
    gc.collect()
    times: dict[str, list[float]] = {"bare": [], "measured": []}
    pause_s = _PAUSE_S if state == "paused" else 0.0
    ends = time.perf_counter() + seconds
    while (done := len(times["bare"])) < pairs and (done < 3 or time.perf_counter() < ends):
        arms = [("bare", bare, without), ("measured", measured, within)]
        for arm, cell, connected in arms if done % 2 else reversed(arms):
            times[arm].append(timed(cell, connected, pause_s))
    del kept
    return times


def _prepare(shell: Shell, state: str, size: int, cell: Callable[[], None]) -> Any:
    if state == "runs":
        from memcell.session import get_session

        get_session().configure(history_size=size)  # all of them are kept, not only the latest 1,000
        for _ in range(size):
            cell()
    elif state == "names":
        shell.user_ns.update({f"name_{index}": [index] for index in range(size)})
    elif state == "resident":
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    return None
