"""Values that travel between two processes: what is copied, what goes by name, what cannot go."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import types
from multiprocessing import Pipe

import pytest

from memcell.errors import IsolationError
from memcell.protect.parcel import KnownNames, is_same, pack, receive, send, unpack
from tests.lazily import Lazily

np = Lazily("numpy")


def carried(message):
    """The message as it arrives on the other side; it may be larger than what a pipe holds."""
    ours, theirs = Pipe()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(ours, message))
        sender.start()
        arrived = receive(theirs)
        sender.join()
    return arrived


@pytest.fixture
def main(monkeypatch):
    """A ``__main__`` as a notebook has it."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec("class Point:\n    class Inner: pass\n    def __init__(self, x): self.x = x\n", vars(module))
    return module


def test_a_packed_value_in_a_cycle_can_be_collected():
    cycle = [pack("value")]
    cycle.append(cycle)
    del cycle
    gc.collect()  # what the collector cannot end is an error of this test


def test_large_arrays_arrive_writable_and_private():
    array = np.arange(3_000_000.0)
    arrived = unpack(carried(pack({"a": array, "view": array[:5]})))
    assert (arrived["a"] == array).all()
    arrived["a"][0] = 7
    assert array[0] == 0


def test_the_pickle_itself_is_small_for_a_large_array():
    head, buffers = pack(np.zeros(1_000_000))
    assert len(head.raw()) < 1000
    assert [buffer.raw().nbytes for buffer in buffers] == [8_000_000]


def test_a_read_only_array_stays_read_only():
    array = np.arange(100_000)
    array.flags.writeable = False
    assert not unpack(carried(pack(array))).flags.writeable


@pytest.mark.parametrize(
    "make",
    [bytes, lambda: np.zeros(0), lambda: [None], lambda: "\ud800", lambda: np.asfortranarray(np.ones((300, 200)))],
)
def test_odd_values(make):
    value = make()
    arrived = unpack(carried(pack(value)))
    assert np.array_equal(arrived, value) if isinstance(value, np.ndarray) else arrived == value


def test_the_end_of_the_other_side_is_told():
    ours, theirs = Pipe()
    ours.close()
    with theirs, pytest.raises(EOFError):
        receive(theirs)


def test_a_class_that_both_sides_have_goes_by_its_name(main):
    is_known = KnownNames()
    for kind in (main.Point, main.Point.Inner):
        assert unpack(pack(kind, is_known)) is kind
    assert type(unpack(pack(main.Point(3), is_known))) is main.Point


def test_a_class_that_was_made_anew_goes_by_value(main):
    old = main.Point(3)
    is_known = KnownNames()
    exec("class Point:\n    new = True", vars(main))
    arrived = unpack(pack(old, is_known))
    assert arrived.x == 3
    assert not hasattr(arrived, "new")
    assert unpack(pack(main.Point(), is_known)).new


def test_known_names_keep_nothing_alive(main):
    is_known = KnownNames()
    kind = main.Point
    del main.Point
    assert not is_known(kind)


def test_without_cloudpickle_the_culprit_is_named(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    assert unpack(pack(main.Point(3), KnownNames())).x == 3
    with pytest.raises(
        IsolationError, match=r"Point is not defined on the other side.*pip install 'memcell\[isolate\]'"
    ):
        pack(main.Point(3))


def test_a_lock_cannot_be_packed():
    with pytest.raises((TypeError, pickle.PicklingError)):
        pack(threading.Lock())


def test_packed_values_are_compared_byte_by_byte():
    values = {"a": np.arange(100_000.0), "b": [1, "two"], "c": np.asfortranarray(np.eye(3))}
    arrived = carried(pack(values))
    assert is_same(pack(values), arrived)
    values["a"][-1] += 1
    assert not is_same(pack(values), arrived)
    assert not is_same(pack({"b": [1, "two"]}), arrived)
    assert not is_same(pack([values["b"]] * 2), pack([[1, "two"], [1, "two"]]))
