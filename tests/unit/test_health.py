from __future__ import annotations

import pytest

from memcell.errors import InvalidSizeError
from memcell.protect.health import Health
from memcell.protect.policy import Thresholds
from memcell.records.cleaned import CleanReport
from memcell.records.measured import Limit
from memcell.units import MIB
from tests.unit.fakes import FakeClock, FakeReader


class Machine:
    def __init__(self) -> None:
        self.reader, self.clock = FakeReader(100), FakeClock()
        self.limit: Limit = Limit(1000 * MIB, 100 * MIB, "test")
        self.health = Health(
            rss=self.reader.rss, limit=lambda: self.limit, children=lambda: 2, thresholds=Thresholds, clock=self.clock
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize(
    ("used", "state", "percent"), [(699, "healthy", 69.9), (700, "warning", 70.0), (801, "critical", 80.1)]
)
def test_the_state_follows_what_is_used_of_the_limit(machine, used, state, percent):
    machine.limit = Limit(1000 * MIB, used * MIB, "test")
    status = machine.health.status()
    assert (status.state, status.percent) == (state, percent)


def test_without_a_limit_there_is_no_percentage_and_everything_fits(machine):
    machine.limit = Limit(None, None, "unknown")
    status = machine.health.status()
    assert (status.state, status.percent, status.limit_bytes) == ("healthy", None, None)
    assert machine.health.fits("1TB")


def test_growth_per_hour_and_the_last_clean_up(machine):
    for _ in range(10):
        machine.health.look()
        machine.clock.pass_time(90)
        machine.reader.grow(3)
    machine.health.note_clean(CleanReport(50 * MIB, 20 * MIB))
    machine.clock.pass_time(5)
    body = machine.health.status().to_dict()
    assert body["growth_bytes_per_hour"] == pytest.approx(120 * MIB, rel=0.05)
    assert (body["last_clean_s"], body["last_freed_bytes"], body["children"]) == (5, 30 * MIB, 2)
    assert body["rss_bytes"] == 130 * MIB


def test_what_fits_leaves_a_margin(machine):
    assert machine.health.fits(850 * MIB)
    assert not machine.health.fits(851 * MIB)
    with pytest.raises(InvalidSizeError, match="12XB"):
        machine.health.fits("12XB")
