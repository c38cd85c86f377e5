"""What grew between censuses is named, and nothing of what is looked at runs, stays alive or changes."""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import io
import logging
import logging.handlers
import sys
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from memcell.explain.census import Census, Grown, Sizes, take_census
from memcell.explain.culprits import compare, native_note
from memcell.units import MIB
from tests.lazily import Lazily

np = Lazily("numpy")
pd = Lazily("pandas")

_SIZE = 200_000  # elements of 8 bytes
_GROWTH = _SIZE * 8


def _censuses(names: dict[str, Any], run: Callable[[], object], number: int = 3, **options: Any) -> list[Census]:
    """One census after each run, of these names and the modules that the tests are about: all would take a second."""
    about = {name: sys.modules[name] for name in ("acme", "logging", "memcell_test_lazy") if name in sys.modules}
    censuses: list[Census] = []
    for _ in range(number):
        run()
        censuses.append(
            take_census(names, previous=censuses[-1] if censuses else None, modules=about, deadline_s=30, **options)
        )
    return censuses


def _first(names: dict[str, Any], run: Callable[[], object], growth: int = _GROWTH, **options: Any) -> Any:
    culprits = compare(_censuses(names, run, **options), [growth] * 2)
    return culprits[0] if culprits else None


def _array() -> Any:
    return np.ones(_SIZE)


@pytest.fixture
def acme() -> Iterator[Any]:
    module = types.ModuleType("acme")
    sys.modules["acme"] = module
    yield module
    del sys.modules["acme"]


def test_a_list_of_the_user() -> None:
    names: dict[str, Any] = {"results": [], "still": [_array()]}
    culprit = _first(names, lambda: names["results"].append(_array()))
    assert (culprit.name, culprit.sizes, culprit.fix) == ("__main__.results", (1, 2, 3), "results.clear()")
    assert culprit.share > 0.9
    assert culprit.confidence > 0.8


@pytest.mark.parametrize("make", [dict, OrderedDict, set, deque, list])
def test_containers_of_all_kinds(make: type) -> None:
    names: dict[str, Any] = {"kept": make()}

    def run() -> None:
        kept, entry = names["kept"], "x" * _GROWTH + str(len(names["kept"]))
        if hasattr(kept, "keys"):
            kept[len(kept)] = entry
        else:
            (kept.add if make is set else kept.append)(entry)

    assert _first(names, run).name == "__main__.kept"


def test_an_attribute_of_a_function_in_a_library(acme: Any) -> None:
    exec("def collect(): pass\ncollect._metadata_cache = {}", acme.__dict__)
    cache = acme.collect._metadata_cache
    culprit = _first({"acme": acme}, lambda: cache.update({len(cache): _array()}))
    assert culprit.name == "acme.collect._metadata_cache"
    assert culprit.fix == (
        "import memcell; memcell.register('acme.collect._metadata_cache', lambda: acme.collect._metadata_cache.clear())"
    )


def test_the_fix_imports_what_the_user_has_not(acme: Any) -> None:
    acme.store = []
    assert _first({}, lambda: acme.store.append(_array())).fix == (
        "import memcell, acme; memcell.register('acme.store', lambda: acme.store.clear())"
    )
    both = {"acme": acme, "memcell": sys.modules["memcell"]}
    assert _first(both, lambda: acme.store.append(_array())).fix.startswith("memcell.register(")


def test_memory_of_c_is_told_by_the_number_of_its_objects() -> None:
    mmap = importlib.import_module("mmap")
    names: dict[str, Any] = {"maps": []}
    culprit = _first(names, lambda: names["maps"].append(mmap.mmap(-1, 4096)))
    assert culprit.name == "__main__.maps"
    assert culprit.confidence < 0.7
    for one in names["maps"]:
        one.close()


def test_a_functools_cache(acme: Any) -> None:
    acme.load = functools.lru_cache(maxsize=None)(lambda number: _array())
    numbers = iter(range(9))
    culprit = _first({"acme": acme}, lambda: acme.load(next(numbers)))
    assert (culprit.name, culprit.kind, culprit.fix) == ("acme.load", "functools cache", "%memclean lru:acme.load")


def test_a_bounded_functools_cache() -> None:
    names: dict[str, Any] = {"load": functools.lru_cache(maxsize=100)(lambda number: _array())}
    numbers = iter(range(9))
    culprit = _first(names, lambda: names["load"](next(numbers)))
    assert culprit.name == "__main__.load"
    assert culprit.share > 0.9


def test_closures_and_defaults() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "array": _array}
    exec("def make():\n kept = []\n def step(): kept.append(array())\n return step\nstep = make()", names)
    exec("def add(found=[], *, more={}): found.append(array())", names)
    culprit = _first(names, lambda: names["step"]())
    assert culprit.name == "__main__.step.__closure__[0].cell_contents"
    assert culprit.kind == "closure variable 'kept'"
    assert eval(culprit.name.removeprefix("__main__."), names)
    assert _first(names, lambda: names["add"]()).name == "__main__.add.__defaults__[0]"


def test_class_attributes_and_bound_methods() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "array": _array}
    source = (
        "class Hub:\n    class Inner: seen = []\n    listeners = []\n"
        "class View:\n    def __init__(self): self.data = array()\n    def draw(self): pass"
    )
    exec(source, names)
    hub, view = names["Hub"], names["View"]
    assert _first(names, lambda: hub.listeners.append(view().draw)).name == "__main__.Hub.listeners"
    assert _first(names, lambda: hub.Inner.seen.append(_array())).name == "__main__.Hub.Inner.seen"


def test_a_variable_that_is_bound_to_something_larger() -> None:
    names: dict[str, Any] = {"a": np.ones(10), "text": ""}
    culprit = _first(names, lambda: names.update(a=np.ones(len(names["a"]) + _SIZE)))
    assert (culprit.name, culprit.unit, culprit.fix) == ("__main__.a", "bytes", "a = a[:0].copy()")


def test_a_frame_that_is_bound_to_a_larger_one() -> None:
    names: dict[str, Any] = {"df": pd.DataFrame({"a": np.ones(9)})}
    more = pd.DataFrame({"a": np.ones(_SIZE)})
    culprit = _first(names, lambda: names.update(df=pd.concat([names["df"], more], ignore_index=True)))
    assert culprit.name == "__main__.df"


def test_what_threads_keep_for_themselves() -> None:
    local = threading.local()
    local.items = []
    assert _first({"tl": local}, lambda: local.items.append(_array())).name == "__main__.tl.items"


def test_log_handlers_go_by_the_name_of_their_logger() -> None:
    logger = logging.getLogger("memcell-test-culprits")
    logger.propagate = False
    names = {"logger": logger}

    def run() -> None:
        logger.addHandler(logging.handlers.MemoryHandler(10**6, flushLevel=99))
        logger.error("x" * _GROWTH)

    try:
        culprit = _first(names, run)
    finally:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.buffer.clear()
            handler.close()
    assert culprit.name.startswith("logging.getLogger('memcell-test-culprits').handlers")
    assert culprit.fix == "%memclean logging-handlers"


def test_out_and_the_shells_own_stores() -> None:
    out: dict[int, Any] = {}
    names: dict[str, Any] = {"_oh": out, "Out": out}

    def run() -> None:
        out[len(out)] = names[f"_{len(out)}"] = _array()

    culprit = _first(names, run)
    assert (culprit.name, culprit.fix) == ("Out", "%memclean out")
    outputs: dict[int, Any] = {}
    place = {"IPython HistoryManager.outputs": outputs}
    culprit = _first({}, lambda: outputs.update({len(outputs): ["x" * _GROWTH]}), places=place)
    assert (culprit.name, culprit.fix) == ("IPython HistoryManager.outputs", "%memclean out")


def test_pools_are_ended_before_they_are_forgotten() -> None:
    from concurrent.futures import ThreadPoolExecutor

    names: dict[str, Any] = {"EX": []}
    culprit = _first(names, lambda: names["EX"].append(ThreadPoolExecutor(1)))
    assert culprit.fix == "[one.shutdown(wait=False, cancel_futures=True) for one in EX]; EX.clear()"


def test_a_container_that_is_filled_without_getting_longer() -> None:
    places = iter(range(9))
    names: dict[str, Any] = {"slots": [None] * 20, "table": np.empty(20, dtype=object)}
    culprit = _first(names, lambda: names["slots"].__setitem__(next(places), _array()))
    assert (culprit.name, culprit.unit, culprit.share) == ("__main__.slots", "bytes", 1.0)
    places = iter(range(9))
    assert _first(names, lambda: names["table"].__setitem__(next(places), _array())).name == "__main__.table"


def test_a_container_that_gets_longer_is_told_by_its_length() -> None:
    names: dict[str, Any] = {"results": []}
    culprits = compare(_censuses(names, lambda: names["results"].append(_array())), [_GROWTH] * 2)
    assert [(one.name, one.unit) for one in culprits] == [("__main__.results", "entries")]


def test_a_file_in_memory() -> None:
    names: dict[str, Any] = {"log": io.BytesIO()}
    culprit = _first(names, lambda: names["log"].write(b"x" * _GROWTH))
    assert (culprit.name, culprit.unit) == ("__main__.log", "bytes")


def test_a_cached_method_holds_its_instances() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "array": _array, "functools": functools}
    source = (
        "class Loader:\n    def __init__(self): self.data = array()\n"
        "    @functools.lru_cache(maxsize=None)\n    def get(self): return 1"
    )
    exec(source, names)
    assert _first(names, lambda: names["Loader"]().get()).name == "__main__.Loader.get"


def test_the_lists_of_several_siblings_are_the_growth_of_what_holds_them() -> None:
    class Handler:
        def __init__(self) -> None:
            self.buffer: list[Any] = []

    names: dict[str, Any] = {"handlers": [Handler(), Handler()]}

    def run() -> None:
        names["handlers"].append(Handler())
        for handler in names["handlers"]:
            handler.buffer.append(bytearray(_GROWTH // len(names["handlers"])))

    assert _first(names, run).name == "__main__.handlers"


def test_images_keep_their_pixels_in_c() -> None:
    image = importlib.import_module("PIL.Image")
    names: dict[str, Any] = {"images": []}
    culprit = _first(names, lambda: names["images"].append(image.new("RGB", (500, 500))))
    assert culprit.name == "__main__.images"


def test_an_attribute_of_traitlets_goes_by_its_name() -> None:
    traitlets = importlib.import_module("traitlets")

    class Button(traitlets.HasTraits):  # type: ignore[name-defined, misc]
        calls = traitlets.List()

    names: dict[str, Any] = {"button": Button()}
    culprit = _first(names, lambda: names["button"].calls.append(_array()))
    assert culprit.name == "__main__.button.calls"


# Who is not named


def test_nothing_is_named_that_did_not_grow() -> None:
    names = {"results": [_array() for _ in range(5)]}
    censuses = _censuses(names, lambda: None)
    assert compare(censuses, [10 * MIB] * 2) == []
    assert native_note(censuses, [10 * MIB] * 2).startswith("native, no Python holder found")


def test_a_counter_cannot_explain_megabytes() -> None:
    names: dict[str, Any] = {"ticks": []}
    assert _first(names, lambda: names["ticks"].append(len(names["ticks"]) + 1000)) is None


def test_two_censuses_are_enough_and_one_is_not() -> None:
    names: dict[str, Any] = {"results": []}
    censuses = _censuses(names, lambda: names["results"].append(_array()), 2)
    assert [one.name for one in compare(censuses, [_GROWTH])] == ["__main__.results"]
    assert compare(censuses[:1], []) == []
    with pytest.raises(ValueError, match="intervals"):
        compare(censuses, [])


def test_the_class_of_which_there_are_more_is_told() -> None:
    class Thing:
        def __init__(self) -> None:
            self.other = self

    kept: list[object] = []
    censuses = _censuses({}, lambda: kept.extend(Thing() for _ in range(5000)))
    assert "Thing objects: +5000" in native_note(censuses, [MIB, MIB])


# What must not happen


class _Hostile:
    """Whatever it is asked for is an error."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("code of the user ran")

    __getattr__ = __len__ = __sizeof__ = __eq__ = __hash__ = __iter__ = __repr__ = __bool__ = _refuse  # type: ignore[assignment]
    data = property(_refuse)
    __class__ = property(_refuse)  # type: ignore[assignment]
    nbytes = property(_refuse)


class _HostileMeta(type):
    def __hash__(cls) -> int:
        raise AssertionError("code of the user ran")

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("code of the user ran")

    def __getattr__(cls, name: str) -> Any:
        raise AssertionError("code of the user ran")


class _HostileList(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise AssertionError("code of the user ran")

    __iter__ = __getitem__ = __len__  # type: ignore[assignment]


class _LazyModule(types.ModuleType):
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("a lazy module was loaded")


def test_no_code_of_what_is_looked_at_runs() -> None:
    hostile_class = _HostileMeta("C", (), {"kept": []})
    instance = object.__new__(hostile_class)
    names: dict[str, Any] = {"h": _Hostile(), "l": _HostileList(), "c": hostile_class, "i": instance}
    names["nested"] = [names["h"], {"a": instance}]
    sys.modules["memcell_test_lazy"] = lazy = _LazyModule("memcell_test_lazy")
    names["lazy"] = lazy
    try:
        culprit = _first(names, lambda: (list.append(names["l"], _array()), list.append(names["l"], _Hostile())))
    finally:
        del sys.modules["memcell_test_lazy"]
    assert culprit.name == "__main__.l"


def test_a_census_keeps_nothing_alive() -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    names: dict[str, Any] = {"kept": [], "thing": thing}
    censuses = _censuses(names, lambda: names["kept"].append(names["thing"]))
    del thing
    names.clear()
    gc.collect()
    assert reference() is None
    assert censuses


def test_a_census_imports_nothing() -> None:
    before = set(sys.modules)
    take_census({}, deadline_s=30)
    assert set(sys.modules) == before


def test_a_container_that_changes_meanwhile() -> None:
    busy: dict[int, list[int]] = {}
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for number in range(50):
                busy[number] = []
            busy.clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(3):
            take_census({"busy": busy}, modules={}, deadline_s=30)
    finally:
        stop.set()
        thread.join()


def test_it_stops_at_the_deadline_and_says_so() -> None:
    ticks = iter(range(10**9))
    census = take_census({"results": [1]}, deadline_s=0.5, clock=lambda: float(next(ticks)))
    assert any("no time was left" in note for note in census.not_looked_at)
    assert census.duration_s > 0


def test_a_census_is_small() -> None:
    census = take_census({}, deadline_s=30)
    assert census.looked_at > 500
    # 16 bytes an entry, with what the arrays take themselves: 300 KB are enough for what a kernel has.
    entries = len(census.sizes) + len(census.counts)
    assert census.sizes.nbytes() + census.counts.nbytes() < 17 * entries + 1_000


def test_an_outer_holder_is_named_instead_of_what_is_inside_it() -> None:
    def grown(name: str, added_bytes: int) -> Grown:
        return Grown(name, "dict", "entries", 1, 2, added_bytes)

    sizes = Sizes({})
    first = Census((), (), 0.0, (), sizes, sizes, 0)
    second = Census((grown("__main__.a", 9 * MIB), grown("__main__.a['b']", 9 * MIB)), (), 0.0, (), sizes, sizes, 0)
    assert [one.name for one in compare([first, second], [10 * MIB])] == ["__main__.a"]


@pytest.mark.parametrize(("metric", "first"), [("children", "library.pool.workers"), ("memory", "atexit")])
def test_where_processes_grow_who_holds_processes_comes_first(metric: Any, first: str) -> None:
    at_exit = Grown("atexit", "functions to call at exit", "entries", 1, 2, None, opaque=True)
    workers = Grown(
        "library.pool.workers", "set", "entries", 1, 2, None, opaque=True, holds="multiprocessing.context.ForkProcess"
    )
    sizes = Sizes({})
    censuses = [Census((), (), 0.0, (), sizes, sizes, 0), Census((at_exit, workers), (), 0.0, (), sizes, sizes, 0)]
    assert compare(censuses, [10 * MIB], metric)[0].name == first


def test_classes_without_a_module_and_attributes_that_are_no_text() -> None:
    exec("A = type('A', (), {})", place := {})  # as C code makes them
    assert "__module__" not in vars(place["A"])

    def function() -> None: ...

    function.__dict__[1] = [1, 2]
    names: dict[str, Any] = {"kind": place["A"], "one": place["A"](), "many": [place["A"]()], "function": function}
    names["results"] = []
    assert _first(names, lambda: names["results"].append(_array())).name == "__main__.results"


class _Batch(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("key", ["data.csv", "x._y", "it's.here", 'say "hi._"', "a\\'._b"])
def test_the_line_to_paste_is_python_whatever_a_key_is(key: str) -> None:
    names: dict[str, Any] = {"d": {key: _Batch()}}
    culprit = _first(names, lambda: names["d"][key].append(_array()))
    assert culprit.name == f"__main__.d[{key!r}]"
    place: dict[str, Any] = {"d": {key: _Batch()}}
    exec(culprit.fix, place)
    assert not place.get("d", {}).get(key)


def test_a_list_that_grows_in_front() -> None:
    names: dict[str, Any] = {"kept": [b"small"], "waiting": deque([b"small"])}

    def run() -> None:
        names["kept"] = [_array(), *names["kept"]]

    assert _first(names, run).name == "__main__.kept"

    assert _first(names, lambda: names["waiting"].appendleft(_array())).name == "__main__.waiting"


def test_what_grows_deep_inside_containers_is_named_by_the_outermost() -> None:
    by_user: dict[str, Any] = {str(number): [] for number in range(500)}
    names: dict[str, Any] = {"by_user": by_user, "still": {str(number): [] for number in range(500)}}

    def run() -> None:
        for entries in by_user.values():
            entries.append(b"x" * 3000 + str(len(entries)).encode())

    culprit = _first(names, run, growth=500 * 3050)
    assert (culprit.name, culprit.unit, culprit.fix) == ("__main__.by_user", "bytes", "by_user.clear()")
    assert 0.8 < culprit.share <= 1.0


class _LibraryObject:
    """Stands for one: its class is not the user's."""

    def __init__(self) -> None:
        self.data, self.indices, self._buffer = _array(), _array(), _array()


@pytest.mark.parametrize(
    ("attributes", "name"),
    [(["data", "indices"], "matrix"), (["data"], "matrix.data"), (["_buffer"], "matrix")],
)
def test_parts_of_a_librarys_object_are_named_by_it(attributes: list[str], name: str) -> None:
    matrix = _LibraryObject()

    def run() -> None:
        for attribute in attributes:
            setattr(matrix, attribute, np.ones(len(getattr(matrix, attribute)) + _SIZE))

    assert _first({"matrix": matrix}, run, growth=_GROWTH * len(attributes)).name == f"__main__.{name}"


def test_functions_to_call_at_exit_and_loggers_are_counted() -> None:
    functions = []

    def run() -> None:
        functions.append(functools.partial(len, _array()))
        atexit.register(functions[-1])

    names: dict[str, Any] = {}
    try:
        assert _first(names, run).name == "atexit"
    finally:
        for function in functions:
            atexit.unregister(function)

    def log() -> None:
        logger = logging.getLogger(f"memcell_test.run{len(functions)}")
        functions.append(logger)
        logger.addHandler(logging.StreamHandler(io.StringIO("x" * _GROWTH)))

    try:
        assert _first(names, log).name == "logging.root.manager.loggerDict"
    finally:
        for name in [name for name in logging.root.manager.loggerDict if name.startswith("memcell_test")]:
            del logging.root.manager.loggerDict[name]


def test_a_child_process_that_grows_is_named_by_the_variable_that_holds_it() -> None:
    class Holder:
        def __init__(self, **attributes: object) -> None:
            vars(self).update(attributes)

    helper = Holder(pid=4711)
    pool = Holder(_processes={4712: Holder(_popen=Holder(pid=4712))})
    names = {"helpers": {"one": helper}, "pool": pool, "number": 4713}
    censuses: list[Census] = []
    for run in range(3):
        children = {4711: (1 + 3 * run) * MIB, 4712: 4 * MIB, 4713: (run // 2) * MIB}
        previous = censuses[-1] if censuses else None
        censuses.append(take_census(names, previous=previous, modules={}, children=children, deadline_s=30))
    (culprit,) = compare(censuses, [3 * MIB] * 2)
    assert (culprit.name, culprit.sizes) == ("__main__.helpers['one']", (MIB, 4 * MIB, 7 * MIB))
    assert (culprit.kind, culprit.fix) == ("child process 4711", "%memprocs --kill 4711")


def test_many_lists_by_key_are_the_dictionary_that_holds_them() -> None:
    """More objects than are followed as a whole, in lists of which each grows a little."""

    class Visit:
        def __init__(self) -> None:
            self.page = str(id(self)) * 30

    visits: dict[str, Any] = {f"shop {number}.example": {"/": []} for number in range(20)}

    def run() -> None:
        for entries in visits.values():
            entries["/"] += [Visit() for _ in range(400)]

    culprit = _first({"visits": visits}, run, growth=20 * 400 * 600)
    assert (culprit.name, culprit.fix) == ("__main__.visits", "visits.clear()")
    assert culprit.share > 0.5


def test_who_stays_comes_before_what_each_run_makes_anew() -> None:
    kept: dict[int, Any] = {}
    names: dict[str, Any] = {"answers": [], "kept": kept}

    def run() -> None:
        kept[len(kept)] = _array()
        names["answers"] = list(kept.values())

    censuses = _censuses(names, run)
    assert [one.name for one in compare(censuses, [_GROWTH] * 2)] == ["__main__.kept", "__main__.answers"]


def test_structures_of_c_count_with_what_is_in_them() -> None:
    import ctypes

    class Node(ctypes.Structure):
        pass

    Node._fields_ = [("next", ctypes.POINTER(Node)), ("data", ctypes.c_double * _SIZE)]
    names: dict[str, Any] = {"head": Node()}

    def run() -> None:
        node = Node()
        node.next = ctypes.pointer(names["head"])
        names["head"] = node

    assert _first(names, run).name == "__main__.head"


def test_a_bytearray_grows_with_each_run_though_its_room_does_not() -> None:
    names: dict[str, Any] = {"received": bytearray(40_000_000)}
    assert _first(names, lambda: names["received"].extend(bytes(_GROWTH))).name == "__main__.received"
