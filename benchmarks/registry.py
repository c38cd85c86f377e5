"""What a clean-up of many registered cleaners costs beyond the cleaners' own work."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

from benchmarks.figures import reached, spread
from benchmarks.fresh import call
from benchmarks.report import table

TITLE = "What the registry costs"

_CLEANERS = 1000
_GOAL_MS = 20.0
_CASES = {
    "functions": "functions, run by name",
    "methods": "bound methods (held weakly), run by name",
    "default": "functions, with everything that runs by default",
}


def run(quick: bool) -> list[str]:
    rows = []
    for case, label in _CASES.items():
        times: dict[str, list[float]] = call(measure, case, 3 if quick else 51)
        beyond = spread(times["beyond"])
        row = [label, spread(times["register"]).text(1), spread(times["own"]).text(2), beyond.text(1)]
        rows.append([*row, f"< {_GOAL_MS:.0f}", reached(beyond.median, _GOAL_MS)])
    return [
        (
            f"{_CLEANERS:,} registered cleaners that do nothing. *Own work*: calling them in a plain loop. *Beyond*:"
            " `clear_caches()` minus that, in pairs; in the last line also minus a `clear_caches()` without any"
            " registered cleaner (garbage collection, trim, libraries). No peer has a registry. ms."
        ),
        table(["cleaners", "registering all", "own work", "beyond it", "goal", "reached"], rows),
    ]


class _Cache:
    def clear(self) -> None:
        pass


# In a process of its own


def measure(case: str, repetitions: int) -> dict[str, list[float]]:
    """Times in ms: of registering all cleaners, of their own work, and of a clean-up beyond it."""
    import memcell

    importlib.import_module("IPython")  # as in a kernel: the garbage collection looks at its objects too
    caches = [_Cache() for _ in range(_CLEANERS)]
    clears: list[Callable[[], None]]
    clears = [cache.clear if case == "methods" else (lambda: None) for cache in caches]
    names = [f"cleaner-{number}" for number in range(_CLEANERS)]

    def register_all() -> None:
        for name, clear in zip(names, clears, strict=True):
            memcell.register(name, clear)

    def call_all() -> None:
        for clear in clears:
            clear()

    def clean_all() -> None:
        assert all(outcome.error is None for outcome in memcell.clear_caches(*named).outcomes[:_CLEANERS])

    named = [] if case == "default" else names
    memcell.clear_caches()  # loads what the first one loads
    times: dict[str, list[float]] = {"register": [], "own": [], "beyond": []}
    for _ in range(repetitions):
        without_ms = _milliseconds(memcell.clear_caches) if case == "default" else 0.0
        times["register"].append(_milliseconds(register_all))
        own_ms = _milliseconds(call_all)
        times["own"].append(own_ms)
        times["beyond"].append(_milliseconds(clean_all) - own_ms - without_ms)
        for name in names:
            memcell.unregister(name)
    return times


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3
