"""Does the same to many objects, one of which may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def for_each(items: Iterable[Item], act: Callable[[Item], object]) -> None:
    """Act on every item; the first error is raised only afterwards, so that one item does not save all the others."""
    first: Exception | None = None
    for item in items:
        try:
            act(item)
        except Exception as error:
            first = first or error
    if first is not None:
        raise first
