"""Caches of functools by their dotted names, and all that a name can get wrong."""

from __future__ import annotations

import functools
import sys
from types import ModuleType

import pytest

from memcell.clean.catalogue import Catalogue
from memcell.clean.entry_points import EntryPointCleaners
from memcell.clean.functools_caches import cache_cleaner
from memcell.clean.registry import Registry
from memcell.errors import UnknownCleanerError


class Lazy(ModuleType):
    """Would import what it stands for."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"asked for {name}")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The modules ``pack`` and ``pack.age``, the second with caches in it."""
    module = ModuleType("pack.age")
    source = """
import functools

def __getattr__(name):
    raise AssertionError("asked for " + name)

@functools.lru_cache(maxsize=None)
def primes(n):
    return n

def plain():
    pass

class Graph:
    @functools.cache
    def moments(self):
        return 1

    @staticmethod
    @functools.cache
    def read(path):
        return path

    @property
    @functools.cache
    def area(self):
        return 2

class Tree(Graph):
    pass
"""
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, "pack", Lazy("pack"))
    monkeypatch.setitem(sys.modules, "pack.age", module)
    return module


def test_a_function_is_cleared_when_its_turn_comes(package):
    package.primes(7)
    cleaner = cache_cleaner("lru:pack.age.primes")
    assert (cleaner.name, cleaner.effect, cleaner.owner) == ("lru:pack.age.primes", "recompute", "pack")
    assert package.primes.cache_info().currsize == 1
    cleaner.find()()
    assert package.primes.cache_info().currsize == 0


@pytest.mark.parametrize("name", ["Graph.moments", "Tree.moments", "Graph.read", "Graph.area"])
def test_methods_are_found_through_their_class(package, name):
    graph = package.Graph()
    graph.moments(), graph.read("a"), graph.area
    function = vars(package.Graph)[name.partition(".")[2]]
    cache = next(
        one
        for one in (function, getattr(function, "__func__", 0), getattr(function, "fget", 0))
        if isinstance(one, functools._lru_cache_wrapper)
    )
    assert cache.cache_info().currsize == 1
    cache_cleaner(f"lru:pack.age.{name}").find()()
    assert cache.cache_info().currsize == 0


def test_a_function_of_the_notebook_needs_no_module(monkeypatch):
    main = ModuleType("__main__")
    main.squares = functools.cache(lambda n: n * n)
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.squares(3)
    cache_cleaner("lru:squares").find()()
    assert main.squares.cache_info().currsize == 0
    main.squares = functools.cache(lambda n: n)
    main.squares(3)
    cleaner = cache_cleaner("lru:__main__.squares")
    del main.squares
    assert cleaner.find() is None, "it is looked up again, and nothing keeps it alive"


def test_whatever_has_the_two_methods_is_a_cache(package):
    def own() -> None:
        pass

    cleared = []
    own.cache_clear, own.cache_info = lambda: cleared.append(True), lambda: None
    package.own = own
    cache_cleaner("lru:pack.age.own").find()()
    assert cleared == [True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lru:pack.age.prime", "pack.age has no 'prime'; did you mean 'lru:pack.age.primes'?"),
        ("lru:pack.age.Graph.moment", "pack.age.Graph has no 'moment'; did you mean 'lru:pack.age.Graph.moments'?"),
        ("lru:pack.age.plain", "pack.age.plain is not under functools.cache or lru_cache; memcell.register("),
        ("lru:pack.age", "pack has no 'age'"),
        ("lru:pack.other.primes", "pack has no 'other'"),
        ("lru:nowhere.primes", "no module 'nowhere' is imported, and __main__ has no 'nowhere'"),
        ("lru:", "no module '' is imported, and __main__ has no ''"),
        ("lru:..", "no module '' is imported, and __main__ has no ''"),
    ],
)
def test_a_name_that_is_none_is_told_in_one_line(package, name, message):
    with pytest.raises(UnknownCleanerError) as caught:
        cache_cleaner(name)
    assert str(caught.value).startswith(f"unknown cleaner {name!r}; {message}")
    assert "\n" not in str(caught.value)


def test_the_catalogue_takes_such_names_among_others(package):
    registry = Registry()
    registry.register("lru:mine", print, owner="lib")
    catalogue = Catalogue(tuple, registry, EntryPointCleaners(list))
    selected = catalogue.select(["lru:pack.age.primes", "lru:mine"])
    assert [cleaner.name for cleaner in selected] == ["lru:pack.age.primes", "lru:mine"]
    assert [cleaner.name for cleaner in catalogue.select()] == ["lru:mine"]
    with pytest.raises(UnknownCleanerError, match="did you mean"):
        catalogue.select(["lru:pack.age.prime"])
