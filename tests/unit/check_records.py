"""Records of a check with plausible values that a test replaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from memcell.records.checked import CellCheck, CheckOptions, NotebookCheck
from memcell.records.explained import Culprit, Verdict
from memcell.units import MIB
from tests.unit.view_records import make_run

_CULPRIT = Culprit(
    "pkg.load._cache",
    "dict",
    (9, 18, 27),
    "entries",
    1.0,
    0.95,
    'memcell.register("pkg", lambda: pkg.load._cache.clear())',
)


def make_verdict(kind: Any, **values: Any) -> Verdict:
    is_growing = kind == "growing"
    fields: dict[str, Any] = {
        "cell": "a",
        "label": "pkg.load(1)",
        "metric": "memory",
        "bytes_per_run": 8 * MIB if is_growing else 0,
        "confidence": 0.9,
        "runs": 7,
        "levels": tuple(8 * MIB * number for number in range(7)) if is_growing else (0,) * 7,
        "culprits": (_CULPRIT,) if is_growing else (),
    }
    return Verdict(kind=kind, **{**fields, **values})


def make_cell(
    verdict: Verdict | None, *, peaks: tuple[int, ...] = (200,), children: int = 0, **values: Any
) -> CellCheck:
    """A cell; ``peaks`` are those of its runs in MiB, ``children`` that of the child processes in the last one."""
    fields: dict[str, Any] = {"number": 1, "index": 0, "key": "a", "label": "pkg.load(1)", "state": "checked"}
    runs = tuple(make_run(number, before=100, kept=0, peak=peak - 100) for number, peak in enumerate(peaks, 1))
    runs = (*runs[:-1], replace(runs[-1], children_peak_bytes=children * MIB))
    return CellCheck(runs=runs, verdict=verdict, **{**fields, **values})


def make_check(*cells: CellCheck, limit_bytes: int | None = None, strict: bool = False, **values: Any) -> NotebookCheck:
    options = CheckOptions(limit_bytes=limit_bytes, strict=strict)
    return NotebookCheck("some.ipynb", options, kernel="python3", cells=cells, duration_s=1.5, **values)
