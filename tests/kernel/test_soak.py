"""A cell that caches memory in each run: with memcell the kernel's level stays, without it the kernel dies."""

from __future__ import annotations

import pytest

from benchmarks.soak import GOAL_BYTES, QUICK_RUNS, confinement, soak


@pytest.fixture
def confine():
    with confinement() as (confine, _):
        yield confine


def test_with_memcell_the_level_stays(confine):
    result = soak(QUICK_RUNS, confine, with_memcell=True)
    assert result.death == ""
    assert len(result.levels) == QUICK_RUNS
    assert abs(result.growth_bytes) <= GOAL_BYTES


def test_without_memcell_the_limit_ends_the_kernel(confine):
    result = soak(QUICK_RUNS, confine, with_memcell=False)
    assert result.death
    assert len(result.levels) < QUICK_RUNS
