"""Runs are opened, closed, nested and billed as the records say; with a fake process and clock."""

from __future__ import annotations

import dataclasses
import functools
import threading

import pytest

from memcell.errors import MemoryLimitExceeded
from memcell.runs import first_line, hash_source
from memcell.session import Session
from memcell.units import MIB
from tests.unit.fakes import FakeChildren, FakeClock, FakeReader, FakeSampler


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def sampler() -> FakeSampler:
    return FakeSampler()


@pytest.fixture
def children() -> FakeChildren:
    return FakeChildren()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def session(reader: FakeReader, sampler: FakeSampler, children: FakeChildren, clock: FakeClock) -> Session:
    return Session(reader, sampler, children, clock)


def test_run_has_what_it_kept_and_its_peak(session, reader, clock):
    run = session.meter.open("x = make()\nx.go()", number=3, cell="abc")
    reader.spike(300)
    reader.grow(20)
    clock.pass_time(1.5)
    record = session.meter.close(run)
    assert (record.cell, record.number, record.source_line, record.outcome) == ("abc", 3, "x = make()", "ok")
    assert record.duration_s == 1.5
    assert record.retained_bytes == 20 * MIB
    assert record.peak_growth_bytes == 300 * MIB
    assert (record.peak_method, record.peak_error_bytes) == ("high-water", 0)
    assert list(session.history) == [record]


def test_without_a_cell_id_the_source_is_the_key(session):
    keys = {
        session.meter.close(session.meter.open(source, number=1)).cell for source in ("a = 1", "  a = 1\n", "a = 2")
    }
    assert keys == {hash_source("a = 1"), hash_source("a = 2")}


def test_a_peak_before_the_run_is_not_its_own(session, reader):
    reader.spike(500)
    assert session.meter.close(session.meter.open("pass", number=1)).peak_growth_bytes == 0


def test_an_inner_run_does_not_lose_the_peak_of_the_outer(session, reader):
    outer = session.meter.open("outer", number=1)
    reader.spike(400)
    inner = session.meter.open("inner", number=1)
    reader.spike(50)
    inner_record = session.meter.close(inner)
    outer_record = session.meter.close(outer)
    assert inner_record.peak_growth_bytes == 50 * MIB
    assert outer_record.peak_growth_bytes == 400 * MIB


def test_overlapping_runs_each_see_the_peaks_of_their_time(session, reader):
    first = session.meter.open("first", number=1)
    second = session.meter.open("second", number=2)
    reader.spike(70)
    first_record = session.meter.close(first)
    reader.spike(90)
    second_record = session.meter.close(second)
    assert first_record.peak_growth_bytes == 70 * MIB
    assert second_record.peak_growth_bytes == 90 * MIB


def test_an_abandoned_run_is_not_recorded_and_its_peak_stays_with_the_outer(session, reader, sampler):
    outer = session.meter.open("outer", number=1)
    inner = session.meter.open("inner", number=1)
    reader.spike(80)
    session.meter.abandon(inner)
    record = session.meter.close(outer)
    assert list(session.history) == [record]
    assert record.peak_growth_bytes == 80 * MIB
    assert (sampler.begun, sampler.ended) == (1, 1)


def test_what_memcell_takes_itself_is_not_billed(session, reader, clock):
    run = session.meter.open("plot()", number=1)
    reader.spike(30)
    with session.meter.own():
        reader.spike(200)
        reader.grow(45)
        clock.pass_time(2.0)
        with session.meter.own():
            reader.grow(5)
    reader.spike(60)
    reader.grow(10)
    clock.pass_time(1.0)
    record = session.meter.close(run)
    assert record.own_bytes == 50 * MIB
    assert record.retained_bytes == 10 * MIB
    assert record.peak_growth_bytes == 60 * MIB
    assert record.duration_s == 1.0


def test_own_work_outside_runs_changes_nothing(session, reader):
    with session.meter.own():
        reader.grow(45)
    assert session.meter.close(session.meter.open("pass", number=1)).own_bytes == 0


def test_own_work_is_charged_also_when_it_fails(session, reader):
    run = session.meter.open("plot()", number=1)

    def fail():
        with session.meter.own():
            reader.grow(45)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with session.meter.own():
        reader.grow(1)
    assert session.meter.close(run).retained_bytes == 0


@pytest.mark.parametrize(
    ("levels", "method", "growth"), [((100, 380, 100), "sampled", 280), ((), "ends", 20)], ids=["samples", "none"]
)
def test_without_the_exact_mark_the_record_says_where_the_peak_comes_from(
    sampler, children, clock, levels, method, growth
):
    reader = FakeReader(exact=False)
    sampler.levels = levels
    session = Session(reader, sampler, children, clock)
    run = session.meter.open("spike()", number=1)
    reader.spike(300)
    reader.grow(20)
    clock.pass_time(0.3)
    record = session.meter.close(run)
    assert (record.peak_method, record.peak_error_bytes) == (method, None)
    assert record.peak_growth_bytes == growth * MIB


def test_children_before_after_and_their_sampled_peak(session, sampler, children, clock):
    children.mib = 10
    run = session.meter.open("pool()", number=1)
    sampler.levels, sampler.children = (100, 100, 100), (10, 310, 40)
    children.mib = 40
    clock.pass_time(0.3)
    record = session.meter.close(run)
    found = record.children_before_bytes, record.children_after_bytes, record.children_peak_bytes
    assert found == (10 * MIB, 40 * MIB, 310 * MIB)


def test_a_short_run_has_no_curve(session, sampler, clock):
    sampler.levels = (100, 900)
    run = session.meter.open("quick()", number=1)
    clock.pass_time(0.05)
    record = session.meter.close(run)
    assert record.curve_bytes == ()
    assert record.peak_growth_bytes == 0


def test_an_inner_run_sees_its_own_part_of_the_curve(session, sampler, clock):
    outer = session.meter.open("outer", number=1)
    clock.pass_time(0.6)
    inner = session.meter.open("inner", number=1)
    clock.pass_time(0.4)
    sampler.levels = (100, 700, 700, 100, 100, 100, 200, 250, 200, 200)
    assert max(session.meter.close(inner).curve_bytes) == 250 * MIB
    assert max(session.meter.close(outer).curve_bytes) == 700 * MIB


def test_a_long_curve_is_kept_short_with_its_peak(session, sampler, clock):
    run = session.meter.open("long()", number=1)
    sampler.levels = (*range(100, 350), 999, 350, 351, 352, 353, 354)
    clock.pass_time(25.6)
    record = session.meter.close(run)
    assert 24 <= len(record.curve_bytes) <= 48
    assert max(record.curve_bytes) == 999 * MIB


def test_history_is_bounded_and_can_be_resized(session):
    session.configure(history_size=3)
    for number in range(5):
        session.meter.close(session.meter.open("pass", number=number))
    assert [run.number for run in session.history] == [2, 3, 4]
    session.configure(history_size=2)
    assert [run.number for run in session.history] == [3, 4]


def test_watch_records_a_block_with_its_label_and_outcome(session, reader):
    with session.watch("load") as watched:
        assert watched.run is None
        reader.grow(70)
    assert watched.run.retained_bytes == 70 * MIB
    with pytest.raises(ValueError, match="no"), session.watch("load"):
        raise ValueError("no")
    with pytest.raises(KeyboardInterrupt), session.watch("load"):
        raise KeyboardInterrupt
    assert [(run.cell, run.number, run.outcome) for run in session.history] == [
        ("load", 1, "ok"),
        ("load", 2, "error"),
        ("load", 3, "interrupted"),
    ]


def test_watch_without_a_label_is_named_by_its_place(session):
    with session.watch() as watched:
        pass
    assert watched.run.source_line.startswith("test_session.py:")


def test_a_snapshot_of_a_run_and_between_runs(session, reader, sampler, clock):
    run = session.meter.open("grow()", number=7)
    sampler.levels = (100, 150)
    reader.spike(80)
    reader.grow(50)
    clock.pass_time(0.2)
    during = session.meter.snapshot()
    assert (during.number, during.elapsed_s) == (7, pytest.approx(0.2))
    assert (during.level_bytes, during.before_bytes, during.peak_bytes) == (150 * MIB, 100 * MIB, 180 * MIB)
    assert during.curve.rss_bytes == (100 * MIB, 150 * MIB)
    session.meter.close(run)
    between = session.meter.snapshot()
    assert between.number is None
    assert len(between.runs) == 1


def test_a_forked_child_forgets_the_runs_of_its_parent(session):
    session.meter.open("fork()", number=1)
    session.forget_parent()
    assert session.meter.snapshot().number is None


@pytest.mark.parametrize(
    ("source", "line"),
    [("\n\n  x = 1  \ny", "x = 1"), ("", ""), ("a" * 300, "a" * 99 + "…")],
    ids=["blank", "empty", "long"],
)
def test_first_line(source, line):
    assert first_line(source) == line


@pytest.mark.parametrize("step", ["open", "close", "abandon"])
def test_an_interrupt_while_memcell_works_leaves_no_run_open(session, sampler, monkeypatch, step):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    call = functools.partial(session.meter.open, "pass", number=1, code=object())
    if step != "open":
        call = functools.partial(getattr(session.meter, step), session.meter.open("pass", number=1))
    monkeypatch.setattr(session.limits, "arm" if step == "open" else "disarm", interrupt)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert not session.meter.open_runs
    assert sampler.begun == sampler.ended == 1


def test_a_run_that_ends_in_another_thread_meanwhile_keeps_its_record(session, monkeypatch):
    def settle(run, **_):
        session.meter.close(session.meter.open("other", number=2))
        return dataclasses.replace(run, settled_bytes=1)

    monkeypatch.setattr(session.leaks, "note", settle)
    run = session.meter.close(session.meter.open("this", number=1))
    assert session.follow(run).settled_bytes == 1
    assert [(one.number, one.settled_bytes) for one in session.history] == [(1, 1), (2, None)]


def test_a_thread_does_not_take_away_why_the_main_threads_run_was_stopped(session):
    session.limits.stopped = told = MemoryLimitExceeded("told")
    thread = threading.Thread(target=lambda: session.meter.close(session.meter.open("pass", number=1)))
    thread.start()
    thread.join()
    assert session.limits.stopped is told
