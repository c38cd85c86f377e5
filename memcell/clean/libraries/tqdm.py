"""Progress bars that were begun and never finished."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.closing import for_each


def clear(std: ModuleType) -> None:
    """Close them. tqdm knows its bars weakly, so what counts is what a bar that the user still has goes over."""
    for_each(list(std.tqdm._instances), _close)


def _close(bar: Any) -> None:
    bar.close()
    bar.iterable = None  # a loop over the bar that is going on has its own reference, and goes on without a bar


CLEANER = library_cleaner(
    "tqdm",
    "tqdm.std",
    clear,
    effect="state",
    about="closes unfinished bars, and lets go of what they go over",
    deep=True,
)
