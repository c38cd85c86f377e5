"""When to clean unasked: pure decisions on records, with a fake limit and clock."""

from __future__ import annotations

import pytest

from memcell.protect.policy import WAIT_AFTER_USELESS_S, Policy, Thresholds
from memcell.records.cleaned import CleanReport
from memcell.records.measured import Limit, Run
from memcell.units import MIB
from tests.unit.fakes import FakeClock
from tests.unit.view_records import make_run


class FakeLimit:
    def __init__(self, limit: int | None = 1000, used: int = 0) -> None:
        self.limit, self.used, self.reads = limit, used, 0

    def __call__(self) -> Limit:
        self.reads += 1
        return Limit(None if self.limit is None else self.limit * MIB, self.used * MIB, "test")


@pytest.fixture
def limit() -> FakeLimit:
    return FakeLimit()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def policy(limit: FakeLimit, clock: FakeClock) -> Policy:
    return Policy(limit, clock)


def run(kept: float = 0, peak: float = 0, before: float = 500, cell: str = "a") -> Run:
    return make_run(kept=kept, peak=max(kept, peak), before=before, cell=cell)


def report(freed: int) -> CleanReport:
    return CleanReport(freed * MIB, 0)


PRESSURE = Thresholds()
GROWTH = Thresholds(auto_clean="growth")


def test_below_the_threshold_there_is_no_reason(policy, limit):
    limit.used = 799
    assert policy.reason_after(run(kept=100), PRESSURE) is None


def test_pressure_above_the_threshold_is_relieved_and_said(policy, limit):
    limit.used = 850
    assert "85%, is above 80%" in policy.reason_after(run(kept=100), PRESSURE)


@pytest.mark.parametrize("before", [5, 40])
def test_pressure_that_this_process_cannot_relieve_is_left_alone(policy, limit, before):
    limit.used = 850
    assert policy.reason_after(run(kept=20, before=before), PRESSURE) is None


def test_after_a_useless_clean_up_it_waits_ten_minutes(policy, limit, clock):
    limit.used = 850
    assert policy.reason_after(run(kept=100), PRESSURE)
    policy.note_clean(report(freed=9), automatic=True)
    clock.pass_time(WAIT_AFTER_USELESS_S - 1)
    assert policy.reason_after(run(kept=100), PRESSURE) is None
    clock.pass_time(2)
    assert policy.reason_after(run(kept=100), PRESSURE)


def test_after_a_useful_one_it_does_not_wait(policy, limit):
    limit.used = 850
    assert policy.reason_after(run(kept=100), PRESSURE)
    policy.note_clean(report(freed=200), automatic=True)
    assert policy.reason_after(run(kept=100), PRESSURE)


def test_what_the_user_cleans_makes_nothing_wait(policy, limit):
    limit.used = 850
    policy.note_clean(report(freed=0), automatic=False)
    assert policy.reason_after(run(kept=100), PRESSURE)


def test_quick_small_runs_do_not_read_the_limit_each_time(policy, limit, clock):
    for _ in range(100):
        policy.reason_after(run(), PRESSURE)
        clock.pass_time(0.001)
    assert limit.reads == 1


def test_before_a_cell_whose_last_peak_would_not_fit(policy, limit):
    policy.reason_after(run(peak=300, cell="heavy"), PRESSURE)
    limit.used = 640
    assert policy.reason_before("heavy", lambda: 600 * MIB, PRESSURE) is None
    limit.used = 660
    reason = policy.reason_before("heavy", lambda: 600 * MIB, PRESSURE)
    assert "300.0 MiB" in reason
    assert "660 MiB of 1000 MiB" in reason
    assert policy.reason_before("heavy", lambda: 30 * MIB, PRESSURE) is None, "another process's memory"
    assert policy.reason_before("other", lambda: 600 * MIB, PRESSURE) is None
    assert policy.reason_before("heavy", lambda: 600 * MIB, Thresholds(auto_clean="never")) is None


def test_a_cell_that_grows_is_cleaned_from_its_second_run(policy):
    assert policy.reason_after(run(kept=40), GROWTH) is None
    assert "has kept 80.0 MiB" in policy.reason_after(run(kept=40), GROWTH)
    policy.note_clean(report(freed=80), automatic=True)
    assert policy.reason_after(run(kept=10), GROWTH) is None
    assert policy.reason_after(run(kept=10), GROWTH)


def test_different_cells_that_keep_once_are_not_growing(policy):
    assert not any(policy.reason_after(run(kept=40, cell=str(cell)), GROWTH) for cell in range(5))


def test_growth_that_no_cleaner_releases_is_asked_about_less_and_less(policy):
    asked = 0
    for _ in range(64):
        if policy.reason_after(run(kept=20), GROWTH):
            asked += 1
            policy.note_clean(report(freed=0), automatic=True)
    assert 3 <= asked <= 8


def test_cleaning_in_between_does_not_hide_growth(policy):
    grown = make_run(kept=-10, peak=0, cell="a", cleaned_bytes=60 * MIB)
    policy.reason_after(grown, GROWTH)
    assert "100.0 MiB" in policy.reason_after(grown, GROWTH)


def test_always_every_and_never(policy, limit):
    assert policy.reason_after(run(), Thresholds(auto_clean="always"))
    limit.used = 990
    assert policy.reason_after(run(kept=100), Thresholds(auto_clean="never")) is None
    every = Thresholds(auto_clean="never", every=5)
    policy.note_clean(report(0), automatic=False)
    assert [bool(policy.reason_after(run(), every)) for _ in range(5)] == [False] * 4 + [True]


def test_a_warning_is_said_once_and_again_after_the_level_fell(policy, limit):
    def warned(used: int) -> bool:
        limit.used = used
        return policy.warning_after(run(kept=100), PRESSURE) is not None

    assert [warned(used) for used in (600, 710, 720, 690, 710, 640, 710)] == [
        False, True, False, False, False, False, True,
    ]  # fmt: skip


def test_without_a_limit_there_is_nothing_to_decide(policy, limit):
    limit.limit = None
    assert policy.reason_after(run(kept=100), PRESSURE) is None
    assert policy.warning_after(run(kept=100), PRESSURE) is None
    policy.reason_after(run(peak=300, cell="heavy"), PRESSURE)
    assert policy.reason_before("heavy", lambda: 0, PRESSURE) is None


def test_cells_are_forgotten_beyond_a_thousand(policy):
    for number in range(1500):
        policy.reason_after(run(cell=str(number)), PRESSURE)
    assert len(policy._cells) == 1000


def test_once_the_level_has_fallen_a_run_is_warned_again(policy, limit, clock):
    assert policy.may_warn_during()
    assert not policy.may_warn_during()
    limit.used = 100
    clock.pass_time(100)
    policy.reason_after(run(), PRESSURE)
    assert policy.may_warn_during()
