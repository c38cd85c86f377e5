"""Records to draw and to word, with plausible values that a test replaces."""

from __future__ import annotations

from typing import Any

from memcell.records.cleaned import CleanerInfo, CleanOutcome, CleanReport
from memcell.records.measured import Curve, Limit, Run, Snapshot
from memcell.units import GIB, MIB

LIMIT = Limit(24 * GIB, 6 * GIB, "the machine")
#: What a user's text may hold that must not reach a page unescaped, a terminal unfiltered, or a file unencodable.
WEIRD = "x = '<script>alert(1)</script>' & \"quoted\" 😀\x1b[31m\x00\ud800\n" + "long " * 200


def make_run(number: int = 3, *, kept: float = 105.2, peak: float = 310.0, before: float = 506.8, **values: Any) -> Run:
    """A run; sizes are MiB, ``values`` are fields of the record."""
    before_bytes = round(before * MIB)
    fields: dict[str, Any] = {
        "cell": "cell-a",
        "source_hash": "hash",
        "source_line": "graphs[key] = make_graph(200_000)",
        "started": 1_000.0 + 4 * number,
        "duration_s": 1.24,
        "after_bytes": before_bytes + round(kept * MIB),
        "peak_bytes": before_bytes + round(peak * MIB),
        "peak_method": "high-water",
        "peak_error_bytes": MIB // 4,
        "outcome": "ok",
    }
    return Run(number=number, before_bytes=before_bytes, **{**fields, **values})


def make_snapshot(*runs: Run, **values: Any) -> Snapshot:
    """What the live view draws: between runs unless ``values`` has a number."""
    fields: dict[str, Any] = {"level_bytes": 612 * MIB, "limit": LIMIT}
    return Snapshot(runs=runs, **{**fields, **values})


def make_running(*levels: float, **values: Any) -> Snapshot:
    """A run that is going on, with the levels in MiB that were sampled in slices of 0.1 s."""
    curve = Curve(0.1, tuple(round(level * MIB) for level in levels))
    fields: dict[str, Any] = {
        "number": 7,
        "source_line": "graphs[key] = make_graph(200_000)",
        "elapsed_s": 0.1 * len(levels),
        "before_bytes": 500 * MIB,
        "peak_bytes": 900 * MIB,
        "curve": curve,
    }
    return make_snapshot(**{**fields, **values})


def make_report(**values: Any) -> CleanReport:
    """A clean-up with every kind of outcome."""
    outcomes = (
        CleanOutcome("graphs", "recompute", 80 * MIB, MIB // 4, 0.012),
        CleanOutcome("sympy", "recompute", 100_000, 300_000, 0.002),
        CleanOutcome("torch", "none", None, error="RuntimeError: <device>\nbusy"),
        CleanOutcome("gc", "none", -3 * MIB, MIB // 4, 0.046, 1247),
    )
    return CleanReport(**{"before_bytes": 612 * MIB, "after_bytes": 535 * MIB, "outcomes": outcomes, **values})


INFOS = (
    CleanerInfo("gc", "none", "built-in", "memcell", about="collects cycles"),
    CleanerInfo("sympy", "recompute", "built-in", "memcell", ready=False),
    CleanerInfo("graphs", "recompute", "registered", "<lambda>", size_bytes=160 * MIB),
    CleanerInfo("phasic", "recompute", "available", "phasic"),
)
