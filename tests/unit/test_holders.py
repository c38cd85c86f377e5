"""What holds an object, in words that a person can look up."""

from __future__ import annotations

import functools
import gc
import itertools
import queue
import subprocess
import sys
import types
import weakref

import pytest

from memcell.explain.holders import UNSEEN, Held, find_holders


class Thing:
    """Something that can be held."""


class Box:
    """A class with an attribute."""


class Slotted:
    __slots__ = ("inside",)


def holders_of(thing, **options):
    (held,) = find_holders([thing], **{"deadline_s": 60, **options})  # whatever else keeps the machine busy
    assert held.complete
    return set(held.names)


@pytest.fixture(params=["tracked", "untracked"])
def make(request):
    """Makes objects that the garbage collector tracks, or of which it sees less. They are pytest's concern no more."""
    return Thing if request.param == "tracked" else lambda: bytes(bytearray(b"some data of its own"))


@pytest.fixture
def module(monkeypatch):
    module = types.ModuleType("pkg.mod")
    monkeypatch.setitem(sys.modules, "pkg.mod", module)
    return module


def test_nothing_else_holds_it(make):
    assert find_holders([make()], deadline_s=60) == [Held()]


def test_a_reference_that_nobody_sees_is_told(make):
    thing = make()
    assert holders_of(thing) == {UNSEEN}, "the variables of this test and of what it called"


def test_the_attribute_of_a_module(make, module):
    thing = make()
    module.NAME = thing
    assert holders_of(thing) == {"pkg.mod.NAME"}


def test_a_path_through_containers_and_instances(make, module):
    thing = make()
    slotted, plain = Slotted(), Thing()
    slotted.inside, plain.model = (thing,), {"slotted": [0, slotted]}
    module.OBJECT = plain
    gc.collect()
    assert holders_of(thing) == {"pkg.mod.OBJECT.model['slotted'][1].inside[0]"}


def test_a_cache_that_is_an_attribute_of_a_function(make):
    thing = make()

    def function():
        pass

    function.cache = {"key": thing}
    gc.collect()
    name = f"{__name__}.{function.__qualname__}"
    assert holders_of(thing) == {f"{name}.cache['key']"}


def test_a_closure_and_a_default(make):
    thing = make()

    def outer(variable):
        def inner():
            return variable

        return inner

    def defaulted(argument=thing):
        pass

    inner = outer(thing)
    gc.collect()
    assert holders_of(thing) == {
        f"variable in the closure of {__name__}.{inner.__qualname__}",
        f"a default of {__name__}.{defaulted.__qualname__}",
    }


def test_a_class_attribute(make):
    thing = make()
    Box.store = {7: [thing]}
    assert holders_of(thing) == {f"{__name__}.Box.store[7][0]"}
    del Box.store


def test_a_functools_cache(make):
    thing = make()
    pool = [thing]

    @functools.lru_cache
    def cached(number):
        return pool[0]

    cached(1)
    pool.clear()
    assert holders_of(thing) == {f"the cache of {__name__}.{cached.__wrapped__.__qualname__}"}


def test_a_generator(make):
    thing = make()

    def generate(inner):
        yield
        del inner

    generator = generate(thing)
    next(generator)
    # Before Python 3.11 a generator's variables are in a frame object that does not tell whose it is.
    expected = f"generator {generator.__qualname__}" if sys.version_info >= (3, 11) else "a frame, in generate()"
    assert expected in holders_of(thing)


def test_the_last_traceback(make, monkeypatch):
    thing = make()

    def fail(inner):
        raise ValueError

    try:
        fail(thing)
    except ValueError as error:
        monkeypatch.setattr(sys, "last_traceback", error.__traceback__, raising=False)
    assert "sys.last_traceback, in fail()" in holders_of(thing)


def test_a_namespace_that_the_caller_names(make):
    thing = make()
    outputs, hidden = {3: thing, "x": [thing]}, {"_3": thing, "other": []}
    names = holders_of(thing, namespaces={id(outputs): "Out[{}]", id(hidden): ""})
    assert names == {"Out[3]", "Out[x][0]"}


def test_a_holder_that_the_caller_knows(make):
    thing = make()
    first, second = [thing], [thing, []]
    names = {id(first): "first", id(second): ""}
    assert holders_of(thing, known_name=lambda holder: names.get(id(holder))) == {"first"}


def test_a_holder_without_a_name_is_told_by_its_class(make):
    thing = make()
    nameless = queue.SimpleQueue()
    nameless.put(thing)
    assert holders_of(thing) == {"a _queue.SimpleQueue"}


def test_several_at_once_are_not_mixed_up(module):
    first, second = Thing(), Thing()
    module.FIRST, module.BOTH = first, [first, second]
    held = find_holders([first, second], deadline_s=60)
    assert set(held[0].names) >= {"pkg.mod.FIRST", "pkg.mod.BOTH[0]"}
    assert set(held[1].names) >= {"pkg.mod.BOTH[1]"}
    assert "pkg.mod.FIRST" not in held[1].names


def test_no_code_of_a_holder_runs(make, module):
    thing = make()
    called = []

    class Nosy:
        def __getattribute__(self, name):
            called.append(name)
            raise RuntimeError(name)

        @property
        def __class__(self):
            called.append("__class__")
            return dict

        def __repr__(self):
            called.append("repr")
            return ""

        def __eq__(self, other):
            called.append("eq")
            return False

        def __hash__(self):
            return 1

    nosy = Nosy()
    object.__setattr__(nosy, "part", {Nosy(): thing})
    module.NOSY = nosy
    called.clear()
    assert holders_of(thing) == {"pkg.mod.NOSY.part[…]"}
    assert called == []


def test_no_time_is_said_and_no_guess_is_made(make, module):
    thing = make()
    module.NAME = thing
    ticks = itertools.count()
    (held,) = find_holders([thing], deadline_s=-1, clock=lambda: next(ticks))
    assert held.names == ()
    assert not held.complete


def test_a_search_that_was_cut_short_says_so(module):
    def function():
        pass

    data = bytes(bytearray(b"some data of its own"))
    function.cache = {"key": data}
    gc.collect()
    ticks = itertools.count()
    (held,) = find_holders([data], deadline_s=3, clock=lambda: next(ticks))
    assert not held.complete


def test_nothing_is_kept(module):
    thing = Thing()
    module.NAME = thing
    reference = weakref.ref(thing)
    assert "pkg.mod.NAME" in holders_of(thing)
    del thing, module.NAME
    assert reference() is None


def test_a_search_frees_nothing_that_is_free_already():
    """On CPython 3.12 the garbage collection after it would not end: what asyncio has freed is shown to the search."""
    script = (
        "import asyncio, gc\n"
        "from memcell.explain.holders import find_holders\n"
        "async def wait():\n"
        "    future = asyncio.get_running_loop().create_future()\n"
        "    asyncio.get_running_loop().call_soon(future.set_result, 1)\n"
        "    await future\n"
        "asyncio.run(wait())\n"
        "kept = bytearray(1000)\n"
        "cache = {'k': kept}  # not tracked: all that tracked objects refer to is looked through\n"
        "print(find_holders([kept])[0].names)\n"
        "asyncio.run(wait())\n"
        "gc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "__main__.cache['k']" in done.stdout
