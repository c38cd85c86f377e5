"""The built-in cleaners of libraries: one file for each, and one line of this table.

A file holds a ``library_cleaner(...)``, whose function is given the library's module. It runs only once that module is
in ``sys.modules``, so it imports neither the library nor anything heavy of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcell.clean.libraries import (
    bokeh,
    cupy,
    duckdb,
    executing,
    fsspec,
    ipywidgets,
    jax,
    jedi,
    logging,
    loky,
    matplotlib,
    pandas,
    pyarrow,
    pyvista,
    rasterio,
    regex,
    source_lines,
    sqlalchemy,
    sqlite3,
    sympy,
    tensorflow,
    torch,
    tqdm,
    urllib3,
    xarray,
)

if TYPE_CHECKING:
    from memcell.clean.cleaner import Cleaner

LIBRARIES: tuple[Cleaner, ...] = (
    regex.CLEANER,
    source_lines.CLEANER,
    matplotlib.CLEANER,
    bokeh.CLEANER,
    pyvista.CLEANER,
    tqdm.CLEANER,  # before the widgets: a bar in a notebook is one, and is closed with its last state
    ipywidgets.CLEANER,
    logging.CLEANER,
    jedi.CLEANER,
    executing.CLEANER,
    sympy.CLEANER,
    jax.CLEANER,
    fsspec.CLEANER,
    pandas.CLEANER,
    rasterio.CLEANER,
    sqlalchemy.SESSIONS,  # before the engines: what a session lets go of, its engine can release
    sqlalchemy.ENGINES,
    sqlite3.CLEANER,
    urllib3.CLEANER,
    xarray.CLEANER,
    duckdb.DEFAULT_CONNECTION,
    duckdb.POOL,
    cupy.CLEANER,
    tensorflow.CLEANER,
    loky.JOBLIB,
    loky.LOKY,
    torch.COMPILED,
    torch.POOLS,
    pyarrow.CLEANER,
)
