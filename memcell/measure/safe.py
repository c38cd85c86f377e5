"""Looking at objects of a user without running their code: no property, no ``__getattr__``, no lazy import.

Types are asked for with ``type()`` throughout: ``isinstance`` would ask the object for its ``__class__``, which a
proxy answers by loading what it stands for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

# The interpreter's own descriptors, so that nothing that a metaclass or a class defines is called.
_mro = type.__dict__["__mro__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_module = type.__dict__["__module__"].__get__
_module_dict = vars(ModuleType)["__dict__"].__get__
_class_dict = type.__dict__["__dict__"].__get__


def bases(kind: type) -> tuple[type, ...]:
    """A class and those it derives from, in the order in which they are searched."""
    return cast("tuple[type, ...]", _mro(kind))


def class_attributes(kind: type) -> Mapping[str, Any]:
    """What stands in the body of a class."""
    return cast("Mapping[str, Any]", _class_dict(kind))


def module_of(kind: type) -> str:
    """The module in which a class was made; empty where that is no text."""
    try:
        module = _module(kind)
    except AttributeError:
        return ""
    return module if type(module) is str else ""


def type_name(kind: type) -> str:
    """The dotted name of a class, without ``builtins``."""
    module, qualname = module_of(kind), _qualname(kind)
    return qualname if module in ("", "builtins", "__main__") else f"{module}.{qualname}"


def module_attributes(module: object) -> dict[str, Any] | None:
    """The names in a module, of a lazy one too, which is not loaded by this; None for anything that is no module."""
    if not issubclass(type(module), ModuleType):
        return None
    attributes = _module_dict(module)
    return attributes if type(attributes) is dict else None


def imported_class(module: str, name: str) -> type | None:
    """A class of a library, if that library has been imported."""
    found = (module_attributes(sys.modules.get(module)) or {}).get(name)
    return found if issubclass(type(found), type) else None
