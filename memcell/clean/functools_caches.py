"""Cleaners for the caches of ``functools``, found by a dotted name: ``lru:package.module.function``.

Only modules that are imported are looked into, and only as they are: nothing is imported, and neither a module's
``__getattr__`` nor a descriptor gets to run.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Mapping
from typing import Any, cast

from memcell import looking
from memcell.clean.cleaner import Cleaner, ClearCallback
from memcell.errors import UnknownCleanerError

PREFIX = "lru:"
#: The user's own functions may be named without their module.
_MAIN = "__main__"
_MISSING = object()


def cache_cleaner(name: str) -> Cleaner:
    """The cleaner of a function under ``functools.cache`` or ``lru_cache``.

    Args:
        name: ``lru:`` and the dotted name of the function or method. A function of a notebook needs no module.

    Raises:
        UnknownCleanerError: There is no such name in the modules that are imported, or it is no cache.
    """
    _cached_function(name)
    dotted = name.removeprefix(PREFIX)
    module, _ = _split(dotted)
    return Cleaner(
        name,
        "recompute",
        "built-in",
        module.partition(".")[0],
        functools.partial(_find, name),
        about=f"what {dotted} has cached",
    )


def _find(name: str) -> ClearCallback | None:
    """Look the cache up again when its turn comes, so that the cleaner keeps nothing alive."""
    try:
        clear: ClearCallback = _cached_function(name).cache_clear
    except UnknownCleanerError:
        return None
    return clear


def _cached_function(name: str) -> Any:
    """The cached function of that name; raises what ``cache_cleaner`` does."""
    module, path = _split(name.removeprefix(PREFIX))
    where, owner = module, cast(object, sys.modules.get(module))
    for attribute in path:
        found = _own_attribute(owner, attribute)
        if found is _MISSING:
            no_module = "" if module != _MAIN else f"no module {path[0]!r} is imported, and "
            raise UnknownCleanerError(
                f"unknown cleaner {name!r}; {no_module}{where} has no {attribute!r}{_meant(owner, where, attribute)}"
            )
        where, owner = f"{where}.{attribute}", found
    if not _is_cache(owner):
        raise UnknownCleanerError(
            f"unknown cleaner {name!r}; {where} is not under functools.cache or lru_cache; "
            "memcell.register('a-name', function) takes any other function"
        )
    return owner


def _meant(owner: object, where: str, attribute: str) -> str:
    """The cache beside it that has the most similar name, to be appended to a message."""
    caches = [name for name in _attributes(owner) if _is_cache(_own_attribute(owner, name))]
    close = difflib.get_close_matches(attribute, caches, n=1)
    return f"; did you mean '{PREFIX}{where}.{close[0]}'?" if close else ""


def _split(dotted: str) -> tuple[str, list[str]]:
    """The longest part of a dotted name that is an imported module, and the rest; without one, the user's module."""
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        if module in sys.modules:
            return module, parts[end:]
    return _MAIN, parts


def _own_attribute(owner: object, name: str) -> Any:
    """An attribute of a module or class as it stands there; of a ``staticmethod`` and the like, the function in it."""
    bases = looking.mro(cast("type", owner)) if _is_class(owner) else (owner,)
    found: Any = next((_attributes(base)[name] for base in bases if name in _attributes(base)), _MISSING)
    if type(found) in (staticmethod, classmethod):
        return found.__func__
    return found.fget if type(found) is property else found


# Types are asked for with type() throughout: isinstance() would ask a lazy module for its __class__.


def _attributes(owner: object) -> Mapping[str, object]:
    return looking.class_names(cast("type", owner)) if _is_class(owner) else looking.module_names(owner)


def _is_class(owner: object) -> bool:
    return issubclass(type(owner), type)


def _is_cache(candidate: object) -> bool:
    return type(candidate) is functools._lru_cache_wrapper or all(
        callable(inspect.getattr_static(candidate, method, None)) for method in ("cache_clear", "cache_info")
    )
