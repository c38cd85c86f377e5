"""The lines to paste: they run, the cell runs again after them, and what others need is not emptied."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from memcell.explain.census import Grown, take_census
from memcell.explain.culprits import compare
from memcell.explain.fixes import fix_for

_SIZE = 1_600_000
_BEGIN = """
import collections, contextvars, enum, functools, io, itertools, types
import numpy as np, pandas as pd
class Node:
    def __init__(self, before): self.data, self.before = bytes(SIZE), before
class Flags(enum.Flag): A = 1; B = 2; C = 4; D = 8; E = 16
history = contextvars.ContextVar("history", default=None)
def remember(data): history.set((data, history.get()))
def collect():
    kept = []
    while True: kept.append((yield))
thing = types.SimpleNamespace()
"""


def _culprit(names: dict[str, Any], cell: str, growth: int = _SIZE) -> Any:
    censuses = []
    for _ in range(4):
        exec(cell, names)
        censuses.append(take_census(names, previous=censuses[-1] if censuses else None, modules={}, deadline_s=30))
    culprits = compare(censuses, [growth] * 3)
    assert culprits, censuses[-1].grown
    return culprits[0]


@pytest.mark.parametrize(
    ("begin", "cell", "name"),
    [
        ("kept = []", "kept.append(bytes(SIZE))", "kept"),
        ("text = ''", "text = text + 'x' * SIZE", "text"),
        ("data = np.ones(9)", "data = np.concatenate([data, np.ones(SIZE // 8)])", "data"),
        ("frame = pd.DataFrame(np.ones(1))", "frame = pd.concat([frame, pd.DataFrame(np.ones(SIZE // 8))])", "frame"),
        ("log = io.BytesIO()", "log.write(b'x' * SIZE)", "log"),
        ("words = io.StringIO()", "words.write('x' * SIZE)", "words"),
        ("thing.kept = []", "thing.kept.append(bytes(SIZE))", "thing.kept"),
        ("setattr(thing, 'my list', [])", "getattr(thing, 'my list').append(bytes(SIZE))", "getattr(thing, 'my list')"),
        ("setattr(thing, 'class', [])", "getattr(thing, 'class').append(bytes(SIZE))", "getattr(thing, 'class')"),
        ("globals()['my list'] = []", "globals()['my list'].append(bytes(SIZE))", "globals()['my list']"),
        ("by = {None: []}", "by[None].append(bytes(SIZE))", "by[None]"),
        ("by = {('a', 1): []}", "by['a', 1].append(bytes(SIZE))", "by[('a', 1)]"),
        ("by = collections.defaultdict(list)", "by[int].append(bytes(SIZE))", "by"),
        ("by = collections.defaultdict(list)", "by['x' * 100].append(bytes(SIZE))", "by"),
        ("__cache = []", "__cache.append(bytes(SIZE))", "__cache"),
        ("pair = None", "pair = (bytes(SIZE), pair)", "pair"),
        ("node = None", "node = Node(node)", "node"),
        ("collector = collect(); next(collector)", "collector.send(bytes(SIZE))", "collector"),
        ("bound = functools.partial(list.append, [])", "bound.args[0].append(bytes(SIZE))", "bound"),
        ("context = contextvars.copy_context()", "context.run(remember, bytes(SIZE))", "context"),
        ("one, two = itertools.tee(bytes(SIZE) for _ in range(9))", "x = next(one)", "one"),
        ("table = pd.DataFrame({'k': []}, dtype=object)", "table.loc[len(table)] = [np.ones(SIZE // 8)]", "table"),
    ],
)
def test_who_holds_it_is_named_and_the_line_runs(begin: str, cell: str, name: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "SIZE": _SIZE}
    exec(f"{_BEGIN}{begin}", names)
    culprit = _culprit(names, cell)
    assert culprit.name == f"__main__.{name}"
    assert culprit.share > 0.6
    exec(culprit.fix, names)
    if f"del {name}" not in culprit.fix:
        exec(cell, names)  # it goes on from an empty one


def test_members_that_a_flag_makes_up() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "SIZE": _SIZE}
    exec(f"{_BEGIN}number = iter(range(1, 99))", names)
    culprit = _culprit(names, "Flags(next(number) * 2 + 1)", growth=5_000)
    assert culprit.name == "__main__.Flags._value2member_map_"


def test_a_library_function_that_is_wrapped_again_and_again() -> None:
    import statistics

    names: dict[str, Any] = {"__name__": "__main__", "SIZE": _SIZE, "statistics": statistics, "sys": sys}
    exec(
        "import functools\n"
        "def wrapped(function, data):\n"
        "    @functools.wraps(function)\n"
        "    def inner(*values): return function(*values), data[:0]\n"
        "    return inner",
        names,
    )
    censuses = []
    for _ in range(4):
        exec("statistics.mean = wrapped(statistics.mean, bytes(SIZE))", names)
        previous = censuses[-1] if censuses else None
        censuses.append(take_census(names, previous=previous, modules={"statistics": statistics}, deadline_s=30))
    culprit = compare(censuses, [_SIZE] * 3)[0]
    assert culprit.name == "statistics.mean"
    exec(culprit.fix, names)
    assert statistics.mean([1, 2, 3]) == 2


@pytest.mark.parametrize(
    ("name", "kind", "fix"),
    [
        ("sys.path", "list", "# sys.path is Python's: take out what the cell puts in"),
        ("posix.environ", "dict", "# posix.environ is Python's: "),
        ("IPython.core.x._instance.events.callbacks['post_run_cell']", "list", "# IPython.core.x._instance.events"),
        ("asyncio.events._policy._local._loop._ready", "collections.deque", "# cancel what the cell leaves"),
        ("__main__.h._loop._scheduled", "list", "# cancel what the cell leaves"),
        ("Out[5]._things", "list", "%memclean out"),
        ("threading._active", "dict", "# its threads do not end"),
        ("subprocess._active", "list", "%memclean --procs"),
    ],
)
def test_what_the_interpreter_and_the_shell_need_is_not_emptied(name: str, kind: str, fix: str) -> None:
    assert fix_for(Grown(name, kind, "entries", 1, 2, module=name.partition(".")[0])).startswith(fix)


def test_two_stores_of_a_package_have_a_cleaner_each() -> None:
    fixes = {
        fix_for(Grown(name, "dict", "entries", 1, 2, module="pandas")) for name in ("pandas.a", "pandas.b['x y'].c")
    }
    assert fixes == {
        "memcell.register('pandas.a', lambda: pandas.a.clear())",
        "memcell.register('pandas.b.x.y.c', lambda: pandas.b['x y'].c.clear())",
    }
