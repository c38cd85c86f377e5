"""How much is inside objects whose length does not tell it, asked by C code of their class only."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import GetSetDescriptorType, MethodDescriptorType
from typing import Any, cast

from memcell import looking

#: Containers with more entries are not looked through for data.
MOST_ENTRIES = 1_000
#: A file in memory takes up to an eighth more than is in it, and so grows in steps. Where it is written at its end, the
#: position tells exactly.
_AT_END = 0.85
#: Nodes of an autograd graph that are counted, 1 µs each.
_MOST_NODES = 20_000


def buffer_gauge(kind: type) -> Callable[[Any], int]:
    """Tells the bytes of an object with a buffer of its own, such as a file in memory; of others it says 0."""
    if issubclass(kind, io.BytesIO):
        return _bytes_written
    for base in looking.mro(kind):
        found = looking.class_names(base).get("__sizeof__")
        if found is not None:
            is_own = type(found) is MethodDescriptorType and base is not object and not looking.is_proxy(kind)
            return cast("Callable[[Any], int]", found) if is_own else _nothing
    return _nothing


def _nothing(_: object) -> int:
    return 0


def _bytes_written(file: Any) -> int:
    capacity, position = io.BytesIO.__sizeof__(file), _position(io.BytesIO, file)
    return position if position >= _AT_END * capacity else capacity


def text_written(file: Any) -> int:
    """How many characters a text file in memory has, if it is written at its end."""
    return _position(io.StringIO, file)


def _position(kind: Any, file: Any) -> int:
    try:
        return int(kind.tell(file))
    except ValueError:  # it is closed
        return 0


def objects_in_array(value: object) -> list[object]:
    """The entries of a numpy array of objects that is not too long; of anything else none."""
    array = looking.module_names(sys.modules.get("numpy")).get("ndarray")
    if type(value) is not array:
        return []
    names = looking.class_names(array)
    if names["dtype"].__get__(value).char != "O" or not 0 < names["size"].__get__(value) <= MOST_ENTRIES:
        return []
    flat = names["ravel"](value, "K")  # no copy where the entries lie one after the other
    entries = names["tolist"](flat)
    return entries if type(entries) is list else []


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
