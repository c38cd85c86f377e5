"""The blocks of rasters that GDAL caches for rasterio, by default up to 5 % of the host's memory."""

from __future__ import annotations

import ctypes
from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(env: ModuleType) -> None:
    """Drop the cached blocks, of open data sets too; those that were written and not saved yet are saved.

    rasterio has no call for it. Its own library is asked for the function, which finds the GDAL that it is linked to,
    wherever that lies. ``GDAL_CACHEMAX`` would do too, but above 2 GiB rasterio cannot tell what to set it back to.
    """
    assert env.__file__ is not None
    flush_block = ctypes.CDLL(env.__file__).GDALFlushCacheBlock
    while flush_block():
        pass


CLEANER = library_cleaner(
    "rasterio", "rasterio._env", clear, effect="recompute", about="blocks of rasters that GDAL caches"
)
