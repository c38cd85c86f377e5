"""The compiled patterns that ``re`` keeps."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(re: ModuleType) -> None:
    re.purge()


CLEANER = library_cleaner("re", "re", clear, effect="recompute", about="compiled regular expressions that re keeps")
