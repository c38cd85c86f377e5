"""How much of what a notebook holds comes back, by each means there is.

``python -m benchmarks.reclaim [NAME…] [--write]``. Each figure comes from a fresh kernel: imports and a first use of
the library are made, the level is read, the workload runs, one means is tried, and the level is read again.
``--write`` puts the measured rows into ``docs/reclaim.md`` and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from benchmarks.figures import reached
from benchmarks.kernels import MeasuredKernel, measured_kernel
from benchmarks.reclaim_page import mib, put, rows_of
from benchmarks.report import KERNEL, provenance, table

#: What ``%memclean --deep`` may leave of that which a restart would free.
GOAL = 0.03

#: What the user has besides the workload, and must still have after ``%memclean --deep``.
_BYSTANDERS = "settings = {'rate': 0.1}\nnames = [f'name{i}' for i in range(1000)]\nanswer = 42"
_INTACT = "settings == {'rate': 0.1} and len(names) == 1000 and names[-1] == 'name999' and answer == 42"
_LOAD = "%load_ext memcell"


@dataclass(frozen=True)
class Workload:
    """What a user did, and what a kernel keeps of it.

    Attributes:
        about: What is held, for the table.
        hold: The cells that make the kernel hold memory.
        warm: The cell that imports what the others need and uses it once, so that loading it is not counted.
        done: The cell by which the user is done with it: ``del``, in a database ``drop``. Empty where no variable
            of the user's holds anything.
        still: The cell that makes anew what the user still has after ``done``, for the level of a restart.
        uses: Names of the user's that must be there after ``%memclean --deep``.
        registers: The cell that registers a cleaner, where the user owns a cache.
        packages: The distributions whose versions are named.
        fails: Whether the last cell of ``hold`` is meant to fail.
        why: What stays, if the goal is missed.
    """

    about: str
    hold: tuple[str, ...]
    warm: str = "pass"
    done: str = ""
    still: str = ""
    uses: tuple[str, ...] = ()
    registers: str = ""
    packages: tuple[str, ...] = ()
    fails: bool = False
    why: str = ""


@dataclass(frozen=True)
class Figures:
    """Bytes above the level before, after each means; and whether the user's variables survived the deep clean-up."""

    held: int
    collected: int
    reset: int
    cleaned: int
    deep: int
    restarted: int
    variables_kept: bool

    @property
    def left(self) -> float:
        """What ``%memclean --deep`` leaves of that which the restart frees."""
        return max(0.0, (self.deep - self.restarted) / (self.held - self.restarted))


WORKLOADS: dict[str, Workload] = {
    "numpy, one array": Workload(
        about="800 MB in one array",
        warm="import numpy as np; np.ones(10).sum()",
        hold=("a = np.ones(100_000_000)",),
        done="del a",
        packages=("numpy",),
    ),
    "numpy, small arrays": Workload(
        about="200,000 arrays of 4 KB",
        warm="import numpy as np; np.ones(10).sum()",
        hold=("arrays = [np.ones(512) for _ in range(200_000)]",),
        done="del arrays",
        packages=("numpy",),
    ),
    "numpy, interleaved": Workload(
        about="200,000 arrays of 4 KB, of which the user keeps 1 in 20",
        warm="import numpy as np; np.ones(10).sum()",
        hold=("arrays = [np.ones(512) for _ in range(200_000)]\nchosen = arrays[::20]",),
        done="del arrays",
        still="chosen = [np.ones(512) for _ in range(10_000)]",
        uses=("chosen",),
        packages=("numpy",),
        why="the kept arrays lie in two pages each, and no page can be returned while a part of it is in use",
    ),
    "pandas": Workload(
        about="3 frames of 1,500,000 strings",
        warm="import pandas as pd; pd.DataFrame({'s': ['a']}).s.str.upper()",
        hold=("frames = [pd.DataFrame({'s': [f'{i}' * 10 for i in range(1_500_000)]}) for _ in range(3)]",),
        done="del frames",
        packages=("pandas",),
    ),
    "pyarrow": Workload(
        about="a table of 2 columns of 6,000,000 numbers and 40 of strings",
        warm="import numpy as np, pyarrow as pa; pa.table({'a': [1]})",
        hold=(
            (
                "numbers = pa.table({'a': pa.array(range(6_000_000)), 'b': pa.array(range(6_000_000))})\n"
                "strings = pa.table({f's{k}': [f'{i}' * 10 for i in range(200_000)] for k in range(40)})"
            ),
        ),
        done="del numbers, strings",
        packages=("pyarrow",),
    ),
    "polars": Workload(
        about="a frame of 30,000,000 numbers and 3,000,000 strings, sorted",
        warm="import polars as pl; pl.DataFrame({'a': [2, 1]}).sort('a')",
        hold=(
            (
                "frame = pl.DataFrame({'a': range(30_000_000)}).sort('a', descending=True)\n"
                "text = pl.DataFrame({'s': [f'{i}' * 10 for i in range(3_000_000)]}).sort('s')"
            ),
        ),
        done="del frame, text",
        packages=("polars",),
    ),
    "duckdb": Workload(
        about="10 tables in memory",
        warm="import duckdb; duckdb.sql('select 1').fetchall()",
        hold=(
            (
                "for k in range(10):\n"
                "    duckdb.sql(f'create table t{k} as select range i, random()::varchar s from range(2_000_000)')"
            ),
        ),
        done="for k in range(10): duckdb.sql(f'drop table t{k}')",
        packages=("duckdb",),
    ),
    "cyclic objects": Workload(
        about="1,000,000 objects that refer to themselves, with a list each",
        warm="class Node: pass",
        hold=("nodes = [Node() for _ in range(1_000_000)]\nfor node in nodes: node.me, node.values = node, [0.5]",),
        done="del nodes, node",
        uses=("Node",),
    ),
    "cyclic objects, bare": Workload(
        about="1,000,000 objects that refer to themselves, and to nothing else",
        warm="class Node: pass",
        hold=("nodes = [Node() for _ in range(1_000_000)]\nfor node in nodes: node.me = node",),
        done="del nodes, node",
        uses=("Node",),
        why="little is held, and some 4 MiB stay in CPython's arenas",
    ),
    "torch": Workload(
        about="200,000 tensors of 4 KB on the CPU",
        warm="import torch; torch.ones(10).sum().item()",
        hold=("tensors = [torch.ones(1024) for _ in range(200_000)]",),
        done="del tensors",
        packages=("torch",),
    ),
    "pyplot figures": Workload(
        about="12 open figures, drawn",
        warm=(
            "import matplotlib; matplotlib.use('agg')\nfrom matplotlib import pyplot as plt\n"
            "plt.figure().canvas.draw(); plt.close('all')"
        ),
        hold=(
            (
                "for _ in range(12):\n"
                "    figure = plt.figure(figsize=(30, 20), dpi=150)\n"
                "    figure.add_subplot().plot(range(10))\n"
                "    figure.canvas.draw()"
            ),
        ),
        done="del figure",
        packages=("matplotlib",),
    ),
    "lru_cache": Workload(
        about="100 arrays of 8 MB in the cache of a function that stays",
        warm=(
            "import functools, numpy as np\n@functools.lru_cache(maxsize=None)\ndef load(i): return np.ones(1_000_000)"
        ),
        hold=("for i in range(100): load(i)",),
        uses=("load",),
        registers="import memcell; memcell.register('load', load)",
        packages=("numpy",),
    ),
    "Out and a traceback": Workload(
        about="10 displayed arrays of 40 MB, and 400 MB in the frames of a failed cell",
        warm="import numpy as np\nclass Shown:\n    def __init__(self, n): self.data = np.ones(n)\nnp.ones(10)",
        hold=(
            *["Shown(5_000_000)"] * 10,
            "def fail(n):\n    data = np.ones(25_000_000)\n    return fail(n - 1) if n else data[-1] / None\nfail(1)",
        ),
        uses=("Shown", "fail"),
        packages=("numpy",),
        fails=True,
    ),
    "sympy": Workload(
        about="results of expanding and differentiating",
        warm="import sympy; x, y = sympy.symbols('x y'); sympy.diff(sympy.expand((x + y) ** 3), x)",
        hold=("for power in range(2, 64): result = sympy.diff(sympy.expand((x + y + power) ** power), x)",),
        done="del result",
        uses=("x", "y"),
        packages=("sympy",),
        why="nearly all objects are gone, but CPython returns an arena of 1 MiB only when all of it is free",
    ),
}


def measure(workload: Workload) -> Figures:
    """Try each means in a kernel of its own."""
    held, _ = _level(workload, ())
    collected, _ = _level(workload, (workload.done, "import gc; gc.collect()"))
    reset, _ = _level(workload, ("%reset -f",))
    cleaned, _ = _level(workload, (workload.done, "%memclean"), loads=True)
    deep, kept = _level(workload, (workload.done, "%memclean --deep"), loads=True)
    return Figures(held, collected, reset, cleaned, deep, _restarted(workload), kept)


def _level(workload: Workload, means: tuple[str, ...], *, loads: bool = False) -> tuple[int, bool]:
    """The level above that before the workload, in bytes, and whether the user's variables are all there."""
    with measured_kernel() as kernel:
        kernel.must(workload.warm)
        kernel.must(_BYSTANDERS)
        if loads:
            kernel.must(_LOAD)
            if workload.registers:
                kernel.must(workload.registers)
        before = _base(kernel)
        _hold(kernel, workload)
        for cell in filter(None, means):
            kernel.must(cell)
        level = kernel.level_bytes() - before
        return level, _has_all(kernel, workload) if loads else False


def _restarted(workload: Workload) -> int:
    """The level after a restart in which the user has made again what they want to have: imports and variables."""
    with measured_kernel() as kernel:
        kernel.must(workload.warm)
        kernel.must(_BYSTANDERS)
        before = _base(kernel)
        _hold(kernel, workload)
        kernel.restart()
        for cell in filter(None, (workload.warm, _BYSTANDERS, workload.still)):
            kernel.must(cell)
        return _base(kernel) - before


def _base(kernel: MeasuredKernel) -> int:
    kernel.tidy()
    return kernel.level_bytes()


def _hold(kernel: MeasuredKernel, workload: Workload) -> None:
    *first, last = workload.hold
    for cell in first:
        kernel.must(cell)
    if not workload.fails:
        kernel.must(last)
    elif kernel.run(last).status != "error":
        raise SystemExit(f"this cell was meant to fail: {last}")


def _has_all(kernel: MeasuredKernel, workload: Workload) -> bool:
    there = " and ".join([_INTACT, *(f"{name} is not None" for name in workload.uses)])
    kept: bool = kernel.value(there)
    return kept


def row(name: str, figures: Figures) -> list[str]:
    """The line of a workload in the table."""
    workload = WORKLOADS[name]
    means = (figures.held, figures.collected, figures.reset, figures.cleaned, figures.deep, figures.restarted)
    verdict = reached(figures.left, GOAL)
    if figures.left > GOAL and workload.why:
        verdict += f": {workload.why}"
    return [
        name,
        workload.about,
        *map(mib, means),
        f"{figures.left:.1%}",
        "yes" if figures.variables_kept else "**no**",
        verdict,
    ]


def section(rows: dict[str, list[str]]) -> str:
    """The section of the page, in the order of the workloads."""
    columns = ["workload", "what is held", "nothing", "`del`, `gc`", "`%reset -f`", "`%memclean`"]
    columns += ["`--deep`", "restart", "left", "variables kept", "reached"]
    packages = [package for workload in WORKLOADS.values() for package in workload.packages]
    return f"""## By each means there is

MiB above the level before the workload, each figure from a kernel of its own. Before `del`, `gc` and before
`%memclean` the user deletes the variables that hold the memory, if any do; all other variables, functions and imports
stay, and are looked at after `--deep` (*variables kept*). `%reset -f` deletes all of them. The level of a *restart* is
read after the imports, and the variables that the user still wants, have been made again: that is where a notebook
stands after one. *Left* is what `%memclean --deep` leaves of that which the restart frees; the goal is at most
{GOAL:.0%}. The function with the `lru_cache` is registered by `memcell.register("load", load)`.

{table(columns, [rows[name] for name in WORKLOADS if name in rows])}

{provenance("benchmarks.reclaim --write", [*KERNEL, *packages])}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reclaim", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--write", action="store_true", help="put the rows into docs/reclaim.md")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in WORKLOADS]:
        parser.error(f"unknown workload {unknown[0]!r}; there are: {', '.join(WORKLOADS)}")
    for name in options.names or WORKLOADS:
        began = time.perf_counter()
        measured = row(name, measure(WORKLOADS[name]))
        print(" | ".join(measured), f"({time.perf_counter() - began:.0f} s)", flush=True)
        if options.write:
            put("reclaim", section({**rows_of("reclaim"), name: measured}))


if __name__ == "__main__":
    main()
