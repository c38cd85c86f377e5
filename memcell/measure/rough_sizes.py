"""How large variables are, roughly, where there is no memory left to count them.

``sizes.py`` follows every reference and keeps a mark for each object. That takes some 20 MiB: too much when a kernel is
about to be killed. Here nothing is followed: what a value tells of itself, and of containers a sample.
"""

from __future__ import annotations

import array
import collections
import sys
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import cast

from memcell.looking import type_name
from memcell.records.sized import ObjectSize

#: Elements of a container that stand for all of them.
_SAMPLE = 50
#: Containers in containers: a list of rows is worth asking, a tree is not.
_DEPTH = 2
_CONTAINERS = {list, tuple, set, frozenset, dict, collections.deque}
_LEAVES = {int, float, complex, bool, str, bytes, bytearray, array.array}


def rough_sizes(
    variables: Mapping[str, object], data_size: Callable[[object], int | None], count: int
) -> tuple[ObjectSize, ...]:
    """The largest variables, the largest first.

    Args:
        variables: What there is, by name.
        data_size: The bytes of an array or data frame; None for anything else.
        count: How many to name.
    """
    sizes = [
        ObjectSize(name, type_name(type(value)), _rough(value, data_size, _DEPTH), note="estimated")
        for name, value in variables.items()
    ]
    return tuple(sorted(sizes, key=lambda size: -size.size_bytes)[:count])


def _rough(value: object, data_size: Callable[[object], int | None], depth: int) -> int:
    known = data_size(value)
    if known is not None:
        return known
    kind = type(value)
    if kind not in _CONTAINERS and kind not in _LEAVES:
        return 0  # its class could run anything when it is asked
    own_bytes = sys.getsizeof(value)
    if kind in _LEAVES or not depth or not value:
        return own_bytes
    elements = value.values() if isinstance(value, dict) else cast("Collection[object]", value)
    sample = list(islice(elements, _SAMPLE))
    different = {id(element): element for element in sample}
    size_bytes = sum(_rough(element, data_size, depth - 1) for element in different.values())
    # ``[0] * 1000`` holds one object; where some differ, all of the container is taken to be like the sample.
    times = len(elements) / len(sample) if len(different) > 1 else 1
    return own_bytes + round(size_bytes * times)
