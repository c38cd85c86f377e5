"""The parsed modules that jedi keeps in memory for completion, on behalf of IPython."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(cache: ModuleType) -> None:
    """Forget them. What parso keeps on disk stays, and is what the next completion reads."""
    cache.clear_time_caches(delete_all=True)


CLEANER = library_cleaner(
    "jedi", "jedi.cache", clear, effect="recompute", about="modules that jedi has parsed for completion"
)
