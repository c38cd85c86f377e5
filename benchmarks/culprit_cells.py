"""Cells that leak into a known holder, on other libraries than ``shared/cases``: for judging the culprit search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeakingCell:
    """A cell and what holds its growth.

    Attributes:
        name: What it is called in tables.
        setup: Run once before.
        cell: Run again and again.
        holders: Names of which the first culprit has to begin with one; empty if there is no Python holder, and none
            may be named.
    """

    name: str
    setup: str
    cell: str
    holders: tuple[str, ...]


_MODULE = "import sys, types, numpy as np; m = types.ModuleType('acme'); sys.modules['acme'] = m; import acme\n"

CELLS = (
    LeakingCell(
        "function attribute, igraph graphs in C",
        _MODULE + "import igraph; src = '''\nimport igraph\ndef collect(n):\n    for i in range(9):\n"
        "        collect._metadata_cache[len(collect._metadata_cache)] = igraph.Graph.Ring(20000 + n)\n"
        "collect._metadata_cache = {}\n'''\nexec(src, acme.__dict__); n = 0",
        "n += 1; acme.collect(n)",
        ("acme.collect._metadata_cache",),
    ),
    LeakingCell(
        "lru_cache of arrays",
        "import functools, numpy as np; n = 0\n"
        "@functools.lru_cache(maxsize=None)\ndef load(k): return np.ones(500_000)",
        "n += 1; x = load(n)",
        ("__main__.load",),
    ),
    LeakingCell(
        "networkx graph that grows",
        "import networkx as nx; G = nx.Graph(); n = 0",
        "G.add_edges_from((n + i, n + i + 1) for i in range(8000)); n += 8000",
        ("__main__.G",),
    ),
    LeakingCell(
        "polars frame, bound again",
        "import polars as pl, numpy as np; df = pl.DataFrame({'a': np.zeros(10)})",
        "df = pl.concat([df, pl.DataFrame({'a': np.random.rand(400_000)})]).rechunk()",
        ("__main__.df",),
    ),
    LeakingCell(
        "open pyplot figures",
        "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt, numpy as np",
        "fig, ax = plt.subplots(); ax.plot(np.arange(200_000)); fig.canvas.draw()",
        ("matplotlib._pylab_helpers.Gcf.figs",),
    ),
    LeakingCell(
        "ipywidgets images",
        "import ipywidgets, os",
        "w = ipywidgets.Image(value=os.urandom(3_000_000)); del w",
        ("ipywidgets.widgets.widget._instances",),
    ),
    LeakingCell(
        "variable of a closure",
        "import numpy as np\ndef make():\n    kept = []\n    def step(): kept.append(np.ones(400_000))\n"
        "    return step\n"
        "step = make()",
        "step()",
        ("__main__.step",),
    ),
    LeakingCell(
        "default argument",
        "import numpy as np\ndef add(x, found=[]): found.append(x)",
        "add(np.ones(400_000))",
        ("__main__.add",),
    ),
    LeakingCell(
        "prometheus labels",
        "import prometheus_client as pc; C = pc.Histogram('c', 'd', ['k']); n = 0",
        "for i in range(300): C.labels('x' * 3000 + str(n)).observe(1); n += 1",
        ("__main__.C", "prometheus_client"),
    ),
    LeakingCell(
        "pending objects of a SQLAlchemy session",
        "import sqlalchemy as sa; from sqlalchemy import orm\nclass Base(orm.DeclarativeBase): pass\n"
        "class Row(Base):\n    __tablename__ = 'r'\n    id = sa.Column(sa.Integer, primary_key=True)\n"
        "    s = sa.Column(sa.String)\nengine = sa.create_engine('sqlite://'); session = orm.Session(engine)",
        "session.add_all([Row(s='x' * 1000 + str(i)) for i in range(1500)])",
        ("__main__.session",),
    ),
    LeakingCell(
        "xarray data set that gets variables",
        "import xarray as xr, numpy as np; ds = xr.Dataset(); n = 0",
        "n += 1; ds[f'v{n}'] = ('x', np.ones(400_000))",
        ("__main__.ds",),
    ),
    LeakingCell(
        "torch losses with their graphs",
        "import torch; w = torch.ones(300_000, requires_grad=True); losses = []",
        "losses.append((w * torch.rand(300_000)).sum())",
        ("__main__.losses",),
    ),
    LeakingCell(
        "thread-local of the main thread",
        "import threading, numpy as np; tl = threading.local(); tl.items = []",
        "tl.items.append(np.ones(400_000))",
        ("__main__.tl",),
    ),
    LeakingCell(
        "bytearray",
        "buf = bytearray()",
        "buf.extend(b'x' * 2_000_000)",
        ("__main__.buf",),
    ),
    LeakingCell(
        "attribute two levels down",
        "import numpy as np\nclass State:\n    def __init__(self): self.seen = {}\nclass App:\n"
        "    def __init__(self): self.state = State()\napp = App(); n = 0",
        "n += 1; app.state.seen[n, 'k'] = np.ones(400_000)",
        ("__main__.app.state.seen",),
    ),
    LeakingCell(
        "list in a dict",
        "import numpy as np; history = {'loss': [], 'other': [1]}",
        "history['loss'].append(np.ones(400_000))",
        ("__main__.history['loss']",),
    ),
    LeakingCell(
        "modules made in the cell",
        "import sys, types, numpy as np; n = 0",
        "n += 1; made = types.ModuleType(f'made{n}'); made.data = np.ones(400_000); sys.modules[made.__name__] = made",
        ("sys.modules",),
    ),
    LeakingCell(
        "weakref.finalize with data",
        "import weakref, numpy as np\nclass Thing: pass\nthing = Thing()",
        "weakref.finalize(thing, print, np.ones(400_000)).atexit = False",
        ("weakref.finalize._registry",),
    ),
    LeakingCell(
        "displayed arrays",
        "import numpy as np; n = 0",
        "n += 1; np.ones(400_000 + n)",
        ("Out",),
    ),
    LeakingCell(
        "errors that are kept",
        "import numpy as np; errors = []\ndef work():\n    data = np.ones(400_000); raise ValueError(data.size)",
        "try: work()\nexcept ValueError as error: errors.append(error)",
        ("__main__.errors",),
    ),
    LeakingCell(
        "lxml tree that grows",
        "from lxml import etree; root = etree.Element('root')",
        "for i in range(5000): etree.SubElement(root, 'row', a=str(i), b='y' * 200)",
        ("__main__.root",),
    ),
    LeakingCell(
        "xarray's files",
        "import xarray as xr, numpy as np, os\n"
        "xr.Dataset({'v': ('x', np.ones(300_000))}).to_netcdf('f.nc', engine='h5netcdf')\n"
        "kept = {}; n = 0",
        "n += 1; kept[n] = xr.open_dataset('f.nc', engine='h5netcdf').load()",
        ("__main__.kept",),
    ),
    LeakingCell(
        "pydantic models made in the cell",
        "import pydantic; MODELS = []",
        "MODELS.append(pydantic.create_model('M', **{f'f{i}': (int, i) for i in range(200)}))",
        ("__main__.MODELS",),
    ),
    LeakingCell(
        "atexit callbacks, which C holds",
        "import atexit, numpy as np",
        "atexit.register(np.ones(400_000).sum)",
        ("atexit",),
    ),
    LeakingCell(
        "malloc without free",
        "import ctypes; libc = ctypes.CDLL(None); libc.calloc.restype = ctypes.c_void_p",
        "p = libc.calloc(1, 3_000_000); _ = ctypes.memset(p, 1, 3_000_000)",
        (),
    ),
    LeakingCell(
        "jax, a new shape in each run",
        "import jax, jax.numpy as jnp; n = 1000\n"
        "@jax.jit\ndef f(v):\n    for i in range(20): v = jnp.sin(v) * 2\n    return v",
        "n += 1; y = f(jnp.ones(n)).block_until_ready()",
        ("jax", "__main__.f"),
    ),
)
