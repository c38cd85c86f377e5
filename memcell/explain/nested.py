"""Containers inside containers, measured as a whole where a walk does not enter all of them."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

from memcell import looking
from memcell.explain.containers import CONTAINERS, built_in_length, copied
from memcell.explain.weighing import Scale

TEXTS = (str, bytes, bytearray)
#: Entries that tell whether a container holds containers.
_LOOKED_AT = 16
#: Objects that are met to measure a whole; 0.2 µs each.
_MOST = 300_000


def holds_containers(value: Any) -> bool:
    """Whether containers are among the entries of a container, from a look at some."""
    _, entries = CONTAINERS[built_in_length(type(value))]
    try:
        some = list(itertools.islice(entries(value), _LOOKED_AT))
    except RuntimeError:  # another thread changes it
        return False
    return any(built_in_length(type(held)) is not None for _, held in some)


def nested_bytes(
    container: Any, scale: Scale, enters: Callable[[type], bool], is_over: Callable[[], bool]
) -> int | None:
    """The bytes of a container and of those inside it, with their texts and data.

    Args:
        container: The outermost one.
        scale: Weighs objects.
        enters: Tells of which classes the entries are looked at.
        is_over: Tells when no time is left.

    Returns:
        The size; None if it has too many parts, or no time was left.
    """
    pending: list[Any] = [container]
    seen = {id(container)}
    size = met = 0
    while pending:
        value = pending.pop()
        size += scale.own_bytes(value)
        _, entries = CONTAINERS[built_in_length(type(value))]
        for _, held in copied(functools.partial(entries, value)):
            met += 1
            if looking.is_one_of(type(held), TEXTS):
                size += sys.getsizeof(held)
            elif not enters(type(held)):
                size += scale.data_bytes(held) or 0
            elif id(held) not in seen:
                seen.add(id(held))
                pending.append(held)
        if met > _MOST or is_over():
            return None
    return size
