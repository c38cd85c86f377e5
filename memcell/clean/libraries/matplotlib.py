"""The figures that ``matplotlib.pyplot`` keeps until they are closed."""

from __future__ import annotations

import gc
from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(pyplot: ModuleType) -> None:
    """Close the figures, and collect them: a figure refers to itself in many ways, so closing alone frees nothing."""
    if pyplot.get_fignums():
        pyplot.close("all")
        gc.collect()


# Of effect "state": a figure that the user still draws on is gone from pyplot, and its window is closed.
CLEANER = library_cleaner(
    "matplotlib",
    "matplotlib.pyplot",
    clear,
    effect="state",
    about="closes all figures that pyplot holds open",
    deep=True,
)
