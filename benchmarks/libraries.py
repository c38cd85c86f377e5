"""What each library cleaner gives back on the installed version: ``python -m benchmarks.libraries [NAME…] [--write]``.

Every workload makes its library hold memory in a fresh process, and three levels are read: with all of it held, after
the user's own names are deleted and the garbage is collected, and after the cleaner (with gc and trim). ``--write``
puts the measured rows into ``docs/libraries.md`` and leaves the others as they are. Most of this long file is the
table of workloads, one after the other.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

import memcell
from benchmarks.fresh import FreshCallError, call
from memcell.clean.libraries import LIBRARIES
from memcell.units import MIB

PAGE = Path(__file__).parents[1] / "docs" / "libraries.md"


@dataclass(frozen=True)
class Workload:
    """Makes a library hold memory.

    Attributes:
        package: The distribution whose version is shown; empty for the standard library.
        holds: What it is made to hold, for the table.
        warm: Code that imports the library and uses it once, so that loading it is not counted.
        hold: Code that makes it hold memory. Runs after ``warm``, in the same namespace.
        keep: Names of ``hold`` that the user does not delete: the holder is theirs.
        settle_s: How long to wait before a level is read, for libraries whose threads return memory.
        hopeless: Why there is no cleaner. Its row is measured after all cleaners, those of ``--deep`` included.
    """

    package: str
    holds: str
    warm: str
    hold: str
    keep: tuple[str, ...] = ()
    settle_s: float = 0.0
    hopeless: str = ""


@dataclass(frozen=True)
class Levels:
    """Resident memory above the level before the workload, in bytes."""

    held_bytes: int
    deleted_bytes: int
    cleaned_bytes: int

    @property
    def fraction(self) -> float:
        """The part of what was held that came back."""
        return 1 - self.cleaned_bytes / self.held_bytes


#: By name of the cleaner; those without one, at the end, by what holds the memory.
WORKLOADS: dict[str, Workload] = {
    "re": Workload(
        package="",
        holds="512 compiled patterns",
        warm="import re; re.compile('x')",
        hold="for i in range(600): re.compile('|'.join(f'word{i}_{j}[a-z]+' for j in range(60)))",
    ),
    "linecache": Workload(
        package="",
        holds="the source of 50 modules of 20,000 lines",
        warm="""
            import linecache, pathlib
            files = [pathlib.Path(f'module{i}.py') for i in range(50)]
            for file in files: file.write_text(''.join(f'value_{j} = {j}\\n' for j in range(20_000)))
        """,
        hold="for file in files: linecache.getlines(str(file))",
    ),
    "matplotlib": Workload(
        package="matplotlib",
        holds="12 figures, drawn, and never closed",
        warm="""
            import matplotlib
            matplotlib.use('agg')
            from matplotlib import pyplot
            pyplot.figure().canvas.draw()
            pyplot.close('all')
        """,
        hold="""
            for _ in range(12):
                figure = pyplot.figure(figsize=(16, 12), dpi=150)
                figure.add_subplot().plot(range(10))
                figure.canvas.draw()
        """,
    ),
    "sympy": Workload(
        package="sympy",
        holds="results of expanding and integrating",
        warm="import sympy; x, y = sympy.symbols('x y'); sympy.expand((x + y) ** 2)",
        hold="for power in range(2, 90): sympy.diff(sympy.expand((x + y + power) ** power), x)",
    ),
    "jax": Workload(
        package="jax",
        holds="one function compiled for 20 shapes",
        warm="""
            import jax, jax.numpy as jnp
            @jax.jit
            def work(v):
                for _ in range(20): v = jnp.sin(v) * 2 + jnp.cos(v)
                return v
            work(jnp.ones(3)).block_until_ready()
        """,
        hold="for size in range(4, 24): work(jnp.ones(size)).block_until_ready()",
    ),
    "torch-compile": Workload(
        package="torch",
        holds="60 compiled functions of 100 operations; the functions are kept",
        warm="""
            import torch
            def backend(graph, inputs): return graph.forward
            torch.compile(lambda x: x + 1, backend=backend)(torch.ones(3))
        """,
        hold="""
            functions = []
            for n in range(60):
                scope = {'torch': torch}
                exec('def work(x):\\n' + '    x = torch.sin(x) + 1\\n' * 100 + '    return x', scope)
                functions.append(torch.compile(scope['work'], backend=backend))
                functions[-1](torch.ones(3))
        """,
        keep=("functions",),
    ),
    "pyarrow": Workload(
        package="pyarrow",
        holds="40 arrays of strings",
        warm="import pyarrow; pyarrow.array(['a'])",
        hold="arrays = [pyarrow.array([str(i) * 10 for i in range(50_000)]) for _ in range(40)]",
    ),
    "pandas": Workload(
        package="pandas",
        holds="the look-up table of an index of 2,000,000 strings; the frame is kept",
        warm="""
            import numpy as np, pandas as pd
            frame = pd.DataFrame({'v': np.arange(2_000_000.0)}, index=[f'k{i}' for i in range(2_000_000)])
            pd.Series([1], index=['x']).loc['x']
        """,
        hold="frame.loc['k5']",
    ),
    "duckdb": Workload(
        package="duckdb",
        holds="10 tables in memory, dropped",
        warm="import duckdb; duckdb.execute('select 1').fetchall()",
        hold="""
            for k in range(10):
                duckdb.execute(f'create table t{k} as select range as i, random()::varchar as s from range(400000)')
            for k in range(10): duckdb.execute(f'drop table t{k}')
        """,
    ),
    "duckdb-default-connection": Workload(
        package="duckdb",
        holds="10 tables in memory",
        warm="import duckdb; duckdb.execute('select 1').fetchall()",
        hold="""
            for k in range(10):
                duckdb.execute(f'create table t{k} as select range as i, random()::varchar as s from range(400000)')
        """,
    ),
    "sqlalchemy-sessions": Workload(
        package="SQLAlchemy",
        holds="15,000 loaded rows of 8 KB, in the user's list",
        warm="""
            import sqlalchemy as sa
            from sqlalchemy import orm
            class Base(orm.DeclarativeBase): pass
            class Row(Base):
                __tablename__ = 'row'
                id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
                data: orm.Mapped[bytes]
            engine = sa.create_engine('sqlite:///rows.db')
            Base.metadata.create_all(engine)
            with orm.Session(engine) as session:
                session.execute(sa.insert(Row), [{'data': bytes([i % 256]) * 8000} for i in range(15_000)])
                session.commit()
            session = orm.Session(engine, expire_on_commit=False)
        """,
        hold="rows = session.scalars(sa.select(Row)).all(); session.commit()",
        keep=("rows",),
    ),
    "sqlalchemy": Workload(
        package="SQLAlchemy",
        holds="5 idle SQLite connections that have read 20 MB each",
        warm="""
            import sqlalchemy as sa
            engine = sa.create_engine('sqlite:///blobs.db')
            @sa.event.listens_for(engine, 'connect')
            def enlarge(connection, record): connection.execute('pragma cache_size = -30000')
            with engine.begin() as connection:
                connection.execute(sa.text('create table blobs (data blob)'))
                connection.execute(sa.text('insert into blobs values (:data)'), [{'data': b'x' * 4000}] * 5000)
            engine.dispose()
        """,
        hold="""
            read_all = sa.text('select max(substr(data, 3999)) from blobs')
            connections = [engine.connect() for _ in range(5)]
            for connection in connections: connection.execute(read_all).all()
            for connection in connections: connection.close()
        """,
    ),
    "sqlite3": Workload(
        package="",
        holds="the pages of an open database of 150 MB",
        warm="""
            import sqlite3
            connection = sqlite3.connect('blobs.db')
            connection.execute('create table blobs (data blob)')
            connection.executemany('insert into blobs values (?)', [(b'x' * 4000,)] * 37_500)
            connection.commit()
            connection.execute('pragma cache_size = -200000')
            connection.execute('pragma shrink_memory')
        """,
        hold="connection.execute('select max(substr(data, 3999)) from blobs').fetchall()",
    ),
    "xarray": Workload(
        package="xarray",
        holds="20 open files with HDF5's chunk caches; the data sets are kept",
        warm="""
            import numpy as np, xarray as xr
            values = xr.Dataset({'a': (('x', 'y'), np.random.default_rng(0).random((1000, 1000)))})
            for i in range(20):
                values.to_netcdf(f'{i}.nc', engine='netcdf4', encoding={'a': {'chunksizes': (100, 100), 'zlib': True}})
            with xr.open_dataset('0.nc', cache=False) as first: float(first.a.mean())
            sets = []
        """,
        hold="""
            sets += [xr.open_dataset(f'{i}.nc', engine='netcdf4', cache=False) for i in range(20)]
            for one in sets: float(one.a.mean())
        """,
    ),
    "fsspec": Workload(
        package="fsspec",
        holds="4 file systems with listings of 100,000 files",
        warm="""
            import fsspec
            class Store(fsspec.AbstractFileSystem):
                def ls(self, path, detail=True):
                    self.dircache[path] = [{'name': f'{path}/{j}', 'size': j} for j in range(100_000)]
                    return self.dircache[path]
            fsspec.filesystem('memory')
        """,
        hold="for i in range(4): Store(i).ls(f'bucket{i}')",
    ),
    "rasterio": Workload(
        package="rasterio",
        holds="blocks of 8 rasters; the data sets stay open",
        warm="""
            import warnings
            warnings.simplefilter('ignore')
            import numpy as np, rasterio
            shape = dict(height=2000, width=2000, count=1, dtype='float32', tiled=True)
            for i in range(8):
                with rasterio.open(f'{i}.tif', 'w', driver='GTiff', **shape) as file:
                    file.write(np.random.default_rng(i).random((2000, 2000)).astype('f4'), 1)
            opened = []
        """,
        hold="""
            for i in range(8):
                opened.append(rasterio.open(f'{i}.tif'))
                opened[-1].read(1)
        """,
    ),
    "urllib3": Workload(
        package="requests",
        holds="300 connections of sessions that are kept",
        warm="""
            import http.server, threading
            import requests
            class Handler(http.server.BaseHTTPRequestHandler):
                protocol_version = 'HTTP/1.1'
                def do_GET(self):
                    self.send_response(200)
                    self.send_header('Content-Length', '0')
                    self.end_headers()
                def log_message(self, *words): pass
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f'http://127.0.0.1:{server.server_port}/'
            sessions = [requests.Session() for _ in range(300)]
            requests.get(address)
        """,
        hold="for session in sessions: session.get(address)",
    ),
    "bokeh": Workload(
        package="bokeh",
        holds="40 plots of 100,000 points, added to curdoc()",
        warm="""
            import numpy as np
            from bokeh.io import curdoc
            from bokeh.plotting import figure
            data = np.random.rand(100_000)
            plot = figure(); plot.scatter(data, data); del plot
        """,
        hold="""
            for _ in range(40):
                plot = figure()
                plot.scatter(data.copy(), data.copy())
                curdoc().add_root(plot)
        """,
    ),
    "pyvista": Workload(
        package="pyvista",
        holds="12 plotters, with a mesh of 90,000 points each",
        warm="""
            import os, pyvista
            os.environ.pop('DISPLAY', None)
            mesh = pyvista.Sphere(theta_resolution=300, phi_resolution=300)
            plotter = pyvista.Plotter(off_screen=True)
            plotter.add_mesh(mesh.copy())
            plotter.close()
        """,
        hold="""
            for _ in range(12):
                plotter = pyvista.Plotter(off_screen=True)
                plotter.add_mesh(mesh.copy())
        """,
    ),
    "tqdm": Workload(
        package="tqdm",
        holds="an unfinished bar over 100,000 objects, which the user still has",
        warm="import io, tqdm; tqdm.tqdm(range(3), file=io.StringIO()).close()",
        hold="bar = tqdm.tqdm([bytes(1000) for _ in range(100_000)], file=io.StringIO())",
        keep=("bar",),
    ),
    "ipywidgets": Workload(
        package="ipywidgets",
        holds="40 images of 3 MB",
        warm="import ipywidgets, os; ipywidgets.Image(value=b'x'); ipywidgets.Widget.close_all()",
        hold="for _ in range(40): image = ipywidgets.Image(value=os.urandom(3_000_000))",
    ),
    "logging-handlers": Workload(
        package="",
        holds="12 times the same memory handler, 3,000 messages to each",
        warm="""
            import logging, logging.handlers
            logger = logging.getLogger('app')
            logger.setLevel(logging.INFO)
            logger.propagate = False
        """,
        hold="""
            for _ in range(12):
                logger.addHandler(logging.handlers.MemoryHandler(10**6, flushLevel=99))
                for i in range(3_000): logger.info('message %d', i)
        """,
    ),
    "jedi": Workload(
        package="jedi",
        holds="the modules parsed for 8 completions in NumPy and pandas",
        warm="import jedi, numpy, pandas; jedi.Interpreter('1.', [{}]).complete()",
        hold="""
            for code in ('numpy.linalg.', 'pandas.read_csv(0).', 'pandas.DataFrame().gro', 'pandas.Series().str.'):
                jedi.Interpreter(code, [globals()]).complete()
                jedi.Script(f'import numpy, pandas; {code}').complete()
        """,
    ),
    "executing": Workload(
        package="executing",
        holds="the source of a traceback through 4 modules of 30,000 lines",
        warm="""
            import importlib, pathlib, sys
            from stack_data import FrameInfo, Source
            sys.path.insert(0, '.')
            head = 'import sys\\ndef frame():\\n    return sys._getframe()\\n'
            body = head + ''.join(f'value_{i} = [{i}, {i} + 1]\\n' for i in range(30_000))
            modules = []
            for number in range(4):
                pathlib.Path(f'traced{number}.py').write_text(body)
                modules.append(importlib.import_module(f'traced{number}'))
        """,
        hold="for module in modules: Source.executing(module.frame()).text()",
    ),
    "tensorflow": Workload(
        package="tensorflow-cpu",
        holds="24 Keras models, compiled and fitted",
        warm="""
            import os
            os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
            import numpy as np, keras
            x, y = np.ones((64, 8), 'f4'), np.ones((64, 1), 'f4')
            def fit():
                model = keras.Sequential([keras.layers.Dense(32, activation='relu'), keras.layers.Dense(1)])
                model.compile(optimizer='adam', loss='mse')
                model.fit(x, y, verbose=0)
            fit()
        """,
        hold="for _ in range(24): fit()",
    ),
    "polars frames": Workload(
        package="polars",
        holds="a frame of 1,000,000 strings, and its categories",
        warm="import polars as pl; pl.DataFrame({'a': ['x']}).with_columns(pl.col('a').cast(pl.Categorical))",
        hold="""
            frame = pl.DataFrame({'a': [str(i) * 5 for i in range(1_000_000)]})
            categories = frame.with_columns(pl.col('a').cast(pl.Categorical))
        """,
        settle_s=3,
        hopeless="none is needed: polars returns it within 2 s by itself, categories too",
    ),
    "lxml names": Workload(
        package="lxml",
        holds="500,000 different names of elements and attributes, their trees deleted",
        warm="from lxml import etree; etree.fromstring('<a/>')",
        hold="""
            for k in range(5):
                text = '<r>' + ''.join(f'<e{k}_{i} a{k}_{i}="v"/>' for i in range(50_000)) + '</r>'
                etree.fromstring(text)
            del text
        """,
        hopeless="libxml2 keeps names for as long as the thread lives; trees themselves come back",
    ),
    "numba functions": Workload(
        package="numba",
        holds="60 compiled functions",
        warm="""
            import numba, numpy as np
            def make(n):
                @numba.njit
                def work(a):
                    s = 0.0
                    for i in range(a.size): s += np.sin(a[i]) * np.cumsum(a)[i] + n
                    return s
                return work
            make(-1)(np.ones(3))
        """,
        hold="for n in range(60): make(n)(np.ones(3))",
        hopeless="LLVM keeps the code, and numba has no call that drops it",
    ),
    "spaCy vocabulary": Workload(
        package="spacy",
        holds="240,000 different words in a pipeline that the user keeps",
        warm="""
            import random, spacy, string
            nlp, choose = spacy.blank('en'), random.Random(0).choices
            def words(): return ' '.join(''.join(choose(string.ascii_lowercase, k=9)) for _ in range(200))
            document = nlp(words()); del document
        """,
        hold="for _ in range(1_200): document = nlp(words())",
        hopeless="a vocabulary only grows; `nlp.memory_zone()` prevents it, and a fresh pipeline returns all",
    ),
}

#: The cleaners without a row, and why.
UNMEASURED: dict[str, str] = {
    "cupy": "needs a GPU: untested on one",
    "joblib": "the memory is the workers', not the kernel's: 40 MiB each with NumPy imported, all of which comes back",
    "loky": "as joblib",
    "torch": "needs a GPU: untested on one; tensors in the host's memory have no pool",
}


def measure(name: str) -> Levels:
    """Run a workload in a fresh process and an empty folder."""
    try:
        return Levels(**call(measure_here, name, timeout_s=600))
    except FreshCallError as error:
        raise SystemExit(f"the workload {name!r} failed: {error}") from None


def measure_here(name: str) -> dict[str, int]:
    """Run a workload in this process; its levels."""
    workload = WORKLOADS[name]
    names: dict[str, object] = {"__name__": "__main__"}
    memcell.clear_caches("gc", "trim")
    _execute(workload.warm, names)
    memcell.clear_caches("gc", "trim")
    warm = {*names, *workload.keep}
    time.sleep(workload.settle_s)
    before = _rss_bytes()
    _execute(workload.hold, names)
    held = _rss_bytes()
    for created in names.keys() - warm:
        del names[created]
    gc.collect()
    time.sleep(workload.settle_s)
    deleted = _rss_bytes()
    report = memcell.clear_caches(*(_all_cleaners() if workload.hopeless else (name, "gc", "trim")))
    errors = [f"{outcome.name}: {outcome.error}" for outcome in report.outcomes if outcome.error]
    if errors:
        raise RuntimeError("; ".join(errors))
    time.sleep(workload.settle_s)
    return asdict(Levels(held - before, deleted - before, _rss_bytes() - before))


def row(name: str, levels: Levels) -> str:
    """The line of a workload in its table."""
    workload = WORKLOADS[name]
    figures = (
        f"{levels.held_bytes / MIB:.0f} | {levels.deleted_bytes / MIB:.0f} | {levels.cleaned_bytes / MIB:.0f} "
        f"| {levels.fraction:.0%}"
    )
    if workload.hopeless:
        return f"| {name} | {_library(workload)} | {workload.holds} | {figures} | {workload.hopeless} |"
    cleaner = next(cleaner for cleaner in LIBRARIES if cleaner.name == name)
    effect = f"{cleaner.effect}, by `--deep`" if cleaner.deep else cleaner.effect
    return f"| `{name}` | {_library(workload)} | {cleaner.about} | {effect} | {workload.holds} | {figures} |"


def page(rows: dict[str, str]) -> str:
    """The page in ``docs`` with these rows, in the order of the workloads."""
    helped = "\n".join(rows[name] for name in WORKLOADS if name in rows and not WORKLOADS[name].hopeless)
    unmeasured = "\n".join(f"- `{name}`: {why}" for name, why in UNMEASURED.items())
    hopeless = "\n".join(rows[name] for name in WORKLOADS if name in rows and WORKLOADS[name].hopeless)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"""# What the library cleaners give back

Made by `python -m benchmarks.libraries --write`; do not edit by hand. Each line is one fresh process of CPython
{python}. Figures are MiB of resident memory above the level before the workload, with the library already imported
and used once: with everything *held*, after the user's own names are *deleted* and the garbage is collected, and after
`%memclean NAME gc trim` (*cleaned*). *Came back* compares the last with the first. Where a cleaner drops many small
Python objects, part of the memory stays in CPython's own arenas: free for the next objects, but not returned to the
system as long as one object lives in each. Of what is left after `linecache` that is nearly all.

`%memclean` runs cleaners of effect `none` and `recompute` by itself, those of effect `state` when named.

| cleaner | library | what it releases | effect | made to hold | held | deleted | cleaned | came back |
|---|---|---|---|---|---:|---:|---:|---:|
{helped}

Not measured:

{unmeasured}

## Where there is no cleaner

*Cleaned* is here after every cleaner there is. What did not come back, only an isolated cell or a restart of the kernel
gives back.

| what | library | made to hold | held | deleted | cleaned | came back | why |
|---|---|---|---:|---:|---:|---:|---|
{hopeless}

networkx and python-igraph keep nothing of their own beside the graphs: there is nothing to clean. phasic keeps memory
of C for which it has no call (its `clear_caches()` deletes files on disk): only a process of its own gives that back.
"""


def _execute(code: str, names: dict[str, object]) -> None:
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    source = "\n".join(line[indent:] for line in lines)
    exec(compile(source, "<workload>", "exec", dont_inherit=True), names)


def _all_cleaners() -> Iterable[str]:
    return [info.name for info in memcell.cleaners() if info.ready and (info.effect != "state" or info.deep)]


def _rss_bytes() -> int:
    rss: int = psutil.Process().memory_info().rss
    return rss


def _library(workload: Workload) -> str:
    if not workload.package:
        return "standard library"
    try:
        return f"{workload.package} {version(workload.package)}"
    except PackageNotFoundError:
        raise SystemExit(f"{workload.package} is not installed: pip install 'memcell[test-libraries]'") from None


def _rows_of_page() -> dict[str, str]:
    if not PAGE.exists():
        return {}
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(" `"): line for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="workloads to measure (default: all)")
    parser.add_argument("--write", action="store_true", help="put the rows into docs/libraries.md")
    arguments = parser.parse_args()
    names = arguments.names or list(WORKLOADS)
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; there are: {', '.join(WORKLOADS)}")
    rows = {}
    for name in names:
        rows[name] = row(name, measure(name))
        print(rows[name], flush=True)
    if arguments.write:
        PAGE.write_text(page({**_rows_of_page(), **rows}))


if __name__ == "__main__":
    # Under its own name, by which the fresh processes find its function.
    from benchmarks import libraries

    libraries.main()
