"""Cells for ``benchmarks.proof`` by somebody who had not seen the detector: a table, so it is long.

Each was verified in a bare kernel before: run 14 times, with a collection and a trim after each, ``mb`` is what it grew
by from the fourth run on. The detector ran on the first 51 before anything was changed for them, and on the others once
after it was.
"""

from __future__ import annotations

from benchmarks.proof_cells import known

CASES = [
    known(
        "memo_in_a_closure",
        "leak",
        (
            "import functools, numpy as np; n = 0\n"
            "def memoize(f):\n"
            "    known = {}\n"
            "    @functools.wraps(f)\n"
            "    def inner(*args):\n"
            "        if args not in known: known[args] = f(*args)\n"
            "        return known[args]\n"
            "    return inner\n"
            "@memoize\n"
            "def simulate(seed, size): return np.random.default_rng(seed).normal(size=size)"
        ),
        ("n += 1\nmean = simulate(n, 330_000).mean()"),
        mb=2.53,
        culprit="__main__.simulate",
        also=("__main__.simulate.__closure__", "__main__.simulate.__closure__[1].cell_contents"),
        trap="the dict is a cell of a decorated function: no module, class or instance attribute holds it",
    ),
    known(
        "graphs_in_a_function_attribute",
        "leak",
        (
            "import igraph\n"
            "def sweep(size):\n"
            "    g = igraph.Graph.Erdos_Renyi(n=size, m=3 * size)\n"
            "    sweep.seen.append(g)\n"
            "    return g.ecount()\n"
            "sweep.seen = []"
        ),
        "edges = sweep(16_000)",
        mb=1.72,
        culprit="__main__.sweep.seen",
        also=("__main__.sweep",),
        requires=("igraph",),
        trap=("attribute of a function; the objects say that they have a few hundred bytes, the rest is C memory"),
    ),
    known(
        "plugins_registered_again",
        "leak",
        (
            "import pluggy, numpy as np\n"
            "spec, impl = pluggy.HookspecMarker('etl'), pluggy.HookimplMarker('etl')\n"
            "class Spec:\n"
            "    @spec\n"
            "    def clean(self, row): pass\n"
            "pm = pluggy.PluginManager('etl'); pm.add_hookspecs(Spec)"
        ),
        (
            "class Scale:\n"
            "    def __init__(self): self.weights = np.random.rand(290_000)\n"
            "    @impl\n"
            "    def clean(self, row): return row * self.weights[0]\n"
            "key = pm.register(Scale())\n"
            "out = pm.hook.clean(row=2.0)"
        ),
        mb=2.23,
        culprit="__main__.pm._name2plugin",
        also=("__main__.pm", "__main__.pm.hook.clean", "__main__.pm.hook", "__main__.pm.hook.clean._hookimpls"),
        requires=("pluggy",),
        trap="held twice: by name in the manager and by the callers of its hooks",
    ),
    known(
        "engine_listeners_added_again",
        "leak",
        "import sqlalchemy as sa, numpy as np; engine = sa.create_engine('sqlite://')",
        (
            "timings = np.random.rand(220_000)\n"
            "@sa.event.listens_for(engine, 'before_cursor_execute')\n"
            "def watch(conn, cur, sql, par, ctx, many, timings=timings): timings[0] += 1\n"
            "with engine.connect() as c: one = c.execute(sa.text('select 1')).scalar()"
        ),
        mb=1.69,
        culprit="__main__.engine.dispatch.before_cursor_execute",
        also=(
            "__main__.engine",
            "__main__.engine.dispatch",
            "sqlalchemy.event.registry._key_to_collection",
            "sqlalchemy.event.registry",
            "__main__.engine.dispatch.before_cursor_execute.listeners",
            "sqlalchemy.event.registry._collection_to_key",
        ),
        requires=("sqlalchemy",),
        trap="a decorator in the cell: each run listens once more, with a function of the same name",
    ),
    known(
        "boosting_goes_on",
        "leak",
        (
            "import numpy as np; from sklearn.ensemble import ExtraTreesRegressor\n"
            "rng = np.random.default_rng(0); X, y = rng.random((2500, 5)), rng.random(2500)\n"
            "model = ExtraTreesRegressor(n_estimators=0, warm_start=True, random_state=0)"
        ),
        ("model.n_estimators += 8\nmodel = model.fit(X, y)"),
        mb=2.77,
        culprit="__main__.model.estimators_",
        also=("__main__.model",),
        requires=("scikit-learn",),
        trap="one estimator, re-fitted with warm_start: the nodes of its trees are C arrays",
    ),
    known(
        "categories_that_are_never_removed",
        "leak",
        "import pandas as pd; n = 0; kinds = pd.Series(['a', 'b'] * 500, dtype='category')",
        ("kinds = kinds.cat.add_categories([f'item-{n}-{i:06d}' for i in range(12_000)])\nn += 1"),
        mb=2.33,
        culprit="__main__.kinds",
        also=("__main__.kinds.cat.categories", "__main__.kinds.cat", "__main__.kinds.dtype"),
        requires=("pandas",),
        trap="len() stays 1,000: only the list of allowed values gets longer",
    ),
    known(
        "rows_added_with_loc",
        "leak",
        (
            "import pandas as pd, numpy as np; runs = pd.DataFrame({'k': pd.Series(dtype='float'), 'trace': "
            "pd.Series(dtype='object')})"
        ),
        "runs.loc[len(runs)] = [len(runs), np.random.rand(410_000)]",
        mb=3.14,
        culprit="__main__.runs",
        also=("__main__.runs['trace']", "__main__.runs.trace"),
        requires=("pandas",),
        trap="14 rows; an object column holds arrays",
    ),
    known(
        "undo_history_of_frames",
        "leak",
        (
            "import pandas as pd, numpy as np\n"
            "class Editor:\n"
            "    def __init__(self, df): self.df, self._undo = df, []\n"
            "    def scale(self, k):\n"
            "        self._undo.append(self.df)\n"
            "        self.df = self.df * k\n"
            "editor = Editor(pd.DataFrame(np.random.rand(260_000, 10)))"
        ),
        "editor.scale(1.01)",
        mb=19.85,
        culprit="__main__.editor._undo",
        also=("__main__.editor",),
        requires=("pandas",),
        trap="20 MiB per run",
    ),
    known(
        "chunks_of_a_polars_frame",
        "leak",
        (
            "import polars as pl, numpy as np\n"
            "def batch(k): return pl.DataFrame({'t': np.random.rand(k), 'v': np.random.rand(k)})\n"
            "table = batch(10)"
        ),
        ("table = table.vstack(batch(180_000))\nlast = table.tail(1)"),
        mb=2.76,
        culprit="__main__.table",
        also=("__main__.table._df",),
        requires=("polars",),
        trap="rebound to a frame with one more chunk; Rust memory",
    ),
    known(
        "hidden_state_never_detached",
        "leak",
        "import torch; torch.manual_seed(0); rnn = torch.nn.GRUCell(64, 64); h = torch.zeros(200, 64)",
        ("for _ in range(6): h = rnn(torch.rand(200, 64), h)\nlevel = float(h.mean())"),
        mb=2.46,
        culprit="__main__.h",
        also=("__main__.h.grad_fn",),
        requires=("torch==2.13.0",),
        trap="one small tensor, rebound: the graph behind it has no Python objects",
    ),
    known(
        "pullbacks_kept",
        "leak",
        (
            "import jax, jax.numpy as jnp; pulls = {}; n = 0\n"
            "def loss(w): return jnp.sum(jnp.sin(w) * w)\n"
            "w = jnp.linspace(0.0, 1.0, 300_000)"
        ),
        ("n += 1\nvalue, pulls[n] = jax.vjp(loss, w + n)\nv = float(value)"),
        mb=3.57,
        culprit="__main__.pulls",
        requires=("jax",),
        trap="closures that hold the residuals of the forward pass; buffers of XLA",
    ),
    known(
        "time_limited_cache",
        "leak",
        (
            "import cachetools, random, numpy as np; rnd = random.Random(4); n = 0\n"
            "tiles = cachetools.TTLCache(maxsize=5_000, ttl=3600)\n"
            "@cachetools.cached(tiles)\n"
            "def load(key): return np.random.rand(320_000)"
        ),
        ("n += 1\nscratch = np.ones(rnd.randrange(1, 2_600_000))\nx = load(n)[0]"),
        mb=2.44,
        culprit="__main__.tiles",
        also=("__main__.load.cache", "__main__.load", "__main__.tiles._Cache__data"),
        requires=("cachetools",),
        trap="bounded on paper: 5,000 entries or an hour; a scratch array of 0 to 20 MiB beside it",
    ),
    known(
        "flags_of_any_combination",
        "leak",
        (
            "import enum, random; rnd = random.Random(7)\n"
            "class Rights(enum.Flag):\n"
            "    F0 = 1; F1 = 2; F2 = 4; F3 = 8; F4 = 16; F5 = 32; F6 = 64; F7 = 128; F8 = 256; F9 = 512; "
            "F10 = 1024; F11 = 2048; F12 = 4096; F13 = 8192; F14 = 16384; F15 = 32768; F16 = 65536; F17 = "
            "131072; F18 = 262144; F19 = 524288; F20 = 1048576; F21 = 2097152; F22 = 4194304; F23 = 8388608"
        ),
        "active = sum(bool(Rights(rnd.randrange(1 << 24)) & Rights.F3) for _ in range(4_000))",
        mb=1.13,
        culprit="__main__.Rights._value2member_map_",
        also=("__main__.Rights",),
        trap="enum.Flag makes a pseudo-member for each combination that it meets and never forgets one",
    ),
    known(
        "weak_keys_with_values_that_hold_them",
        "leak",
        ("import weakref, numpy as np; details = weakref.WeakKeyDictionary()\nclass Job:\n    pass"),
        ('job = Job()\ndetails[job] = {"owner": job, "trace": np.random.rand(280_000)}'),
        mb=2.15,
        culprit="__main__.details",
        also=("__main__.details.data",),
        trap="weak keys look safe, but each value refers to its key",
    ),
    known(
        "pickler_with_a_memo",
        "leak",
        (
            "import pickle, numpy as np\n"
            "class Null:\n"
            "    def write(self, data): return len(data)\n"
            "pickler = pickle.Pickler(Null())"
        ),
        ('rows = [{"i": i, "w": float(i)} for i in range(9_000)]\npickler.dump(rows)'),
        mb=2.48,
        culprit="__main__.pickler",
        also=("__main__.pickler.memo",),
        trap="a reused Pickler keeps each object that it has seen, in a table in C",
    ),
    known(
        "patched_function_wrapped_again",
        "leak",
        (
            "import functools, statistics, numpy as np\n"
            "def traced(f, table):\n"
            "    @functools.wraps(f)\n"
            "    def inner(x): return f(x) + 0 * table[0]\n"
            "    return inner"
        ),
        ("statistics.mean = traced(statistics.mean, np.random.rand(350_000))\nm = statistics.mean([1, 2, 3])"),
        mb=2.68,
        culprit="statistics.mean",
        also=("statistics.mean.__wrapped__", "statistics.mean.__closure__"),
        trap="a library function patched again by each run: a chain of closures, no container",
    ),
    known(
        "twin_axes_on_one_figure",
        "leak",
        (
            "from matplotlib.figure import Figure; from matplotlib.backends.backend_agg import "
            "FigureCanvasAgg\n"
            "import numpy as np; fig = Figure(figsize=(3, 2)); canvas = FigureCanvasAgg(fig); ax = "
            "fig.add_subplot()"
        ),
        "twin = ax.twinx(); p = twin.plot(np.random.rand(40_000)); canvas.draw()",
        mb=1.6,
        culprit="__main__.fig",
        also=(
            "__main__.ax",
            "__main__.fig.axes",
            "__main__.fig._axstack",
            "__main__.ax._twinned_axes",
            "__main__.fig._axstack._axes",
            "__main__.canvas",
            "__main__.canvas.figure",
            "__main__.fig._localaxes",
        ),
        requires=("matplotlib",),
    ),
    known(
        "pictures_displayed",
        "leak",
        "import numpy as np; from PIL import Image; rng = np.random.default_rng(2)",
        'Image.fromarray(rng.integers(0, 255, (550, 700, 3), dtype="uint8"))',
        mb=2.81,
        culprit="Out",
        also=("IPython HistoryManager.outputs", "get_ipython().history_manager.outputs"),
        requires=("pillow",),
        trap="Out has the image, the history the PNG: two holders",
    ),
    known(
        "arrays_in_a_memory_store",
        "leak",
        ("import zarr, numpy as np; n = 0; store = zarr.storage.MemoryStore(); root = zarr.group(store=store)"),
        (
            "n += 1\n"
            "a = root.create_array(f'run{n}', shape=(260_000,), chunks=(65_000,), dtype='f8')\n"
            "a[:] = np.random.rand(260_000)"
        ),
        mb=1.88,
        culprit="__main__.store",
        also=("__main__.store._store_dict", "__main__.root", "__main__.root.store"),
        requires=("zarr",),
        trap="the arrays in the notebook are handles",
    ),
    known(
        "clients_never_closed",
        "leak",
        "import httpx; clients = []",
        'clients.append(httpx.Client(base_url="http://127.0.0.1:9", timeout=3))',
        mb=0.83,
        culprit="__main__.clients",
        requires=("httpx",),
        trap="no request is made: each client reads the certificates into a TLS context of OpenSSL",
    ),
    known(
        "events_of_a_scheduler",
        "leak",
        ("import sched, random, numpy as np; plan = sched.scheduler(); rnd = random.Random(8)\ndef flush(rows): pass"),
        ("work = np.ones(rnd.randrange(1, 1_300_000))\ne = plan.enter(86_400, 1, flush, (np.random.rand(240_000),))"),
        mb=1.83,
        culprit="__main__.plan._queue",
        also=("__main__.plan", "__main__.plan.queue"),
        trap="heap of named tuples; a scratch array of 0 to 10 MiB beside it",
    ),
    known(
        "managed_list_in_another_process",
        "leak",
        "import multiprocessing as mp, os; manager = mp.Manager(); shared = manager.list()",
        "shared.append(os.urandom(2_600_000)); k = len(shared)",
        mb=2.48,
        metric="children",
        culprit="__main__.shared",
        also=("__main__.manager",),
        trap="a proxy: the list itself is in the process of the manager",
    ),
    known(
        "message_queue_without_reader",
        "leak",
        "import multiprocessing as mp, numpy as np; outbox = mp.Queue()",
        "outbox.put(np.random.rand(360_000))",
        mb=2.76,
        culprit="__main__.outbox",
        also=("__main__.outbox._buffer",),
        trap="the pipe is full after one message; the others wait in a deque for the feeder thread",
    ),
    known(
        "processes_in_the_background",
        "leak",
        ("import multiprocessing as mp, os, time\ndef watch():\n    rows = os.urandom(3_000_000); time.sleep(900)"),
        "p = mp.Process(target=watch, daemon=True); p.start(); time.sleep(0.3)",
        mb=22.73,
        metric="children",
        culprit="multiprocessing.process._children",
        also=("multiprocessing.active_children", "multiprocessing.process", "multiprocessing.active_children()"),
        trap="the name is rebound; the library keeps the running ones",
    ),
    known(
        "shared_lists_in_a_class",
        "leak",
        (
            "from multiprocessing.shared_memory import ShareableList; import os\n"
            "class Board:\n"
            "    pages = {}\n"
            "    @classmethod\n"
            "    def post(cls, text): cls.pages[len(cls.pages)] = ShareableList([text, len(text)])"
        ),
        "Board.post(os.urandom(1_700_000))",
        mb=1.62,
        metric="shmem",
        culprit="__main__.Board.pages",
        also=("__main__.Board",),
    ),
    known(
        "pages_mapped_by_c",
        "leak",
        ("import ctypes; libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p\nsize = 6 * 2**20"),
        (
            "p = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))\n"
            "r = ctypes.memset(p, 1, size); del r"
        ),
        mb=6.01,
        culprit="",
        trap="mmap without munmap: neither malloc nor Python knows of it",
    ),
    known(
        "copies_made_by_strdup",
        "leak",
        ('import ctypes; libc = ctypes.CDLL(None); libc.strdup.restype = ctypes.c_void_p; text = b"abcdefg " * 13'),
        "for _ in range(4_500): p = libc.strdup(text)",
        mb=0.56,
        culprit="",
        trap="many small blocks of the C heap; 0.5 MiB per run",
    ),
    known(
        "samples_in_an_array",
        "leak",
        "import array, random; samples = array.array('d'); rnd = random.Random(1)",
        "samples.extend(rnd.random() for _ in range(66_000))",
        mb=0.51,
        culprit="__main__.samples",
        trap="0.5 MiB per run, grown in place",
    ),
    known(
        "views_of_messages_in_a_heap",
        "leak",
        "import heapq, random, os, numpy as np; rnd = random.Random(6); todo = []",
        (
            "temp = np.ones(rnd.randrange(1, 5_200_000))\n"
            "for _ in range(10): heapq.heappush(todo, (rnd.random(), memoryview(os.urandom(520_000))[:64]))"
        ),
        mb=4.96,
        culprit="__main__.todo",
        trap="views of 64 bytes that pin half a megabyte each; a scratch array of 0 to 40 MiB beside them",
    ),
    known(
        "vocabulary_counted",
        "leak",
        "import collections, random; rnd = random.Random(11); words = collections.Counter()",
        "words.update('%x' % rnd.randrange(16**9) for _ in range(20_000))",
        mb=1.79,
        culprit="__main__.words",
        trap="small strings, and a hash table that doubles now and then",
    ),
    known(
        "cache_of_an_own_package",
        "leak",
        (
            "import os, sys, tempfile, random; d = tempfile.mkdtemp(); os.makedirs(d + '/geokit')\n"
            "open(d + '/geokit/__init__.py', 'w').close()\n"
            "with open(d + '/geokit/tiles.py', 'w') as f: f.write('''import numpy as np\n"
            "_cache = {}\n"
            "def tile(x, y):\n"
            "    if (x, y) not in _cache: _cache[x, y] = np.random.rand(256, 256)\n"
            "    return _cache[x, y]\n"
            "''')\n"
            "sys.path.insert(0, d); from geokit.tiles import tile; rnd = random.Random(0)"
        ),
        "mean = sum(tile(rnd.random(), rnd.random()).mean() for _ in range(9))",
        mb=4.51,
        culprit="geokit.tiles._cache",
        trap="only a function of the module is imported; its keys are floats that never come again",
    ),
    known(
        "samples_after_burn_in",
        "leak",
        (
            "import numpy as np; rng = np.random.default_rng(3)\n"
            "class Chain:\n"
            "    def __init__(self, burn): self.burn, self.i, self.kept = burn, 0, []\n"
            "    def step(self):\n"
            "        self.i += 1; state = rng.normal(size=450_000)\n"
            "        if self.i > self.burn: self.kept.append(state)\n"
            "        return state.mean()\n"
            "chain = Chain(burn=4)"
        ),
        "m = chain.step()",
        mb=3.44,
        culprit="__main__.chain.kept",
        also=("__main__.chain",),
        trap="flat for four runs, then 3.4 MiB in each",
    ),
    known(
        "ring_full_then_archive",
        "leak",
        "import collections, numpy as np; recent = collections.deque(maxlen=4); archive = {}; n = 0",
        (
            "n += 1\n"
            "if len(recent) == recent.maxlen: archive[n] = recent[0][:150_000].copy()\n"
            "recent.append(np.random.rand(900_000))"
        ),
        mb=1.15,
        culprit="__main__.archive",
        trap="7 MiB per run while the ring fills, then 1.1 MiB per run without end",
    ),
    known(
        "answers_of_a_signal",
        "leak",
        (
            "import blinker, numpy as np; ping = blinker.Signal()\n"
            "class Panel:\n"
            "    def __init__(self):\n"
            "        self.px = np.random.rand(330_000); ping.connect(self.draw)\n"
            "    def draw(self, sender): return 1"
        ),
        ('panel = Panel()\nanswers = ping.send("clock")'),
        mb=2.53,
        culprit="__main__.answers",
        requires=("blinker",),
        trap=(
            "subscribers are held weakly, but the answers name them: those of the last run keep alive all that answer"
        ),
    ),
    known(
        "file_pages_read_on",
        "warm-up",
        (
            "import numpy as np, tempfile; f = tempfile.NamedTemporaryFile(); np.ones(3_000_000).tofile(f); "
            "f.flush(); n = 0\n"
            'data = np.memmap(f.name, dtype="f8", mode="r")'
        ),
        "part = data[(n % 6) * 500_000:(n % 6 + 1) * 500_000]; total = float(part.sum()); n += 1",
        trap=("pages of a file come into the resident set in the first six runs; they are the cache of the kernel"),
    ),
    known(
        "statements_of_many_forms",
        "warm-up",
        (
            "import sqlalchemy as sa; n = 0; e = sa.create_engine('sqlite://', query_cache_size=100)\n"
            "t = sa.table('sqlite_master', *[sa.column(c) for c in ('name', 'type', 'sql', 'tbl_name')])"
        ),
        (
            "with e.connect() as c:\n"
            "    for _ in range(30):\n"
            "        n += 1\n"
            "        rows = c.execute(sa.select(*[t.c.name.label(f'c{n}_{k}') for k in range(5)])).all()"
        ),
        requires=("sqlalchemy",),
        trap="compiled statements fill a cache of 100 entries",
    ),
    known(
        "compiled_for_four_lengths",
        "warm-up",
        (
            "import jax, jax.numpy as jnp; n = 0\n"
            "@jax.jit\n"
            "def smooth(v):\n"
            '    for i in range(9): v = jnp.convolve(v, jnp.ones(5), "same") * 0.2 + jnp.tanh(v)\n'
            "    return v"
        ),
        "y = smooth(jnp.ones(2_000 + 100 * (n % 4))).block_until_ready(); n += 1",
        requires=("jax",),
        trap="a few MiB in each of the first four runs, then every form is known",
    ),
    known(
        "receivers_that_die",
        "steady",
        (
            "import blinker, numpy as np; tick = blinker.Signal()\n"
            "class View:\n"
            "    def __init__(self):\n"
            "        self.px = np.random.rand(600_000); tick.connect(self.draw)\n"
            "    def draw(self, sender): return self.px[0]"
        ),
        ('view = View()\nk = len(tick.send("clock"))'),
        requires=("blinker",),
        trap="a new subscriber in each run, held weakly",
    ),
    known(
        "one_figure_cleared",
        "steady",
        (
            "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt, numpy as np\n"
            "fig = plt.figure(1); fig.add_subplot().plot([1, 2]); fig.canvas.draw()"
        ),
        (
            "fig = plt.figure(1, clear=True); ax = fig.add_subplot(); im = ax.imshow(np.random.rand(400, "
            "400)); fig.colorbar(im); fig.canvas.draw()"
        ),
        requires=("matplotlib",),
        trap="artists and callbacks in cycles, freed by the collector",
    ),
    known(
        "sample_of_any_fraction",
        "noisy",
        (
            "import pandas as pd, numpy as np, random; rnd = random.Random(13)\n"
            "full = pd.DataFrame(np.random.rand(500_000, 6))"
        ),
        ("part = full.sample(frac=rnd.random(), random_state=rnd.randrange(10**6)); best = part.nlargest(5, 0)"),
        requires=("pandas",),
        trap="0 to 25 MiB, another amount in each run",
    ),
    known(
        "walk_of_a_level",
        "noisy",
        ("import numpy as np, random; rnd = random.Random(377); blocks = [np.ones(260_000) for _ in range(10)]"),
        (
            "k = min(20, max(1, len(blocks) + rnd.randrange(-6, 7)))\n"
            "blocks = blocks[:k] + [np.ones(260_000) for _ in range(k - len(blocks))]"
        ),
        trap="a bounded random walk: it has stretches that look like a trend",
    ),
    known(
        "buffer_filled_again",
        "steady",
        ("import numpy as np, io, os; buf = bytearray(12_000_000); source = io.BytesIO(os.urandom(12_000_000))"),
        (
            'x = source.seek(0); k = source.readinto(buf); m = np.frombuffer(buf, "u1").max(); d = '
            "memoryview(buf).toreadonly()"
        ),
    ),
    known(
        "pool_of_objects",
        "steady",
        (
            "import queue, numpy as np\n"
            "class Pool:\n"
            "    def __init__(self): self.free, self.made = queue.LifoQueue(), 0\n"
            "    def get(self):\n"
            "        try: return self.free.get_nowait()\n"
            "        except queue.Empty: self.made += 1; return np.ones(400_000)\n"
            "pool = Pool()"
        ),
        ("taken = [pool.get() for _ in range(6)]\nfor a in taken: a *= 1.01; pool.free.put(a)\ndel taken, a"),
        trap="a queue that is full of big objects, always the same ones",
    ),
    known(
        "arenas_of_kept_threads",
        "warm-up",
        (
            "from concurrent.futures import ThreadPoolExecutor; import json, time\n"
            "pool = ThreadPoolExecutor(6)\n"
            "def parse(k):\n"
            "    time.sleep(0.005)\n"
            '    return len(json.loads(json.dumps([[i, "x" * (i % 90)] for i in range(k)])))'
        ),
        "r = list(pool.map(parse, [6_000] * 24))",
        trap="threads and their malloc arenas come in run 1 and stay",
    ),
    known(
        "weights_fetched_once",
        "one-time",
        (
            "import functools, tempfile, os, numpy as np; home = tempfile.TemporaryDirectory()\n"
            "@functools.cache\n"
            "def weights():\n"
            '    path = os.path.join(home.name, "weights.npy")\n'
            "    if not os.path.exists(path): np.save(path, np.random.rand(4_000_000))\n"
            "    return np.load(path)"
        ),
        "score = float(weights()[:1_000].sum())",
        trap="31 MiB in run 1",
    ),
    known(
        "loky_workers_reused",
        "one-time",
        "import joblib, math",
        "r = joblib.Parallel(n_jobs=2)(joblib.delayed(math.sqrt)(i) for i in range(200))",
        metric="children",
        requires=("joblib",),
        trap="run 1 starts the workers, later ones use them",
    ),
    known(
        "database_opened_and_closed",
        "steady",
        (
            "import sqlite3, tempfile, os, contextlib; d = tempfile.TemporaryDirectory(); path = "
            "os.path.join(d.name, 'a.db')\n"
            "with contextlib.closing(sqlite3.connect(path)) as db, db:\n"
            "    _x = db.execute('create table t (b blob)')\n"
            "    _x = db.executemany('insert into t values (?)', [(os.urandom(2_000),) for _ in "
            "range(3_000)])"
        ),
        (
            "with contextlib.closing(sqlite3.connect(path)) as db:\n"
            "    rows = db.execute('select b from t order by b').fetchall()"
        ),
    ),
    known(
        "classes_known_to_an_abstract_one",
        "steady",
        ("import abc, numpy as np\nclass Shape(abc.ABC):\n    @abc.abstractmethod\n    def area(self): pass"),
        (
            "class Square:\n"
            "    grid = np.random.rand(300_000)\n"
            "    def area(self): return 1\n"
            "c = Shape.register(Square)\n"
            "ok = [isinstance(Square(), Shape), issubclass(Square, Shape), isinstance(3, Shape)]"
        ),
        trap="abc has a registry and two caches, all weak; the old classes are cycles",
    ),
    known(
        "join_at_a_high_peak",
        "steady",
        (
            "import pandas as pd, numpy as np; k = np.arange(40_000) % 1_000\n"
            'left = pd.DataFrame({"k": k, "a": np.random.rand(40_000)}); right = left.rename(columns={"a": '
            '"b"})'
        ),
        'pairs = left.merge(right, on="k"); top = pairs.groupby("k").a.sum().nlargest(3); del pairs',
        requires=("pandas",),
        trap="1.6 million rows at the peak, three numbers after it",
    ),
    known(
        "same_array_as_value",
        "steady",
        "import numpy as np; table = np.random.rand(1_500_000)",
        ("table *= 1.001\ntable"),
        trap="Out gets one more entry of 11 MiB in each run: always the same array",
    ),
    known(
        "html_reports_displayed",
        "steady",
        "import os; from IPython.display import HTML, display",
        "display(HTML('<pre>' + os.urandom(500_000).hex() + '</pre>'))",
        trap=("a megabyte of output per run: the publisher of ipykernel sends it and does not keep it, unlike values"),
    ),
    known(
        "signal_with_strong_receivers",
        "leak",
        "import blinker, numpy as np; saved = blinker.signal('saved')",
        (
            "def audit(sender, rows=np.random.rand(370_000), **kw): return rows.size\n"
            "saved.connect(audit, weak=False)\n"
            "r = saved.send('job')"
        ),
        mb=2.83,
        culprit="__main__.saved.receivers",
        also=(
            "__main__.saved",
            "blinker.signal('saved').receivers",
            "blinker.signal('saved')",
            "blinker.default_namespace['saved'].receivers",
            "blinker.base.default_namespace['saved'].receivers",
            "blinker.default_namespace",
            "blinker.base.default_namespace",
        ),
        requires=("blinker",),
        trap="the function is defined anew by each run; the former ones stay subscribed",
    ),
    known(
        "observers_of_a_trait",
        "leak",
        (
            "import traitlets, numpy as np\n"
            "class Settings(traitlets.HasTraits):\n"
            "    rate = traitlets.Float(0.1)\n"
            "settings = Settings()"
        ),
        (
            "cache = np.random.rand(250_000)\n"
            'settings.observe(lambda change, cache=cache: cache.sum(), names="rate")\n'
            "settings.rate += 0.1"
        ),
        mb=1.92,
        culprit="__main__.settings._trait_notifiers",
        also=(
            "__main__.settings",
            "__main__.settings._trait_notifiers['rate']",
            "__main__.settings._trait_notifiers['rate']['change']",
        ),
        requires=("traitlets",),
    ),
    known(
        "tables_in_one_metadata",
        "leak",
        "import sqlalchemy as sa; n = 0; meta = sa.MetaData()",
        (
            "for _ in range(25):\n"
            "    n += 1\n"
            "    t = sa.Table(f'run_{n}', meta, sa.Column('id', sa.Integer, primary_key=True),\n"
            "                 *[sa.Column(f'feature_{k}', sa.Float, index=True) for k in range(12)])"
        ),
        mb=1.14,
        culprit="__main__.meta.tables",
        also=("__main__.meta", "__main__.meta._schemas"),
        requires=("sqlalchemy",),
        trap="thousands of small objects with cycles, no array",
    ),
    known(
        "record_batches_of_a_writer",
        "leak",
        (
            "import pyarrow as pa, numpy as np\n"
            "class Sink:\n"
            "    def __init__(self, limit): self.limit, self.pending = limit, []\n"
            "    def write(self, batch):\n"
            "        self.pending.append(batch)\n"
            "        if len(self.pending) > self.limit: self.pending = []\n"
            "sink = Sink(limit=1_000)"
        ),
        "sink.write(pa.record_batch({'x': pa.array(np.random.rand(420_000))}))",
        mb=3.22,
        culprit="__main__.sink.pending",
        also=("__main__.sink",),
        requires=("pyarrow",),
        trap="flushes after 1,000 batches, which no session reaches; the buffers are in the pool of Arrow",
    ),
    known(
        "buffers_of_a_module",
        "leak",
        "import torch; n = 0; net = torch.nn.Linear(8, 8)",
        ("n += 1\nnet.register_buffer(f'ema_{n}', torch.rand(500_000))\nstate = len(net.state_dict())"),
        mb=1.92,
        culprit="__main__.net._buffers",
        also=("__main__.net",),
        requires=("torch==2.13.0",),
    ),
    known(
        "parameters_added_to_an_optimizer",
        "leak",
        "import torch; layer = torch.nn.Linear(4, 4); opt = torch.optim.Adam(layer.parameters())",
        (
            "head = torch.nn.Linear(400, 500)\n"
            'opt.add_param_group({"params": head.parameters()})\n'
            "head(torch.rand(2, 400)).sum().backward(); opt.step(); opt.zero_grad()"
        ),
        mb=2.31,
        culprit="__main__.opt.param_groups",
        also=("__main__.opt", "__main__.opt.state"),
        requires=("torch==2.13.0",),
        trap="weights are in param_groups, two moments of each in state: either list alone has a part",
    ),
    known(
        "metaclass_counts_its_objects",
        "leak",
        (
            "import collections, numpy as np\n"
            "class Tracked(type):\n"
            "    made = collections.defaultdict(list)\n"
            "    def __call__(cls, *a):\n"
            "        obj = super().__call__(*a)\n"
            "        Tracked.made[cls.__name__].append(obj)\n"
            "        return obj\n"
            "class Sample(metaclass=Tracked):\n"
            "    def __init__(self, k): self.x = np.random.rand(k)"
        ),
        "mean = sum(Sample(50_000).x.mean() for _ in range(10))",
        mb=3.83,
        culprit="__main__.Tracked.made['Sample']",
        also=("__main__.Tracked.made", "__main__.Sample.made", "__main__.Tracked", "__main__.Sample.made['Sample']"),
        trap="the instances are temporaries of the cell; a metaclass keeps them",
    ),
    known(
        "draw_callbacks_of_a_canvas",
        "leak",
        (
            "from matplotlib.figure import Figure; from matplotlib.backends.backend_agg import "
            "FigureCanvasAgg\n"
            "import numpy as np; fig = Figure(); canvas = FigureCanvasAgg(fig)"
        ),
        (
            "points = np.random.rand(200_000, 2)\n"
            'cid = canvas.mpl_connect("button_press_event", lambda event, points=points: points[0])'
        ),
        mb=3.06,
        culprit="__main__.canvas.callbacks",
        also=(
            "__main__.canvas",
            "__main__.fig._canvas_callbacks",
            "__main__.fig",
            "__main__.canvas.callbacks.callbacks",
            "__main__.canvas.callbacks.callbacks['button_press_event']",
            "__main__.fig._canvas_callbacks.callbacks",
            "__main__.fig._canvas_callbacks.callbacks['button_press_event']",
        ),
        requires=("matplotlib",),
    ),
    known(
        "charts_as_values",
        "leak",
        ('import plotly.graph_objects as go, plotly.io, numpy as np; plotly.io.renderers.default = "plotly_mimetype"'),
        "go.Figure(go.Scattergl(y=np.random.rand(70_000)))",
        mb=0.59,
        culprit="Out",
        also=("IPython HistoryManager.outputs", "get_ipython().history_manager.outputs"),
        requires=("plotly", "nbformat"),
        trap="Out has the figure, the history its JSON",
    ),
    known(
        "dataset_gets_longer",
        "leak",
        (
            "import xarray as xr, numpy as np\n"
            "def day(): return xr.Dataset({'t2m': (('time', 'y', 'x'), np.random.rand(1, 360, 480))})\n"
            "ds = day()"
        ),
        "ds = xr.concat([ds, day()], dim='time')",
        mb=1.33,
        culprit="__main__.ds",
        also=("__main__.ds['t2m']", "__main__.ds.t2m", "__main__.ds._variables", "__main__.ds._variables['t2m']"),
        requires=("xarray",),
        trap="rebound to a larger copy; the dataset still has one variable",
    ),
    known(
        "cookies_of_a_session",
        "leak",
        "import requests, secrets; session = requests.Session(); n = 0",
        (
            "for _ in range(1_500):\n"
            "    n += 1\n"
            "    c = session.cookies.set(f'visit{n}', secrets.token_hex(300), domain=f'shop{n % "
            "40}.example')"
        ),
        mb=1.81,
        culprit="__main__.session.cookies",
        also=("__main__.session", "__main__.session.cookies._cookies"),
        requires=("requests",),
        trap="small objects, three dicts deep",
    ),
    known(
        "callbacks_of_a_future",
        "leak",
        (
            "import asyncio, functools, numpy as np\n"
            "loop = asyncio.new_event_loop(); ready = loop.create_future()\n"
            "def store(rows, fut): pass"
        ),
        "ready.add_done_callback(functools.partial(store, np.random.rand(400_000)))",
        mb=3.07,
        culprit="__main__.ready",
        also=("__main__.ready._callbacks",),
        trap="the list of callbacks is a field in C; the loop never runs",
    ),
    known(
        "structures_that_point_to_the_last",
        "leak",
        (
            "import ctypes\n"
            "class Node(ctypes.Structure): pass\n"
            "Node._fields_ = [('next', ctypes.POINTER(Node)), ('data', ctypes.c_double * 200_000)]\n"
            "head = Node()"
        ),
        "new = Node(); new.next = ctypes.pointer(head); head = new",
        mb=1.54,
        culprit="__main__.head",
        also=("__main__.head._objects", "__main__.new"),
        trap="a linked list in C: one name, bound anew, whose size stays the same",
    ),
    known(
        "received_bytes",
        "leak",
        ("import os; received = bytearray()\ndef on_data(chunk): received.extend(chunk)"),
        "for _ in range(40): on_data(os.urandom(65_536))",
        mb=2.51,
        culprit="__main__.received",
        trap="grown in place by a function",
    ),
    known(
        "log_records_with_tracebacks",
        "leak",
        (
            "import logging, numpy as np\n"
            "class Keep(logging.Handler):\n"
            "    def __init__(self):\n"
            "        super().__init__(); self.records = []\n"
            "    def emit(self, record): self.records.append(record)\n"
            "log = logging.getLogger('loader'); log.propagate = False; keep = Keep(); log.addHandler(keep)\n"
            "def load():\n"
            "    rows = np.random.rand(300_000)\n"
            "    raise OSError('truncated')"
        ),
        ("try: load()\nexcept OSError: log.exception('load failed')"),
        mb=2.3,
        culprit="__main__.keep.records",
        also=(
            "__main__.keep",
            "logging.getLogger('loader').handlers",
            "logging.getLogger('loader').handlers[0].records",
            "__main__.log.handlers",
            "__main__.log",
        ),
        trap="a record of a few words, whose traceback holds the frame and its arrays",
    ),
    known(
        "contexts_entered_for_ever",
        "leak",
        (
            "import contextlib, numpy as np; stack = contextlib.ExitStack()\n"
            "@contextlib.contextmanager\n"
            "def window(k):\n"
            "    data = np.random.rand(k)\n"
            "    yield data[:10]\n"
            "    data[:] = 0"
        ),
        "w = stack.enter_context(window(310_000))",
        mb=2.38,
        culprit="__main__.stack._exit_callbacks",
        also=("__main__.stack",),
        trap="suspended generators in an ExitStack that nobody closes",
    ),
    known(
        "arrays_in_a_typed_list",
        "leak",
        "import numba.typed, numpy as np; paths = numba.typed.List()",
        "paths.append(np.random.rand(290_000))",
        mb=2.22,
        culprit="__main__.paths",
        requires=("numba",),
        trap="run 1 compiles; the list is a struct in C",
    ),
    known(
        "factorizations_kept",
        "leak",
        (
            "import numpy as np, scipy.sparse as sp, scipy.sparse.linalg as sl; factors = {}; n = 0\n"
            "L = sp.diags([-1, 2.1, -1], [-1, 0, 1], shape=(90, 90)); A = sp.kronsum(L, L).tocsc()"
        ),
        (
            "n += 1\n"
            'factors[n] = sl.splu(A + n * sp.identity(8_100, format="csc"))\n'
            "x = factors[n].solve(np.ones(8_100))[0]"
        ),
        mb=5.74,
        culprit="__main__.factors",
        requires=("scipy",),
        trap="SuperLU objects: C memory that no size of an object shows",
    ),
    known(
        "document_gets_longer",
        "leak",
        "from lxml import etree; feed = etree.Element('feed')",
        "for i in range(4_000): etree.SubElement(feed, 'entry', id=str(i)).text = 'lorem ipsum ' * 12",
        mb=2.63,
        culprit="__main__.feed",
        requires=("lxml",),
        trap="libxml2 has it all; Python has one proxy",
    ),
    known(
        "calls_in_a_directed_graph",
        "leak",
        "import networkx as nx; calls = nx.DiGraph(); n = 0",
        ("for _ in range(2_200):\n    n += 1\n    calls.add_edge(n, n // 3)"),
        mb=1.42,
        culprit="__main__.calls",
        also=(
            "__main__.calls._adj",
            "__main__.calls._node",
            "__main__.calls._pred",
            "__main__.calls._succ",
            "__main__.calls.adj",
            "__main__.calls.nodes",
        ),
        requires=("networkx",),
        trap="several small dicts per node; no array",
    ),
    known(
        "epochs_as_attributes",
        "leak",
        'import types, numpy as np; run = types.SimpleNamespace(name="first", epoch=0)',
        ('run.epoch += 1\nsetattr(run, f"weights_{run.epoch}", np.random.rand(170_000))'),
        mb=1.31,
        culprit="__main__.run",
        also=("__main__.run.__dict__",),
        trap="no container: a plain object gets one more attribute",
    ),
    known(
        "expressions_in_an_endless_cache",
        "leak",
        ("import os; os.environ['SYMPY_CACHE_SIZE'] = 'None'\nimport sympy; x, y = sympy.symbols('x y'); n = 0"),
        ("n += 1\nr = sum(sympy.diff(sympy.sin(x * (n * 100 + k)) * sympy.exp(y + k), x) for k in range(60))"),
        mb=1.04,
        culprit="sympy.core.cache.CACHE",
        also=("sympy.core.cache", "sympy.core.cache.cacheit", "sympy.core.cache.clear_cache"),
        requires=("sympy",),
        trap="a setting of the environment takes the bound off; dozens of wrappers in C hold a part each",
    ),
    known(
        "archive_in_memory",
        "leak",
        'import zipfile, io, os; bundle = zipfile.ZipFile(io.BytesIO(), "w"); n = 0',
        ('n += 1\nbundle.writestr(f"run{n}.bin", os.urandom(1_900_000))'),
        mb=1.82,
        culprit="__main__.bundle",
        also=("__main__.bundle.fp",),
        trap="a file that is memory, two levels below the name",
    ),
    known(
        "bounded_tiles",
        "warm-up",
        (
            "import cachetools, numpy as np; n = 0; tiles = cachetools.LRUCache(maxsize=5)\n"
            "@cachetools.cached(tiles)\n"
            "def load(k): return np.random.rand(500_000)"
        ),
        ("n += 1\nx = load(n)[0]"),
        requires=("cachetools",),
        trap="the same form as an endless cache",
    ),
    known(
        "hooks_that_are_removed",
        "steady",
        "import torch; net = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU()); seen = []",
        (
            "handle = net[0].register_forward_hook(lambda m, i, o: seen.append(o.detach()))\n"
            "with torch.no_grad(): y = net(torch.rand(2_000, 256))\n"
            "handle.remove(); k = len(seen); seen.clear()"
        ),
        requires=("torch==2.13.0",),
        trap="a list and a hook table that are empty again",
    ),
    known(
        "types_met_in_turn",
        "warm-up",
        (
            "import numba, numpy as np; n = 0\n"
            "@numba.njit\n"
            "def spread(a):\n"
            "    m = a.mean(); s = 0.0\n"
            "    for v in a: s += abs(v - m)\n"
            "    return s / a.size\n"
            "kinds = ['f8', 'f4', 'i8', 'i4']"
        ),
        "x = spread(np.arange(5_000).astype(kinds[n % 4])); n += 1",
        requires=("numba",),
        trap="one compilation in each of the first four runs",
    ),
    known(
        "batches_written_when_full",
        "noisy",
        "import numpy as np, os, random; rnd = random.Random(12); pending, size = [], 0",
        (
            "b = np.random.rand(rnd.randrange(100_000, 900_000)); pending.append(b); size += b.nbytes\n"
            "if size > 20_000_000:\n"
            '    with open(os.devnull, "wb") as f: f.writelines(pending)\n'
            "    pending, size = [], 0"
        ),
        trap="rises for some runs, then falls, with no fixed period",
    ),
    known(
        "tasks_gathered",
        "steady",
        (
            "import asyncio, numpy as np\n"
            "async def fetch(k):\n"
            "    await asyncio.sleep(0.01)\n"
            "    return np.random.rand(k)"
        ),
        "parts = await asyncio.gather(*[fetch(100_000) for _ in range(8)])",
        trap="top-level await; the same name is rebound",
    ),
]
