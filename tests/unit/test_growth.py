"""Verdicts on made-up runs whose truth is known: single ones that state a rule, and a population with error rates."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest

from memcell.explain.growth import LEAST_RATE, is_suspicious, judge, series
from memcell.records.measured import Limit, Run
from memcell.units import GIB, MIB
from tests.unit.growth_population import Cell, Truth, leaks, make_run, others, simulate


def runs_of(cell: Cell, count: int = 12, seed: int = 7) -> list[Run]:
    return simulate(cell, count, random.Random(seed))


def made(*steps: float, start: float = 100.0, **values: object) -> list[Run]:
    """Runs in a row that keep so many MiB each, and nothing happens in between."""
    runs, level = [], start
    for number, step in enumerate(steps, 1):
        before, level = level, level + step
        levels = {"before_bytes": round(before * MIB), "after_bytes": round(level * MIB)}
        runs.append(make_run(number, **levels, **values))
    return runs


# The rules, one by one


def test_no_run_and_one_run_are_unknown() -> None:
    assert judge([]).kind == "unknown"
    assert judge(made(50)).kind == "unknown"
    assert judge(made(50, 50)).kind == "unknown"


def test_a_plain_leak_has_a_verdict_after_four_runs() -> None:
    kinds = [judge(runs_of(Cell(kept=lambda run: 7.6), count)).kind for count in (1, 2, 3, 4)]
    assert kinds == ["unknown", "unknown", "unknown", "growing"]


@pytest.mark.parametrize("steps", [(31.855, 32.117, 32.262), (32.359, 32.051, 32.004), (31.809, 32.086, 32.199)])
def test_four_runs_are_enough_where_the_last_three_happen_to_fit_a_line_better(steps: tuple[float, ...]) -> None:
    """Measured in kernels: three points alone are never sure, and were all that was asked."""
    verdict = judge(made(32.0, *steps))
    assert (verdict.kind, round(verdict.bytes_per_run / MIB)) == ("growing", 32)


def test_a_small_leak_is_found_by_the_tenth_run() -> None:
    verdict = judge(runs_of(Cell(kept=lambda run: 0.4, noise=0.05), 10))
    assert verdict.kind == "growing"
    assert verdict.bytes_per_run == pytest.approx(0.4 * MIB, rel=0.15)


def test_a_leak_that_begins_after_garbage_was_all_there_was_is_looked_at_again() -> None:
    """Three runs left garbage only, and settled flat; from the fifth on the same stays."""
    runs, level = [], 100.0
    for number in range(1, 12):
        kept = 3.4 if number > 4 else 0.0
        settled = round(level * MIB) if number in (2, 3, 4) else None
        levels = {"before_bytes": round(level * MIB), "after_bytes": round((level + 3.4) * MIB)}
        runs.append(make_run(number, **levels, settled_bytes=settled))
        level += kept
    assert [is_suspicious(runs[:count]) for count in (5, 6, 9)] == [False, False, True]


def test_growth_past_malloc_is_told_from_slack_by_two_settled_levels() -> None:
    """Raw levels rise and the heap is flat: what the allocator keeps goes when the heap is trimmed, a leak does not."""

    def runs(stays: float) -> list[Run]:
        found = []
        for number in range(12):
            level = (100 + 4 * number) * MIB
            settled = round((100 + stays * number) * MIB) if number in (1, 10) else None
            levels = {"before_bytes": level, "after_bytes": level + 4 * MIB, "settled_bytes": settled}
            found.append(make_run(number + 1, heap_before_bytes=20 * MIB, heap_after_bytes=20 * MIB, **levels))
        return found

    assert judge(runs(stays=4)).kind == "growing"
    assert judge(runs(stays=0)).kind != "growing"


def test_growth_below_the_least_rate_is_no_leak() -> None:
    assert judge(made(*[LEAST_RATE / 2] * 20)).kind == "steady"


def test_a_big_first_run_does_not_hide_a_small_leak() -> None:
    verdict = judge(runs_of(Cell(kept=lambda run: 75 if run == 1 else 1.0), 6))
    assert verdict.kind == "growing"
    assert verdict.bytes_per_run == pytest.approx(MIB, rel=0.1)


def test_a_warm_up_of_several_runs_does_not_hide_a_leak() -> None:
    warm_up = {1: 60.0, 2: 25.0, 3: 9.0}
    verdict = judge(runs_of(Cell(kept=lambda run: 2.0 + warm_up.get(run, 0.0))))
    assert verdict.kind == "growing"
    assert verdict.bytes_per_run == pytest.approx(2 * MIB, rel=0.1)


def test_a_leak_is_found_in_noise_ten_times_its_size() -> None:
    found = [judge(runs_of(Cell(kept=lambda run: 2.0, noise=20), 40, seed)).kind for seed in range(20)]
    assert found.count("growing") >= 16


def test_a_cache_that_has_filled_is_warming() -> None:
    cell = Cell(kept=lambda run: 5.0 if run <= 6 else 0.0)
    assert judge(runs_of(cell, 6)).kind == "growing"  # nobody can know that it is bounded
    assert judge(runs_of(cell, 10)).kind == "warming"


def test_what_the_first_run_keeps_is_a_warm_up_only_if_it_is_notable() -> None:
    assert judge(made(47, 0, 0, 0, 0)).kind == "warming"
    assert judge(made(7, 0, 0, 0, 0)).kind == "steady"


def test_a_saw_tooth_is_noisy() -> None:
    assert judge(made(*[10, 10, 10, -30] * 4)).kind == "noisy"


def test_one_late_step_is_no_leak() -> None:
    assert judge(made(0, 0, 0, 0, 0, 0, 50, 0, 0, 0)).kind == "warming"


@pytest.mark.parametrize("inside", [True, False])
def test_cleaning_does_not_hide_a_leak(inside: bool) -> None:
    cell = Cell(kept=lambda run: 20.0, cleaned_every=4, cleaned_inside=inside)
    verdict = judge(runs_of(cell, 16))
    assert verdict.kind == "growing"
    assert verdict.bytes_per_run == pytest.approx(20 * MIB, rel=0.15)


def test_what_other_cells_do_is_not_billed_to_this_one() -> None:
    assert judge(runs_of(Cell(others=lambda run: 50.0))).kind == "steady"
    leaking = judge(runs_of(Cell(kept=lambda run: 3.0, others=lambda run: 50.0 - 90.0 * (run % 2))))
    assert leaking.kind == "growing"
    assert leaking.bytes_per_run == pytest.approx(3 * MIB, rel=0.1)


def test_pending_garbage_is_no_leak_once_it_was_collected() -> None:
    assert judge(runs_of(Cell(garbage=7.6))).kind == "steady"


def test_growth_is_less_sure_while_garbage_was_not_collected() -> None:
    sure = judge(runs_of(Cell(kept=lambda run: 7.6)))
    doubted = judge(runs_of(Cell(kept=lambda run: 7.6, settles=False)))
    assert doubted.kind == "growing"
    assert doubted.confidence < sure.confidence
    assert "garbage" in doubted.note


def hurried(count: int, kept: float, garbage: float, *, heap: bool = True) -> list[Run]:
    """Runs that nobody had time to settle; then somebody asks, and the last one is settled."""
    runs, level = [], 100.0
    for number in range(1, count + 1):
        before, level = level, level + kept + garbage
        ends = (("before", before), ("after", level))
        values = {f"{name}{end}_bytes": round(at * MIB) for name in ("", "heap_" if heap else "") for end, at in ends}
        runs.append(make_run(number, **values))
    settled = round((level - garbage * count) * MIB)
    return [*runs[:-1], replace(runs[-1], settled_bytes=settled)]


@pytest.mark.parametrize("heap", [True, False])
def test_one_collection_at_the_end_tells_garbage_from_a_leak(heap: bool) -> None:
    assert judge(hurried(12, kept=0, garbage=7.6, heap=heap)).kind == "steady"
    both = judge(hurried(12, kept=5, garbage=2, heap=heap))
    assert both.kind == "growing"
    assert both.bytes_per_run == pytest.approx(5 * MIB, rel=0.15)


def test_what_others_had_left_is_not_taken_off_the_run_that_is_settled_first() -> None:
    runs = [replace(run, settled_bytes=run.after_bytes) for run in made(8, 8, 8, 8)]
    runs[0] = replace(runs[0], settled_bytes=None)
    runs[1] = replace(runs[1], settled_bytes=runs[1].after_bytes - 3 * MIB)
    verdict = judge(runs)
    assert verdict.kind == "growing"
    assert verdict.bytes_per_run == pytest.approx(8 * MIB, rel=0.01)


def test_readings_of_the_heap_that_are_missing_are_bridged() -> None:
    runs = runs_of(Cell(slack=5.0, settles=False))
    runs[3] = replace(runs[3], heap_before_bytes=None, heap_after_bytes=None)
    assert judge(runs).kind == "steady"


def test_a_history_of_any_length_costs_the_same() -> None:
    runs = made(*[2.0] * 3000)
    verdict = judge(runs)
    assert (verdict.kind, verdict.runs) == ("growing", 3000)
    assert len(verdict.levels) < 300


def test_memory_that_the_allocator_keeps_is_no_leak() -> None:
    verdict = judge(runs_of(Cell(slack=5.0, settles=False)))
    assert verdict.kind == "steady"
    assert "heap" in verdict.note


def test_a_leak_past_malloc_is_one_once_the_heap_was_trimmed() -> None:
    assert judge(runs_of(Cell(kept=lambda run: 2.0, past_malloc=True))).kind == "growing"


def test_a_leak_inside_a_freed_heap_is_seen_before_resident_memory_moves() -> None:
    verdict = judge(runs_of(Cell(kept=lambda run: 5.0, hidden_room=200.0, settles=False)))
    assert verdict.kind == "growing"
    assert verdict.bytes_per_run == pytest.approx(5 * MIB, rel=0.1)


@pytest.mark.parametrize("settles", [True, False])
def test_pages_that_nobody_touched_are_no_leak(settles: bool) -> None:
    assert judge(runs_of(Cell(untouched=20.0, settles=settles))).kind == "steady"


def test_mapped_files_are_no_leak() -> None:
    assert judge(runs_of(Cell(pages=50.0))).kind == "steady"


@pytest.mark.parametrize("metric", ["children", "shared memory", "device"])
def test_growth_elsewhere_is_named(metric: str) -> None:
    verdict = judge(runs_of(Cell(kept=lambda run: 25.0, metric=metric)))  # type: ignore[arg-type]
    assert (verdict.kind, verdict.metric) == ("growing", metric)
    assert verdict.bytes_per_run == pytest.approx(25 * MIB, rel=0.1)


def test_a_child_that_stays_as_it_is_is_no_leak() -> None:
    assert judge(runs_of(Cell(kept=lambda run: 44.0 if run == 1 else 0.0, metric="children"))).kind == "warming"


def test_levels_are_one_a_run_from_zero() -> None:
    verdict = judge(made(10, 20, 30, 40, 50))
    assert [level // MIB for level in verdict.levels] == [10, 30, 60, 100, 150]


def test_what_memcell_took_is_not_billed() -> None:
    assert judge(made(5, 5, 5, 5, 5, 5, own_bytes=5 * MIB)).kind == "steady"


def test_the_runs_until_the_limit() -> None:
    leaking = made(*[64.0] * 8)
    assert judge(leaking, Limit(2 * GIB, GIB, "the machine")).runs_until_limit == 16
    assert judge(leaking, Limit(GIB, 2 * GIB, "the machine")).runs_until_limit == 0
    assert judge(leaking, Limit(None, GIB, "the machine")).runs_until_limit is None
    assert judge(leaking).runs_until_limit is None
    assert judge(made(*[0.0] * 8), Limit(2 * GIB, GIB, "the machine")).runs_until_limit is None


@pytest.mark.parametrize("size", [0, -5, 10**40, -(10**40)])
def test_nonsense_does_not_crash(size: int) -> None:
    runs = [make_run(1, before_bytes=size, after_bytes=-size, settled_bytes=size, children_after_bytes=size)] * 9
    for count in range(len(runs) + 1):
        judge(runs[:count], Limit(size, size, "user"))
        is_suspicious(runs[:count])


# When to look closer


def test_a_cell_that_does_not_grow_is_never_suspicious() -> None:
    assert not any(run.settled_bytes for run in runs_of(Cell(kept=lambda run: 0.01), 50))


def test_the_first_run_is_never_suspicious() -> None:
    assert not is_suspicious(made(500))


def test_a_leak_is_suspicious_from_the_second_run_on() -> None:
    settled = [run.settled_bytes is not None for run in runs_of(Cell(kept=lambda run: 0.4), 6)]
    assert settled == [False, True, True, True, True, True]


def test_garbage_stops_being_suspicious_once_nothing_stayed() -> None:
    settled = [run.settled_bytes is not None for run in runs_of(Cell(garbage=10.0), 30)]
    assert sum(settled[:6]) >= 3
    assert sum(settled) <= 7


def test_growing_children_are_suspicious() -> None:
    runs = [
        make_run(number, children_before_bytes=number * 20 * MIB, children_after_bytes=(number + 1) * 20 * MIB)
        for number in (1, 2)
    ]
    assert is_suspicious(runs)


# Grouping


def test_series_holds_cells_that_ran_again_since_their_last_edit() -> None:
    history = [
        make_run(1, cell="a", source_hash="old"),
        make_run(2, cell="a", source_hash="old"),
        make_run(3, cell="b"),
        make_run(4, cell="once"),
        make_run(5, cell="a", source_hash="new"),
        make_run(6, cell="a", source_hash="new"),
        make_run(7, cell="b"),
    ]
    groups = series(history)
    assert {cell: [run.number for run in runs] for cell, runs in groups.items()} == {"a": [5, 6], "b": [3, 7]}
    assert list(groups) == ["a", "b"]
    assert series([]) == {}


# Error rates


def growing(truths: list[Truth]) -> list[Truth]:
    return [truth for truth in truths if judge(truth.runs).kind == "growing"]


def population(make: Callable[[random.Random, int], object], each: int) -> list[Truth]:
    return list(make(random.Random(1), each))  # type: ignore[call-overload, no-any-return]


def test_leaks_are_found_with_their_metric_and_rate() -> None:
    truths = population(leaks, 10)
    found = growing(truths)
    assert len(found) >= 0.97 * len(truths)
    verdicts = [(truth, judge(truth.runs)) for truth in found]
    assert all(verdict.metric == truth.metric for truth, verdict in verdicts)
    assert median(abs(verdict.bytes_per_run / MIB / truth.rate - 1) for truth, verdict in verdicts) < 0.05


def test_false_alarms_are_rare() -> None:
    truths = population(others, 15)
    assert len(growing(truths)) < 0.01 * len(truths)


def test_most_leaks_have_a_verdict_after_five_runs() -> None:
    truths = [truth for truth in population(leaks, 10) if truth.name not in ("loud", "late", "small")]
    early = [truth for truth in truths if judge(truth.runs[:5]).kind == "growing"]
    assert len(early) >= 0.7 * len(truths)
