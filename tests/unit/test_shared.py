"""One instance per arguments: across threads, re-runs and edits."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from types import FunctionType

import pytest

from memcell.errors import InvalidSettingError
from memcell.protect.shared import SharedTable
from memcell.units import MIB
from tests.unit.fakes import FakeClock, FakeReader


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(reader, clock) -> SharedTable:
    return SharedTable(reader.rss, lambda: 7, clock)


@pytest.fixture(autouse=True)
def notebook() -> Iterator[dict[str, object]]:
    """The namespace in which the cells of a test run."""
    NOTEBOOK.clear()
    NOTEBOOK["__name__"] = "__main__"
    yield NOTEBOOK
    NOTEBOOK.clear()


NOTEBOOK: dict[str, object] = {}


def define(source: str, namespace: dict[str, object] = NOTEBOOK) -> FunctionType:
    """Run the text of a cell, or of a script with a namespace of its own, that defines ``load``."""
    exec(source, namespace)
    return namespace["load"]


LOAD = "class Model: pass\ndef load(name, size=1):\n    return [name, size]"


def test_equal_arguments_share_however_they_are_given(table):
    load = table.share(define(LOAD))
    assert load("a") is load(name="a") is load("a", 1) is load("a", size=1)
    assert load("a") is not load("a", 2)
    assert load.__name__ == "load"


def test_it_survives_the_cell_that_defines_it_being_run_again(table):
    first = table.share(define(LOAD))("a")
    assert table.share(define("# a comment and another line number\n\n" + LOAD))("a") is first


def test_after_an_edit_the_old_instance_is_released_before_the_new_is_built(table):
    events = []
    old = table.share(define(LOAD), on_release=lambda value: events.append(("released", value)))
    old("a")
    edited = define("def load(name, size=1):\n    record('built')\n    return [name, size, 'new']")
    edited.__globals__["record"] = lambda what: events.append((what, None))
    new = table.share(edited)
    assert events == [], "the old instance stays until the new one is wanted"
    assert new("a") == ["a", 1, "new"]
    assert events == [("released", ["a", 1]), ("built", None)]


def test_two_threads_build_one(table):
    built = []

    def load(name):
        built.append(name)
        time.sleep(0.05)
        return object()

    load = table.share(FunctionType(load.__code__, globals(), "load", None, load.__closure__))
    results = []
    threads = [threading.Thread(target=lambda: results.append(load("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["a"]
    assert len(set(map(id, results))) == 1


def test_a_failed_build_is_not_kept(table):
    load = table.share(
        define(
            "tries = []\ndef load():\n    tries.append(1)\n    if len(tries) < 2: raise OSError('no')\n    return tries"
        )
    )
    with pytest.raises(OSError, match="no"):
        load()
    assert load() == [1, 1]
    assert load() == [1, 1]


def test_a_failed_first_build_does_not_take_the_function_off_the_list(table):
    calls = []

    def load():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("no file yet")
        return object()

    first, second = table.share(load), table.share(define(LOAD))
    with pytest.raises(OSError, match="no file yet"):
        first()
    second("a")
    assert first() is first()
    assert len(table.infos()) == 2
    assert len(calls) == 2


def test_ttl_builds_anew(table, clock):
    released = []
    load = table.share(define(LOAD), ttl=10, on_release=released.append)
    first = load("a")
    clock.pass_time(9)
    assert load("a") is first
    clock.pass_time(2)
    assert load("a") is not first
    assert released == [first]


def test_max_entries_releases_the_one_not_asked_for_the_longest(table):
    released = []
    load = table.share(define(LOAD), max_entries=2, on_release=lambda value: released.append(value[0]))
    for name in ("a", "b", "a", "c"):
        load(name)
    assert released == ["b"]
    a = load("a")
    load("b")
    assert released == ["b", "c"]
    assert load("a") is a


def test_clear_and_what_is_listed(table, reader, clock):
    source = define("def load(mib):\n    reader.grow(mib)\n    return bytearray(8)")
    source.__globals__["reader"] = reader
    load = table.share(source)
    load(30), load(40), load(30)
    clock.pass_time(60)
    [info] = table.infos()
    assert (info.name, info.entries, info.size_bytes, info.hits, info.cell) == ("load", 2, 70 * MIB, 1, 7)
    assert info.age_s == 60
    assert load.clear() == 2
    assert load.clear() == 0
    assert table.infos() == []
    assert table.clear("nobody") == 0


def test_a_failing_on_release_is_said_and_the_rest_is_released(table, caplog):
    load = table.share(define(LOAD), on_release=lambda value: 1 / 0)
    load("a"), load("b")
    assert load.clear() == 2
    assert "on_release of load failed: ZeroDivisionError" in caplog.text


def test_closures_of_one_text_do_not_stand_for_one_another(table):
    def make(kind):
        def load():
            return [kind]

        return table.share(load)

    assert make("x")() == ["x"]
    assert make("y")() == ["y"]


def test_an_unhashable_argument_is_named(table):
    with pytest.raises(InvalidSettingError, match="argument 'name' of load is not hashable"):
        table.share(define(LOAD))([1])


def test_an_old_definition_that_somebody_still_uses_does_not_fight_the_new_one(table):
    built = []
    NOTEBOOK["built"] = built
    old = table.share(define("def load():\n    built.append('old')\n    return ['old']"))
    old()
    new = table.share(define("def load():\n    built.append('new')\n    return ['new']"))
    for _ in range(5):
        assert (new(), old()) == (["new"], ["old"])
    assert built == ["old", "new", "old"]


def test_scripts_that_are_all_main_do_not_share(table):
    text = "def load():\n    return [PATH]"
    one = table.share(define(text, {"__name__": "__main__", "PATH": "a"}))
    other = table.share(define(text, {"__name__": "__main__", "PATH": "b"}))
    assert (one(), other(), one()) == (["a"], ["b"], ["a"])


def test_equal_arguments_of_different_types_are_different(table):
    load = table.share(define("def load(x):\n    return [x]"))
    assert [load(value)[0] for value in (1, True, 1.0)] == [1, True, 1.0]
    assert [type(load(value)[0]) for value in (1, True, 1.0)] == [int, bool, float]


def test_a_call_never_returns_what_was_released_meanwhile(table):
    load = table.share(define("def load():\n    return object()"))
    results, stop = [], threading.Event()

    def clear() -> None:
        while not stop.is_set():
            load.clear()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=clear)
    thread.start()
    try:
        results = [load() for _ in range(20_000)]
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert None not in results


def test_who_waited_for_a_failed_build_builds_one_together(table):
    NOTEBOOK.update(started=threading.Event(), go=threading.Event(), tries=[])
    load = table.share(
        define(
            "def load():\n    tries.append(1)\n    started.set()\n    go.wait(5)\n"
            "    if len(tries) == 1: raise OSError('no')\n    return object()"
        )
    )
    results, errors = [], []

    def call() -> None:
        try:
            results.append(load())
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    threads[0].start()
    assert NOTEBOOK["started"].wait(5)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.05)
    NOTEBOOK["go"].set()
    for thread in threads:
        thread.join()
    results.append(load())
    assert len(errors) == 1
    assert len(NOTEBOOK["tries"]) == 2
    assert len(set(map(id, results))) == 1


def test_what_is_built_during_a_clear_is_still_known(table):
    NOTEBOOK.update(started=threading.Event(), go=threading.Event())
    released = []
    load = table.share(
        define("def load():\n    started.set()\n    go.wait(5)\n    return object()"), on_release=released.append
    )
    results = []
    thread = threading.Thread(target=lambda: results.append(load()))
    thread.start()
    assert NOTEBOOK["started"].wait(5)
    assert load.clear() == 0
    NOTEBOOK["go"].set()
    thread.join()
    assert load() is results[0]
    assert load.clear() == 1
    assert released == results


def test_on_release_may_wait_for_a_thread_that_calls_the_function(table):
    NOTEBOOK["table"] = table
    load = table.share(define("def load():\n    return ['old']"))
    waited = []

    def release(value: object) -> None:
        thread = threading.Thread(target=new)
        thread.start()
        thread.join(5)
        waited.append(thread.is_alive())

    load = table.share(define("def load():\n    return ['old']"), on_release=release)
    load()
    new = table.share(define("def load():\n    return ['new']"))
    assert new() == ["new"]
    assert waited == [False]


def test_on_release_that_ends_the_program_does_not(table, caplog):
    released = []

    def release(value: list[object]) -> None:
        released.append(value[0])
        raise SystemExit(3)

    load = table.share(define(LOAD), on_release=release)
    load("a"), load("b")
    assert load.clear() == 2
    assert released == ["a", "b"]


def test_two_that_build_through_one_another_are_told(table):
    """In two threads each would wait for the other for ever."""
    barrier = threading.Barrier(2)
    errors = []

    def first(depth=0):
        if depth == 0:
            barrier.wait(5)
            return second(1)
        return object()

    def second(depth=0):
        if depth == 0:
            barrier.wait(5)
            return first(0)
        return first(0)

    first, second = table.share(first), table.share(second)

    def call(function: object, depth: int) -> None:
        try:
            function(depth)
        except InvalidSettingError as error:
            errors.append(str(error))
        except threading.BrokenBarrierError:
            pass

    one = threading.Thread(target=call, args=(first, 0))
    other = threading.Thread(target=call, args=(second, 0))
    one.start(), other.start()
    one.join(10), other.join(10)
    assert not one.is_alive()
    assert not other.is_alive()
    assert errors


def test_one_that_needs_itself_is_told(table):
    NOTEBOOK["table"] = table
    load = table.share(define("def load():\n    return load_shared()"))
    NOTEBOOK["load_shared"] = load
    with pytest.raises(InvalidSettingError, match="asks for the very instance that it is building"):
        load()


def test_what_nobody_asks_for_any_more_expires_too(table, clock):
    released = []
    load = table.share(define(LOAD), ttl=10, on_release=lambda value: released.append(value[0]))
    load("a")
    clock.pass_time(11)
    load("b")
    table.sweep()
    assert released == ["a"]


def test_a_default_without_a_stable_text_is_no_edit(table):
    text = "class D: pass\ndef load(d=D()):\n    return [d]"
    load = table.share(define(text))
    first = load(1)
    assert table.share(define(text))(1) is first


def test_it_works_as_a_method_and_is_copied_as_itself(table):
    class Store:
        @table.share
        def load(self, name):
            return [self, name]

    store = Store()
    assert store.load("a") is store.load("a")
    assert store.load("a") is not Store().load("a")
    assert copy.deepcopy(Store.load) is copy.copy(Store.load) is Store.load
    assert repr(Store.load).startswith("<shared function ")


_table = SharedTable(lambda: 0)


@_table.share
def module_level() -> object:
    return object()


def test_it_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def test_keywords_of_any_name_are_arguments_too(table):
    load = table.share(define("def load(*args, **kwargs):\n    return [args, kwargs]"))
    assert load(1, b=2, a=3) is load(1, a=3, b=2)
    assert load(1, b=2) is not load(1, b=3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda table: table.share(dict), "must be a function"),
        (lambda table: table.share(define("async def load(): pass")), "async"),
        (lambda table: table.share(define(LOAD), ttl=0), "ttl of load must be above 0"),
        (lambda table: table.share(define(LOAD), max_entries=-1), "max_entries of load must be above 0"),
    ],
)
def test_misuse_is_said_in_one_line(table, wrong, says):
    with pytest.raises(InvalidSettingError, match=says):
        wrong(table)
    assert table.infos() == []
