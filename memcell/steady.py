"""Whether a function that is called again and again leaks: memcell's verdict outside notebooks, for tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from memcell.errors import InvalidSettingError
from memcell.explain.census import Census, take_census
from memcell.records import Verdict
from memcell.session import Session

#: What a verdict needs.
FEWEST_RUNS = 4


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

    def census(previous: Census | None) -> Census | None:
        # A function that is local to a test has no name in any module: what it holds is found through its own.
        return take_census({**vars(sys.modules["__main__"]), "func": function}, previous=previous)

    session = Session()  # of its own: the runs of a program that is tested are none of its business
    session.leaks.thorough = True
    session.take_census = census
    try:
        for _ in range(runs):
            with session.watch(label):
                function()
        verdict = session.leaks.verdict(label)
    finally:
        session.close_all()
    assert verdict is not None
    return verdict
