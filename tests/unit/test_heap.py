"""The budget of the garbage collection, and the two cleaners of the heap."""

from __future__ import annotations

import gc

import pytest

from memcell.clean.cleaner import Stage
from memcell.clean.heap import Collector, gc_cleaner, trim_cleaner
from tests.unit.fakes import FakeClock


def test_a_collection_may_follow_when_it_took_a_twentieth_of_the_time():
    clock = FakeClock()

    def collect() -> int:
        clock.pass_time(2.0)
        return 7

    collector = Collector(collect, clock)
    assert collector.over_budget() is None, "the cost of the first is not known"
    assert collector.collect() == 7
    clock.pass_time(39.5)
    assert collector.over_budget() == (
        "over its budget of 5% of the time: the last one took 2.00 s, the next is due in 0.50 s"
    )
    clock.pass_time(0.6)
    assert collector.over_budget() is None


def test_a_collection_that_fails_has_cost_its_time_too():
    clock = FakeClock()

    def collect() -> int:
        clock.pass_time(1.0)
        raise RuntimeError

    collector = Collector(collect, clock)
    with pytest.raises(RuntimeError):
        collector.collect()
    assert collector.over_budget() is not None


def test_the_gc_cleaner_collects_cycles_and_counts_them():
    class Node:
        def __init__(self) -> None:
            self.me = self

    gc.collect()
    for _ in range(100):
        Node()
    cleaner = gc_cleaner(Collector())
    assert (cleaner.name, cleaner.effect, cleaner.stage) == ("gc", "none", Stage.GARBAGE)
    assert cleaner.find()() >= 100


def test_the_trim_cleaner_trims():
    trims = []
    cleaner = trim_cleaner(lambda: trims.append(1))
    assert (cleaner.name, cleaner.effect, cleaner.stage) == ("trim", "none", Stage.TRIM)
    cleaner.find()()
    assert trims == [1]
