"""Walks from what a person can type along attributes to containers, caches and data, the nearest first."""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import io
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CellType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, Literal

from memcell import looking
from memcell.explain import inside
from memcell.explain.containers import CACHE, CONTAINERS, built_in_length, copied
from memcell.explain.kinds import is_data, is_of_others, is_users
from memcell.explain.names import attribute_name, is_dunder, key_words, module_in, own_variables, variable_name
from memcell.explain.nested import TEXTS, holds_containers, nested_bytes
from memcell.explain.weighing import Scale

Unit = Literal["entries", "bytes"]

#: Data smaller than this is not counted: a leak of it would not be seen in the level either.
_DATA_BYTES = 1 << 16
#: Containers with more entries are counted, not entered.
_ENTERED = 64
#: How many steps from a variable or a module's name.
_DEPTH = 4
#: Entries that are entered below one name. Of what has more, or goes deeper, the whole is measured.
_BELOW_ONE = 2_000
#: The clock is read once in so many steps.
_STEPS = 256
_BUILTINS = vars(builtins)
_UNINTERESTING: tuple[type, ...] = (int, float, complex, type(None), type(Ellipsis), range, slice)


@dataclass(frozen=True, slots=True)
class Found:
    """A thing with a name and its size. Lives as long as the walk only, since it holds the thing.

    ``filled`` where the size is not its own but that of what its entries hold: a container that is made large and then
    filled does not get longer. ``of`` is the class of the object that it is a part of, where that is a library's.
    """

    value: object
    name: str
    kind: str
    unit: Unit
    size: int
    module: str
    filled: bool = False
    of: str = ""

    @property
    def key(self) -> str:
        """What tells it from everything else that is counted."""
        return f"{self.name}, filled" if self.filled else self.name


class Walk:
    """Goes through what can be typed, the nearest first.

    Args:
        clock: Returns seconds.
        until: When to stop.
    """

    def __init__(self, clock: Callable[[], float], until: float) -> None:
        self.found: list[Found] = []
        self.left_out: list[str] = []
        self.tops: set[int] = set()
        #: What modules have got from the user: a function that takes the place of theirs.
        self.lent: list[tuple[str, object]] = []
        self.scale = Scale(self.tops)
        self._clock, self._until = clock, until
        self._steps = 0
        self._late = False
        self._seen: set[int] = set()
        self._queue: deque[tuple[Callable[[Any, str, int], None], Any, str, int]] = deque()
        self._later: list[tuple[object, str]] = []
        self._below: Counter[str] = Counter()
        self._cut: set[str] = set()
        self._part_of: dict[str, str] = {}
        self._visit_of = looking.ByClass(self._find_visit)
        self._layout_of = looking.ByClass(looking.Layout)
        self._length_of = looking.ByClass(looking.length_of)
        self._buffer_of = looking.ByClass(inside.buffer_gauge)
        self._module = ""

    def forget(self) -> None:
        """Let go of everything that was met: this object is in a cycle, which would keep it until a collection."""
        self.found.clear()
        self.lent.clear()
        self._queue.clear()
        self._later.clear()
        self.__dict__.clear()

    # Where it begins

    def loggers(self) -> None:
        """Loggers go by the name with which they are asked for."""
        logging = looking.module_names(sys.modules.get("logging"))
        root = logging.get("root")
        if root is None:
            return
        self.add(root, "logging.getLogger()", 1)
        known = root.manager.loggerDict
        for name, logger in list(known.items()):
            if type(name) is str and issubclass(type(logger), logging["Logger"]):
                self.add(logger, f"logging.getLogger({name!r})", 1)
        self.add(known, "logging.root.manager.loggerDict", 1)

    def variables(self, names: Mapping[str, Any], hidden: Mapping[str, Any]) -> None:
        """The user's variables. What the shell keeps among them goes by the name that the user knows."""
        self._module = "__main__"
        self._seen.update((id(names), id(hidden)))
        if type(names.get("_oh")) is dict:
            self.add(names["_oh"], "Out", 0)
        own = own_variables(names, hidden)
        for name, value in own.items():
            self._top(value, variable_name(name), names)
            if self._is_over():
                return
        self.found.append(Found(own, "globals()", "namespace", "entries", len(own), ""))

    def modules(self, names: Mapping[str, Any], imported: Mapping[str, object]) -> None:
        """These modules, except memcell's own and that of the user's variables."""
        modules = [(name, module) for name, module in list(imported.items()) if type(name) is str]
        self._seen.add(id(sys.modules))
        self.found.append(Found(sys.modules, "sys.modules", "modules", "entries", len(modules), "sys"))
        namespaces = []
        for name, module in modules:
            attributes = looking.module_names(module)
            if not attributes:  # something else stands there; and a dict made for it may lend its id to another
                continue
            self.tops.update((id(module), id(attributes)))
            self._seen.update((id(module), id(attributes)))
            if attributes is not names and name.partition(".")[0] != "memcell" and name != "__main__":
                namespaces.append((name, attributes))
        for number, (name, attributes) in enumerate(namespaces):
            self._module = name
            for attribute, value in copied(attributes.items):
                if type(attribute) is str and self._visit_of(type(value)) is not None and not is_dunder(attribute):
                    self._top(value, f"{name}.{attribute}", attributes)
            if self._is_over():
                self.left_out.append(f"{len(namespaces) - number - 1} of {len(namespaces)} modules: no time was left")
                return

    def finish(self) -> None:
        """Go on until nothing is left to look at, or no time."""
        for value, name in self._later:
            self.add(value, name, 0)
        while self._queue and not self._is_over():
            visit, value, name, depth = self._queue.popleft()
            visit(value, name, depth)
        if self._queue:
            self.left_out.append(f"{len(self._queue)} objects further down: no time was left")
            self._queue.clear()
        self._later.clear()
        self._measure_cut()

    def _top(self, value: object, name: str, namespace: Mapping[str, Any]) -> None:
        """A name of a module. Functions, classes and instances are taken where they were made, not where imported."""
        if self._visit_of(type(value)) is None:
            return
        if issubclass(type(value), FunctionType):
            is_home = value.__globals__ is namespace  # type: ignore[attr-defined] # the type was just asked for
        elif issubclass(type(value), type):
            is_home = looking.class_module(value) == self._module  # type: ignore[arg-type] # as above
        elif built_in_length(type(value)) is not None:
            is_home = True
        elif self._module == "__main__" and self._visit_of(type(value)) == self._see_data:
            is_home = True  # data has nothing inside that could have a nearer name
        else:
            # A library's object in a user's variable waits too: the library may have a nearer name for what is in it.
            is_home = looking.class_module(type(value)) in (self._module, "builtins")
        if not is_home:
            self._later.append((value, name))
            if self._module != "__main__" and is_users(value):
                self.lent.append((name, value))
            return
        if self._module != "__main__":
            self.tops.add(id(value))
        self.add(value, name, 0)

    def add(self, value: object, name: str, depth: int) -> None:
        """Take up an object, unless it has been or is of no interest."""
        visit = self._visit_of(type(value))
        if visit is None or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._queue.append((visit, value, name, depth))

    def _is_over(self) -> bool:
        self._steps += 1
        if not self._steps % _STEPS or self._late:
            self._late = self._clock() >= self._until
        return self._late

    # What there is to see

    def _find_visit(self, kind: type) -> Callable[[Any, str, int], None] | None:
        if looking.is_one_of(kind, (*TEXTS, memoryview)):
            return self._see_data
        if kind is CACHE:
            return self._see_cache
        if issubclass(kind, FunctionType):
            return self._see_function
        if issubclass(kind, type):
            return self._see_class
        if issubclass(kind, (ModuleType, MethodType, *_UNINTERESTING)) or is_of_others(kind):
            return None
        if built_in_length(kind) is not None:
            return self._see_container
        if looking.is_one_of(kind, (staticmethod, classmethod, property)):
            return self._see_wrapper
        if kind is threading.local:
            return self._see_local
        if is_data(kind):
            return self._see_data
        if self._layout_of(kind) or self._length_of(kind) is not None or issubclass(kind, threading.local):
            return self._see_instance
        return None

    def _note(self, value: object, name: str, kind: str, unit: Unit, size: int, *, filled: bool = False) -> None:
        if size:
            self.found.append(
                Found(value, name, kind, unit, size, module_in(name), filled, self._part_of.get(name, ""))
            )

    def _see_data(self, value: Any, name: str, _depth: int) -> None:
        kind = type(value)
        is_plain = looking.is_one_of(kind, TEXTS)
        if kind is bytearray:  # which takes an eighth more than is in it, and so grows in steps
            size = len(value)
        else:
            size = sys.getsizeof(value) if is_plain else self.scale.weigh([value]).seen_bytes
        if size >= _DATA_BYTES:
            self._note(value, name, looking.class_name(kind), "bytes", size)
        if not is_plain:
            self._note(value, name, "autograd graph", "entries", inside.graph_nodes(value))
            self._note_data_in(value, name, looking.class_name(kind), inside.objects_in_array(value))

    def _note_data_in(self, value: object, name: str, kind: str, entries: Iterable[object]) -> None:
        """The data that entries hold, for who is filled without getting longer."""
        size = sum(self.scale.data_bytes(entry) or 0 for entry in entries)
        if size >= _DATA_BYTES:
            self._note(value, name, kind, "bytes", size, filled=True)

    def _see_cache(self, value: Any, name: str, depth: int) -> None:
        self._note(value, name, "functools cache", "entries", CACHE.cache_info(value).currsize)
        self._attributes(value, name, depth)

    def _attributes(self, value: Any, name: str, depth: int) -> None:
        """The attributes that somebody put on a function or on a cached one."""
        if depth >= _DEPTH:
            return
        for attribute, held in looking.Layout(type(value)).attributes(value):
            if type(attribute) is not str:
                continue
            if not is_dunder(attribute):
                self._step(held, attribute_name(name, attribute), depth)
            elif attribute == "__wrapped__":
                self._step(held, f"{name}.__wrapped__", depth)

    def _see_function(self, value: FunctionType, name: str, depth: int) -> None:
        if depth > _DEPTH:
            return
        # Asking a function for its dict makes one; so it is asked only if it may have one already.
        if any(
            type(held) is dict and "__builtins__" not in held and held is not _BUILTINS
            for held in gc.get_referents(value)
        ):
            self._attributes(value, name, depth)
        for number, cell in enumerate(value.__closure__ or ()):
            held = _content(cell)
            variable = value.__code__.co_freevars[number]
            self._step(held, f"{name}.__closure__[{number}].cell_contents", depth, f"closure variable {variable!r}")
        for number, held in enumerate(value.__defaults__ or ()):
            self._step(held, f"{name}.__defaults__[{number}]", depth, "default argument")
        for argument, held in copied((value.__kwdefaults__ or {}).items):
            self._step(held, f"{name}.__kwdefaults__[{argument!r}]", depth, f"default of {argument!r}")

    def _see_class(self, value: type, name: str, depth: int) -> None:
        if depth > _DEPTH or is_of_others(value):
            return
        for attribute, held in copied(looking.class_names(value).items):
            if type(attribute) is str and not is_dunder(attribute):
                self._step(held, attribute_name(name, attribute), depth)

    def _see_wrapper(self, value: Any, name: str, depth: int) -> None:
        if type(value) is property:
            self._step(value.fget, f"{name}.fget", depth)
        else:
            self._step(value.__func__, name, depth - 1)

    def _see_local(self, value: Any, name: str, depth: int) -> None:
        for stores in gc.get_referents(value):
            for held in copied(stores.values) if type(stores) is dict else ():
                for attribute, one in copied(held.items) if type(held) is dict else ():
                    self._step(one, attribute_name(name, attribute), depth)

    def _see_instance(self, value: object, name: str, depth: int) -> None:
        kind = type(value)
        length = inside.text_written if issubclass(kind, io.StringIO) else self._length_of(kind)
        if length is not None:
            with contextlib.suppress(Exception):  # an extension type whose object is not ready
                self._note(value, name, looking.class_name(kind), "entries", length(value))
        else:
            size = self._buffer_of(kind)(value)
            self._note(value, name, looking.class_name(kind), "bytes", size if size >= _DATA_BYTES else 0)
        if issubclass(kind, threading.local):
            self._see_local(value, name, depth)
        if depth >= _DEPTH:
            return
        is_librarys = name.startswith("__main__.") and looking.class_module(kind) != "__main__"
        for attribute, held in self._layout_of(kind).attributes(value):
            if attribute == "_trait_values" and type(held) is dict:  # traitlets: each is an attribute of that name
                self._seen.add(id(held))
                for trait, one in copied(held.items):
                    self._step(one, f"{name}.{trait}", depth)
            elif type(attribute) is str:
                part = attribute_name(name, attribute)
                if is_librarys and self._visit_of(type(held)) in (self._see_data, self._see_instance):
                    self._part_of[part] = looking.class_name(kind)
                self._step(held, part, depth)

    def _see_container(self, value: Any, name: str, depth: int, kind: str = "") -> None:
        length, entries = CONTAINERS[built_in_length(type(value))]
        size = length(value)
        kind = kind or looking.class_name(type(value))
        self._note(value, name, kind, "entries", size)
        if 0 < size <= inside.MOST_ENTRIES:
            self._note_data_in(value, name, kind, (held for _, held in copied(functools.partial(entries, value))))
        top = name.partition("[")[0]
        self._below[top] += size
        if size > _ENTERED or depth >= _DEPTH or self._below[top] > _BELOW_ONE:
            if top not in self._cut and not module_in(top) and holds_containers(value):
                self._cut.add(top)
            return
        for key, held in copied(functools.partial(entries, value)):
            words = key_words(key)
            if words:
                self._step(held, f"{name}[{words}]", depth)
            elif built_in_length(type(held)) is not None and not module_in(top):
                self._cut.add(top)  # what is behind a key that nobody can type is measured with the whole

    def _measure_cut(self) -> None:
        """Measure the user's containers whose inside was not entered to the end, each as a whole."""
        for found in [found for found in self.found if found.name in self._cut]:
            if found.unit == "entries" and not found.filled and built_in_length(type(found.value)) is not None:
                size = nested_bytes(found.value, self.scale, self._is_container, self._is_over)
                if size is None:
                    self.left_out.append(f"the inside of {found.name}: it has too many parts")
                else:
                    self._note(found.value, found.name, found.kind, "bytes", size, filled=True)

    def _is_container(self, kind: type) -> bool:
        return self._visit_of(kind) == self._see_container

    def _step(self, value: object, name: str, depth: int, kind: str = "") -> None:
        if type(value) is MappingProxyType:  # the dict behind it has this name, too, and perhaps no better one
            value, kind = next(iter(gc.get_referents(value)), None), "read-only view"
        visit = self._visit_of(type(value))
        if visit is None or not name or id(value) in self._seen:
            return
        if kind and visit == self._see_container:
            visit = functools.partial(self._see_container, kind=kind)
        self._seen.add(id(value))
        self._queue.append((visit, value, name, depth + 1))


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is bound to the variable
        return None
