"""Looks into objects of others without running any code of theirs.

Attributes are read through the descriptors of the interpreter itself, so that no property, ``__getattr__`` or lazy
module gets to run; lengths through the C function of the built-in type, so that a class cannot lie about its own.
Types are asked for with ``type()`` throughout: ``isinstance`` would ask the object for its ``__class__``, which a
proxy answers by loading what it stands for.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Generic, TypeVar, cast

_MODULE_DICT: Any = vars(ModuleType)["__dict__"]
_CLASS_DICT: Any = vars(type)["__dict__"]
_CLASS_MRO: Any = vars(type)["__mro__"]
_CLASS_MODULE: Any = vars(type)["__module__"]
_CLASS_QUALNAME: Any = vars(type)["__qualname__"]

#: Types that stand for another object and hand on what they are asked, written in C.
_PROXY_MODULES = frozenset(
    {"wrapt", "wrapt.wrappers", "_wrappers", "lazy_object_proxy", "zope.proxy", "peak.util.proxies"}
)


def module_names(module: object) -> dict[str, Any]:
    """The namespace of a module as it is; empty for anything else that stands in ``sys.modules``."""
    return _MODULE_DICT.__get__(module) or {} if issubclass(type(module), ModuleType) else {}


def referents(*values: object) -> list[Any]:
    """What some objects refer to, as the garbage collector sees it; of a module its namespace only.

    On CPython 3.12 the module ``_asyncio`` also shows the collector objects that it has freed and keeps to be used
    again. Holding one of those, if only for a moment, frees it twice: the next garbage collection never ends.
    """
    modules = [value for value in values if issubclass(type(value), ModuleType)]
    if not modules:
        return gc.get_referents(*values)
    others = [value for value in values if not issubclass(type(value), ModuleType)]
    return [*map(module_names, modules), *gc.get_referents(*others)]


def class_names(kind: type) -> Mapping[str, Any]:
    """What stands in the class itself, without its bases."""
    return cast("Mapping[str, Any]", _CLASS_DICT.__get__(kind))


def mro(kind: type) -> tuple[type, ...]:
    """The classes in which an attribute is looked for."""
    return cast("tuple[type, ...]", _CLASS_MRO.__get__(kind))


def class_module(kind: type) -> str:
    """The name of the module in which a class was made; empty if it does not say."""
    try:
        name = _CLASS_MODULE.__get__(kind)
    except AttributeError:  # made by C code, or where there is no __name__
        return ""
    return name if type(name) is str else ""


def class_name(kind: type) -> str:
    """The dotted name of a class, without ``builtins``."""
    module, name = class_module(kind), _CLASS_QUALNAME.__get__(kind)
    return name if module in ("builtins", "") else f"{module}.{name}"


def type_name(kind: type) -> str:
    """The name of a class as its user writes it: also without ``__main__``."""
    return class_name(kind).removeprefix("__main__.")


def imported_class(module: str, name: str) -> type | None:
    """A class of a library, if that library has been imported."""
    found = module_names(sys.modules.get(module)).get(name)
    return found if issubclass(type(found), type) else None


def in_class(kind: type, name: str) -> Any:
    """What a class or the first of its bases has under this name, as it stands there; None without one."""
    for base in mro(kind):
        names = class_names(base)
        if name in names:
            return names[name]
    return None


def is_proxy(kind: type) -> bool:
    """Whether asking an object of this class may mean asking another one."""
    return any(
        class_module(base) in _PROXY_MODULES or "proxy" in base_name or "lazy" in base_name
        for base in mro(kind)
        for base_name in (class_name(base).lower(),)
    )


def is_one_of(kind: type, kinds: tuple[type, ...]) -> bool:
    """Whether a class is one of these; ``in`` would ask its metaclass whether they are equal."""
    return any(kind is one for one in kinds)


_Value = TypeVar("_Value")


class ByClass(Generic[_Value]):
    """Something for each class, found out once. By identity: a metaclass may say that classes have no hash."""

    __slots__ = ("_find", "_known")

    def __init__(self, find: Callable[[type], _Value]) -> None:
        self._find = find
        # The class is kept beside it, so that no other gets its identity.
        self._known: dict[int, tuple[_Value, type]] = {}

    def __call__(self, kind: type) -> _Value:
        known = self._known.get(id(kind))
        if known is None:
            known = self._known[id(kind)] = (self._find(kind), kind)
        return known[0]


class Layout:
    """Where the objects of one class keep their attributes."""

    __slots__ = ("_names", "_slots")

    def __init__(self, kind: type) -> None:
        found = in_class(kind, "__dict__")
        self._names: Any = found if is_one_of(type(found), (GetSetDescriptorType, MemberDescriptorType)) else None
        self._slots: list[tuple[str, Any]] = []
        for base in mro(kind):
            names = class_names(base)
            if "__slots__" in names:
                self._slots += [(name, slot) for name, slot in names.items() if type(slot) is MemberDescriptorType]

    def __bool__(self) -> bool:
        return self._names is not None or bool(self._slots)

    def attributes(self, value: object) -> Iterator[tuple[str, Any]]:
        """The attributes that an object holds itself, by name."""
        if self._names is not None:
            try:
                names = self._names.__get__(value)
                pairs = list(names.items()) if type(names) is dict else []
            except Exception:  # another thread changes it, or an extension type that does not keep its word
                pairs = []
            yield from pairs
        for name, slot in self._slots:
            try:
                yield name, slot.__get__(value)
            except AttributeError:  # nothing is in the slot
                continue


def length_of(kind: type) -> Callable[[Any], int] | None:
    """The C function that tells the length of objects of this class; None where Python code would have to run."""
    found = in_class(kind, "__len__")
    if type(found) is not WrapperDescriptorType or is_proxy(kind):
        return None
    return cast("Callable[[Any], int]", found)
