"""The memory pools of Arrow, which past malloc keep what was freed: strings of pandas 3 are there too."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import Stage, library_cleaner


def clear(pyarrow: ModuleType) -> None:
    """Have the default pool return its free pages, and those of the other allocators that this build has."""
    pyarrow.default_memory_pool().release_unused()
    default = pyarrow.default_memory_pool().backend_name
    for backend in pyarrow.supported_memory_backends():
        # "system" is malloc, whose free pages are the business of the cleaner "trim".
        if backend not in (default, "system"):
            getattr(pyarrow, f"{backend}_memory_pool")().release_unused()


CLEANER = library_cleaner(
    "pyarrow", "pyarrow", clear, effect="none", stage=Stage.POOLS, about="free memory in Arrow's own pools"
)
