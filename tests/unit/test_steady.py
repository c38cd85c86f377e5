"""Calls of a function, judged in this very process, with memory whose amount is known."""

from __future__ import annotations

import pytest

from memcell.errors import InvalidSettingError
from memcell.steady import judge_calls
from memcell.units import MIB
from tests.lazily import Lazily

np = Lazily("numpy")

_CALLS = 6
_KEPT = MIB  # of 8 bytes each: 8 MiB a call
KEPT_BY_MODULE: list[object] = []


def _keep() -> None:
    KEPT_BY_MODULE.append(np.ones(_KEPT))


@pytest.fixture(autouse=True)
def _let_go() -> object:
    yield
    KEPT_BY_MODULE.clear()


def test_what_a_module_keeps_is_a_leak_with_a_name():
    verdict = judge_calls(_keep, _CALLS)
    assert verdict.kind == "growing"
    assert 7 * MIB < verdict.bytes_per_run < 9 * MIB
    assert verdict.culprits[0].name == f"{__name__}.KEPT_BY_MODULE"


def test_what_a_closure_keeps_is_named_as_in_the_source():
    kept: list[object] = []
    verdict = judge_calls(lambda: kept.append(np.ones(_KEPT)), _CALLS)
    assert (verdict.kind, verdict.culprits[0].name) == ("growing", "kept")


def test_what_a_bound_methods_object_keeps_is_named():
    class Store:
        def __init__(self) -> None:
            self.kept: list[object] = []

        def add(self) -> None:
            self.kept.append(np.ones(_KEPT))

    verdict = judge_calls(Store().add, _CALLS)
    assert (verdict.kind, verdict.culprits[0].name) == ("growing", "self.kept")


def test_what_is_let_go_of_is_no_leak():
    assert judge_calls(lambda: np.ones(8 * _KEPT), _CALLS).kind != "growing"


def test_cycles_are_garbage_and_no_leak():
    def tie() -> None:
        knot: list[object] = [np.ones(_KEPT)]
        knot.append(knot)

    assert judge_calls(tie, _CALLS).kind != "growing"


def test_an_error_goes_through_and_nothing_stays_behind():
    with pytest.raises(ZeroDivisionError):
        judge_calls(lambda: 1 / 0, _CALLS)


def test_a_variable_without_a_value_yet_does_no_harm():
    def outer() -> object:
        def inner() -> None:
            if False:
                print(later)

        verdict = judge_calls(inner, 4)
        later = 1
        return verdict, later

    assert outer()[0].kind == "steady"


@pytest.mark.parametrize("runs", [3, 0, -1, True, 2.5, "10"])
def test_too_few_runs_are_refused(runs):
    with pytest.raises(InvalidSettingError, match="4 runs or more"):
        judge_calls(lambda: None, runs)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(InvalidSettingError, match=r"list.*lambda"):
        judge_calls([], 4)
