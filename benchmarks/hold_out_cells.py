"""More cells for ``benchmarks.proof``, written by somebody who had not seen the detector: a table, so it is long.

Each was verified in plain Python before: run 14 times in one namespace, with a collection and a trim after each, its
level grows or stays as it says. ``mb`` is MiB per run; ``trap`` says what makes the cell hard to judge.
"""

from __future__ import annotations

from benchmarks.proof_cells import known

_LEAKS = [
    known(
        "finalizers_with_their_arrays",
        "leak",
        "import weakref, numpy as np\nclass Job: pass\njob = Job()\ndef flush(rows): pass",
        "f = weakref.finalize(job, flush, np.random.rand(430_000))",
        mb=3.28,
        culprit="weakref.finalize._registry",
        also=("weakref.finalize",),
        trap=(
            "the array is an argument of a finalizer of an object that outlives the session: a class attribute of"
            " the standard library"
        ),
    ),
    known(
        "exit_hooks_with_data",
        "leak",
        "import atexit, numpy as np\ndef save(rows, name): pass\nn = 0",
        "n += 1\nf = atexit.register(save, np.random.rand(270_000), name=f'run{n}')",
        mb=2.06,
        culprit="atexit",
        also=("atexit.register", "atexit._run_exitfuncs"),
        trap="the table of hooks is in C: no attribute of the module shows it",
    ),
    known(
        "context_keeps_a_chain",
        "leak",
        "import contextvars, numpy as np\nhistory = contextvars.ContextVar('history', default=None)\n"
        "ctx = contextvars.copy_context()\ndef remember(a): history.set((a, history.get()))",
        "ctx.run(remember, np.random.rand(350_000))",
        mb=2.67,
        culprit="__main__.ctx",
        also=(
            "__main__.ctx[history]",
            "__main__.ctx[__main__.history]",
            "__main__.history",
            "__main__.ctx.get(history)",
        ),
        trap="a chain of pairs inside a Context object; no list gets longer",
    ),
    known(
        "default_argument_collects",
        "leak",
        "import random; rnd = random.Random(5)\ndef note(word, seen=[]):\n    seen.append(word)\n    return len(seen)",
        "for i in range(25_000): k = note('user-%012d' % rnd.randrange(10**12))",
        mb=2.11,
        culprit="__main__.note.__defaults__",
        also=("__main__.note", "__main__.note.__defaults__[0]"),
        trap="many small strings in the default value of a parameter",
    ),
    known(
        "mock_remembers_calls",
        "leak",
        "from unittest import mock; import numpy as np\nclient = mock.MagicMock()",
        "r = client.send(np.random.rand(310_000), retries=3)",
        mb=2.37,
        culprit="__main__.client.send.call_args_list",
        also=(
            "__main__.client",
            "__main__.client.send",
            "__main__.client.mock_calls",
            "__main__.client.method_calls",
            "__main__.client.send.mock_calls",
            "__main__.client._mock_children",
            "__main__.client._mock_children['send']",
            "__main__.client._mock_mock_calls",
            "__main__.client._mock_method_calls",
            "__main__.client.send._mock_call_args_list",
            "__main__.client.send._mock_mock_calls",
        ),
        trap="several lists hold each call; none of them belongs to the user",
    ),
    known(
        "settings_stacked",
        "leak",
        "import collections, numpy as np\nsettings = collections.ChainMap({'weights': np.zeros(1)})",
        "settings = settings.new_child({'weights': np.random.rand(520_000)})",
        mb=3.97,
        culprit="__main__.settings.maps",
        also=("__main__.settings",),
        trap="the name is bound anew in each run and looks like a small dict; len() stays 1",
    ),
    known(
        "sparse_design_matrix_stacked",
        "leak",
        "import numpy as np, scipy.sparse as sp\nrng = np.random.default_rng(1)\n"
        "design = sp.random(10, 5_000, density=.01, format='csr', random_state=1)",
        "design = sp.vstack([design, sp.random(4_000, 5_000, density=.01, format='csr', random_state=2)]).tocsr()",
        mb=2.3,
        culprit="__main__.design",
        also=("__main__.design.data", "__main__.design.indices"),
        requires=("scipy",),
        trap="rebound to a larger copy; the bytes are in three arrays below an attribute",
    ),
    known(
        "forward_hooks_added_again",
        "leak",
        "import torch\nmodel = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())\nx = torch.rand(8, 64)",
        "mask = torch.rand(8 * 64, 1_400)\n"
        "model[0].register_forward_hook(lambda m, i, o, mask=mask: o * mask[:, 0].mean())\ny = model(x).detach()",
        mb=2.73,
        culprit="__main__.model[0]._forward_hooks",
        also=(
            "__main__.model",
            "__main__.model[0]",
            "__main__.model._modules['0']._forward_hooks",
            "__main__.model._modules['0']",
        ),
        requires=("torch",),
        trap="tensor memory is not the collector's; a hook of a layer of a model keeps it in a lambda's default",
    ),
    known(
        "dispatch_registry_of_redefined_classes",
        "leak",
        "import functools, numpy as np\n@functools.singledispatch\ndef describe(x): return repr(x)",
        "class Sample:\n    data = np.random.rand(330_000)\n"
        "@describe.register(Sample)\ndef show(s): return s.data.sum()\nt = describe(Sample())",
        mb=2.52,
        culprit="__main__.describe.registry",
        also=("__main__.describe",),
        trap="the class is defined anew by each run; the old ones live on as keys of a mapping proxy",
    ),
    known(
        "generated_source_in_linecache",
        "leak",
        "import linecache; n = 0",
        "n += 1\nname = f'<model {n}>'\n"
        "lines = [f'def rule_{n}_{i}(a, b): return a * {i} + b - {n}\\n' for i in range(12_000)]\n"
        "linecache.cache[name] = (sum(map(len, lines)), None, lines, name)\ndel lines",
        mb=1.3,
        culprit="linecache.cache",
        trap="a cache of the standard library that code generators fill so that tracebacks show their source",
    ),
    known(
        "hdf5_file_in_memory",
        "leak",
        "import h5py, numpy as np; n = 0\nstore = h5py.File('runs.h5', 'w', driver='core', backing_store=False)",
        "n += 1\nd = store.create_dataset(f'run{n}/loss', data=np.random.rand(290_000))",
        mb=2.21,
        culprit="__main__.store",
        requires=("h5py",),
        trap="HDF5's own memory: no Python object is larger than a handle",
    ),
    known(
        "reference_count_never_dropped",
        "leak",
        "import ctypes, numpy as np",
        "a = np.random.rand(410_000)\nr = ctypes.pythonapi.Py_IncRef(ctypes.py_object(a))",
        mb=3.13,
        culprit="",
        trap="what a faulty extension does: the array has a reference that no object holds",
    ),
    known(
        "tensors_moved_to_shared_memory",
        "leak",
        "import torch; weights = {}; n = 0",
        "n += 1\nweights[n] = torch.rand(600_000).share_memory_()",
        mb=2.29,
        metric="shmem",
        culprit="__main__.weights",
        requires=("torch",),
        trap="pages of unlinked files in /dev/shm, not the heap",
    ),
    known(
        "helper_process_fed_by_pipe",
        "leak",
        "import subprocess, sys\n"
        "code = 'import sys\\nrows = []\\nfor line in sys.stdin:\\n    rows.append(bytes([65]) * int(line)); "
        "print(len(rows), flush=True)'\n"
        "helper = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, "
        "stdout=subprocess.PIPE, text=True)",
        "helper.stdin.write('3000000\\n'); helper.stdin.flush()\ncount = int(helper.stdout.readline())",
        mb=2.86,
        metric="children",
        culprit="__main__.helper",
        trap="one child, always the same: only its memory grows",
    ),
    known(
        "worker_keeps_every_batch",
        "leak",
        "from concurrent.futures import ProcessPoolExecutor; import os\nbatches = []\n"
        "def learn(k):\n    batches.append(os.urandom(k))\n    return len(batches)\n"
        "workers = ProcessPoolExecutor(1)",
        "r = workers.submit(learn, 4_500_000).result()",
        mb=4.29,
        metric="children",
        culprit="__main__.workers",
        also=("__main__.workers._processes",),
        trap="the list of that name in the notebook stays empty: the copy in the forked worker grows",
    ),
    known(
        "session_never_committed",
        "leak",
        "import sqlalchemy as sa, os\nfrom sqlalchemy.orm import declarative_base, Session\nBase = declarative_base()\n"
        "class Page(Base):\n    __tablename__ = 'page'\n    id = sa.Column(sa.Integer, primary_key=True)\n   "
        " body = sa.Column(sa.LargeBinary)\n"
        "engine = sa.create_engine('sqlite://'); Base.metadata.create_all(engine)\nsession = Session(engine)",
        "session.add_all([Page(body=os.urandom(4_000)) for _ in range(600)])",
        mb=2.99,
        culprit="__main__.session._new",
        also=("__main__.session", "__main__.session.new"),
        requires=("sqlalchemy",),
        trap="held as pending objects in the unit of work",
    ),
    known(
        "errors_chained_to_the_last",
        "leak",
        "import numpy as np; last = None\ndef load(rows):\n    raise ValueError('bad rows')",
        "try:\n    load(np.random.rand(370_000))\nexcept ValueError as e:\n    e.__cause__ = last\n    last = e",
        mb=2.82,
        culprit="__main__.last",
        also=("__main__.last.__cause__",),
        trap="one name, bound anew; the frames of the tracebacks of its causes hold the arrays",
    ),
    known(
        "timers_far_in_the_future",
        "leak",
        "import asyncio, numpy as np\nloop = asyncio.new_event_loop()\ndef expire(rows): pass",
        "h = loop.call_later(86_400, expire, np.random.rand(450_000))",
        mb=3.43,
        culprit="__main__.loop._scheduled",
        also=("__main__.loop",),
        trap="arguments of time-outs that nobody cancels",
    ),
    known(
        "descriptor_keyed_by_instance",
        "leak",
        "import numpy as np\nclass Column:\n    def __init__(self): self.values = {}\n"
        "    def __get__(self, obj, cls=None): return self if obj is None else self.values[obj]\n"
        "    def __set__(self, obj, value): self.values[obj] = value\n"
        "class Run:\n    data = Column()",
        "run = Run()\nrun.data = np.random.rand(480_000)",
        mb=3.66,
        culprit="__main__.Run.data.values",
        also=(
            "__main__.Run.data",
            "__main__.Run",
            "__main__.Run.__dict__['data'].values",
            "__main__.Run.__dict__['data']",
        ),
        trap="no global container: a descriptor in a class holds each instance for ever",
    ),
    known(
        "loggers_named_by_run",
        "leak",
        "import logging, io; n = 0",
        "n += 1\nlog = logging.getLogger(f'train.run{n}'); log.setLevel(20); log.propagate = False\n"
        "log.addHandler(logging.StreamHandler(io.StringIO()))\n"
        "for i in range(12_000): log.info('epoch %06d of run %03d: loss %.9f, accuracy %.9f', i, n, .1, .9)",
        mb=1.57,
        culprit="logging.root.manager.loggerDict",
        also=(
            "logging.Logger.manager.loggerDict",
            "logging.Logger.manager",
            "logging.root.manager",
            "logging.getLogger().manager.loggerDict",
            "logging.root.manager.loggerDict['train'].loggerMap",
            "logging.Logger.manager.loggerDict['train'].loggerMap",
        ),
        trap="loggers are never forgotten; the text is a C buffer of a StringIO",
    ),
    known(
        "lines_drawn_on_one_axes",
        "leak",
        "from matplotlib.figure import Figure; import numpy as np\nfig = Figure(); ax = fig.add_subplot()",
        "line = ax.plot(np.random.rand(110_000).cumsum())",
        mb=3.4,
        culprit="__main__.ax",
        also=("__main__.ax._children", "__main__.ax.lines", "__main__.fig", "__main__.fig.axes"),
        requires=("matplotlib",),
        trap="one figure, one axes: only the artists below it get more",
    ),
    known(
        "views_pin_their_bases",
        "leak",
        "import numpy as np; heads = []",
        "a = np.random.rand(560_000); a.sort()\nheads.append(a[:10])",
        mb=4.27,
        culprit="__main__.heads",
        trap="each element says that it has 80 bytes",
    ),
    known(
        "trie_of_small_dicts",
        "leak",
        "import random, string; rnd = random.Random(3); trie = {}",
        "for _ in range(2_200):\n    node = trie\n    for ch in rnd.choices(string.ascii_lowercase, k=8): "
        "node = node.setdefault(ch, {})",
        mb=1.9,
        culprit="__main__.trie",
        trap="no container gets long: ten thousand small dicts more, five levels down",
    ),
    known(
        "coroutine_collects",
        "leak",
        "import numpy as np\ndef averager():\n    seen = []\n    while True:\n        a = yield len(seen)\n  "
        "      seen.append(a)\n"
        "avg = averager(); next(avg)",
        "k = avg.send(np.random.rand(380_000))",
        mb=2.9,
        culprit="__main__.avg",
        also=("__main__.avg.gi_frame.f_locals['seen']", "__main__.avg.gi_frame.f_locals", "__main__.avg.gi_frame"),
        trap="the list is a local variable of a suspended frame",
    ),
    known(
        "locals_of_a_running_thread",
        "leak",
        "import queue, threading, numpy as np\ninbox = queue.Queue()\ndef serve():\n    seen = []\n    while True:\n"
        "        seen.append(inbox.get()); inbox.task_done()\n"
        "worker = threading.Thread(target=serve, daemon=True); worker.start()",
        "inbox.put(np.random.rand(340_000)); inbox.join()",
        mb=2.59,
        culprit=None,
        also=("__main__.worker",),
        trap="the queue is empty; the list is a local variable of a thread that runs",
    ),
    known(
        "frame_attrs_keep_versions",
        "leak",
        "import numpy as np, pandas as pd\ndf = pd.DataFrame({'a': np.random.rand(60_000), 'b': "
        "np.random.rand(60_000)})\ndf.attrs['versions'] = []",
        "df.attrs['versions'].append(df.to_numpy().copy())",
        mb=0.92,
        culprit="__main__.df.attrs['versions']",
        also=("__main__.df.attrs", "__main__.df", "__main__.df._attrs['versions']", "__main__.df._attrs"),
        requires=("pandas",),
        trap="memory_usage(deep=True) of the frame stays the same",
    ),
    known(
        "node_attributes_of_a_graph",
        "leak",
        "import networkx as nx, numpy as np; G = nx.path_graph(50); n = 100",
        "n += 1\nG.add_node(n, embedding=np.random.rand(260_000).astype('float32'))\nG.add_edge(n, 0)",
        mb=0.99,
        culprit="__main__.G._node",
        also=("__main__.G", "__main__.G.nodes"),
        requires=("networkx",),
    ),
    known(
        "function_traced_for_each_number",
        "leak",
        "import numpy as np, tensorflow as tf; n = 0\ntable = np.random.rand(300_000).astype('float32')\n"
        "@tf.function\ndef score(x, k): return tf.reduce_sum(x * k + table)\nx = tf.constant(2.0)",
        "n += 1\ns = float(score(x, n))",
        mb=8.2,
        culprit="__main__.score",
        requires=("tensorflow-cpu",),
        trap=(
            "a Python number is part of the signature: each run traces again, and the array is a constant of each graph"
        ),
    ),
    known(
        "compiled_for_each_length",
        "leak",
        "import jax, jax.numpy as jnp; n = 1000\n@jax.jit\ndef smooth(v):\n    for i in range(12): v = "
        "jnp.convolve(v, jnp.ones(3), 'same') + jnp.sin(v)\n    return v",
        "n += 1\ny = smooth(jnp.ones(n)).block_until_ready()",
        mb=4.3,
        culprit=None,
        also=("__main__.smooth",),
        requires=("jax",),
        trap="executables in C++",
    ),
]

_NO_LEAKS = [
    known(
        "ring_buffer_touched_bit_by_bit",
        "warm-up",
        "import numpy as np; ring = np.empty((6, 520_000)); n = 0",
        "ring[n % 6] = np.random.rand(520_000)\nn += 1",
        trap="4 MB more of the same array become resident in each of the first six runs",
    ),
    known(
        "cache_cleared_every_third_run",
        "noisy",
        "import numpy as np; cache = {}; n = 0",
        "n += 1\nif n % 3 == 0: cache.clear()\ncache[n] = np.random.rand(600_000)",
        trap="saw-tooth with period 3",
    ),
    known(
        "list_trimmed_when_long",
        "noisy",
        "import numpy as np; frames = []",
        "frames.append(np.random.rand(350_000))\nif len(frames) > 4: del frames[:-1]",
        trap="grows for four runs, then falls",
    ),
    known(
        "error_cycles_pending",
        "steady",
        "import numpy as np\ndef attempt(rows):\n    try: raise KeyError('no such row')\n    except KeyError "
        "as e: err = e\n    return None",
        "r = attempt(np.random.rand(800_000))",
        trap="frame and exception hold each other until the collector runs: raw RSS grows 6 MB per run",
    ),
    known(
        "high_peak_only",
        "steady",
        "import numpy as np",
        "m = np.random.rand(4_000, 4_000)\ns = float((m @ m[:, :50]).sum()); del m",
        trap="122 MB at the peak",
    ),
    known(
        "table_loaded_once",
        "one-time",
        "import numpy as np; TABLES = {}",
        "if 'zip' not in TABLES: TABLES['zip'] = np.random.rand(3_000_000)\nk = TABLES['zip'][:1_000].sum()",
        trap="23 MB in run 1, held for ever",
    ),
    known(
        "frame_of_two_sizes",
        "noisy",
        "import numpy as np, pandas as pd; n = 0",
        "n += 1\ndf = pd.DataFrame(np.random.rand(900_000 if n % 2 else 150_000, 4))\ng = df.sum()",
        requires=("pandas",),
        trap="up and down by 23 MB in turn",
    ),
    known(
        "libraries_imported_in_turn",
        "warm-up",
        "import importlib; n = 0\nwanted = ['numpy', 'scipy.stats', 'pandas', 'networkx', 'sqlalchemy', 'PIL.Image']",
        "mod = importlib.import_module(wanted[min(n, 5)]); n += 1",
        requires=("scipy", "pandas", "networkx", "sqlalchemy", "pillow"),
        trap="each of the first runs adds modules and megabytes; none of the later ones does",
    ),
    known(
        "short_lived_blocks_of_any_size",
        "noisy",
        "import random; rnd = random.Random(9)",
        "blocks = [b'x' * rnd.randrange(100, 100_000) for _ in range(400)]\nkept = blocks[::rnd.randrange(2, "
        "20)]; del blocks",
        trap="the heap is full of holes; 1 to 10 MB stay, another amount in each run",
    ),
    known(
        "thread_that_churns",
        "noisy",
        "import threading, time, random, numpy as np; rnd = random.Random(2)\n"
        "def churn():\n    while True:\n        buf = np.ones(rnd.randrange(4_300_000, 6_000_000)); "
        "time.sleep(rnd.random() / 10)\n"
        "        buf = None; time.sleep(rnd.random() / 20)\n"
        "churner = threading.Thread(target=churn, daemon=True); churner.start()",
        "import time\ntime.sleep(.15)\nk = sum(range(100_000))",
        trap="another thread's memory, 0 or 33 to 46 MB, at whatever moment one looks",
    ),
    known(
        "strings_interned",
        "steady",
        "import sys",
        "names = [sys.intern('column_%d' % i) for i in range(40_000)]",
        trap="the table of interned strings gets 40,000 entries, and loses them",
    ),
    known(
        "frozen_in_each_run",
        "steady",
        "import gc",
        "rows = []\nfor i in range(30_000): rows.append({'i': i, 'v': [i]})\ngc.freeze()",
        trap="gc.get_objects() shows none of it and gc.get_freeze_count() is large",
    ),
    known(
        "one_number_per_run",
        "steady",
        "import numpy as np; losses = []; steps = 0",
        "steps += 1\nw = np.random.rand(12_000_000)\nlosses.append(float(w.mean())); del w",
        trap="a list that does get longer, by 32 bytes, and 92 MB at the peak",
    ),
    known(
        "pool_from_the_start",
        "steady",
        "import multiprocessing as mp, os\ndef job(k): return sum(os.urandom(k))\npool = mp.Pool(2)\nr = "
        "pool.map(job, [500_000] * 4)",
        "r = pool.map(job, [500_000] * 4)",
        metric="children",
        trap="children that stay, with memory that stays",
    ),
    known(
        "weak_registry",
        "steady",
        "import weakref, numpy as np\nLIVE = weakref.WeakValueDictionary(); n = 0\nclass Tile:\n    def "
        "__init__(self): self.px = np.random.rand(500_000)",
        "n += 1\ntile = LIVE[n] = Tile()",
        trap="a registry that gets a new key in each run, and loses the old one",
    ),
    known(
        "patterns_of_any_text",
        "steady",
        "import re; n = 0",
        "for i in range(700):\n    n += 1\n    m = re.match(r'(\\d+)-run%d-[a-z]{2,9}' % n, '12-run%d-abc' % n)",
        trap="new patterns in each run, but re._cache holds 512",
    ),
    known(
        "shared_tensor_replaced",
        "steady",
        "import torch",
        "batch = torch.rand(1_500_000).share_memory_()",
        metric="shmem",
        requires=("torch",),
        trap="a new file in /dev/shm for each run; the old one goes",
    ),
    known(
        # The value of the cell is an expression that ends in a semicolon: IPython's displayhook is quiet then and
        # does not store it in Out. (Without the semicolon it would be a leak of 5.3 MiB.) Verified by reading
        # IPython/core/displayhook.py: update_user_ns runs only where `not self.quiet()`.
        "value_hidden_by_a_semicolon",
        "steady",
        "import numpy as np",
        "np.random.rand(700_000);",
        trap="looks like a value that Out keeps",
    ),
    known(
        "expressions_in_a_bounded_cache",
        "warm-up",
        "import sympy; x = sympy.Symbol('x'); n = 0",
        "n += 1\nr = [sympy.expand((x + n) ** 6 + i) for i in range(500)]",
        requires=("sympy",),
        trap="sympy's caches hold 1,000 entries each: new numbers fill them for some runs",
    ),
]

CASES = [*_LEAKS, *_NO_LEAKS]
