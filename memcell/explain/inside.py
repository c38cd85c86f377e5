"""How much is inside objects whose length does not tell it, asked by C code of their class only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import GetSetDescriptorType, MethodDescriptorType
from typing import Any, cast

from memcell import looking

#: Containers with more entries are not looked through for data.
MOST_ENTRIES = 1_000
#: Nodes of an autograd graph that are counted, 1 µs each.
_MOST_NODES = 20_000


def buffer_gauge(kind: type) -> Callable[[Any], int]:
    """Tells the bytes of an object with a buffer of its own, such as a file in memory; of others it says 0."""
    for base in looking.mro(kind):
        found = looking.class_names(base).get("__sizeof__")
        if found is not None:
            is_own = type(found) is MethodDescriptorType and base is not object and not looking.is_proxy(kind)
            return cast("Callable[[Any], int]", found) if is_own else _nothing
    return _nothing


def _nothing(_: object) -> int:
    return 0


def objects_in_array(value: object) -> Iterable[object]:
    """The entries of a flat numpy array of objects; of anything else none."""
    array = looking.module_names(sys.modules.get("numpy")).get("ndarray")
    if type(value) is not array:
        return ()
    names = looking.class_names(array)
    if not names["dtype"].__get__(value).hasobject or not 0 < names["size"].__get__(value) <= MOST_ENTRIES:
        return ()
    entries = names["tolist"](value)
    return entries if type(entries) is list else ()


def graph_nodes(value: object) -> int:
    """How many nodes the autograd graph has that a torch tensor keeps; 0 for anything else, and without a graph."""
    torch = sys.modules.get("torch")
    if torch is None or type(value) is not looking.module_names(torch).get("Tensor"):
        return 0
    pending = [looking.in_class(type(value), "grad_fn").__get__(value)]
    seen: set[object] = set()
    while pending and len(seen) < _MOST_NODES:
        node = pending.pop()
        following = looking.class_names(type(node)).get("next_functions") if node is not None else None
        # Nodes of the user's own functions are classes in Python: they are not asked.
        if type(following) is GetSetDescriptorType and node not in seen:
            seen.add(node)
            pending += [other for other, _ in following.__get__(node)]
    return len(seen)
