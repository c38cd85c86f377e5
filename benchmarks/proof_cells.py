"""Cells whose memory behaviour is known from how they are made, for ``benchmarks.proof``: a table, so it is long.

In the form that ``benchmarks.cases`` describes. They were written, and committed, before the detector ran on
any of them. ``mb`` is MiB per run where the cell's own text says it, else None: then the rate is not judged. A
``culprit`` of ``""`` on a leak says that no Python holder exists, so none may be named; None that it is not judged.
"""

from __future__ import annotations

from typing import Any


def known(
    name: str,
    label: str,
    setup: str,
    cell: str,
    *,
    mb: float | None = 0.0,
    metric: str = "rss",
    culprit: str | None = "",
    also: tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
    trap: str = "",
) -> dict[str, Any]:
    """A cell in the form of these tables."""
    return {
        "name": name,
        "label": label,
        "setup": setup,
        "cell": cell,
        "mb": mb,
        "metric": metric,
        "culprit": culprit,
        "also": also,
        "requires": list(requires),
        "trap": trap,
    }


_NUMPY = "import numpy as np; n = 0\n"
#: 400,000 doubles.
_ARRAY = 3.05

_CONTAINERS = [
    known(
        "frame_gets_columns",
        "leak",
        _NUMPY + "import pandas as pd; df = pd.DataFrame({'a': np.random.rand(400_000)})",
        "n += 1; df[f'c{n}'] = np.random.rand(400_000)",
        mb=_ARRAY,
        culprit="__main__.df",
    ),
    known(
        "futures_kept",
        "leak",
        "from concurrent.futures import ThreadPoolExecutor; import numpy as np\n"
        "pool = ThreadPoolExecutor(2); FUTURES = []",
        "FUTURES.append(pool.submit(np.ones, 400_000)); FUTURES[-1].result().sum()",
        mb=_ARRAY,
        culprit="__main__.FUTURES",
    ),
    known(
        "generators_never_finished",
        "leak",
        _NUMPY + "GENS = []\ndef rows(data):\n    for value in data: yield value",
        "g = rows(np.ones(400_000)); next(g); GENS.append(g)",
        mb=_ARRAY,
        culprit="__main__.GENS",
    ),
    known(
        "slots_filled_one_by_one",
        "leak",
        _NUMPY + "slots = [None] * 50",
        "slots[n] = np.ones(400_000); n += 1",
        mb=_ARRAY,
        culprit="__main__.slots",
    ),
    known(
        "object_array_filled",
        "leak",
        _NUMPY + "table = np.empty(50, dtype=object)",
        "table[n] = np.ones(400_000); n += 1",
        mb=_ARRAY,
        culprit="__main__.table",
    ),
    known(
        "value_in_dict_gets_larger",
        "leak",
        _NUMPY + "cache = {'all': np.ones(10), 'other': 1}",
        "cache['all'] = np.concatenate([cache['all'], np.random.rand(400_000)])",
        mb=_ARRAY,
        culprit="__main__.cache['all']",
        also=("__main__.cache",),
    ),
    known(
        "nested_registry",
        "leak",
        _NUMPY + "tree = {}",
        "tree.setdefault('runs', {}).setdefault('loss', []).append(np.ones(400_000))",
        mb=_ARRAY,
        culprit="__main__.tree['runs']['loss']",
        also=("__main__.tree",),
    ),
    known(
        "text_that_grows",
        "leak",
        "log = ''",
        "log += 'x' * 2_000_000",
        mb=1.91,
        culprit="__main__.log",
    ),
    known(
        "set_of_tuples",
        "leak",
        "SEEN = set(); n = 0",
        "SEEN.update((n, i) for i in range(20_000)); n += 1",
        mb=None,
        culprit="__main__.SEEN",
    ),
    known(
        "queue_never_read",
        "leak",
        _NUMPY + "import queue; jobs = queue.Queue()",
        "jobs.put(np.ones(400_000))",
        mb=_ARRAY,
        culprit="__main__.jobs.queue",
        also=("__main__.jobs",),
    ),
    known(
        "bytes_file_in_memory",
        "leak",
        "import io, os; log = io.BytesIO()",
        "_ = log.write(os.urandom(2_000_000))",
        mb=1.91,
        culprit="__main__.log",
    ),
    known(
        "tee_that_lags_behind",
        "leak",
        "import itertools\ndef source():\n    while True: yield bytes(1000)\nahead, behind = itertools.tee(source())",
        "for _ in range(3000): _x = next(ahead)",
        mb=3.0,
        culprit="__main__.behind",
    ),
    known(
        "variables_made_by_name",
        "leak",
        _NUMPY,
        "globals()[f'result_{n}'] = np.ones(400_000); n += 1",
        mb=_ARRAY,
        culprit="globals()",
    ),
    known(
        "images_kept",
        "leak",
        "from PIL import Image; IMAGES = []",
        "IMAGES.append(Image.new('RGB', (1000, 1000), (len(IMAGES), 1, 2)))",
        mb=3.81,
        culprit="__main__.IMAGES",
    ),
    known(
        "arrow_tables_of_text",
        "leak",
        "import pyarrow as pa; TABLES = {}",
        "TABLES[len(TABLES)] = pa.table({'a': [f'row number {i:06d}' for i in range(100_000)]})",
        mb=None,
        culprit="__main__.TABLES",
    ),
    known(
        "forests_kept",
        "leak",
        "import numpy as np; from sklearn.ensemble import RandomForestRegressor\n"
        "r = np.random.default_rng(0); X, y = r.random((3000, 4)), r.random(3000); MODELS = []",
        "MODELS.append(RandomForestRegressor(10, random_state=0).fit(X, y))",
        mb=None,
        culprit="__main__.MODELS",
    ),
    known(
        "elements_pin_their_documents",
        "leak",
        "from lxml import etree; FIRST = []\n"
        "text = '<r>' + ''.join(f'<row a=\"{i}\">{\"y\" * 100}</row>' for i in range(8000)) + '</r>'",
        "FIRST.append(etree.fromstring(text)[0])",
        mb=None,
        culprit="__main__.FIRST",
    ),
    known(
        "spacy_docs_kept",
        "leak",
        "import spacy; nlp = spacy.blank('en'); text = 'the quick brown fox jumps over it ' * 200; DOCS = []",
        "DOCS.extend(nlp.pipe([text] * 20))",
        mb=None,
        culprit="__main__.DOCS",
    ),
    known(
        "responses_kept",
        "leak",
        "import http.server, threading, requests; RESPONSES = []\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'x' * 3_000_000)\n"
        "    def log_message(self, *a): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Page)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "url = f'http://127.0.0.1:{server.server_address[1]}/'",
        "RESPONSES.append(requests.get(url))",
        mb=2.86,
        culprit="__main__.RESPONSES",
    ),
    # Labelled a leak at first: the cell was measured without memcell only after memcell had contradicted it.
    known(
        "netcdf_files_kept_open",
        "steady",
        "import netCDF4, numpy as np; OPEN = []\n"
        "with netCDF4.Dataset('d.nc', 'w') as d:\n"
        "    d.createDimension('x', 2_000_000)\n"
        "    d.createVariable('v', 'f8', ('x',), chunksizes=(100_000,), zlib=True)[:] = np.random.rand(2_000_000)",
        "OPEN.append(netCDF4.Dataset('d.nc')); m = float(OPEN[-1]['v'][:].mean())",
    ),
]

_PROGRAM = [
    known(
        "lru_cache_on_a_method",
        "leak",
        _NUMPY + "import functools\nclass Loader:\n    def __init__(self): self.data = np.ones(400_000)\n"
        "    @functools.lru_cache(maxsize=None)\n    def get(self, k): return k",
        "x = Loader().get(1)",
        mb=_ARRAY,
        culprit="__main__.Loader.get",
    ),
    known(
        "cached_property_of_a_global",
        "leak",
        _NUMPY + "import functools\nclass Model:\n    @functools.cached_property\n    def rows(self): return []\n"
        "model = Model()",
        "model.rows.append(np.ones(400_000))",
        mb=_ARRAY,
        culprit="__main__.model.rows",
    ),
    known(
        "subclasses_in_a_registry",
        "leak",
        "import numpy as np\nclass Base:\n    registry = []\n    def __init_subclass__(cls): Base.registry.append(cls)",
        "class Plugin(Base):\n    table = np.ones(400_000)",
        mb=_ARRAY,
        culprit="__main__.Base.registry",
    ),
    known(
        "singleton_in_an_imported_module",
        "leak",
        "open('mylib.py', 'w').write('class Store:\\n    def __init__(self): self.items = {}\\n"
        "_instance = Store()\\ndef put(k, v): _instance.items[k] = v\\n')\n"
        "import sys; sys.path.insert(0, '.'); import mylib, numpy as np; n = 0",
        "mylib.put(n, np.ones(400_000)); n += 1",
        mb=_ARRAY,
        culprit="mylib._instance.items",
    ),
    known(
        "closures_in_a_collector_callback",
        "leak",
        "import gc, numpy as np",
        "data = np.ones(400_000)\ngc.callbacks.append(lambda phase, info, data=data: None)",
        mb=_ARRAY,
        culprit="gc.callbacks",
    ),
    known(
        "closures_in_the_shells_events",
        "leak",
        "import numpy as np",
        "def make(data): return lambda *a: data.size\n"
        "get_ipython().events.register('shell_initialized', make(np.ones(400_000)))",
        mb=_ARRAY,
        culprit="get_ipython().events.callbacks['shell_initialized']",
        also=("get_ipython().events.callbacks",),
    ),
    known(
        "click_handlers_of_a_widget",
        "leak",
        "import ipywidgets, numpy as np; button = ipywidgets.Button()",
        "button.on_click(lambda b, data=np.ones(400_000): None)",
        mb=_ARRAY,
        culprit="__main__.button._click_handlers.callbacks",
        also=("__main__.button", "__main__.button._click_handlers"),
    ),
    known(
        "modules_written_and_imported",
        "leak",
        "import importlib, sys; sys.path.insert(0, '.'); n = 0",
        "n += 1\nopen(f'generated_{n}.py', 'w').write('import numpy\\ntable = numpy.ones(400_000)')\n"
        "importlib.invalidate_caches(); m = importlib.import_module(f'generated_{n}')",
        mb=_ARRAY,
        culprit="sys.modules",
    ),
    known(
        "threads_that_never_end",
        "leak",
        "import threading, numpy as np; stop = threading.Event()\ndef wait(data): stop.wait()",
        "threading.Thread(target=wait, args=(np.ones(400_000),), daemon=True).start()",
        mb=_ARRAY,
        culprit="threading._active",
        also=("threading._dangling",),
    ),
    known(
        "local_data_of_a_worker_thread",
        "leak",
        "import threading, numpy as np; from concurrent.futures import ThreadPoolExecutor\n"
        "tl = threading.local(); pool = ThreadPoolExecutor(1)\n"
        "def work():\n    if not hasattr(tl, 'items'): tl.items = []\n    tl.items.append(np.ones(400_000))",
        "pool.submit(work).result()",
        mb=_ARRAY,
        culprit="__main__.tl.items",
        also=("__main__.tl",),
    ),
    known(
        "tasks_never_awaited",
        "leak",
        "import asyncio, numpy as np; TASKS = set()\nasync def wait(data): await asyncio.Event().wait()",
        "TASKS.add(asyncio.get_event_loop().create_task(wait(np.ones(400_000))))",
        mb=_ARRAY,
        culprit="__main__.TASKS",
    ),
    known(
        "exception_infos_kept",
        "leak",
        "import sys, numpy as np; SEEN = {}\ndef work():\n    data = np.ones(400_000); raise ValueError(data.size)",
        "try: work()\nexcept ValueError: SEEN[len(SEEN)] = sys.exc_info()",
        mb=_ARRAY,
        culprit="__main__.SEEN",
    ),
    known(
        "displayed_frames",
        "leak",
        "import numpy as np, pandas as pd",
        "pd.DataFrame(np.random.rand(200_000, 2))",
        mb=_ARRAY,
        culprit="Out",
    ),
    known(
        "handlers_with_text_in_memory",
        "leak",
        "import logging, io; log = logging.getLogger('jobs'); log.setLevel(10); log.propagate = False",
        "log.addHandler(logging.StreamHandler(io.StringIO()))\nfor i in range(200): log.info('x' * 1000)",
        mb=None,
        culprit="logging.getLogger('jobs').handlers",
    ),
    known(
        "figures_left_open",
        "leak",
        "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt, numpy as np\n"
        "def draw():\n    fig, ax = plt.subplots(figsize=(8, 6)); ax.imshow(np.random.rand(500, 500)); "
        "fig.canvas.draw()\ndraw(); plt.close('all')",
        "draw()",
        mb=None,
        culprit="matplotlib._pylab_helpers.Gcf.figs",
    ),
    known(
        "widgets_displayed_again",
        "leak",
        "import ipywidgets, os",
        "ipywidgets.Image(value=os.urandom(2_000_000)).layout.width",
        mb=None,
        culprit="ipywidgets.widgets.widget._instances",
    ),
    known(
        "graphs_in_lru_cache",
        "leak",
        "import functools, igraph; n = 100_000\n"
        "@functools.lru_cache(maxsize=None)\ndef graph(k): return igraph.Graph.Ring(k)",
        "n += 1; v = graph(n).vcount()",
        mb=None,
        culprit="__main__.graph",
    ),
]

_NATIVE = [
    known(
        "losses_added_up_with_their_graph",
        "leak",
        "import torch; w = torch.ones(400_000, requires_grad=True); total = 0",
        "total = total + (w * torch.rand(400_000)).pow(2).sum()",
        mb=None,
        culprit="__main__.total",
    ),
    known(
        "sqlite_in_memory",
        "leak",
        "import sqlite3, os; db = sqlite3.connect(':memory:'); _ = db.execute('create table t (b blob)')",
        "for _ in range(20): db.execute('insert into t values (?)', (os.urandom(100_000),))",
        mb=1.91,
        culprit="__main__.db",
    ),
    known(
        "connections_checked_out",
        "leak",
        "import sqlalchemy as sa; from sqlalchemy.pool import QueuePool\n"
        "e = sa.create_engine('sqlite:///d.db', poolclass=QueuePool, pool_size=50)\n"
        "with e.begin() as c:\n    c.execute(sa.text('create table t (b blob)'))\n"
        "    for _ in range(300): c.execute(sa.text('insert into t values (randomblob(10000))'))\n"
        "CONNS = []",
        "c = e.connect(); CONNS.append(c); x = c.execute(sa.text('select sum(length(hex(b))) from t')).scalar()",
        mb=None,
        culprit="__main__.CONNS",
    ),
    known(
        "numba_new_signatures",
        "leak",
        "import numba; n = 2\n@numba.njit\ndef add(t):\n    s = 0\n    for v in t: s += v\n    return s\nadd((1, 2))",
        "n += 1; x = add((1,) * n)",
        mb=None,
        culprit=None,
    ),
    known(
        "keras_models_compiled_again",
        "leak",
        "import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; import keras, numpy as np\n"
        "X, y = np.ones((64, 8)), np.ones((64, 1))",
        "m = keras.Sequential([keras.layers.Dense(16), keras.layers.Dense(1)])\n"
        "m.compile('adam', 'mse'); h = m.fit(X, y, epochs=1, verbose=0)",
        mb=None,
        culprit=None,
    ),
    known(
        "malloc_inside_a_library",
        "leak",
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p",
        "p = libc.malloc(2_500_000); r = ctypes.memset(p, 7, 2_500_000); del r",
        mb=2.38,
        culprit="",
    ),
    known(
        "small_leak_after_a_big_import",
        "leak",
        "ROWS = []",
        "import pandas as pd, scipy.stats\nROWS.append(bytes(500_000))",
        mb=0.48,
        culprit="__main__.ROWS",
    ),
    known(
        "leak_beside_noise",
        "leak",
        _NUMPY + "import random; rnd = random.Random(1); KEPT = []",
        "noise = np.ones(rnd.randrange(1, 1_000_000)); KEPT.append(np.ones(800_000))",
        mb=6.1,
        culprit="__main__.KEPT",
    ),
]

_ELSEWHERE = [
    known(
        "anonymous_maps_shared",
        "leak",
        "import mmap; MAPS = []",
        "m = mmap.mmap(-1, 4_000_000); n = m.write(b'x' * 4_000_000); MAPS.append(m)",
        mb=3.81,
        metric="shmem",
        culprit="__main__.MAPS",
    ),
    known(
        "raw_arrays_for_workers",
        "leak",
        "import multiprocessing as mp, numpy as np; ARRAYS = []",
        "a = mp.RawArray('d', 1_000_000); np.frombuffer(a)[:] = 1; ARRAYS.append(a)",
        mb=7.63,
        metric="shmem",
        culprit="__main__.ARRAYS",
    ),
    known(
        "servers_left_running",
        "leak",
        "import subprocess, sys; SERVERS = []",
        "SERVERS.append(subprocess.Popen([sys.executable, '-c', 'x = b\"1\" * 8_000_000; print(1, flush=True); "
        "input()'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)); line = SERVERS[-1].stdout.readline()",
        mb=None,
        metric="children",
        culprit="__main__.SERVERS",
    ),
    known(
        "servers_nobody_holds",
        "leak",
        "import subprocess, sys, warnings; warnings.simplefilter('ignore')",
        "p = subprocess.Popen([sys.executable, '-c', 'x = b\"1\" * 8_000_000; print(1, flush=True); "
        "import time; time.sleep(300)'], stdout=subprocess.PIPE); line = p.stdout.readline()",
        mb=None,
        metric="children",
        culprit="subprocess._active",
    ),
]

_NO_LEAKS = [
    known(
        "memmaps_kept",
        "steady",
        "import numpy as np; np.ones(1_000_000).tofile('f.bin'); MAPS = []",
        "m = np.memmap('f.bin', mode='r'); s = int(m.sum()); MAPS.append(m)",
    ),
    known(
        "bounded_cache_fills",
        "warm-up",
        "import functools, numpy as np; n = 0\n@functools.lru_cache(maxsize=4)\ndef load(k): return np.ones(1_000_000)",
        "n += 1; x = load(n)",
    ),
    known(
        "last_five_results",
        "warm-up",
        "import collections, numpy as np; LAST = collections.deque(maxlen=5)",
        "LAST.append(np.ones(800_000))",
    ),
    known(
        "small_objects_come_and_go",
        "steady",
        "n = 0",
        "rows = [bytes(3000 + n) for _ in range(20_000)]; n += 1; total = len(rows); del rows",
    ),
    known(
        "classes_made_anew",
        "steady",
        "import numpy as np",
        "class Config:\n    table = np.ones(500_000)\n    def get(self): return self.table\nc = Config()",
    ),
    known(
        "import_inside_the_cell",
        "one-time",
        "x = 1",
        "import sympy\ny = sympy.Integer(3) + x",
    ),
    known(
        "results_of_any_size",
        "noisy",
        "import numpy as np, random; rnd = random.Random(3)",
        "junk = np.ones(rnd.randrange(1, 5_000_000))",
    ),
    known(
        "inline_figures",
        "warm-up",
        "%matplotlib inline\nimport matplotlib.pyplot as plt, numpy as np",
        "fig, ax = plt.subplots(); _ = ax.plot(np.random.rand(50_000)); plt.show()",
    ),
    known(
        "grouping_again",
        "steady",
        "import pandas as pd, numpy as np\n"
        "df = pd.DataFrame({'k': np.arange(300_000) % 100, 'v': np.random.rand(300_000)})",
        "r = df.groupby('k').agg(['mean', 'std']); top = df.sort_values('v').head()",
    ),
    known(
        "training_properly",
        "steady",
        "import torch; m = torch.nn.Linear(500, 500); o = torch.optim.SGD(m.parameters(), 0.1)\n"
        "for _ in range(3): m(torch.rand(64, 500)).sum().backward()",
        "losses = []\nfor _ in range(20):\n    o.zero_grad(); l = m(torch.rand(64, 500)).sum()\n"
        "    l.backward(); o.step()\n    losses.append(l.item())",
    ),
    known(
        "workers_that_are_joined",
        "steady",
        "import multiprocessing as mp, math",
        "with mp.get_context('fork').Pool(2) as p: r = p.map(math.sqrt, range(10))",
    ),
    known(
        "errors_that_are_handled",
        "steady",
        "import numpy as np\ndef work():\n    data = np.ones(500_000); raise ValueError(data.size)",
        "try: work()\nexcept ValueError as e: text = str(e)",
    ),
    known(
        "query_in_polars",
        "steady",
        "import polars as pl, numpy as np; k = np.arange(300_000) % 50\n"
        "df = pl.DataFrame({'k': k, 'v': np.random.rand(300_000)})\n"
        "r = df.lazy().group_by('k').agg(pl.col('v').mean()).collect()",
        "r = df.lazy().group_by('k').agg(pl.col('v').mean()).collect()",
    ),
    known(
        "file_opened_again",
        "steady",
        "import xarray as xr, numpy as np\n"
        "xr.Dataset({'v': ('x', np.ones(300_000))}).to_netcdf('f.nc', engine='h5netcdf')\n"
        "d = xr.open_dataset('f.nc', engine='h5netcdf').load()",
        "d = xr.open_dataset('f.nc', engine='h5netcdf').load(); m = float(d.v.mean())",
    ),
    known(
        "integral_solved_again",
        "steady",
        "import sympy; x = sympy.Symbol('x'); r = sympy.integrate(sympy.sin(x) * sympy.exp(x), x)",
        "r = sympy.integrate(sympy.sin(x) * sympy.exp(x), x)",
    ),
    known(
        "threads_that_are_joined",
        "steady",
        "import threading, numpy as np",
        "ts = [threading.Thread(target=lambda: np.ones(300_000).sum()) for _ in range(4)]\n"
        "for t in ts: t.start()\nfor t in ts: t.join()",
    ),
]

CASES = [*_CONTAINERS, *_PROGRAM, *_NATIVE, *_ELSEWHERE, *_NO_LEAKS]
