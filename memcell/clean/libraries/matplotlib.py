"""The figures that ``matplotlib.pyplot`` keeps until they are closed."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(pyplot: ModuleType) -> None:
    pyplot.close("all")


# Of effect "state": a figure that the user still draws on is gone from pyplot, and its window is closed.
CLEANER = library_cleaner(
    "matplotlib", "matplotlib.pyplot", clear, effect="state", about="closes all figures that pyplot holds open"
)
