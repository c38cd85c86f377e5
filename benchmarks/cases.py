"""Whether ``%memclean`` gives back what a library's own call does.

``python -m benchmarks.cases FILE [NAME…] [--write]``. The file is Python and has a list ``CASES`` of dictionaries:
``name``, ``setup``, ``cell`` (what is run again and again), ``metric`` (``rss``, ``children``, ``shmem``), ``release``
(code that gives the memory back; a case without is left out), ``culprit`` (the holder's dotted name), ``requires``.
Each case runs in two kernels: one releases by that code, the other by memcell.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from benchmarks.kernels import CellFailedError, MeasuredKernel, measured_kernel
from benchmarks.reclaim_page import mib, put, rows_of
from benchmarks.report import KERNEL, distribution, is_installed, provenance, table
from memcell.units import MIB

_RUNS = 12
#: Small objects lie in CPython's arenas by chance, so what comes back of them differs from kernel to kernel.
_ROUNDS = 3
_SETTLE_S = 1.0
#: Two kernels never stand at the same level: this much less than the release is the same.
_NOISE_BYTES, _NOISE_FRACTION = MIB, 0.03

#: Cleaners that run by their name only, since the user could miss what they release; by the culprits they clean.
_NAMED = {
    "duckdb.default_connection": "duckdb-default-connection",
    "logging": "logging-handlers",
    "sqlalchemy": "sqlalchemy-sessions",
    "xarray": "xarray",
}


@dataclass(frozen=True)
class Figures:
    """Bytes of one case: what was held, and what came back by each route. memcell's follow on one another."""

    held: int
    held_for_memcell: int
    released: int
    cleaned: int
    deep: int
    named: int

    @property
    def is_reached(self) -> bool:
        """Whether memcell's last route gave back what the release did."""
        best = max(self.cleaned, self.deep, self.named)
        # What the one kernel held more than the other is not the merit of what gave it back.
        more_held = self.held - self.held_for_memcell
        return best >= self.released - max(0, more_held) - max(_NOISE_BYTES, _NOISE_FRACTION * self.released)


def measure(case: Mapping[str, Any]) -> tuple[Figures, str]:
    """The medians of a case's figures, and the line of the named route."""
    measured = [_measure_once(case) for _ in range(_ROUNDS)]
    columns = zip(*(astuple(figures) for figures, _ in measured), strict=True)
    return Figures(*(round(statistics.median(column)) for column in columns)), measured[0][1]


def _measure_once(case: Mapping[str, Any]) -> tuple[Figures, str]:
    metric = case["metric"]
    with measured_kernel() as kernel:
        kernel.must("%load_ext memcell")
        before, _ = _prepare(kernel, case)
        held = kernel.level_bytes(metric, settle_s=_SETTLE_S) - before
        kernel.must(case["release"])
        kernel.tidy()
        released = held - (kernel.level_bytes(metric, settle_s=_SETTLE_S) - before)
    with measured_kernel() as kernel:
        kernel.must("%load_ext memcell")
        before, names = _prepare(kernel, case)
        level = kernel.level_bytes(metric, settle_s=_SETTLE_S)
        held_for_memcell = level - before
        named_route = _named_route(case, names)
        given_back = []
        for line in ("%memclean", "%memclean --deep", named_route):
            kernel.must(line)
            given_back.append(level - kernel.level_bytes(metric, settle_s=_SETTLE_S))
    return Figures(held, held_for_memcell, released, *given_back), named_route


def _prepare(kernel: MeasuredKernel, case: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Run the setup and the cell; the level in between, and the variables that there are after the setup."""
    kernel.must(case["setup"])
    kernel.must("%memclean --deep --vars --dry-run")  # as the libraries, memcell has been used once
    names = kernel.value("list(get_ipython().run_line_magic('who_ls', ''))")
    kernel.tidy()
    before = kernel.level_bytes(case["metric"], settle_s=_SETTLE_S)
    for _ in range(_RUNS):
        kernel.must(case["cell"])
    return before, names


def _named_route(case: Mapping[str, Any], names: list[str]) -> str:
    """The cleaner of the culprit by its name; or the variable that holds the memory, with what the cell made."""
    culprit = case["culprit"]
    for holder, cleaner in _NAMED.items():
        if culprit == holder or culprit.startswith(f"{holder}."):
            return f"%memclean {cleaner} gc trim"
    variable = culprit.split(".")[1] if culprit.startswith("__main__.") else ""
    keep = ",".join(name for name in names if name != variable)
    return f"%memclean --deep --vars{f' --keep {keep}' if keep else ''}"


def row(case: Mapping[str, Any]) -> list[str]:
    """The line of a case in the table."""
    name = f"`{case['name']}`"
    if missing := [need for need in case["requires"] if not is_installed(need)]:
        return [name, case["metric"], *[""] * 6, f"not run: {', '.join(missing)} is not installed"]
    try:
        figures, named_route = measure(case)
    except CellFailedError as error:
        return [name, case["metric"], *[""] * 6, f"not run: {error}"]
    given_back = (figures.released, figures.cleaned, figures.deep, figures.named)
    verdict = "yes" if figures.is_reached else "**no**"
    return [name, case["metric"], mib(figures.held), *map(mib, given_back), f"`{named_route}`", verdict]


def section(rows: list[list[str]], packages: list[str]) -> str:
    columns = ["case", "metric", "held", "its release", "`%memclean`", "`--deep`", "named", "named route", "reached"]
    return f"""## Against each library's own release

MiB that {_RUNS} runs of a cell hold, and how much of it comes back, medians of {_ROUNDS} rounds: in one kernel by code
written for the case, with garbage collection and trim; in another by `%memclean`, then `--deep`, then the named route,
each figure with what came before it. Libraries and memcell have been used once before. The named route is that of a
cleaner which runs by its name only; or, where the user's own variable is the holder, `--vars`, which here keeps all
variables but the holder and what the cell binds. *Reached*: one of the three gives back what the release does, within
{_NOISE_BYTES // MIB} MiB or {_NOISE_FRACTION:.0%}. Cases without a release are left out: nothing in the library's
interface gives their memory back.

{table(columns, rows)}

{provenance("benchmarks.cases FILE --write", [*KERNEL, *packages])}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cases", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="the Python file with CASES")
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases to measure; default: all with a release")
    parser.add_argument("--write", action="store_true", help="put the rows into docs/reclaim.md")
    options = parser.parse_args()
    cases = {case["name"]: case for case in runpy.run_path(options.file)["CASES"] if case["release"]}
    if unknown := [name for name in options.names if name not in cases]:
        parser.error(f"no case {unknown[0]!r} with a release; there are: {', '.join(cases)}")
    packages = [distribution(need) for case in cases.values() for need in case["requires"]]
    for name in options.names or cases:
        began = time.perf_counter()
        measured = row(cases[name])
        print(" | ".join(measured), f"({time.perf_counter() - began:.0f} s)", flush=True)
        if options.write:
            rows = {**rows_of("cases"), name: measured}
            put("cases", section([rows[known] for known in cases if known in rows], packages))


if __name__ == "__main__":
    main()
