"""Whether a function that is called again and again leaks: memcell's verdict outside notebooks, for tests."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from memcell.errors import InvalidSettingError
from memcell.explain.census import Census, take_census
from memcell.records.explained import Culprit, Verdict
from memcell.session import Session

#: What a verdict needs.
FEWEST_RUNS = 4
#: A machine that runs tests may be slow, and who asks for a culprit wants one.
_CENSUS_DEADLINE_S = 20.0


def judge_calls(function: Callable[[], Any], runs: int) -> Verdict:
    """Call a function several times and judge what its calls leave behind. What it raises goes through.

    Args:
        function: Called without arguments; what it returns is let go of.
        runs: How often.

    Raises:
        InvalidSettingError: Too few runs for a verdict, or nothing that can be called.
    """
    if not callable(function):
        raise InvalidSettingError(f"a function is needed, got {type(function).__name__}; wrap the call: lambda: f(x)")
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < FEWEST_RUNS:
        raise InvalidSettingError(f"a verdict needs {FEWEST_RUNS} runs or more, got {runs!r}")
    label = getattr(function, "__qualname__", type(function).__name__)

    names = {**vars(sys.modules["__main__"]), **_names_within(function)}

    def census(previous: Census | None, children: Mapping[int, int]) -> Census | None:
        return take_census(names, children=children, previous=previous, deadline_s=_CENSUS_DEADLINE_S)

    session = Session()  # of its own: the runs of a program that is tested are none of its business
    session.take_census = census
    session.leaks.be_thorough()
    try:
        for _ in range(runs):
            with session.watch(label):
                function()
        verdict = session.leaks.verdict(label)
    finally:
        session.close_all()
    assert verdict is not None
    return replace(verdict, culprits=tuple(_as_typed(culprit) for culprit in verdict.culprits))


def _names_within(function: Callable[[], Any]) -> dict[str, Any]:
    """What a function that is local to a test can reach, and no module has a name for, by the names in its source."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    names: dict[str, Any] = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=True):
        with contextlib.suppress(ValueError):  # a variable without a value yet
            names[name] = cell.cell_contents
    owner = getattr(function, "__self__", None)
    if owner is not None:
        names["self"] = owner
    return names


def _as_typed(culprit: Culprit) -> Culprit:
    return replace(culprit, name=culprit.name.removeprefix("__main__."))
