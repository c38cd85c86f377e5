"""The traced and compiled functions that JAX keeps for each shape of their arguments."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(jax: ModuleType) -> None:
    jax.clear_caches()


CLEANER = library_cleaner("jax", "jax", clear, effect="recompute", about="functions that JAX has traced and compiled")
