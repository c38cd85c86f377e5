"""The source files that ``linecache`` keeps for tracebacks and debuggers."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(linecache: ModuleType) -> None:
    """Forget the files that can be read again, and only those.

    An entry is ``(size, mtime, lines, fullname)``, where ``mtime`` is None for source that is in no file: cells,
    generated code, modules in archives. It is the only copy, and tracebacks need it. An entry of one item is a loader
    that has not been asked yet.
    """
    for filename, entry in list(linecache.cache.items()):
        if len(entry) == 4 and entry[1] is not None:
            linecache.cache.pop(filename, None)


CLEANER = library_cleaner(
    "linecache", "linecache", clear, effect="recompute", about="source files that linecache keeps for tracebacks"
)
