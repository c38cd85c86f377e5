"""Of what interest the objects of a class are to a walk."""

from __future__ import annotations

import enum
from types import FunctionType
from typing import Any

from memcell import looking

_DESCRIBES_CODE = frozenset(
    {"memcell", "ast", "_ast", "typing", "importlib", "_frozen_importlib", "_frozen_importlib_external", "inspect"}
    | {"re", "enum"}
)


def is_of_others(kind: type) -> bool:
    """Whether objects of a class are memcell's own, or of the kinds that describe code."""
    module = looking.class_module(kind)
    is_librarys_enum = issubclass(type(kind), enum.EnumMeta) and module != "__main__"
    return is_librarys_enum or module.partition(".")[0] in _DESCRIBES_CODE


def is_data(kind: type) -> bool:
    """Whether objects of a class are data: arrays, columns and frames, which libraries give a size in bytes."""
    if looking.class_module(kind) == "__main__" or looking.is_proxy(kind):
        return False
    return any(looking.in_class(kind, name) is not None for name in ("nbytes", "estimated_size", "memory_usage"))


def is_users(value: Any) -> bool:
    """Whether a function or an instance is of the user's making."""
    if issubclass(type(value), FunctionType):
        return bool(value.__globals__.get("__name__") == "__main__")
    return looking.class_module(type(value)) == "__main__"
