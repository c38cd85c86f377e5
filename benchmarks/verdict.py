"""What a verdict costs, for 10 to 10,000 runs of one cell: ``python -m benchmarks.verdict [--write]``."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import spread
from benchmarks.report import put_between, table
from memcell.explain.growth import is_suspicious, judge, series
from memcell.records.measured import Run
from memcell.units import MIB

_PAGE = Path(__file__).parents[1] / "docs" / "verdicts.md"
_COUNTS = (10, 100, 1_000, 10_000)
_BEGIN, _END = "<!-- benchmarks.verdict begin -->", "<!-- benchmarks.verdict end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{_PAGE.name}")
    options = parser.parse_args()
    text = _measured()
    print(text)
    if options.write:
        put_between(_PAGE, _BEGIN, _END, text)


def _measured() -> str:
    rows = []
    for count in _COUNTS:
        runs = _runs(count)
        calls: list[Callable[[], object]] = [
            lambda runs=runs: judge(runs),
            lambda runs=runs: is_suspicious(runs),
            lambda runs=runs: series(runs),
        ]
        rows.append([f"{count:,}", *(spread([_microseconds(call) for _ in range(15)]).text(1) for call in calls)])
    return table(["runs", "`judge`", "`is_suspicious`", "`series`"], rows)


def _microseconds(call: Callable[[], object], repetitions: int = 3) -> float:
    began = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - began) / repetitions * 1e6


def _runs(count: int) -> list[Run]:
    """A leak of 2 MiB a run in noise, every figure known, every third run settled."""
    source = random.Random(1)
    runs = []
    for number in range(1, count + 1):
        before = round((100 + 2 * number + source.uniform(-1, 1)) * MIB)
        after = before + 2 * MIB
        levels = {f"{name}_{end}_bytes": level for name in ("anon", "heap") for end, level in _ends(before, after)}
        runs.append(
            Run(
                cell="cell",
                number=number,
                source_hash="hash",
                source_line="work()",
                started=float(number),
                duration_s=0.1,
                before_bytes=before,
                after_bytes=after,
                peak_bytes=after,
                peak_method="high-water",
                outcome="ok",
                settled_bytes=after if number % 3 == 0 else None,
                **levels,
            )
        )
    return runs


def _ends(before: int, after: int) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("before", before), ("after", after)


if __name__ == "__main__":
    main()
