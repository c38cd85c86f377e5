"""One instance per arguments: across threads, re-runs and edits."""

from __future__ import annotations

import threading
import time
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


def define(source: str) -> FunctionType:
    """Run the text of a cell that defines ``load``."""
    namespace: dict[str, object] = {"__name__": "__main__"}
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
