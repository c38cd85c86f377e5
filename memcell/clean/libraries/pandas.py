"""The hash tables in which pandas looks labels up: each index that was searched by label keeps one.

An index of 2,000,000 strings takes 75 MB, its table another 200. The strings themselves are in Arrow's pool since
pandas 3: what deleted frames leave there is the business of the cleaner "pyarrow".
"""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.instances import instances_of


def clear(base: ModuleType) -> None:
    """Drop the look-up tables of all live indexes, the user's too: the next look-up builds its table again."""
    for index in instances_of(base.Index):
        index._reset_cache("_engine")


CLEANER = library_cleaner(
    "pandas",
    "pandas.core.indexes.base",
    clear,
    effect="recompute",
    about="look-up tables of indexes; the indexes stay",
)
