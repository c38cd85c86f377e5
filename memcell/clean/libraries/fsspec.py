"""The file systems that fsspec keeps for the next call with the same arguments, and their listings."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from memcell.clean.cleaner import library_cleaner


def clear(spec: ModuleType) -> None:
    """Forget the kept file systems, and the listings also of those that the user still holds.

    The contents of ``memory://`` belong to their class and stay.
    """
    for kind in _with_subclasses(spec.AbstractFileSystem):
        kept = list(kind._cache.values())
        kind.clear_instance_cache()
        for file_system in kept:
            file_system.invalidate_cache()


def _with_subclasses(kind: Any) -> Iterator[Any]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _with_subclasses(subclass)


CLEANER = library_cleaner(
    "fsspec", "fsspec.spec", clear, effect="recompute", about="kept file systems and their directory listings"
)
