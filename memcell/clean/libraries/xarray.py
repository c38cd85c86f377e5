"""The files that xarray keeps open, with the chunks that HDF5 and netCDF cache for each."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(file_manager: ModuleType) -> None:
    """Close the files, as xarray itself does when too many are open: the next access opens its file again."""
    cache = file_manager.FILE_CACHE
    with cache._lock:  # a file that another thread opened in between would be closed before it is read
        limit = cache.maxsize
        try:
            cache.maxsize = 0
        finally:
            cache.maxsize = limit


# Of effect "state", and not for a deep clean-up: what was deleted or overwritten meanwhile cannot be opened again.
CLEANER = library_cleaner(
    "xarray",
    "xarray.backends.file_manager",
    clear,
    effect="state",
    about="closes the files that data sets have open; the next access opens them again",
)
