"""The cleaners of libraries that keep files and their blocks: xarray, fsspec, rasterio."""

from __future__ import annotations

from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process


def test_xarray_closes_its_files_only_when_named_and_opens_them_again(tmp_path):
    opened, kept, held, freed, closed, mean = in_fresh_process(
        f"""
        import os
        os.chdir({str(tmp_path)!r})
        import numpy as np
        import xarray as xr
        from xarray.backends.file_manager import FILE_CACHE
        limit = FILE_CACHE.maxsize
        values = np.random.default_rng(0).random((1000, 1000))
        data = xr.Dataset({{"a": (("x", "y"), values)}})
        for i in range(20):
            data.to_netcdf(f"{{i}}.nc", engine="netcdf4", encoding={{"a": {{"chunksizes": (100, 100)}}}})
        clean()
        before = process.memory_info().rss
        sets = [xr.open_dataset(f"{{i}}.nc", engine="netcdf4", cache=False) for i in range(20)]
        for one in sets:
            float(one.a.mean())
        opened = len(FILE_CACHE)
        held = process.memory_info().rss - before
        clean()
        kept = len(FILE_CACHE)
        freed = clean("xarray")["xarray"]
        closed = [len(FILE_CACHE), FILE_CACHE.maxsize == limit]
        print(json.dumps([opened, kept, held, freed, closed, float(sets[7].a.mean()) == float(values.mean())]))
        """
    )
    assert (opened, kept, closed) == (20, 20, [0, True])
    assert held >= 64 * MIB
    assert freed >= 0.5 * held
    assert mean


def test_fsspec_forgets_file_systems_and_keeps_what_memory_holds():
    same, alive, held, after, listings, text = in_fresh_process(
        """
        import weakref
        import fsspec
        class Store(fsspec.AbstractFileSystem):
            def __init__(self, name):
                super().__init__(name)
                self.name = name
            def ls(self, path, detail=True):
                if path not in self.dircache:
                    self.dircache[path] = [{"name": f"{self.name}/{path}/{j}", "size": j} for j in range(100_000)]
                return self.dircache[path]
            def invalidate_cache(self, path=None):
                self.dircache.clear()
                super().invalidate_cache(path)
        fsspec.filesystem("memory").pipe("/kept.txt", b"kept")
        clean()
        before = process.memory_info().rss
        for name in "abcd":
            Store(name).ls("")
        same = Store("a") is Store("a")
        user = Store("d")
        kept = [weakref.ref(Store(name)) for name in "abcd"]
        held = process.memory_info().rss - before
        alive = [sum(one() is not None for one in kept)]
        clean()
        alive.append(sum(one() is not None for one in kept))
        after = process.memory_info().rss - before
        text = fsspec.filesystem("memory").cat("/kept.txt").decode()
        print(json.dumps([same, alive, held, after, [len(user.dircache), len(user.ls(""))], text]))
        """
    )
    assert same
    assert alive == [4, 1], "the user holds the last"
    assert held >= 64 * MIB
    assert after <= 0.3 * held
    assert listings == [0, 100_000]
    assert text == "kept"


def test_gdal_drops_the_blocks_of_open_data_sets_and_saves_what_was_written(tmp_path):
    held, freed, same, written = in_fresh_process(
        f"""
        import os, warnings
        os.chdir({str(tmp_path)!r})
        warnings.simplefilter("ignore")
        import numpy as np
        import rasterio
        shape = dict(driver="GTiff", height=2000, width=2000, count=1, dtype="float32", tiled=True)
        values = np.random.default_rng(0).random((2000, 2000)).astype("f4")
        for i in range(8):
            with rasterio.open(f"{{i}}.tif", "w", **shape) as file:
                file.write(values, 1)
        clean()
        before = process.memory_info().rss
        opened = [rasterio.open(f"{{i}}.tif") for i in range(8)]
        for file in opened:
            file.read(1)
        unsaved = rasterio.open("unsaved.tif", "w", **shape)
        unsaved.write(values, 1)
        held = process.memory_info().rss - before
        freed = clean("rasterio")["rasterio"]
        same = bool((opened[3].read(1) == values).all())
        unsaved.close()
        with rasterio.open("unsaved.tif") as file:
            written = bool((file.read(1) == values).all())
        print(json.dumps([held, freed, same, written]))
        """
    )
    blocks = 8 * 64 * 256 * 256 * 4  # of eight data sets, whole tiles
    assert held >= blocks
    assert freed >= 0.9 * blocks
    assert same
    assert written
