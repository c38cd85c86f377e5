"""The built-in cleaners on the real libraries, each in a fresh process so that what they free can be measured."""

from __future__ import annotations

import linecache
import re
import sys
from types import SimpleNamespace

import pytest

from memcell.clean.libraries import LIBRARIES, regex, source_lines, torch
from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process


def test_cleaning_imports_no_library():
    ran, loaded = in_fresh_process(
        """
        ran = list(clean())
        libraries = {"matplotlib", "sympy", "jax", "torch", "pyarrow", "numpy"}
        print(json.dumps([ran, sorted(libraries & set(sys.modules))]))
        """
    )
    assert ran == ["re", "linecache", "gc", "trim"]
    assert loaded == []


def test_the_table_names_each_cleaner_once_and_says_what_it_does():
    names = [cleaner.name for cleaner in LIBRARIES]
    assert len(names) == len(set(names))
    assert all(cleaner.about and cleaner.library for cleaner in LIBRARIES)
    assert all(cleaner.effect == "state" for cleaner in LIBRARIES if cleaner.deep)


def test_re_forgets_its_compiled_patterns():
    pattern = re.compile("forgotten by memcell [0-9]+")
    assert re.compile("forgotten by memcell [0-9]+") is pattern
    regex.CLEANER.find()()
    assert re.compile("forgotten by memcell [0-9]+") is not pattern


def test_linecache_keeps_source_that_is_in_no_file(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("a = 1\n")
    assert linecache.getline(str(module), 1) == "a = 1\n"
    cell, loader = "<a cell of a test>", "<a loader of a test>"
    linecache.cache[cell] = (6, None, ["b = 2\n"], cell)
    linecache.cache[loader] = (lambda: "c = 3\n",)
    try:
        source_lines.CLEANER.find()()
        assert str(module) not in linecache.cache
        assert linecache.getline(cell, 1) == "b = 2\n"
        assert loader in linecache.cache
    finally:
        linecache.cache.pop(cell)
        linecache.cache.pop(loader)


def test_matplotlib_closes_its_figures_only_when_named():
    before, kept, after, freed = in_fresh_process(
        """
        import matplotlib
        matplotlib.use("agg")
        from matplotlib import pyplot
        for _ in range(8):
            figure = pyplot.figure(figsize=(16, 12), dpi=150)
            figure.add_subplot().plot(range(10))
            figure.canvas.draw()
        del figure
        before = len(pyplot.get_fignums())
        clean()
        kept = len(pyplot.get_fignums())
        freed = clean("matplotlib")
        print(json.dumps([before, kept, len(pyplot.get_fignums()), freed["matplotlib"]]))
        """,
    )
    assert (before, kept, after) == (8, 8, 0)
    assert freed >= 64 * MIB


def test_sympy_forgets_what_its_core_cached():
    before, after, again = in_fresh_process(
        """
        import sympy
        from sympy.core import cache
        def entries():
            return sum(cached.cache_info().currsize for cached in cache.CACHE)
        x, y = sympy.symbols("x y")
        for power in range(2, 30):
            sympy.expand((x + y) ** power)
        before = entries()
        clean("sympy")
        after = entries()
        print(json.dumps([before, after, str(sympy.diff(x**3, x))]))
        """,
    )
    assert before > 500
    assert after == 0
    assert again == "3*x**2"


def test_pyarrow_returns_what_its_pools_keep():
    held, freed, trimmed = in_fresh_process(
        """
        import gc
        import pyarrow
        # Strings as a table has them: a large array would be mapped on its own and given back at once.
        arrays = [pyarrow.array([str(i) * 10 for i in range(50_000)]) for _ in range(40)]
        held = pyarrow.total_allocated_bytes()
        del arrays
        freed_by_heap = clean("gc", "trim")
        freed = clean("pyarrow")
        print(json.dumps([held, freed["pyarrow"], freed_by_heap["trim"]]))
        """,
    )
    assert held >= 80 * MIB
    assert freed >= 64 * MIB
    assert trimmed < held / 2, "the pool, not malloc, kept it"


def test_jax_forgets_what_it_traced():
    traced, freed = in_fresh_process(
        """
        import jax
        import jax.numpy as jnp
        traces = []
        @jax.jit
        def work(x):
            traces.append(x.shape)
            return (jnp.sin(x) @ x.T).sum()
        def use():
            for size in (2, 3, 4, 2):
                work(jnp.ones((size, size)))
            return len(traces)
        traced = [use(), use()]
        freed = clean("jax")
        traced.append(use())
        print(json.dumps([traced, freed]))
        """,
    )
    assert traced == [3, 3, 6]
    assert set(freed) <= {"jax", "trim"}


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="its CPU build is for 3.11 on Linux"
)
def test_torch_forgets_compiled_graphs_and_starts_no_device():
    default, compiled, graphs, initialized = in_fresh_process(
        """
        import weakref
        import torch
        assert "torch._dynamo" not in sys.modules
        default = list(clean())
        graphs = []
        def backend(graph, inputs):
            graphs.append(weakref.ref(graph))
            return graph.forward
        @torch.compile(backend=backend, dynamic=False)
        def work(x):
            return torch.sin(x) + 1
        def use():
            work(torch.ones(3))
            return len(graphs)
        compiled = [use(), use()]
        alive = [graph() is not None for graph in graphs]
        clean("torch", "torch-compile", "gc")
        alive += [graph() is not None for graph in graphs]
        compiled.append(use())
        print(json.dumps([default, compiled, alive, torch.cuda.is_initialized()]))
        """,
    )
    assert "torch" in default
    assert "torch-compile" not in default
    assert compiled == [1, 1, 2]
    assert graphs == [True, False]
    assert not initialized


class FakeTorch:
    """Stands for PyTorch on machines with a GPU, which these tests do not need."""

    def __init__(self, *, cuda: bool, mps: bool, mps_bytes: int = 0) -> None:
        self.emptied: list[str] = []
        self.cuda = SimpleNamespace(is_initialized=lambda: cuda, empty_cache=lambda: self.emptied.append("cuda"))
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))
        self.mps = SimpleNamespace(
            driver_allocated_memory=lambda: mps_bytes, empty_cache=lambda: self.emptied.append("mps")
        )


@pytest.mark.parametrize(
    ("fake", "emptied"),
    [
        (FakeTorch(cuda=True, mps=False), ["cuda"]),
        (FakeTorch(cuda=False, mps=True, mps_bytes=1), ["mps"]),
        (FakeTorch(cuda=False, mps=True), []),
        (FakeTorch(cuda=False, mps=False), []),
    ],
)
def test_only_devices_that_are_in_use_are_asked_for_their_free_blocks(fake, emptied):
    torch.release_pools(fake)
    assert fake.emptied == emptied
