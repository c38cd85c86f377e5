"""What is settled and counted after which run, and what is remembered; with fake measurements and a fake clock."""

from __future__ import annotations

import pytest

from memcell.explain.census import Census, Grown, Sizes
from memcell.leak_watch import LeakWatch
from memcell.records.measured import Limit, Run
from memcell.units import MIB
from tests.unit.fakes import FakeClock
from tests.unit.view_records import make_run


class House:
    """A process in which each cell keeps 8 MiB a run, under a name of its own that a census finds."""

    def __init__(self, settle_s: float = 0.01, census_s: float = 0.1) -> None:
        self.clock = FakeClock()
        self.level, self.number = 100, 0
        self.entries: dict[str, int] = {"cache": 0}
        self.settled, self.censuses = 0, 0
        self.settle_s, self.census_s = settle_s, census_s
        self.watch = LeakWatch(self.settle, self.take_census, lambda: Limit(1000 * MIB, 200 * MIB, "test"), self.clock)

    def settle(self) -> int:
        self.settled += 1
        self.clock.pass_time(self.settle_s)
        return self.level * MIB

    def take_census(self, previous: Census | None) -> Census | None:
        self.censuses += 1
        self.clock.pass_time(self.census_s)
        before = previous.sizes.by_hash() if previous else {}
        grown = []
        for name, entries in self.entries.items():
            added = entries - before.get(hash(f"pkg.{name}"), entries)
            if added:
                grown.append(Grown(f"pkg.{name}", "dict", "entries", entries - added, entries, 8 * added * MIB))
        sizes = Sizes({f"pkg.{name}": entries for name, entries in self.entries.items()})
        return Census(tuple(grown), (), self.census_s, (), sizes, Sizes({}), 0)

    def run(
        self,
        kept: int = 8,
        *,
        garbage: int = 0,
        cell: str = "a",
        source: str = "s",
        source_line: str = "x = 1",
        pause_s: float = 60,
        **asked: bool,
    ) -> Run:
        self.clock.pass_time(pause_s)
        before = self.level
        self.level += kept
        name = "cache" if cell == "a" else cell
        self.entries[name] = self.entries.get(name, 0) + (kept > 0)
        self.number += 1
        levels = {"anon_before_bytes": before * MIB, "anon_after_bytes": (self.level + garbage) * MIB}
        raw = kept + garbage
        return self.watch.note(
            make_run(
                self.number,
                kept=raw,
                peak=raw,
                before=before,
                cell=cell,
                source_hash=source,
                source_line=source_line,
                **levels,
            ),
            **asked,
        )


@pytest.fixture(autouse=True)
def _few_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many objects the process that runs the tests has does not matter here."""
    monkeypatch.setattr("memcell.leak_watch.gc.get_objects", list)


@pytest.fixture
def house() -> House:
    return House()


def test_a_cell_that_grows_is_settled_counted_and_explained(house):
    runs = [house.run() for _ in range(5)]
    assert runs[0].settled_bytes is None
    assert runs[-1].settled_bytes == house.level * MIB
    [verdict] = house.watch.verdicts()
    assert (verdict.kind, round(verdict.bytes_per_run / MIB)) == ("growing", 8)
    assert verdict.runs_until_limit == 100
    assert [culprit.name for culprit in verdict.culprits] == ["pkg.cache"]


def test_two_cells_that_leak_in_turns_are_held_by_their_own(house):
    for _ in range(6):
        house.run(cell="a")
        house.run(cell="b")
    by_cell = {verdict.cell: [one.name for one in verdict.culprits] for verdict in house.watch.verdicts()}
    assert by_cell == {"a": ["pkg.cache"], "b": ["pkg.b"]}


def test_a_cell_that_does_not_grow_may_run_in_between(house):
    for _ in range(6):
        house.run(cell="a")
        house.run(kept=0, cell="b")
    [verdict] = [verdict for verdict in house.watch.verdicts() if verdict.kind == "growing"]
    assert [one.name for one in verdict.culprits] == ["pkg.cache"]
    assert len(verdict.culprits[0].sizes) == 4


def test_garbage_beside_the_leak_does_not_hide_who_holds_it(house):
    for _ in range(6):
        house.run(garbage=300)
    [verdict] = house.watch.verdicts()
    assert (verdict.kind, round(verdict.bytes_per_run / MIB)) == ("growing", 8)
    assert [culprit.name for culprit in verdict.culprits] == ["pkg.cache"]
    assert verdict.culprits[0].share == pytest.approx(1.0, abs=0.1)


def test_a_cell_that_does_not_grow_costs_nothing(house):
    for _ in range(20):
        house.run(kept=0)
    assert (house.settled, house.censuses) == (0, 0)
    assert house.watch.verdicts()[0].kind == "steady"


@pytest.mark.parametrize(("settle_s", "census_s"), [(0.5, 0.1), (0.01, 2.0)])
def test_measuring_takes_a_twentieth_of_the_time_at_most(settle_s, census_s):
    house = House(settle_s, census_s)
    began = house.clock.now
    for _ in range(200):
        house.run(pause_s=1)
    spent = house.settled * settle_s + house.censuses * census_s
    assert spent <= 0.05 * (house.clock.now - began) + settle_s + census_s


def test_who_asks_waits_for_the_census_that_did_not_fit():
    house = House(census_s=1.0)
    for _ in range(6):
        house.run(pause_s=0.5)
    assert house.censuses == 1
    [verdict] = house.watch.verdicts()
    assert house.censuses == 2
    assert verdict.culprits[0].name == "pkg.cache"
    house.watch.verdicts()
    assert house.censuses == 2, "nothing has run since: there is nothing new to count"


def test_after_a_single_census_it_says_what_it_takes_to_learn_more():
    house = House(census_s=1000.0)
    for _ in range(6):
        house.run(cell="other", pause_s=0.5)  # gets the only census that the budget has
        house.run(pause_s=0.5)
    assert house.watch.verdict("a").note == "run it once more to learn what holds it"


def test_of_a_block_in_a_loop_it_says_to_ask_in_the_loop_and_that_is_enough():
    house = House(census_s=1000.0)
    for number in range(8):
        house.run(cell="other", pause_s=0.5)
        house.run(cell="load", source_line="load", pause_s=0.5)
        if number == 5:
            note = house.watch.verdict("load").note
    assert note.endswith("a script that loops calls memcell.leaks() in the loop too")
    # Both have grown in between, and no census was affordable that would tell them apart.
    assert {one.name for one in house.watch.verdict("load").culprits} == {"pkg.load", "pkg.other"}


def test_who_asks_waits_for_a_collection_if_the_last_run_was_left_without_one():
    house = House(settle_s=1.0)
    for _ in range(6):
        house.run(pause_s=0.1)
    assert house.settled == 1
    house.level -= 40  # what the collection will find to be garbage
    [verdict] = house.watch.verdicts()
    assert house.settled == 2
    assert verdict.kind != "growing"
    house.watch.verdicts()
    assert house.settled == 2, "the last run is settled already"


def test_who_asks_about_cells_that_do_not_grow_waits_for_nothing(house):
    for _ in range(6):
        house.run(kept=0)
    house.watch.verdicts()
    assert (house.settled, house.censuses) == (0, 0)


def test_an_edit_begins_anew(house):
    for _ in range(4):
        house.run()
    house.run(source="edited")
    assert house.watch.verdicts() == []
    house.run(source="edited")
    assert house.watch.verdicts()[0].runs == 2


def test_growing_cells_come_first_the_fastest_at_the_top(house):
    for _ in range(6):
        house.run(kept=0, cell="steady")
        house.run(kept=4, cell="slow")
        house.run(kept=16, cell="fast")
    assert [verdict.cell for verdict in house.watch.verdicts()] == ["fast", "slow", "steady"]


def test_what_is_remembered_is_bounded(house):
    for number in range(500):
        house.run(cell=str(number))
    for number in range(450, 500):
        for _ in range(3):
            house.run(cell=str(number))
    cases = house.watch._cases
    assert len(cases) <= 200
    assert sum(case.counted.last is not None for case in cases.values()) <= 8
    for _ in range(300):
        house.run(cell="499")
    assert len(cases["499"].runs) == 64
    assert len(cases["499"].counted.stretches) <= 3
    assert len(cases["499"].counted.numbers) <= 256


def test_without_names_there_is_a_verdict_and_no_culprit(house, monkeypatch):
    monkeypatch.setattr(house, "take_census", lambda previous: None)
    house.watch = LeakWatch(house.settle, house.take_census, lambda: Limit(None, None, "test"), house.clock)
    for _ in range(5):
        house.run()
    [verdict] = house.watch.verdicts()
    assert verdict.kind == "growing"
    assert verdict.culprits == ()
    assert verdict.note


def test_thorough_it_settles_after_every_run_and_counts_beyond_its_share():
    house = House(settle_s=0.5, census_s=2.0)
    house.watch.be_thorough()
    before = house.censuses
    runs = [house.run(pause_s=0.1) for _ in range(5)]
    assert all(run.settled_bytes == house.watch._cases["a"].runs[-1].settled_bytes for run in runs[-1:])
    assert all(run.settled_bytes is not None for run in runs)
    assert house.censuses - before == 4, "after each run but the first, which nothing is compared with"
    verdict = house.watch.verdict("a")
    assert (verdict.kind, verdict.culprits[0].name) == ("growing", "pkg.cache")


def test_thorough_it_counts_only_where_something_grows(house):
    house.watch.be_thorough()
    before = house.censuses
    runs = [house.run(kept=0) for _ in range(5)]
    assert house.censuses == before
    assert all(run.settled_bytes is not None for run in runs)


def test_the_verdict_of_one_cell_is_the_one_among_all(house):
    assert house.watch.verdict("a") is None
    house.run()
    assert house.watch.verdict("a") is None
    for _ in range(5):
        house.run()
        house.run(kept=0, cell="b")
    assert [house.watch.verdict(cell) for cell in "ab"] == house.watch.verdicts()


def test_who_waits_for_a_verdict_gets_what_it_takes(house: House) -> None:
    """Without a pause there is no room in the budgets; asked for, every run is settled and counted all the same."""
    for _ in range(5):
        house.run(pause_s=0, settle=True, count=True)
    assert (house.settled, house.censuses) == (5, 5)
    verdict = house.watch.verdict("a")
    assert verdict is not None
    assert (verdict.kind, verdict.culprits[0].name) == ("growing", "pkg.cache")
    assert house.watch.verdict("b") is None


def test_what_warms_up_counts_for_no_cell(house: House) -> None:
    house.watch.warm_up()
    assert (house.settled, house.censuses) == (1, 2)
    assert house.watch.verdicts() == []


def test_what_a_hook_may_ask_is_bounded_and_forgotten_with_an_edit(house):
    assert house.watch.known("a", "s") == ((), None)
    for kept in range(1, 13):
        house.run(kept)
    earlier, verdict = house.watch.known("a", "s")
    assert earlier == tuple((kept * MIB, kept * MIB) for kept in range(5, 13))
    assert verdict is None  # nobody has asked yet
    [said] = house.watch.verdicts()
    assert house.watch.known("a", "s")[1] == said
    assert house.watch.known("a", "edited") == ((), None)
    house.run(2, source="edited")
    assert house.watch.known("a", "edited") == (((2 * MIB, 2 * MIB),), None)
