"""Libraries with threads of their own: used here first, then in an isolated function, where they must not hang."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.kernel.kernels import Kernel

_USES = {
    "numpy": "import numpy as np\n    return float((np.ones((800, 800)) @ np.ones((800, 800))).sum())",
    "torch": (
        "import torch\n    weights = torch.ones(500, 500, requires_grad=True)\n"
        "    (weights @ weights).sum().backward()\n    return float(weights.grad.sum())"
    ),
    "scikit-learn": (
        "import numpy as np\n    from sklearn.ensemble import HistGradientBoostingClassifier as Model\n"
        "    x = np.arange(20000.0).reshape(-1, 4)\n    y = x[:, 0] > 9000\n"
        "    return Model(max_iter=3).fit(x, y).score(x, y)"
    ),
    "pyarrow": (
        "import pyarrow as pa\n    table = pa.table({'a': list(range(100000)), 'b': [i % 7 for i in range(100000)]})\n"
        "    return table.group_by('b').aggregate([('a', 'sum')]).num_rows"
    ),
    "duckdb": "import duckdb\n    return duckdb.sql('select sum(range % 7) from range(5000000)').fetchall()",
    "polars": (
        "import polars as pl\n    frame = pl.DataFrame({'a': range(100000), 'b': [i % 7 for i in range(100000)]})\n"
        "    return frame.group_by('b').agg(pl.col('a').sum()).height"
    ),
    "jax": "import jax, jax.numpy as jnp\n    return float(jax.jit(lambda x: (x @ x).sum())(jnp.ones((400, 400))))",
    "tensorflow": (
        "import tensorflow as tf\n"
        "    return float(tf.function(lambda x: tf.reduce_sum(tf.matmul(x, x)))(tf.ones((400, 400))))"
    ),
    "numba": (
        "import numba, numpy as np\n    @numba.njit(parallel=True)\n    def add(values):\n        total = 0.0\n"
        "        for i in numba.prange(len(values)):\n            total += values[i]\n        return total\n"
        "    return add(np.ones(100000))"
    ),
}
_SPAWNED = {"polars", "jax", "tensorflow", "numba"}


@pytest.mark.parametrize("library", list(_USES))
def test_it_works_here_and_there(library):
    program = textwrap.dedent("""
        import memcell
        from memcell.protect.isolate import fork_hazard
        def use():
            {use}
        here = use()
        with memcell.isolated(use, timeout=120) as isolated:
            for _ in range(2):
                assert isolated() == here
            print(fork_hazard())
    """)
    program = program.replace("{use}", _USES[library])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    hazard = done.stdout.splitlines()[-1]
    assert (hazard != "None") == (library in _SPAWNED)


@pytest.mark.parametrize("library", ["torch", "polars"])
def test_in_an_isolated_cell(library, tmp_path):
    with Kernel(sys.executable, tmp_path) as kernel:
        kernel.run(f"%load_ext memcell\ndef use():\n    {_USES[library]}\nhere = use()", 120)
        result = kernel.run("%%memwatch --isolate -q --keep there\nthere = use()", 120)
        assert result.status == "ok", result.error
        assert kernel.value("there == here") is True


_POOLS = """
import time
import concurrent.futures
import loky
import memcell
from joblib import Parallel, delayed
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

def jobs(): return Parallel(2)(delayed(abs)(-n) for n in range(3))
def search(): return GridSearchCV(Ridge(), {"alpha": [1, 2]}, n_jobs=2, cv=2).fit([[1], [2], [3], [4]], [1, 2, 3, 4])
def reusable(): return loky.get_reusable_executor(2).submit(abs, -5).result()
threads = concurrent.futures.ThreadPoolExecutor(2)
own = loky.ProcessPoolExecutor(1)
def all_of_them(): return jobs(), search().best_params_, reusable(), list(threads.map(abs, [-1, -2]))
"""


def test_executors_that_were_used_before(tmp_path):
    """joblib keeps one for all its users: its threads are not in the fork."""
    with Kernel(sys.executable, tmp_path) as kernel:
        kernel.run(f"%load_ext memcell\n{_POOLS}\nhere = all_of_them(); own.submit(abs, 1).result()", 120)
        result = kernel.run("%%memwatch --isolate -q --keep there\nthere = all_of_them()", 60)
        assert result.status == "ok", result.error
        assert kernel.value("there == here") is True
        assert "make another one here" in kernel.run("%%memwatch --isolate -q\nown.submit(abs, 1).result()").error
        kernel.run("with memcell.isolated(all_of_them, timeout=60) as isolated: there = isolated(), isolated()", 90)
        assert kernel.value("there == (here, here)") is True
        kernel.run("again = all_of_them(), own.submit(abs, 1).result()")
        assert kernel.value("again == (here, 1)") is True


@pytest.mark.parametrize("end", ["", "import os; os.kill(os.getpid(), 11)", "1 / 0"])
def test_nothing_of_joblib_stays_in_shared_memory(tmp_path, end):
    use = (
        "import numpy as np\nfrom joblib import Parallel, delayed\nlarge = np.ones(2_000_000)\n"
        "def add(): return Parallel(2)(delayed(np.sum)(large) for _ in range(2))\n"
    )

    def left():
        return {name for name in os.listdir("/dev/shm") if "loky" in name or "joblib" in name}

    before = left()
    with Kernel(sys.executable, tmp_path) as kernel:
        kernel.run(f"%load_ext memcell\n{use}")
        result = kernel.run(f"%%memwatch --isolate -q\n{use}assert add() == [2e6, 2e6]\n{end}", 60)
        assert (result.status == "ok") == (end == ""), result.error
        assert left() == before
        if "kill" not in end:
            assert not result.stderr
        kernel.run("assert add() == [2e6, 2e6]")  # from now on the kernel has a tracker of its own
        of_kernel = left()
        kernel.run(f"%%memwatch --isolate -q\nassert add() == [2e6, 2e6]\n{end}", 60)
        assert left() == of_kernel
        kernel.run("import memcell\nwith memcell.isolated(add) as isolated: isolated(), isolated()", 60)
        assert left() == of_kernel
    assert left() == before
