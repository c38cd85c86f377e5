"""The line that gives the memory of a culprit back, ready to paste."""

from __future__ import annotations

import re

from memcell.explain.census import Grown

#: A key as ``repr`` writes a text.
_KEY = re.compile(r"""\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]""")
_USER = "__main__."
#: What has a cleaner or a magic of its own, by its name.
_KNOWN = {
    "Out": "%memclean out",
    "IPython HistoryManager.outputs": "%memclean out",
    "IPython HistoryManager.exceptions": "%memclean traceback",
    "matplotlib._pylab_helpers.Gcf.figs": "plt.close(fig)  # at the cell's end; %memclean matplotlib closes all now",
    "ipywidgets.widgets.widget._instances": "%memclean ipywidgets",
    "sys.modules": "%memclean --modules",
    "globals()": "%memclean --vars",
    "linecache.cache": "%memclean linecache",
    "atexit": "atexit.unregister(…)  # each function that the cell registers, or register one only once",
    "logging.root.manager.loggerDict": "logging.getLogger('one name')  # for all runs: a logger is kept for ever",
}
#: Packages whose stores a built-in cleaner empties in the right way: its own name.
_CLEANED = frozenset({"bokeh", "fsspec", "jax", "pyvista", "sympy", "xarray"})
#: What has to be ended before it is let go of: the class and what ends one of it.
_ENDED = {
    "ThreadPoolExecutor": "one.shutdown()",
    "ProcessPoolExecutor": "one.shutdown()",
    "multiprocessing.pool.Pool": "(one.terminate(), one.join())",
    "multiprocessing.pool.ThreadPool": "(one.terminate(), one.join())",
    "SharedMemory": "(one.close(), one.unlink())",
    "subprocess.Popen": "(one.terminate(), one.wait())",
    "DatasetReader": "one.close()",
    "sqlite3.Connection": "one.close()",
    "matplotlib.figure.Figure": "plt.close(one)",
}
_PROCESS = "child process "
_ONE = re.compile(r"\bone\b")
#: What a function holds: the attribute's name after ``._``.
_OF_FUNCTIONS = ("_closure__", "_defaults__", "_kwdefaults__", "_wrapped__")
#: Containers that a call empties.
_CLEARED = ("dict", "list", "set", "deque", "Dict", "Counter", "OrderedDict", "bytearray", "argument", "variable")


def fix_for(grown: Grown) -> str:
    """The line to paste for something that grew. Names of the user's own are written without ``__main__``."""
    if grown.name in _KNOWN:
        return _KNOWN[grown.name]
    if grown.name.startswith("logging.getLogger("):
        return "%memclean logging-handlers"
    name = grown.name.removeprefix(_USER)
    ended = next((call for kind, call in _ENDED.items() if grown.holds.endswith(kind)), "")
    if grown.kind.startswith(_PROCESS):
        pid = grown.kind.removeprefix(_PROCESS)
        return _ONE.sub(name, ended) if ended else f"%memprocs --kill {pid}"
    if grown.kind == "functools cache" and name.partition(".")[0] not in _CLEANED:
        return f"%memclean lru:{name}" if "[" not in name else f"{name}.cache_clear()"
    if not grown.name.startswith(_USER):
        return _registration(grown)
    if grown.kind == "autograd graph":
        return f"{name} = {name}.detach()  # or add up loss.item()"
    if ended:
        entries = f"{name}.values()" if grown.kind.endswith(("dict", "Dict")) else name
        return f"[{ended} for one in {entries}]; {name}.clear()"
    # What an object keeps for itself is not to be emptied behind its back, unless it says that it is a cache.
    owner, private, rest = _cut(name, "._")
    if private and owner and not rest.startswith(_OF_FUNCTIONS) and "cache" not in rest:
        return f"del {owner}"
    if _is_cleared(grown.kind):
        return f"{name}.clear()"
    # Data can be taken off an object; a part that an extension type needs cannot, so the whole goes.
    return f"del {name}" if grown.unit == "bytes" else f"del {_cut(name, '.')[0]}"


def _cut(name: str, mark: str) -> tuple[str, str, str]:
    """As ``name.partition(mark)``, but not inside the key of a dictionary: ``d['data.csv'].x``."""
    at = _KEY.sub(lambda key: "[" * len(key[0]), name).find(mark)
    return (name, "", "") if at < 0 else (name[:at], mark, name[at + len(mark) :])


def _registration(grown: Grown) -> str:
    """A library's store is looked up when it is cleared, so that nothing is pinned and a new one is found."""
    importing = f"import {grown.imports}; " if grown.imports else ""
    package = grown.name.partition(".")[0]
    if package in _CLEANED:
        return f"%memclean {package}"
    if not _is_cleared(grown.kind):
        return f"%memclean --deep  # {grown.name} is {grown.kind}; without effect, run the cell in its own process"
    return f'{importing}memcell.register("{package}", lambda: {grown.name}.clear())'


def _is_cleared(kind: str) -> bool:
    return kind.startswith(("closure variable", "default")) or kind.endswith(_CLEARED)
