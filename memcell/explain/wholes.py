"""What the user's variables hold to the last, each measured as a whole.

A chain of objects, each of which holds the one before it, gets longer without any container that does; so does what a
suspended coroutine, an iterator or a context in C holds. A walk by names does not see that, but the garbage
collector does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from memcell import looking
from memcell.explain.containers import CONTAINERS, built_in_length
from memcell.explain.names import variable_name
from memcell.explain.weighing import Scale

#: Objects that are followed from one variable, about 1 µs each. What holds more is not measured.
_MOST_OBJECTS = 20_000
#: A container that gets longer tells that itself: only in a short one may a chain be unseen.
_MOST_ENTRIES = 64
_PLAIN: tuple[type, ...] = (int, float, complex, type(None), str, bytes, bytearray, range, slice)


class Whole(NamedTuple):
    """What one name holds in all."""

    name: str
    kind: str
    size_bytes: int


def wholes(
    own: Mapping[str, Any], lent: Iterable[tuple[str, Any]], stop: set[int], is_over: Callable[[], bool]
) -> Iterator[Whole]:
    """What each of these holds in all.

    Args:
        own: The user's variables. What another of them is counts for that one only.
        lent: Functions and objects of the user's that other modules have, by their dotted names.
        stop: Identities of what belongs to modules: it is not followed.
        is_over: Tells when no time is left.
    """
    scale = Scale(stop | {id(value) for value in own.values()}, _MOST_OBJECTS)
    named = [(variable_name(name), value) for name, value in own.items()]
    for name, value in (*lent, *named):
        if is_over():
            return
        if _may_hide(value):
            weight = scale.weigh([value])
            if not weight.cut:
                yield Whole(name, looking.class_name(type(value)), weight.seen_bytes)


def _may_hide(value: Any) -> bool:
    """Whether something may grow in an object of which a walk by names does not know."""
    kind = type(value)
    if issubclass(kind, (*_PLAIN, ModuleType, BuiltinFunctionType)):
        return False
    if issubclass(kind, FunctionType):
        return bool(value.__closure__ or value.__defaults__ or value.__kwdefaults__)
    length = built_in_length(kind)
    return length is None or CONTAINERS[length][0](value) <= _MOST_ENTRIES
