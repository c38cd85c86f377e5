"""Names, owners and lifetimes of registered cleaners."""

from __future__ import annotations

import functools
import gc
import weakref

import pytest

from memcell.clean.registry import Registry, unknown_cleaner
from memcell.errors import CleanerNameTakenError, InvalidCleanerError, UnknownCleanerError


class Store:
    def __init__(self) -> None:
        self.items = [1, 2, 3]

    def clear(self) -> None:
        self.items.clear()

    def size(self) -> int:
        return len(self.items)


class Slotted:
    __slots__ = ()

    def clear(self) -> None:
        pass


def nothing() -> None:
    pass


@pytest.fixture
def registry() -> Registry:
    return Registry(reserved=lambda: {"gc", "sympy"})


def names(registry: Registry) -> list[str]:
    return [cleaner.name for cleaner in registry.cleaners()]


def callback(registry: Registry, name: str) -> object:
    (cleaner,) = (cleaner for cleaner in registry.cleaners() if cleaner.name == name)
    return cleaner.find()


def test_a_cleaner_is_listed_with_all_that_was_said_about_it(registry):
    registry.register("graphs", nothing, owner="lib", size=lambda: 42, effect="state")
    (cleaner,) = registry.cleaners()
    info = cleaner.info()
    assert (info.name, info.effect, info.source, info.owner) == ("graphs", "state", "registered", "lib")
    assert info.size_bytes == 42
    assert info.ready
    assert cleaner.find() is nothing


def test_registering_again_replaces_and_keeps_the_place(registry):
    for name in "abc":
        registry.register(name, nothing, owner="lib")
    registry.register("b", print, owner="lib")
    assert names(registry) == ["a", "b", "c"]
    assert callback(registry, "b") is print


def test_an_old_registration_does_not_take_its_replacement_out(registry):
    old = registry.register("a", nothing, owner="lib")
    new = registry.register("a", print, owner="lib")
    old.unregister()
    assert callback(registry, "a") is print
    new.unregister()
    new.unregister()
    assert names(registry) == []


def test_another_owners_name_is_refused_and_nothing_changes(registry):
    registry.register("a", nothing, owner="lib")
    with pytest.raises(CleanerNameTakenError, match=r"'a' is taken by 'lib'; choose another name.*unregister\('a'\)"):
        registry.register("a", print, owner="__main__")
    assert callback(registry, "a") is nothing


def test_a_built_in_name_is_refused(registry):
    with pytest.raises(CleanerNameTakenError, match="'sympy' belongs to a built-in cleaner of memcell; choose another"):
        registry.register("sympy", nothing, owner="sympy")
    assert names(registry) == []


@pytest.mark.parametrize("name", ["", " ", "a b", "a,b", "a\n", "-q", None, 3, nothing])
def test_a_bad_name_is_refused(registry, name):
    with pytest.raises(InvalidCleanerError) as caught:
        registry.register(name, nothing, owner="lib")
    assert "\n" not in str(caught.value)
    assert names(registry) == []


def needs_one(item: object) -> None:
    pass


async def later() -> None:
    pass


@pytest.mark.parametrize(
    ("clear", "message"),
    [
        (None, "clear must be callable, not NoneType; pass the function itself"),
        (needs_one, "clear is called without arguments but needs item; wrap it in a lambda"),
        (Store.clear, r"clear is a method without its object.*register\('x', self.clear\)"),
        (later, "clear is a coroutine function; pass a plain function"),
    ],
)
def test_what_cannot_be_called_without_arguments_is_refused(registry, clear, message):
    with pytest.raises(InvalidCleanerError, match=message):
        registry.register("x", clear, owner="lib")
    assert names(registry) == []


def test_a_size_that_cannot_be_asked_is_refused(registry):
    with pytest.raises(InvalidCleanerError, match="cleaner 'x': size must be callable, not int"):
        registry.register("x", nothing, owner="lib", size=42)
    with pytest.raises(InvalidCleanerError, match="cleaner 'x': size is called without arguments but needs item"):
        registry.register("x", nothing, owner="lib", size=needs_one)
    assert names(registry) == []


def test_an_unknown_effect_is_refused(registry):
    with pytest.raises(InvalidCleanerError, match="unknown effect 'all'; choose one of none, recompute, state"):
        registry.register("x", nothing, owner="lib", effect="all")
    assert names(registry) == []


def test_arguments_with_defaults_are_no_obstacle(registry):
    registry.register("a", lambda deep=False, *rest, **options: None, owner="lib")
    registry.register("b", functools.partial(needs_one, 1), owner="lib")
    assert names(registry) == ["a", "b"]


def test_a_bound_method_is_held_weakly(registry):
    store = Store()
    registry.register("store", store.clear, owner="lib", size=store.size)
    callback(registry, "store")()
    assert store.items == []
    died = weakref.ref(store)
    del store
    assert died() is None
    assert names(registry) == []


@pytest.mark.parametrize("give", [lambda cached: cached, lambda cached: cached.cache_clear])
def test_a_functools_cache_is_held_weakly_and_cleared(registry, give):
    @functools.cache
    def primes(n: int) -> int:
        return n

    primes(1)
    registry.register("primes", give(primes), owner="lib")
    callback(registry, "primes")()
    assert primes.cache_info().currsize == 0
    del primes
    gc.collect()
    assert names(registry) == []


def test_a_cached_method_is_cleared_through_any_of_its_objects(registry):
    class Graph:
        @functools.cache  # noqa: B019 - the leak that such a cache is, is what one registers it for
        def moments(self) -> int:
            return 1

    graph = Graph()
    graph.moments()
    registry.register("moments", graph.moments, owner="lib")
    callback(registry, "moments")()
    assert Graph.moments.cache_info().currsize == 0


def test_a_cache_that_is_no_functools_cache_is_held_weakly(registry):
    def lookup() -> None:
        pass

    cleared = []
    lookup.cache_clear = lambda: cleared.append(True)
    registry.register("lookup", lookup, owner="lib")
    callback(registry, "lookup")()
    assert cleared == [True]
    del lookup
    gc.collect()
    assert names(registry) == []


def test_an_object_that_makes_up_its_attributes_is_no_cache(registry):
    class Proxy:
        called = 0

        def __getattr__(self, name: str) -> object:
            return lambda: None

        def __call__(self) -> None:
            self.called += 1

    proxy = Proxy()
    registry.register("proxy", proxy, owner="lib")
    callback(registry, "proxy")()
    assert proxy.called == 1


def test_a_set_is_held_weakly_and_a_dict_strongly(registry):
    class Tag:
        pass

    tag = Tag()
    in_set, in_dict = {tag}, {1: tag}
    registry.register("set", in_set.clear, owner="lib")
    registry.register("dict", in_dict.clear, owner="lib")
    registry.register("slotted", Slotted().clear, owner="lib")
    registry.register("module", gc.collect, owner="lib")
    del in_set, in_dict
    assert names(registry) == ["dict", "slotted", "module"]
    died = weakref.ref(tag)
    del tag
    assert died() is not None
    callback(registry, "dict")()
    assert died() is None


def test_unregistering_lets_go_of_what_was_held_strongly(registry):
    store = Store()
    died = weakref.ref(store)
    registration = registry.register("store", functools.partial(Store.clear, store), owner="lib")
    (cleaner,) = registry.cleaners()
    registry.unregister("store")
    del store
    assert died() is None
    assert cleaner.find() is None, "a clean-up that is going on must not call it"
    registration.unregister()


def test_replacing_lets_go_of_what_was_held_strongly(registry):
    store = Store()
    died = weakref.ref(store)
    registry.register("store", functools.partial(Store.clear, store), owner="lib")
    registry.register("store", nothing, owner="lib")
    del store
    assert died() is None


def test_ten_thousand_dead_objects_leave_no_trace(registry):
    # Kept objects first, so that the one survivor does not depend on the order of deaths.
    kept = Store()
    registry.register("kept", kept.clear, owner="lib")
    for number in range(10_000):
        registry.register(f"dead-{number}", Store().clear, owner="lib")
    assert names(registry) == ["kept"]


def test_a_finalizer_may_unregister_while_the_registry_is_at_work(registry):
    class Cyclic:
        def __init__(self, registration: object) -> None:
            self.me = self
            self.registration = registration

        def __del__(self) -> None:
            self.registration.unregister()

    for number in range(50):
        Cyclic(registry.register(f"cyclic-{number}", nothing, owner="lib"))
    threshold = gc.get_threshold()
    gc.set_threshold(1)  # collect, and so finalize, inside the registry's own operations
    try:
        for number in range(50):
            registry.register(f"other-{number}", nothing, owner="lib")
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert names(registry) == [f"other-{number}" for number in range(50)]


def test_an_unknown_name_is_told_with_what_was_meant(registry):
    registry.register("graph", nothing, owner="lib")
    with pytest.raises(UnknownCleanerError, match=r"unknown cleaner 'grpah'; did you mean 'graph'\? registered: graph"):
        registry.unregister("grpah")
    with pytest.raises(UnknownCleanerError, match="'gc' is built in and stays; to leave it out"):
        registry.unregister("gc")
    assert names(registry) == ["graph"]


def test_a_long_list_of_names_is_cut():
    message = unknown_cleaner("zzz", [f"a{number}" for number in range(1000)])
    assert message.endswith("a19 and 980 more")
    assert unknown_cleaner("a", []) == "unknown cleaner 'a'; registered: none"


@pytest.mark.parametrize(
    "size", [lambda: 1 / 0, lambda: "many", lambda: float("nan"), lambda: exec("raise SystemExit")]
)
def test_an_error_in_size_is_shown_as_unknown(registry, size):
    registry.register("x", nothing, owner="lib", size=size)
    assert registry.cleaners()[0].info().size_bytes is None
