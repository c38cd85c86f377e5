"""How near to the truth the peak of a cell is: 300 MiB that are held for a moment and given back within the cell."""

from __future__ import annotations

import random
import time

from benchmarks.figures import number, reached, spread
from benchmarks.fresh import FreshCallError, call
from benchmarks.report import table
from benchmarks.tools import MEMCELL, MIB, PEERS, TOOLS, make_shell

TITLE = "How exact the peak is"

_SIZE = 300 * MIB
_HOLDS_S = (0.001, 0.01, 1.0)
_GOAL, _GOAL_CHILD = 1.0, 5.0  # per cent
_CHILD_CELL = "child()"
_WAYS = {
    "python": "Python: a bytearray",
    "with_gil": "C, holding the GIL",
    "without_gil": "C, without the GIL",
}

#: What the cells call. One C call holds the whole transient, so that no byte code runs in between and a thread that
#: waits for the GIL gets it only afterwards. reallocarray() calls malloc as C libraries do, through the dynamic
#: linker's table, which is where memray looks; ctypes' own malloc() would go past it.
_SETUP = f"""
import ctypes, itertools, subprocess, sys, time
SIZE = {_SIZE}
def library(kind):
    library = kind(None)
    library.reallocarray.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.reallocarray.restype = ctypes.c_void_p
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    return library
def in_c(library, hold_s):
    address = library.reallocarray(None, 1, SIZE)  # not resident before it is written to
    calls = (
        itertools.starmap(library.memset, [(address, 1, SIZE)]),
        map(library.usleep, [int(hold_s * 1e6)]),
        map(library.free, [address]),
    )
    list(itertools.chain(*calls))
def python(hold_s):
    block = bytearray(b"x") * SIZE
    ends = time.perf_counter() + hold_s
    while time.perf_counter() < ends:
        pass
def with_gil(hold_s):
    in_c(holding, hold_s)
def without_gil(hold_s):
    in_c(releasing, hold_s)
CHILD = '''
import time
block = bytearray(b"x") * {_SIZE}
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("Pss:")), flush=True)
time.sleep(0.5)
'''
def child():
    global truth_bytes
    done = subprocess.run([sys.executable, "-I", "-S", "-c", CHILD], stdout=subprocess.PIPE, check=True)
    truth_bytes = int(done.stdout) * 1024
holding, releasing = library(ctypes.PyDLL), library(ctypes.CDLL)
"""


def run(quick: bool) -> list[str]:
    repetitions = 1 if quick else 5
    holds = _HOLDS_S[:1] if quick else _HOLDS_S
    cells = {f"{way}({hold_s})": (_WAYS[way], hold_s) for way in _WAYS for hold_s in holds}
    errors: dict[str, dict[str, list[float]]] = {}
    failures: dict[str, str] = {}
    for tool in (MEMCELL, *PEERS):
        try:
            errors[tool.name] = call(measure, tool.name, [*cells, _CHILD_CELL], repetitions)
        except FreshCallError as error:
            if tool is MEMCELL:
                raise
            failures[tool.name] = str(error)
    peers = [tool.name for tool in PEERS if tool.name not in failures]
    rows = []
    for cell, (way, hold_s) in cells.items():
        rows.append(_row([way, _duration(hold_s)], cell, errors, peers, _GOAL))
    rows.append(_row(["A child process", _duration(0.5)], _CHILD_CELL, errors, peers, _GOAL_CHILD))
    blocks = [
        (
            "A cell takes 300 MiB, holds it and gives it back. The error of what each tool says about its peak: −100"
            f" % means that the tool did not see it. Medians of {repetitions}, and for memcell the worst. A child's"
            " truth is what it reads of itself (PSS) while it holds the block; memory-profiler was asked for children"
            " there (`-c`)."
        ),
        table(["300 MiB in", "held", "memcell", "worst", "goal", "reached", *peers], rows),
    ]
    return blocks + [f"{name} does not run: {why}" for name, why in failures.items()]


def _row(
    head: list[str], cell: str, errors: dict[str, dict[str, list[float]]], peers: list[str], goal: float
) -> list[str]:
    own = errors[MEMCELL.name][cell]
    median = spread(own).median
    told = [_percent(median), _percent(max(own, key=abs)), f"≤ {goal:g} %", reached(abs(median), goal)]
    return [*head, *told, *(_percent(spread(errors[peer][cell]).median) for peer in peers)]


def _percent(error: float) -> str:
    return f"{number(error, 1)} %"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 0.1 else f"{seconds:g} s"


# In a process of its own


def measure(name: str, cells: list[str], repetitions: int) -> dict[str, list[float]]:
    """The errors in per cent of what one tool says about each cell, several times in a random order."""
    shell, tool = make_shell(), TOOLS[name]
    shell.run_cell(_SETUP)
    tool.start(shell)
    tool.peak_growth(shell, "pass")  # what is loaded or started with the first cell is not in question
    time.sleep(0.2)
    order = cells * repetitions
    random.Random(0).shuffle(order)
    errors: dict[str, list[float]] = {cell: [] for cell in cells}
    for cell in order:
        if cell == _CHILD_CELL:
            told = tool.child_growth(shell, cell)
            truth = shell.user_ns["truth_bytes"]
        else:
            told, truth = tool.peak_growth(shell, cell), _SIZE
        errors[cell].append((told - truth) / truth * 100)
    return errors
