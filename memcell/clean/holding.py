"""How a registered callback is held: weakly where that is right, so that the registry is no leak.

``docs/decisions/002-cleaners-hold-weakly-where-that-is-right.md`` has the reasons.
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any


class Held:
    """A callback, held weakly where the object behind it has a life of its own, else strongly.

    Args:
        callback: A bound method and a bound method of a built-in type (``primes.cache_clear``, ``a_set.clear``) are
            found through a weak reference to their object, as long as it takes weak references; ``dict`` and ``list``
            do not. Everything else is held strongly.
        died: Called without arguments when the object behind a weakly held callback is gone. It may be called at any
            moment and in any thread.
    """

    __slots__ = ("__weakref__", "_find")

    def __init__(self, callback: Callable[..., Any], died: Callable[[], object] = lambda: None) -> None:
        self._find: Callable[[], Callable[..., Any] | None] | None
        try:
            if isinstance(callback, types.MethodType):
                self._find = weakref.WeakMethod(callback, lambda _: died())
            elif isinstance(callback, types.BuiltinMethodType) and not isinstance(
                callback.__self__, (types.ModuleType, type(None))
            ):
                self._find = _weak_attribute(callback.__self__, callback.__name__, died)
            else:
                self._find = lambda: callback
        except TypeError:  # the object takes no weak reference
            self._find = lambda: callback

    @classmethod
    def cache(cls, function: Callable[..., Any], died: Callable[[], object]) -> Held:
        """Hold the ``cache_clear`` of a cached function, such as one under ``functools.cache``, weakly."""
        held = cls.__new__(cls)
        held._find = _weak_attribute(function, "cache_clear", died)
        return held

    def get(self) -> Callable[..., Any] | None:
        """The callback; None once it is gone or was dropped."""
        find = self._find
        return None if find is None else find()

    def drop(self) -> None:
        """Let go of the callback. May be called twice."""
        self._find = None


def cached_function(candidate: object) -> Callable[..., Any] | None:
    """The function with a ``cache_clear`` that the candidate is, or is a bound method of; None for anything else."""
    function = candidate.__func__ if isinstance(candidate, types.MethodType) else candidate
    # A static look-up: objects that make up any attribute that they are asked for (mocks, proxies) are no caches.
    if inspect.getattr_static(function, "cache_clear", None) is None or not callable(function):
        return None
    return function


def _weak_attribute(owner: object, name: str, died: Callable[[], object]) -> Callable[[], Callable[..., Any] | None]:
    reference = weakref.ref(owner, lambda _: died())

    def find() -> Callable[..., Any] | None:
        alive = reference()
        return None if alive is None else getattr(alive, name)

    return find
