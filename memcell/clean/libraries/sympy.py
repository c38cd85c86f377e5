"""The cache of SymPy's core: results of simplification, differentiation and the like."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(cache: ModuleType) -> None:
    cache.clear_cache()


CLEANER = library_cleaner(
    "sympy", "sympy.core.cache", clear, effect="recompute", about="results that SymPy's core caches"
)
