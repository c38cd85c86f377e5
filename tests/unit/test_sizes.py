"""Sizes of objects: each counted once, nothing of theirs called, and an end when time is over."""

from __future__ import annotations

import gc
import sys
import threading
import types
import weakref

import pytest

from memcell.measure.marks import Marks
from memcell.measure.process import trim_heap
from memcell.measure.sizes import Root, Sizing
from memcell.units import MIB


@pytest.fixture(scope="module", autouse=True)
def _tidy_heap():
    """Later tests of this process look at its resident memory: free pages of the heap are given back."""
    yield
    gc.collect()
    trim_heap()


def sizes_of(fences=(), deadline_s=60.0, **values):
    sizing = Sizing([Root(name, value) for name, value in values.items()], fences=fences, deadline_s=deadline_s)
    return {size.name: size for size in sizing.sizes}


def text(size_bytes):
    return bytes(size_bytes).decode()


def test_a_container_counts_with_all_that_it_holds():
    parts = [text(MIB + number) for number in range(5)]
    nested = {"a": parts[0], "b": [parts[1], (parts[2], {parts[3]})], "c": [[[parts[4]]]]}
    found = sizes_of(nested=nested)["nested"]
    assert 5 * MIB <= found.size_bytes < 5 * MIB + 4096
    assert found.complete
    assert found.type_name == "dict"


def test_an_object_that_is_held_many_times_counts_once():
    part = text(MIB)
    assert sizes_of(nested=[part, [part], {"k": part}])["nested"].size_bytes < MIB + 2048


def test_names_of_one_object_share_it():
    part = [text(MIB)]
    found = sizes_of(first=part, second=part)
    assert found["first"].size_bytes > MIB
    assert found["second"].size_bytes == 0
    assert found["first"].whole_held_by == ("second",)
    assert found["second"].whole_held_by == ("first",)


def test_a_variable_comes_before_the_container_that_holds_it_too():
    part = text(MIB)
    found = sizes_of(holder={"k": [part], "own": text(2 * MIB)}, part=part)
    assert found["part"].size_bytes > MIB
    assert 2 * MIB < found["holder"].size_bytes < 2 * MIB + 4096
    assert found["part"].whole_held_by == ("holder",)
    assert found["holder"].part_held_by == ("part",)


def test_a_part_that_two_containers_share_is_told_however_small_its_handle():
    inner = [{"k": text(MIB)}]
    found = sizes_of(first=[inner, text(MIB + 1)], second=[[inner], text(MIB + 2)])
    assert found["first"].part_held_by == ("second",)
    assert found["second"].part_held_by == ("first",)


@pytest.mark.parametrize(
    ("own", "part", "is_told"),
    [(MIB, 40_000, False), (3 * MIB, 200_000, False), (3 * MIB, 400_000, True), (9 * MIB, MIB // 2, True)],
)
def test_a_part_is_told_if_it_is_large_or_a_tenth_of_the_whole(own, part, is_told):
    handle = [{"k": text(part)}]
    found = sizes_of(first=[handle, text(own)], second=[[handle], text(own + 1)])
    assert found["first"].part_held_by == (("second",) if is_told else ())
    assert found["second"].part_held_by == (("first",) if is_told else ())


def test_small_constants_in_common_are_not_worth_saying():
    found = sizes_of(first=[5, "a key", None] * 100_000, second=[5, "a key", None] * 100_000)
    assert found["first"].part_held_by == found["first"].whole_held_by == ()


def test_equal_lists_of_the_same_floats_share_these():
    floats = [float(number) for number in range(10_000)]
    found = sizes_of(first=floats, second=list(floats))
    assert found["second"].size_bytes == pytest.approx(sys.getsizeof(floats), rel=0.1)
    assert found["second"].part_held_by == ("first",)


def test_nesting_has_no_limit():
    deep = None
    for _ in range(20_000):
        deep = [deep]
    assert sizes_of(deep=deep)["deep"].size_bytes == pytest.approx(20_000 * sys.getsizeof([None]), rel=0.01)


def test_a_structure_that_holds_itself_ends():
    ring = [text(MIB)]
    ring.append(ring)
    found = sizes_of(ring=ring)["ring"]
    assert found.complete
    assert found.whole_held_by == ()


def test_attributes_and_slots_count():
    class Plain:
        def __init__(self):
            self.data = text(MIB)

    class Slotted:
        __slots__ = ("data",)

        def __init__(self):
            self.data = text(MIB)

    found = sizes_of(plain=Plain(), slotted=Slotted())
    assert found["plain"].size_bytes > MIB
    assert found["slotted"].size_bytes > MIB


def test_what_a_closure_and_a_default_hold_counts_and_the_module_does_not():
    def outer(part):
        def inner(default=text(MIB)):  # noqa: B008
            return part

        return inner

    globals()["_of_this_module"] = text(8 * MIB)
    try:
        assert 3 * MIB < sizes_of(function=outer(text(2 * MIB)))["function"].size_bytes < 4 * MIB
    finally:
        del globals()["_of_this_module"]


def test_modules_classes_and_fences_are_not_followed():
    module = types.ModuleType("some_module")
    module.data = text(MIB)
    kind = type("Kind", (), {"data": text(MIB)})
    fence = [text(MIB)]
    found = sizes_of(fences=[fence], module=module, kind=kind, holder=[fence, module, kind])
    assert max(size.size_bytes for size in found.values()) < 4096


def test_attributes_of_the_users_own_class_count():
    kind = type("Kind", (), {"data": text(MIB), "__module__": "__main__"})
    assert sizes_of(kind=kind)["kind"].size_bytes > MIB


def test_nothing_of_an_object_is_called():
    called = []

    class Meta(type):
        def __getattribute__(cls, name):
            called.append(name)
            return super().__getattribute__(name)

    class Nosy(metaclass=Meta):
        def __init__(self):
            self.data = text(MIB)

        def __getattribute__(self, name):
            called.append(name)
            raise RuntimeError(name)

        __sizeof__ = __len__ = __iter__ = __eq__ = __hash__ = lambda self, *_: called.append("special") or 1 / 0

        @property
        def __class__(self):
            called.append("__class__")
            return dict

        @property
        def lazy(self):
            called.append("lazy")

    nosy = [Nosy()]
    called.clear()
    found = sizes_of(nosy=nosy, direct=nosy[0])
    assert called == []
    assert found["direct"].size_bytes > MIB
    assert found["direct"].type_name.endswith("Nosy")


def test_a_class_cannot_lie_about_its_size():
    class Liar(list):
        def __sizeof__(self):
            return 1 << 50

        def __len__(self):
            return 1 << 50

    assert sizes_of(liar=Liar([text(MIB)]))["liar"].size_bytes < 2 * MIB


def test_time_runs_out_on_the_one_with_the_most_objects():
    ticks = iter(range(1_000_000))
    values = {
        "many": [[number] for number in range(40_000)],
        "few": [text(MIB)],
        "some": [[text(MIB)] for _ in range(9)],
    }
    roots = [Root(name, value) for name, value in values.items()]
    sizing = Sizing(roots, deadline_s=10, clock=lambda: next(ticks))
    many, few, some = sizing.sizes
    assert not many.complete
    assert sys.getsizeof(values["many"]) < many.size_bytes
    assert few.complete
    assert some.complete
    assert some.size_bytes > 9 * MIB


def test_threads_may_change_what_is_looked_at():
    shared, stop = {"list": list(range(1000)), "dict": {}}, threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            number += 1
            shared["dict"][number % 5000] = [number]
            shared["list"].append(number)
            if number % 7 == 0:
                shared["list"].clear()
                shared["dict"].clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            assert sizes_of(shared=shared, deadline_s=1)["shared"].size_bytes > 0
    finally:
        stop.set()
        thread.join()


def test_nothing_is_kept():
    class Thing:
        pass

    thing = Thing()
    thing.parts = [Thing()]
    watched = weakref.ref(thing), weakref.ref(thing.parts[0])
    sizing = Sizing([Root("thing", thing)])
    assert sizing.owner(thing) == 0
    del thing
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


def test_marks_tell_neighbours_apart():
    marks = Marks()
    assert marks[4096] == 0
    assert marks.claim(4096, 3) == 0
    assert marks.claim(4096, 4) == 3
    assert marks.claim(4112, 4) == 0
    assert (marks[4096], marks[4112], marks[4128], marks[4096 + (1 << 20)]) == (3, 4, 0, 0)
