"""What a cleaner is to this room: a name, when it runs, and how its callback is found at the moment it is needed."""

from __future__ import annotations

import enum
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from memcell.records.cleaned import CleanerInfo, CleanerSource, Effect

ClearCallback = Callable[[], object]


class Stage(enum.IntEnum):
    """The order of a clean-up: each stage gives back what the one before it let go of."""

    CACHES = 0  # caches, figures and everything registered drop their objects
    GARBAGE = 1  # the collector frees those of them that are in reference cycles
    POOLS = 2  # the libraries' own allocators return the pages that are free now
    TRIM = 3  # and so does malloc


@dataclass(frozen=True, slots=True)
class Cleaner:
    """One cleaner, wherever it comes from.

    Attributes:
        name: What the user calls it.
        effect: What a user may notice after it ran.
        source: Who brought it.
        owner: The top-level package that brought it.
        find: Looks its callback up; None while its library is not imported, or once it is gone. May raise what
            loading the callback raises.
        stage: When in a clean-up it runs.
        library: The module that must have been imported before there is anything to clean; empty for none.
        size: Tells how many bytes it would free.
        about: One line for the list of cleaners.
        deep: Whether ``--deep`` runs it although its effect is ``state``.
    """

    name: str
    effect: Effect
    source: CleanerSource
    owner: str
    find: Callable[[], ClearCallback | None]
    stage: Stage = Stage.CACHES
    library: str = ""
    size: Callable[[], int | None] | None = None
    about: str = ""
    deep: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether the library that it cleans is imported."""
        return not self.library or self.library in sys.modules

    def info(self) -> CleanerInfo:
        """The cleaner as a line of the list; asks ``size``."""
        return CleanerInfo(
            name=self.name,
            effect=self.effect,
            source=self.source,
            owner=self.owner,
            ready=self.is_ready,
            size_bytes=self.size() if self.size else None,
            about=self.about,
            deep=self.deep,
        )


def built_in_cleaner(
    name: str, clear: ClearCallback, *, effect: Effect, stage: Stage = Stage.CACHES, about: str
) -> Cleaner:
    """A cleaner of memcell's own that needs no library."""
    return Cleaner(name, effect, "built-in", "memcell", lambda: clear, stage=stage, about=about)


def library_cleaner(
    name: str,
    library: str,
    clear: Callable[[ModuleType], object],
    *,
    effect: Effect,
    stage: Stage = Stage.CACHES,
    about: str,
    deep: bool = False,
) -> Cleaner:
    """A built-in cleaner of a library, which is never imported for it.

    Args:
        name: What the user calls it.
        library: The module that must be in ``sys.modules``.
        clear: Is called with that module.
        effect: What a user may notice after it ran.
        stage: When in a clean-up it runs.
        about: One line for the list of cleaners.
        deep: Whether ``--deep`` runs it although its effect is ``state``.
    """

    def find() -> ClearCallback | None:
        module = sys.modules.get(library)
        return None if module is None else functools.partial(clear, module)

    return Cleaner(name, effect, "built-in", "memcell", find, stage=stage, library=library, about=about, deep=deep)
