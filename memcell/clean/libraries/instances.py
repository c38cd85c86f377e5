"""Finds the live objects of a library that keeps no register of them."""

from __future__ import annotations

import gc
from typing import Any


def instances_of(kind: type) -> list[Any]:
    """The live objects of a class and its subclasses, as far as the garbage collector tracks them.

    Only the type of each object is looked at, so that neither a proxy nor a lazy loader gets to run. It takes 70 ns an
    object: 10 ms in a kernel with numpy and pandas, 0.4 s beside 5e6 objects.

    Args:
        kind: The class; its metaclass must not redefine ``__subclasscheck__``.
    """
    return [candidate for candidate in gc.get_objects() if issubclass(type(candidate), kind)]
