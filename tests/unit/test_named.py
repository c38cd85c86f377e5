"""Growth that only shows in what holds it: levels go up and down by more than a run keeps."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from memcell.explain.census import Census, Grown, Sizes
from memcell.explain.named import is_noisy, rate_by_name
from memcell.units import MIB

_RATE = 2 * MIB


def _censuses(*entries: int, name: str = "kept", unit: str = "entries", each: int = _RATE) -> list[Census]:
    censuses = [Census((), (), 0.1, (), Sizes({}), Sizes({}), 0)]
    for before, after in pairwise(entries):
        grown = (Grown(name, "list", unit, before, after, (after - before) * each),) if after > before else ()
        censuses.append(Census(grown, (), 0.1, (), Sizes({}), Sizes({}), 0))
    return censuses


def _levels(runs: int = 12, rate: int = _RATE, noise: int = 20) -> list[int]:
    source = random.Random(3)
    return [rate * run + source.randrange(-noise, noise + 1) * MIB // 2 for run in range(runs)]


def test_a_list_that_grows_in_each_run_beside_noise():
    assert is_noisy(_levels())
    assert rate_by_name(_censuses(9, 10, 11, 12), [1, 1, 1], _levels()) == _RATE
    assert rate_by_name(_censuses(3, 7, 12), [4, 5], _levels()) == _RATE


@pytest.mark.parametrize(
    ("entries", "spans"),
    [
        ((9, 10, 10, 11), [1, 1, 1]),  # it stood still
        ((9, 10, 2, 3), [1, 1, 1]),  # it is emptied now and then
        ((9, 10, 20, 21), [1, 1, 1]),  # it jumps
        ((10, 11), [1]),  # too little is known
        ((3, 10), [4]),
        ((3, 10), [9]),  # not the same number in each
    ],
)
def test_what_does_not_grow_evenly_says_nothing(entries, spans):
    assert rate_by_name(_censuses(*entries), spans, _levels()) == 0


def test_one_long_interval_tells_if_the_levels_rise_too():
    assert rate_by_name(_censuses(3, 12), [9], _levels(noise=10)) == _RATE
    assert rate_by_name(_censuses(3, 12), [9], _levels(rate=0, noise=10)) == 0


def test_levels_that_rule_it_out_have_the_last_word():
    """The same array appended again and again, or what leaves one list for another."""
    assert rate_by_name(_censuses(9, 10, 11, 12), [1, 1, 1], _levels(runs=40, rate=0, noise=4)) == 0
    quiet = [80 * MIB] * 12
    assert not is_noisy(quiet)
    assert rate_by_name(_censuses(9, 10, 11, 12), [1, 1, 1], quiet) == 0


def test_small_things_and_data_of_any_size_say_nothing():
    assert rate_by_name(_censuses(9, 10, 11, 12, each=1000), [1, 1, 1], _levels()) == 0
    assert rate_by_name(_censuses(9, 10, 11, 12, unit="bytes"), [1, 1, 1], _levels()) == 0
