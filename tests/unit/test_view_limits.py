"""How limits are worded."""

from __future__ import annotations

import asyncio

import pytest

from memcell.records.measured import Limit
from memcell.records.protected import LimitInfo, Stop
from memcell.records.sized import ObjectSize
from memcell.units import GIB, MIB
from memcell.view.limits import end_message, limit_lines, near_message, stop_message

_TRY = (
    "try %memtop (what is large), %memclean (caches), %%memwatch --isolate (in a process of its own), or a higher limit"
    " with %memlimit"
)


def test_a_stop_says_what_was_used_of_which_limit_what_holds_it_and_what_to_try():
    stop = Stop(
        used_bytes=973 * MIB,
        limit_bytes=GIB,
        source="%memlimit",
        grown_bytes=870 * MIB,
        children_bytes=300 * MIB,
        largest=(ObjectSize("data", "list", 512 * MIB), ObjectSize("half", "dict", 9 * MIB, complete=False)),
    )
    assert stop_message(stop).split("\n") == [
        "973.0 MiB of 1.00 GiB (%memlimit) in use; what ran has grown by 870.0 MiB and was stopped",
        "child processes hold 300.0 MiB of it; %memprocs lists them",
        "largest variables: data 512.0 MiB, half ≥ 9.0 MiB",
        _TRY,
    ]


def test_what_is_not_worth_saying_is_left_out():
    stop = Stop(973 * MIB, GIB, "cgroup v2 /user", -MIB, 1000, (ObjectSize("small", "int", 28),))
    assert stop_message(stop).split("\n") == [
        "973.0 MiB of 1.00 GiB (cgroup v2 /user) in use; what ran has grown by 0.0 MiB and was stopped",
        _TRY,
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "MemoryError instead of MemoryLimitExceeded because C code kept the interpreter, so that an"),
        (
            KeyboardInterrupt(),
            "KeyboardInterrupt instead of MemoryLimitExceeded because C code kept the interpreter, or",
        ),
        (
            asyncio.CancelledError(),
            "CancelledError instead of MemoryLimitExceeded because it waited in the event loop,",
        ),
    ],
)
def test_another_error_than_the_limits_is_explained(error, reason):
    stop = Stop(973 * MIB, GIB, "%memlimit", 870 * MIB, 0, (ObjectSize("x", "list", 700 * MIB),))
    words = end_message(stop, error, 870 * MIB)
    assert words.startswith(stop_message(stop))
    assert words.split("\n")[-1].startswith(f"it ends with {reason} ")


def test_an_error_of_the_codes_own_is_not():
    stop = Stop(973 * MIB, GIB, "%memlimit", 870 * MIB, 0)
    assert end_message(stop, ValueError(), 870 * MIB) == stop_message(stop)


def test_code_that_caught_the_error_is_told_so():
    stop = Stop(973 * MIB, GIB, "%memlimit", 870 * MIB, 0, is_raised=True)
    words = end_message(stop, None, 900 * MIB)
    assert words.startswith("the code caught the error and went on: 973.0 MiB of 1.00 GiB (%memlimit) in use; ")


def test_c_code_that_could_not_be_stopped_is_called_that_and_by_how_much_the_limit_was_passed():
    stop = Stop(973 * MIB, GIB, "%memlimit", 870 * MIB, 0, (ObjectSize("x", "list", 1500 * MIB),))
    assert end_message(stop, None, 1500 * MIB).split("\n") == [
        "one call of C code could not be stopped in time: the limit of 1.00 GiB (%memlimit) was passed by 579.0 MiB",
        "largest variables: x 1.46 GiB",
        _TRY,
    ]


def test_a_run_that_ended_by_itself_at_that_moment_is_not_said_to_be_stopped():
    stop = Stop(973 * MIB, GIB, "%memlimit", 870 * MIB, 0)
    words = end_message(stop, None, 880 * MIB)
    assert words.startswith("the run came to its end before it was stopped; 973.0 MiB of 1.00 GiB (%memlimit) in use\n")


def test_a_limit_that_is_near():
    near = near_message(740 * MIB, GIB, "the machine")
    assert near == "740 MiB of 1 GiB (the machine), 72%, in use during the run"


def test_the_limit_its_source_and_the_steps_on_the_way_to_it():
    info = LimitInfo(
        Limit(GIB, 500 * MIB, "MEM_LIMIT"), 700 * MIB, 800 * MIB, 950 * MIB, own_bytes=100 * MIB, note="a note"
    )
    assert limit_lines(info) == [
        "memory limit: 1.00 GiB (MEM_LIMIT); 500.0 MiB (49%) in use",
        "this kernel and its children: 100.0 MiB that cannot be dropped",
        "memcell warns at 700.0 MiB (68%), cleans at 800.0 MiB (78%), stops the cell that grows at 950.0 MiB (93%)",
        "a note",
    ]


def test_steps_that_do_not_happen_are_not_told():
    info = LimitInfo(Limit(GIB, 100 * MIB, "%memlimit"), 700 * MIB, None, None, own_bytes=100 * MIB)
    assert limit_lines(info) == [
        "memory limit: 1.00 GiB (%memlimit); 100.0 MiB (10%) in use",
        "memcell warns at 700.0 MiB (68%)",
    ]


def test_no_limit():
    info = LimitInfo(Limit(None, None, "off"), None, None, None, own_bytes=100 * MIB)
    assert limit_lines(info) == ["memory limit: none (off); this kernel uses 100.0 MiB"]
