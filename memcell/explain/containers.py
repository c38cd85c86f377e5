"""The containers of the standard library: their length and their entries, by their own C functions.

A class derived from one is asked through the built-in it derives from, so that what it overrides does not run.
"""

from __future__ import annotations

import functools
import gc
import itertools
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

from memcell import looking

CACHE = functools._lru_cache_wrapper
_KEYS = (str, int, tuple, float)


def copied(entries: Callable[[], Iterable[Any]]) -> Iterable[Any]:
    """The entries as a list of their own; empty if another thread changes them meanwhile."""
    try:
        return list(entries())
    except RuntimeError:
        return ()


def newest(value: Any, number: int, *, is_in_front: bool = False) -> list[object]:
    """The entries that were added last; of a set, which knows no order, any.

    Args:
        value: The container.
        number: How many.
        is_in_front: A list has got them at its beginning.
    """
    try:
        if value is sys.modules:
            return [dict(looking.module_names(module)) for module in list(sys.modules.values())[-number:]]
        if type(value) is CACHE:
            return _newest_cached(value, number)
        kind = built_in_length(type(value))
        if kind is dict.__len__:
            pairs = itertools.islice(dict.__reversed__(value), number)
            return [entry for key in list(pairs) for entry in (key, dict.__getitem__(value, key))]
        if kind is list.__len__:
            return list.__getitem__(value, slice(number) if is_in_front else slice(-number, None))
        if kind is tuple.__len__:
            return list(tuple.__getitem__(value, slice(-number, None)))
        if kind is deque.__len__:
            entries = deque.__iter__(value) if is_in_front else deque.__reversed__(value)
            return list(itertools.islice(entries, number))
        if kind in (set.__len__, frozenset.__len__):
            return list(itertools.islice(kind.__objclass__.__iter__(value), number))
    except Exception:  # another thread changes it, or a key whose hash raises
        return []
    return []


def identity_of_first(value: Any) -> int | None:
    """The identity of the first entry of a list or deque; None for anything else and for an empty one."""
    kind = built_in_length(type(value))
    try:
        if kind is list.__len__:
            return id(list.__getitem__(value, 0))
        return id(deque.__getitem__(value, 0)) if kind is deque.__len__ else None
    except IndexError:
        return None


def _newest_cached(cache: Any, number: int) -> list[object]:
    """The newest entries of a function's cache: the results, and the arguments, an instance of a method among them.

    They are seen by the garbage collector only.
    """
    results = CACHE.cache_info(cache).currsize
    for held in gc.get_referents(cache):
        # An unbounded cache keeps a dict of results; a bounded one a ring, whose parts come one by one.
        if type(held) is dict and len(held) == results and "__wrapped__" not in held:
            pairs = list(itertools.islice(reversed(held.items()), number))
            if pairs and type(pairs[0][1]).__name__ != "_lru_list_elem":
                return [one for pair in pairs for one in pair]
    ring = [held for held in gc.get_referents(cache) if not issubclass(type(held), (type, FunctionType, dict))]
    return ring[-2 * number - 2 :]


def common_class(values: list[object]) -> str:
    """The class of the objects that were added, leaving keys of plain types out; empty if there are several."""
    kinds = {id(type(value)): type(value) for value in values if not looking.is_one_of(type(value), _KEYS)}
    return looking.class_name(*kinds.values()) if len(kinds) == 1 else ""


def _entries_of_list(value: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(list.__getitem__(value, slice(None)))


def _entries_of_tuple(value: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(tuple.__getitem__(value, slice(None)))


def _entries_of_deque(value: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(deque.__iter__(value))


def _no_entries(_: Any) -> tuple[()]:
    return ()


#: For each built-in container, the C function that tells its length, and how to get at its entries.
CONTAINERS: dict[Any, tuple[Callable[[Any], int], Callable[[Any], Iterable[Any]]]] = {
    dict.__len__: (dict.__len__, dict.items),
    list.__len__: (list.__len__, _entries_of_list),
    tuple.__len__: (tuple.__len__, _entries_of_tuple),
    deque.__len__: (deque.__len__, _entries_of_deque),
    set.__len__: (set.__len__, _no_entries),
    frozenset.__len__: (frozenset.__len__, _no_entries),
    array.__len__: (array.__len__, _no_entries),
}
_KINDS = (dict, list, tuple, deque, set, frozenset, array)


def built_in_length(kind: type) -> Any:
    """The key of a built-in container in the table, also for a class derived from it; None for anything else."""
    for built_in in _KINDS:
        if issubclass(kind, built_in):
            return built_in.__len__
    return None
