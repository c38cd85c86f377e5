"""The monitor's decisions with a fake process and clock, and its thread for real."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from memcell.errors import InvalidSettingError, InvalidSizeError
from memcell.protect.monitor import Monitor
from memcell.protect.trend import Trend
from memcell.records.cleaned import CleanReport
from memcell.records.measured import Limit
from memcell.records.protected import Status
from memcell.units import MIB
from tests.unit.fakes import FakeClock, FakeReader


class Service:
    """A process with a cache that a clean-up empties."""

    def __init__(self) -> None:
        self.reader = FakeReader(100)
        self.clock = FakeClock()
        self.cache = 0
        self.cleaned = 0
        self.cost_s = 0.0
        self.limit, self.used = 1000, 0
        self.note = ""

    def fill(self, mib: int) -> None:
        self.cache += mib
        self.reader.grow(mib)

    def clean(self) -> CleanReport:
        if self.note:
            return CleanReport(0, 0, note=self.note)
        before = self.reader.rss()
        self.reader.grow(-self.cache)
        self.cache = 0
        self.cleaned += 1
        self.clock.pass_time(self.cost_s)
        return CleanReport(before, self.reader.rss())

    def status(self) -> Status:
        return Status("warning", self.reader.rss(), None, None, None, None, None, 0)

    def monitor(self, **arguments) -> Monitor:
        thresholds = {"interval_s": 30, "warn": "200MiB", "clean": "500MiB"}
        defaults = {**thresholds, "every": None, "on_warn": None, "on_clean": None}
        return Monitor(
            rss=self.reader.rss,
            limit=lambda: Limit(self.limit * MIB, self.used * MIB, "test"),
            clean_now=self.clean,
            status=self.status,
            clock=self.clock,
            **{**defaults, **arguments},
        )


@pytest.fixture
def service() -> Service:
    return Service()


def test_it_warns_once_then_cleans(service, caplog):
    warned, reports = [], []
    monitor = service.monitor(on_warn=warned.append, on_clean=reports.append)
    for _ in range(8):
        service.fill(60)
        service.clock.pass_time(30)
        monitor.check()
    assert len(warned) == 1
    assert warned[0].state == "warning"
    assert [report.freed_bytes // MIB for report in reports] == [420]
    assert "memory 220.0 MiB is above 200.0 MiB" in caplog.text
    assert "cleaning, above 500.0 MiB" in caplog.text


def test_it_warns_again_only_after_the_level_fell_well_below(service):
    warned = []
    monitor = service.monitor(on_warn=warned.append)
    for grown in (110, -20, 30, -60, 50):
        service.fill(grown)
        monitor.check()
    assert len(warned) == 2


def test_a_useless_clean_up_is_not_repeated_for_ten_minutes(service):
    monitor = service.monitor()
    service.reader.grow(600)
    for _ in range(40):
        monitor.check()
        service.clock.pass_time(30)
    assert service.cleaned == 2


def test_cleaning_takes_at_most_a_twentieth_of_the_time(service):
    service.cost_s = 10
    monitor = service.monitor()
    for _ in range(20):
        service.fill(600)
        monitor.check()
        service.clock.pass_time(30)
    assert service.cleaned == 3  # 30 of 630 s


def test_every_cleans_also_below_the_thresholds(service):
    monitor = service.monitor(warn=None, clean=None, every=100)
    for _ in range(10):
        service.clock.pass_time(30)
        monitor.check()
    assert service.cleaned == 2


def test_fractions_are_of_the_limit_and_of_all_that_counts_against_it(service):
    monitor = service.monitor(warn=0.25, clean=0.5)
    service.used = 490
    assert monitor.check() is None
    service.used = 510
    service.fill(100)
    assert monitor.check() is not None, "one of four workers, each small, in a container that is full"
    service.used = 510
    service.reader.grow(-100)
    service.clock.pass_time(10_000)
    service.limit = 10_000
    service.used = 5_100
    assert monitor.check() is None, "nothing that this process could give back"


def test_a_clean_up_that_another_thread_is_doing_is_none_of_ours(service):
    told = []
    service.note = "a clean-up is already running in another thread"
    monitor = service.monitor(on_clean=told.append)
    service.reader.grow(600)
    assert monitor.check() is None
    assert told == []
    service.note = ""
    assert monitor.check() is not None


def test_a_callback_that_exits_does_not_end_the_monitor(service, caplog):
    monitor = service.monitor(on_warn=lambda status: sys.exit(3))
    service.fill(150)
    monitor.check()
    assert "on_warn failed: SystemExit" in caplog.text


def test_every_counts_from_the_start(service):
    monitor = service.monitor(warn=None, clean=None, every=100)
    service.clock.pass_time(1000)
    with monitor:
        assert monitor.check() is None


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"warn": "3GB", "clean": "2GB"}, InvalidSettingError, "must be below clean"),
        ({"warn": "12XB"}, InvalidSizeError, "12XB"),
        ({"interval_s": 0}, InvalidSettingError, "interval_s"),
        ({"interval_s": "30"}, InvalidSettingError, "interval_s"),
        ({"interval_s": float("nan")}, InvalidSettingError, "interval_s"),
        ({"interval_s": 1e12}, InvalidSettingError, "up to a week"),
        ({"every": -1}, InvalidSettingError, "every"),
        ({"every": True}, InvalidSettingError, "every"),
        ({"warn": 1.5}, InvalidSettingError, "neither a fraction below 1 nor a size"),
        ({"warn": None, "clean": 1.0}, InvalidSettingError, "neither a fraction below 1 nor a size"),
        ({"on_warn": 3}, InvalidSettingError, "on_warn must be callable"),
    ],
)
def test_misuse_is_said_in_one_line(service, arguments, error, says):
    with pytest.raises(error, match=says):
        service.monitor(**arguments)


def test_a_failing_callback_is_named_and_the_monitor_goes_on(service, caplog):
    monitor = service.monitor(on_warn=lambda status: 1 / 0)
    service.fill(150)
    monitor.check()
    assert "on_warn failed: ZeroDivisionError" in caplog.text
    service.fill(300)
    assert monitor.check() is not None


def test_the_thread_looks_and_stops_cleanly(service):
    looked = threading.Event()
    monitor = service.monitor(interval_s=0.01, on_clean=lambda report: looked.set())
    with monitor:
        assert monitor.start() is monitor
        assert sum(thread.name == "memcell-monitor" for thread in threading.enumerate()) == 1
        service.fill(600)
        assert looked.wait(10)
    assert not monitor.is_running
    monitor.stop()


def test_a_monitor_may_stop_itself_from_its_callback(service):
    stopped = threading.Event()
    monitor = service.monitor(interval_s=0.01, on_clean=lambda report: (monitor.stop(), stopped.set()))
    thread_of = monitor.start()._thread
    service.fill(600)
    assert stopped.wait(10)
    thread_of.join(10)
    assert not thread_of.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_no_monitor_until_it_starts_one(service):
    with service.monitor(interval_s=0.01) as monitor:
        pid = os.fork()
        if pid == 0:
            ran = monitor.is_running
            monitor.stop()
            monitor.start()
            again = monitor.is_running
            monitor.stop()
            os._exit(0 if (ran, again) == (False, True) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert monitor.is_running


def test_the_trend_is_the_slope_of_the_levels():
    trend = Trend()
    trend.add(0, 100 * MIB)
    trend.add(300, 101 * MIB)
    assert trend.bytes_per_hour(300) is None, "five minutes say nothing"
    trend = Trend()
    for minute in range(1, 30):
        trend.add(60 * minute, (100 + 2 * minute) * MIB)
    assert trend.bytes_per_hour(1800) == pytest.approx(120 * MIB, rel=0.02)
    for minute in range(30, 400):
        trend.add(60 * minute, 160 * MIB)
    assert trend.bytes_per_hour(60 * 400) == 0


def test_the_trend_is_bounded_and_spreads_over_the_hour():
    trend = Trend()
    for second in range(20_000):
        trend.add(second, second)
    assert len(trend._levels) <= 1000
    assert trend._levels[-1][0] - trend._levels[0][0] >= 3500
