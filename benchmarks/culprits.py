"""What a census costs, and whether it names the right culprit: ``python -m benchmarks.culprits [--write]``."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import itertools
import os
import statistics
import sys
import types
from pathlib import Path
from typing import Any

from benchmarks.culprit_cells import CELLS, LeakingCell
from benchmarks.fresh import FreshCallError, call
from benchmarks.report import put_between, table

_PAGE = Path(__file__).parents[1] / "docs" / "culprits.md"
_BEGIN, _END = "<!-- culprits:begin -->", "<!-- culprits:end -->"
_MODULES = (500, 2000, 5000)
_RUNS = 4
#: Libraries that are loaded until there are modules enough; copies of their modules make up for the rest.
_LIBRARIES = (
    "IPython",
    "numpy",
    "pandas",
    "matplotlib.pyplot",
    "networkx",
    "xarray",
    "sympy",
    "sqlalchemy",
    "bokeh.plotting",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.culprits", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into docs/{_PAGE.name}")
    options = parser.parse_args()
    text = "\n\n".join([_costs(), _hits()])
    print(text)
    if options.write:
        put_between(_PAGE, _BEGIN, _END, f"\n{text}\n")


def _costs() -> str:
    rows = []
    for modules in _MODULES:
        cost = call(measure_cost, modules)
        rows.append(
            [
                f"{modules:,}",
                f"{cost['names']:,}",
                f"{cost['first_ms']:.0f}",
                f"{cost['next_ms']:.0f}",
                f"{cost['kib']:.0f}",
            ]
        )
    columns = ["modules", "names counted", "first census, ms", "later ones (median of 7), ms", "kept, KiB"]
    return table(columns, rows)


def _hits() -> str:
    rows, hits = [], 0
    for number, cell in enumerate(CELLS):
        try:
            named: dict[str, Any] = call(name_culprit, number)
        except FreshCallError as error:
            rows.append([cell.name, f"did not run: {error}", "", "", ""])
            continue
        hit = _is_hit(cell, named["name"])
        hits += hit
        shown = f"`{named['name']}`" if named["name"] else "none"
        rows.append([cell.name, shown, named["share"], named["confidence"], "yes" if hit else "no"])
    heading = f"{hits} of {len(CELLS)} cells: the first culprit after {_RUNS} runs, with a census after each."
    return heading + "\n\n" + table(["cell", "first culprit", "share", "confidence", "right"], rows)


def _is_hit(cell: LeakingCell, name: str) -> bool:
    return name.startswith(cell.holders) if cell.holders else not name


# In a process of its own


def measure_cost(modules: int) -> dict[str, float]:
    """Milliseconds of a census beside so many modules, and what it keeps."""
    import importlib

    from memcell.explain.census import take_census

    for library in _LIBRARIES:
        if len(sys.modules) >= modules * 0.9:
            break
        importlib.import_module(library)
    copied = list(sys.modules.items())
    while len(sys.modules) < modules:
        name, module = copied[len(sys.modules) % len(copied)]
        _copy(f"{name}_copy{len(sys.modules)}", module)
    census = take_census({}, deadline_s=60)
    first_ms, times = census.duration_s * 1e3, []
    for _ in range(7):
        census = take_census({}, previous=census, deadline_s=60)
        times.append(census.duration_s * 1e3)
    kib = (census.sizes.nbytes() + census.counts.nbytes()) / 1024
    return {"names": census.looked_at, "first_ms": first_ms, "next_ms": statistics.median(times), "kib": kib}


def _copy(name: str, module: types.ModuleType) -> None:
    """A module with functions, classes and containers of its own, as many as another has."""
    copy = types.ModuleType(name)
    for attribute, value in list(vars(module).items()):
        if isinstance(value, types.FunctionType) and value.__closure__ is None:
            function = types.FunctionType(value.__code__, vars(copy), value.__name__, value.__defaults__)
            function.__kwdefaults__ = value.__kwdefaults__
            vars(copy)[attribute] = function
        elif type(value) in (dict, list, set):
            vars(copy)[attribute] = value.copy()
        elif type(value) is type and not attribute.startswith("__"):
            with contextlib.suppress(TypeError, ValueError):
                vars(copy)[attribute] = type(value.__name__, (), {**vars(value), "__module__": name})
    sys.modules[name] = copy


def name_culprit(number: int) -> dict[str, Any]:
    """Run a cell several times in a shell, and name what holds its growth."""
    os.environ["MPLBACKEND"] = "agg"
    from IPython.core.interactiveshell import InteractiveShell

    from memcell.explain.census import Census, take_census
    from memcell.explain.culprits import compare
    from memcell.measure.process import make_reader, trim_heap

    cell, shell = CELLS[number], InteractiveShell.instance()
    reader = make_reader(exact_peak=lambda: False)
    _run(shell, cell.setup)
    censuses: list[Census] = []
    levels = []
    for _ in range(_RUNS):
        _run(shell, cell.cell)
        gc.collect()
        trim_heap()
        levels.append(reader.rss())
        previous = censuses[-1] if censuses else None
        censuses.append(take_census(shell.user_ns, hidden=shell.user_ns_hidden, previous=previous, deadline_s=20))
    growth = [after - before for before, after in itertools.pairwise(levels)]
    culprits = compare(censuses, growth)
    if not culprits:
        return {"name": "", "share": "", "confidence": ""}
    first = culprits[0]
    return {"name": first.name, "share": f"{first.share:.2f}", "confidence": f"{first.confidence:.2f}"}


def _run(shell: Any, source: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        result = shell.run_cell(source, store_history=True)
    result.raise_error()


if __name__ == "__main__":
    # Under its own name, by which the fresh processes find its functions.
    from benchmarks import culprits

    culprits.main()
