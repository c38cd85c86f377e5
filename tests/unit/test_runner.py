"""Order, isolation, measurement and interruption of a clean-up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading

import pytest

from memcell.clean.catalogue import Catalogue
from memcell.clean.cleaner import Cleaner, Stage, built_in_cleaner, library_cleaner
from memcell.clean.ctrl_c import CtrlC
from memcell.clean.entry_points import EntryPointCleaners
from memcell.clean.heap import Collector, gc_cleaner, trim_cleaner
from memcell.clean.registry import Registry
from memcell.clean.runner import Gauges, Runner
from memcell.errors import UnknownCleanerError
from memcell.units import MIB
from tests.unit.fakes import FakeClock

NOISE = 64 * 1024


class FakeMemory:
    """Resident memory, malloc's memory in use and the pages that malloc keeps free, in MiB."""

    def __init__(self, rss: int = 1000, heap: int | None = 500, kept: int = 0) -> None:
        self.rss, self.heap, self.kept = rss, heap, kept
        self.trims = 0
        self.on_reading = lambda: None

    def free_mapped(self, mib: int) -> None:
        self.rss -= mib

    def free_in_heap(self, mib: int) -> None:
        if self.heap is not None:
            self.heap -= mib
        self.kept += mib

    def trim(self) -> None:
        self.trims += 1
        self.rss -= self.kept
        self.kept = 0

    def read_rss(self) -> int:
        self.on_reading()
        return self.rss * MIB

    def gauges(self) -> Gauges:
        return Gauges(
            rss_bytes=self.read_rss,
            heap_bytes=lambda: None if self.heap is None else self.heap * MIB,
            trim=self.trim,
            noise_bytes=NOISE,
        )


class House:
    """A runner with all it needs."""

    def __init__(self, memory: FakeMemory | None = None, built_in: list[Cleaner] | None = None) -> None:
        self.memory = memory or FakeMemory()
        self.clock = FakeClock()
        self.collected = 0
        self.collector = Collector(self._collect, self.clock)
        if built_in is None:
            built_in = [trim_cleaner(self.memory.trim), gc_cleaner(self.collector)]
        self.registry = Registry(lambda: [cleaner.name for cleaner in built_in])
        catalogue = Catalogue(lambda: built_in, self.registry, EntryPointCleaners(list))
        self.runner = Runner(catalogue, self.memory.gauges(), self.collector, self.clock)
        self.clean = self.runner.clean

    def _collect(self) -> int:
        self.collected += 1
        self.clock.pass_time(1.0)
        return 47

    def register(self, name: str, clear: object, **options: object) -> object:
        return self.registry.register(name, clear, owner="test", **options)


@pytest.fixture
def house() -> House:
    return House()


def freed(report: object) -> dict[str, float | None]:
    return {
        outcome.name: outcome.freed_bytes / MIB if outcome.freed_bytes is not None else None
        for outcome in report.outcomes
    }


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


# What runs, and in which order


def test_stages_follow_one_another_and_state_waits_to_be_named(house):
    order = []
    pool = built_in_cleaner("pool", lambda: order.append("pool"), effect="none", stage=Stage.POOLS, about="")
    absent = library_cleaner("absent", "no.such.library", order.append, effect="none", about="")
    memory = FakeMemory()
    house = House(memory, [trim_cleaner(memory.trim), pool, gc_cleaner(Collector(lambda: 0)), absent])
    for name, effect in (("b", "recompute"), ("a", "none"), ("figures", "state")):
        house.register(name, lambda name=name: order.append(name), effect=effect)
    report = house.clean()
    assert [outcome.name for outcome in report.outcomes] == ["b", "a", "gc", "pool", "trim"]
    assert order == ["b", "a", "pool"]
    assert [outcome.name for outcome in house.clean(["trim", "figures", "figures"]).outcomes] == ["figures", "trim"]
    assert order[3:] == ["figures"]


def test_an_unknown_name_is_refused_before_anything_runs(house):
    calls = []
    house.register("graph", lambda: calls.append(1))
    with pytest.raises(
        UnknownCleanerError, match=r"unknown cleaner 'grpah'; did you mean 'graph'\? registered: trim, gc"
    ):
        house.clean(["graph", "grpah"])
    assert calls == []


def test_a_named_library_that_is_not_imported_is_said_so():
    absent = library_cleaner("absent", "no.such.library", print, effect="none", about="")
    (outcome,) = House(built_in=[absent]).clean(["absent"]).outcomes
    assert outcome.freed_bytes is None
    assert outcome.error == "not run: no.such.library is not imported"


# What it measures


def test_each_outcome_has_what_its_cleaner_freed(house):
    house.register("big", lambda: house.memory.free_mapped(100))
    house.register("none", lambda: None)
    house.register("grows", lambda: house.memory.free_mapped(-3))
    report = house.clean()
    assert freed(report) == {"big": 100, "none": 0, "grows": -3, "gc": 0, "trim": 0}
    assert (report.before_bytes, report.after_bytes, report.freed_bytes) == (1000 * MIB, 903 * MIB, 97 * MIB)
    assert [outcome.is_measurable for outcome in report.outcomes[:3]] == [True, False, True]
    assert report.objects == 47
    assert [outcome.objects for outcome in report.outcomes] == [None, None, None, 47, None]
    assert report.duration_s == 1.0


def test_memory_given_back_to_malloc_is_credited_to_who_gave_it(house):
    house.register("small-blocks", lambda: house.memory.free_in_heap(80))
    report = house.clean()
    assert freed(report) == {"small-blocks": 80, "gc": 0, "trim": 0}
    assert house.memory.trims == 2


def test_memory_that_lay_free_before_is_credited_to_the_trim():
    house = House(FakeMemory(kept=700))
    house.register("small-blocks", lambda: house.memory.free_in_heap(80))
    assert freed(house.clean()) == {"small-blocks": 80, "gc": 0, "trim": 700}


def test_a_trim_that_nobody_named_is_reported_when_it_gave_something_back():
    house = House(FakeMemory(kept=700))
    house.register("small-blocks", lambda: house.memory.free_in_heap(80))
    report = house.clean(["small-blocks"])
    assert freed(report) == {"small-blocks": 80, "trim": 700}
    assert report.freed_bytes == 780 * MIB


def test_without_a_heap_reading_nothing_is_trimmed_early():
    house = House(FakeMemory(heap=None))
    house.register("small-blocks", lambda: house.memory.free_in_heap(80))
    assert freed(house.clean()) == {"small-blocks": 0, "gc": 0, "trim": 80}
    assert house.memory.trims == 1


def test_less_than_a_mebibyte_is_not_worth_a_trim(house):
    house.memory.free_in_heap(0)
    house.register("nothing", lambda: None)
    house.register("mapped", lambda: (house.memory.free_mapped(50), setattr(house.memory, "heap", 450)))
    house.clean(["nothing", "mapped"])
    assert house.memory.trims == 0


def test_an_unasked_collection_over_its_budget_is_left_out(house):
    assert house.clean(budgeted=True).outcomes[0].error is None
    skipped = house.clean(budgeted=True).outcomes[0]
    assert skipped.freed_bytes is None
    assert skipped.error == (
        "not run: over its budget of 5% of the time: the last one took 1.00 s, the next is due in 20.00 s"
    )
    assert house.clean().outcomes[0].error is None, "a clean-up that was asked for always collects"
    assert house.collected == 2


# Cleaners that misbehave


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\nlines"), "ValueError: two lines"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError("stop"), "CancelledError: stop"),
        (UnreadableError(), "UnreadableError (its message cannot be read)"),
        (ValueError("x" * 10_000_000), "ValueError: " + "x" * 187 + "…"),
    ],
)
def test_whatever_a_cleaner_raises_is_its_outcome_and_the_rest_run(house, error, text):
    def fail() -> None:
        house.memory.free_mapped(5)
        raise error

    calls = []
    house.register("bad", fail)
    house.register("good", lambda: calls.append(1))
    report = house.clean()
    assert report.outcomes[0].error == text
    assert report.outcomes[0].freed_bytes == 5 * MIB, "what it freed before it failed is free"
    assert calls == [1]
    assert not report.interrupted
    assert house.clean().outcomes[0].error == text, "and the next clean-up works"


def test_cleaners_may_register_and_unregister_others_while_they_run(house):
    calls = []

    def turn_everything_over() -> None:
        calls.append("first")
        house.registry.unregister("second")
        house.register("third", lambda: calls.append("replaced third"))
        house.register("new", lambda: calls.append("new"))
        registration.unregister()

    registration = house.register("first", turn_everything_over)
    house.register("second", lambda: calls.append("second"))
    house.register("third", lambda: calls.append("third"))
    report = house.clean(["first", "second", "third"])
    assert calls == ["first"]
    assert [outcome.error for outcome in report.outcomes] == [None, *["not run: it is no longer registered"] * 2]
    house.clean()
    assert calls == ["first", "replaced third", "new"]


def test_an_object_that_dies_during_the_clean_up_is_not_called(house):
    class Store:
        def clear(self) -> None:
            raise AssertionError

    stores = [Store()]
    house.register("first", stores.clear)
    house.register("second", stores[0].clear)
    assert [outcome.error for outcome in house.clean(["first", "second"]).outcomes] == [
        None,
        "not run: it is no longer registered",
    ]


def test_a_cleaner_that_cleans_gets_an_empty_report_at_once(house):
    inner = []
    house.register("recursive", lambda: inner.append(house.clean()))
    assert house.clean().outcomes[0].error is None
    assert inner[0].outcomes == ()
    assert inner[0].freed_bytes == 0
    assert inner[0].note == (
        "a clean-up is already running, and this was called from one of its cleaners: nothing was done"
    )


def test_another_thread_gets_an_empty_report_at_once_and_may_clean_later(house):
    reports = []
    thread = threading.Thread(target=lambda: reports.append(house.clean()))

    def wait_for_the_other() -> None:
        thread.start()
        thread.join(10)

    registration = house.register("slow", wait_for_the_other)
    house.clean()
    assert not thread.is_alive()
    assert "already running in another thread" in reports[0].note
    assert reports[0].outcomes == ()
    registration.unregister()
    thread = threading.Thread(target=lambda: reports.append(house.clean()))
    thread.start()
    thread.join(10)
    assert [outcome.name for outcome in reports[1].outcomes] == ["gc", "trim"]


# Ctrl-C


@pytest.fixture
def before_sigint() -> object:
    """The handler of SIGINT, which every test here must find in its place afterwards."""
    handler = signal.getsignal(signal.SIGINT)
    yield handler
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_skips_the_cleaner_that_is_running(house, before_sigint):
    calls = []

    def slow() -> None:
        press_ctrl_c()
        calls.append("went on")

    house.register("slow", slow)
    house.register("next", lambda: calls.append("next"))
    report = house.clean()
    assert calls == ["next"]
    assert [outcome.error for outcome in report.outcomes] == ["skipped by Ctrl-C", None, None, None]
    assert not report.interrupted


def test_a_second_ctrl_c_soon_after_stops_and_keeps_the_report(monkeypatch, house, before_sigint):
    def slow() -> None:
        house.memory.free_mapped(10)
        press_ctrl_c()

    for name in ("a", "b", "c"):
        house.register(name, slow)
    report = house.clean()
    assert report.interrupted
    assert freed(report) == {"a": 10, "b": 10, "c": None, "gc": None, "trim": None}
    assert [outcome.error for outcome in report.outcomes] == ["skipped by Ctrl-C"] * 2 + [
        "not run: stopped by Ctrl-C"
    ] * 3


def test_a_second_ctrl_c_much_later_skips_another_one(before_sigint):
    clock = FakeClock()
    with CtrlC(clock) as ctrl_c:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                ctrl_c.call(press_ctrl_c)
            clock.pass_time(2.1)
    assert not ctrl_c.is_stopped


def test_a_cleaner_that_swallows_ctrl_c_is_reported_and_can_be_stopped(house, before_sigint):
    def stubborn() -> None:
        for _ in range(2):
            with contextlib.suppress(KeyboardInterrupt):
                press_ctrl_c()

    house.register("stubborn", stubborn)
    report = house.clean()
    assert report.outcomes[0].error == "skipped by Ctrl-C"
    assert report.interrupted


def test_ctrl_c_between_two_cleaners_does_not_escape(house, before_sigint):
    house.register("a", lambda: None)
    house.memory.on_reading = press_ctrl_c  # the readings are taken between the cleaners
    report = house.clean()
    assert report.interrupted
    assert [outcome.error for outcome in report.outcomes] == [None, *["not run: stopped by Ctrl-C"] * 2]
    house.memory.on_reading = lambda: None
    assert not house.clean().interrupted


def test_a_keyboard_interrupt_of_the_cleaners_own_is_no_ctrl_c(house, before_sigint):
    def fail() -> None:
        raise KeyboardInterrupt

    for name in ("a", "b"):
        house.register(name, fail)
    report = house.clean()
    assert [outcome.error for outcome in report.outcomes] == ["KeyboardInterrupt", "KeyboardInterrupt", None, None]
    assert not report.interrupted


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_where_sigint_is_ignored_or_deadly_it_stays_so(house, handler):
    seen = []
    house.register("look", lambda: seen.append(signal.getsignal(signal.SIGINT)))
    usual = signal.signal(signal.SIGINT, handler)
    try:
        house.clean()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, usual)
    assert seen == [handler]


def test_outside_the_main_thread_the_handler_is_left_alone(house, before_sigint):
    seen = []
    house.register("look", lambda: seen.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=house.clean)
    thread.start()
    thread.join(10)
    assert seen == [before_sigint]


# What it costs


def test_each_gauge_is_read_once_per_cleaner(house):
    readings = []
    house.memory.on_reading = lambda: readings.append(1)
    for number in range(1000):
        house.register(f"cleaner-{number}", lambda: None)
    report = house.clean()
    assert len(readings) == len(report.outcomes) + 1 == 1003
    assert house.memory.trims == 1
