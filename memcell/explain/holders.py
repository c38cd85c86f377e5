"""What else holds an object, in words that a person can look up: ``Out[3]``, ``pkg.mod.NAME``, the closure of f.

The garbage collector is asked who refers to the object, and who to those, until something with a name is reached. It
runs no code of the objects. It does not see everything, so references that nobody was found for are reported too.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memcell import looking

#: How far up a holder's own holders are followed. A series in a container in a module's dict is eight steps.
_MAX_STEPS = 12
#: Referrers that are followed at each step, and names that are told of one object.
_MAX_WIDTH = 200
_MAX_NAMES = 6
#: Objects whose referents are looked at before the clock is.
_CHUNK = 4096
_LONGEST_KEY = 30

#: Variables of running functions are no referrers to the collector, and neither is memory of C.
UNSEEN = "a running function, or C code"

_Generators = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


@dataclass(frozen=True, slots=True)
class Held:
    """What holds an object beside what the caller knows of. ``complete`` is False where time ran out."""

    names: tuple[str, ...] = ()
    complete: bool = True


@dataclass(slots=True)
class _Step:
    """An object on the way up from one that is looked into."""

    value: Any
    #: The index of the object that is looked into.
    origin: int
    #: How the object below is reached from this one: ``['k'].x``. For a dict the first part waits in ``key``.
    path: str = ""
    key: Any = None
    #: Whether ``key`` is still to be put in front of the path: it depends on what the dict belongs to.
    has_key: bool = False

    def as_item(self) -> str:
        return f"[{_key_words(self.key)}]{self.path}" if self.has_key else self.path

    def as_attribute(self) -> str:
        return f".{self.key}{self.path}" if self.has_key and type(self.key) is str else self.as_item()


class _Probe:
    """An object to which nothing but the search itself refers."""


def find_holders(
    objects: Sequence[object],
    *,
    known_name: Callable[[object], str | None] | None = None,
    namespaces: Mapping[int, str] | None = None,
    deadline_s: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Held]:
    """What holds each of some objects.

    Args:
        objects: The objects. The list itself and frames of memcell are no holders.
        known_name: The name of a referrer that the caller knows, empty for one that is not to be told; None for others.
        namespaces: How values in some dicts are written, by the identity of the dict, with ``{}`` for the key, such as
            ``Out[{}]``. Those of modules are known.
        deadline_s: For how long to search, in seconds.
        clock: Returns seconds; for tests.

    Returns:
        What was found for each, in their order, without the same words twice.
    """
    return _Search(objects, known_name, namespaces or {}, clock, clock() + deadline_s).run()


class _Search:
    def __init__(
        self,
        objects: Sequence[object],
        known_name: Callable[[object], str | None] | None,
        namespaces: Mapping[int, str],
        clock: Callable[[], float],
        until: float,
    ) -> None:
        self._known_name = known_name or (lambda _: None)
        self._clock = clock
        self._until = until
        self._given = objects
        self._templates = {**_module_templates(), **namespaces}
        self._names: list[list[str]] = [[] for _ in objects]
        self._fallbacks: list[str] = ["" for _ in objects]
        self._visited: set[tuple[int, int]] = set()
        self._complete = True
        self._ignored = _frames_of_this_call()

    def run(self) -> list[Held]:
        self._complete = self._clock() < self._until
        steps = [_Step(value, origin) for origin, value in enumerate(self._given)]
        if self._complete and steps:
            steps = self._first(steps)
        for _ in range(_MAX_STEPS):
            steps = [step for step in steps if len(self._names[step.origin]) < _MAX_NAMES][:_MAX_WIDTH]
            if not steps:
                break
            if self._clock() > self._until:
                self._complete = False
                break
            steps = self._up(steps, _referrers(steps))
        for names, fallback in zip(self._names, self._fallbacks, strict=True):
            if fallback and not names and self._complete:
                names.append(fallback)
        return [Held(tuple(names), self._complete) for names in self._names]

    def _first(self, steps: list[_Step]) -> list[_Step]:
        """The first step up, which accounts for every reference that the interpreter has counted."""
        probe = _Step(_Probe(), -1)
        steps.append(probe)
        referrers = _referrers(steps)
        missing = _unseen_references(steps, referrers)
        del steps[-1]
        if any(missing[: len(steps)]):
            wanted = {id(step.value) for step, count in zip(steps, missing, strict=False) if count}
            referrers += self._untracked_holders(wanted)
            steps.append(probe)
            missing = _unseen_references(steps, referrers)
            del steps[-1]
        for step, count in zip(steps, missing, strict=False):
            if count:
                self._fallbacks[step.origin] = UNSEEN  # unless the way up leads to somebody who is seen
        return self._up(steps, referrers)

    def _up(self, steps: list[_Step], referrers: list[Any]) -> list[_Step]:
        """Name these referrers, and return those that have no name of their own."""
        by_identity: dict[int, list[_Step]] = {}
        for step in steps:
            by_identity.setdefault(id(step.value), []).append(step)
        above: list[_Step] = []
        for referrer in referrers:
            kind = type(referrer)
            if kind is _Step or referrer is steps or referrer is self._given or id(referrer) in self._ignored:
                continue
            for identity in {id(held) for held in _held_by(referrer)} & by_identity.keys():
                for step in by_identity[identity]:
                    # A namespace may be reached by several ways, each with a name of its own.
                    if id(referrer) in self._templates or (id(referrer), step.origin) not in self._visited:
                        self._visited.add((id(referrer), step.origin))
                        above += self._name(referrer, step)
        return above

    def _name(self, referrer: Any, step: _Step) -> list[_Step]:
        """Tell a referrer that has a name; return one that has none, to be followed."""
        known = self._known_name(referrer)
        if known is not None:
            if known:
                self._tell(step, known)
            return []
        kind = type(referrer)
        template = self._templates.get(id(referrer))
        if template is not None:
            for key, value in _items(referrer):
                if value is step.value and template:
                    words = str(key) if type(key) in (str, int) else "…"
                    self._tell(step, template.format(words) + step.as_item())
            return []
        name = _name_of_program(referrer, step, self._given[step.origin])
        if name:
            self._tell(step, name)
            return []
        if kind is types.CellType or kind is types.MethodType:
            return [_Step(referrer, step.origin, step.as_item())]
        self._fallbacks[step.origin] = f"a {looking.class_name(kind)}"
        if issubclass(kind, dict):
            keys = [key for key, value in _items(referrer) if value is step.value]
            return [_Step(referrer, step.origin, step.as_item(), keys[0] if keys else "…", has_key=True)]
        if kind is list or kind is tuple:
            return [_Step(referrer, step.origin, f"[{_index(referrer, step.value)}]{step.as_item()}")]
        return [_Step(referrer, step.origin, _attribute_path(referrer, step))]

    def _tell(self, step: _Step, name: str) -> None:
        if name not in self._names[step.origin]:
            self._names[step.origin].append(name)

    def _untracked_holders(self, wanted: set[int]) -> list[Any]:
        """Dicts and tuples that the collector does not track, and views of arrays, which it never does.

        A dict or tuple of nothing but arrays, text and numbers is left out of its lists. Such a dict is what most
        caches are, so all that tracked objects refer to is looked through.
        """
        tracked = gc.get_objects()
        array = _array_class()
        found: dict[int, Any] = {}
        for start in range(0, len(tracked), _CHUNK):
            if self._clock() > self._until:
                self._complete = False
                break
            for value in looking.referents(*tracked[start : start + _CHUNK]):
                kind = type(value)
                if kind is dict or kind is tuple:
                    if gc.is_tracked(value) or id(value) in found:
                        continue
                elif kind is not array:
                    continue
                if not wanted.isdisjoint(map(id, _held_by(value))):
                    found[id(value)] = value
        return list(found.values())


def _referrers(steps: list[_Step]) -> list[Any]:
    mark = _Probe()
    found = gc.get_referrers(*[step.value for step in steps], mark)
    # From CPython 3.13 on the tuple of these very arguments is among them; the mark at its end tells it.
    return [referrer for referrer in found if not (type(referrer) is tuple and referrer and referrer[-1] is mark)]


def _unseen_references(steps: list[_Step], referrers: list[Any]) -> list[int]:
    """How many references to each object nobody of the referrers accounts for; the last step is the probe."""
    counts = dict.fromkeys((id(step.value) for step in steps), 0)
    for referrer in referrers:
        for held in _held_by(referrer):
            if id(held) in counts:
                counts[id(held)] += 1
    held = None  # it would count as one more
    missing = [sys.getrefcount(step.value) - counts[id(step.value)] for step in steps]
    return [max(0, count - missing[-1]) for count in missing]


def _held_by(referrer: Any) -> list[Any]:
    """What an object refers to; of an array, which the collector does not look into, the one that it is a view of."""
    array = _array_class()
    if array is not None and issubclass(type(referrer), array):
        return [looking.class_names(array)["base"].__get__(referrer), *gc.get_referents(referrer)]
    return looking.referents(referrer)


def _array_class() -> type | None:
    found = looking.module_names(sys.modules.get("numpy")).get("ndarray")
    return found if issubclass(type(found), type) else None


def _name_of_program(referrer: Any, step: _Step, target: object) -> str:
    """The name of a holder that is code or a class; empty for data."""
    kind = type(referrer)
    if kind is types.FunctionType:
        return _name_in_function(referrer, step, target)
    if kind is types.FrameType:
        where = "sys.last_traceback" if referrer in _last_frames() else "a frame"
        return f"{where}, in {referrer.f_code.co_name}()"
    if kind in _Generators:
        return f"{kind.__name__} {referrer.__qualname__}"
    if kind is functools._lru_cache_wrapper:
        names = looking.Layout(kind).attributes(referrer)
        function = dict(names).get("__wrapped__")
        return f"the cache of {_function_name(function)}" if type(function) is types.FunctionType else "an lru_cache"
    if issubclass(kind, type):
        return _without_main(looking.class_name(referrer)) + step.as_attribute()
    return ""


def _name_in_function(function: types.FunctionType, step: _Step, target: object) -> str:
    name = _function_name(function)
    if step.value is function.__dict__:
        return name + step.as_attribute()
    if step.value is function.__defaults__ or step.value is function.__kwdefaults__:
        return f"a default of {name}"
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            if cell.cell_contents is target:
                return f"{variable} in the closure of {name}"
        except ValueError:  # an empty cell
            continue
    return f"the closure of {name}"


def _function_name(function: types.FunctionType) -> str:
    module = function.__module__
    return _without_main(f"{module}.{function.__qualname__}" if type(module) is str else function.__qualname__)


def _without_main(name: str) -> str:
    return name.removeprefix("__main__.")


def _last_frames() -> list[types.FrameType]:
    frames, traceback = [], getattr(sys, "last_traceback", None)
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _attribute_path(owner: Any, step: _Step) -> str:
    """How an object is reached from one that has it among its attributes."""
    layout = looking.Layout(type(owner))
    for name, value in layout.attributes(owner):
        if value is step.value:
            return f".{name}{step.as_item()}"
    if step.has_key and type(step.value) is dict and layout:
        return step.as_attribute()
    return step.as_item()


def _items(mapping: Any) -> list[tuple[Any, Any]]:
    return list(dict.items(mapping)) if issubclass(type(mapping), dict) else []


def _index(sequence: Iterable[object], wanted: object) -> str:
    return next((str(index) for index, value in enumerate(sequence) if value is wanted), "…")


def _key_words(key: object) -> str:
    """A key as it is typed, if it is short text or a number: the repr of anything else would run its code."""
    words = repr(key) if type(key) in (str, int, bool) else "…"
    return words if len(words) <= _LONGEST_KEY else "…"


def _module_templates() -> dict[int, str]:
    """How the names of modules are written, by the identity of their dicts."""
    templates: dict[int, str] = {}
    for name, module in list(sys.modules.items()):
        names = looking.module_names(module)
        if names and type(name) is str:
            templates.setdefault(id(names), f"{name.replace('{', '')}.{{}}")
    return templates


def _frames_of_this_call() -> set[int]:
    """The frames of memcell that are running: their variables are the objects in question."""
    frame: types.FrameType | None = sys._getframe()
    frames = set()
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == "memcell":
            frames.add(id(frame))
        frame = frame.f_back
    return frames
