"""Cleaners that libraries declare as entry points, without importing memcell.

In the library's ``pyproject.toml``::

    [project.entry-points."memcell.cleaners"]
    graphs = "graphlib.caches:clear"

``graphlib.caches.clear`` is called without arguments. It is loaded only once ``graphlib`` is in ``sys.modules``, and
may carry an attribute ``effect`` (``none``, ``recompute`` or ``state``), without which it is ``recompute``.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from memcell.clean.cleaner import Cleaner, ClearCallback
from memcell.errors import InvalidCleanerError
from memcell.records.cleaned import Effect

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "memcell.cleaners"

logger = logging.getLogger("memcell")


def _scan() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # only here: it takes longer to import than all of this folder

    return entry_points(group=GROUP)


class EntryPointCleaners:
    """The declared cleaners. Looked up when asked for, and again only after what is installed may have changed.

    Args:
        scan: Lists the entry points of the group. The real one takes 2 ms with 40 packages, where the comparison that
            spares it takes 25 µs.
    """

    def __init__(self, scan: Callable[[], Iterable[EntryPoint]] = _scan) -> None:
        self._scan = scan
        self._places: tuple[tuple[str, int], ...] | None = None
        self._found: tuple[EntryPoint, ...] = ()
        self._refused: set[str] = set()

    def cleaners(self, taken: Collection[str]) -> list[Cleaner]:
        """The declared cleaners whose names are free; a clash is logged once.

        Args:
            taken: The names of built-in and registered cleaners, which come first.
        """
        places = _places()
        if places != self._places:
            self._found = tuple(self._scan())
            self._places = places
        free: dict[str, Cleaner] = {}
        for entry_point in self._found:
            if entry_point.name not in taken and entry_point.name not in free:
                free[entry_point.name] = _cleaner(entry_point)
            elif entry_point.value not in self._refused:
                self._refused.add(entry_point.value)
                logger.warning(
                    "the cleaner %r that %s declares is left out: the name is taken",
                    entry_point.name,
                    entry_point.value,
                )
        return list(free.values())


def _places() -> tuple[tuple[str, int], ...]:
    """Where packages are installed, and when something was last added or removed there."""
    return tuple((path, _modified_ns(path)) for path in sys.path)


def _modified_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _cleaner(entry_point: EntryPoint) -> Cleaner:
    library = entry_point.module.partition(".")[0]
    find = functools.partial(_load, entry_point, library)
    return Cleaner(
        entry_point.name, _effect(find), "entry point", library, find, library=library, about=entry_point.value
    )


def _load(entry_point: EntryPoint, library: str) -> ClearCallback | None:
    """The callback; what loading it raises is the outcome of that cleaner."""
    if library not in sys.modules:
        return None
    callback: ClearCallback = entry_point.load()
    if not callable(callback):
        raise InvalidCleanerError(f"the entry point {entry_point.value} is not callable; it must name a function")
    return callback


def _effect(find: Callable[[], ClearCallback | None]) -> Effect:
    declared: Any = None
    try:
        declared = getattr(find(), "effect", None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: S110 - whatever the library raises becomes the outcome when the cleaner runs
        pass
    return declared if declared in get_args(Effect) else "recompute"
