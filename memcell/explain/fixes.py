"""The line that gives the memory of a culprit back, ready to paste; where no line can, a comment that says what to do.

What belongs to the interpreter, the shell or an event loop is never emptied: they would not go on without it.
"""

from __future__ import annotations

import re
import sys

from memcell.explain.census import Grown
from memcell.explain.names import USERS

#: A key as ``repr`` writes a text.
_KEY = re.compile(r"""\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]""")
_CANCEL = "# cancel what the cell leaves in the event loop: task.cancel(), handle.cancel()"
#: What has a cleaner or a magic of its own, or a remedy, by its name.
_KNOWN = {
    "Out": "%memclean out",
    "IPython HistoryManager.outputs": "%memclean out",
    "IPython HistoryManager.exceptions": "%memclean traceback",
    "matplotlib._pylab_helpers.Gcf.figs": "%memclean matplotlib  # closes all; better plt.close(fig) at the cell's end",
    "ipywidgets.widgets.widget._instances": "%memclean ipywidgets",
    "sys.modules": "%memclean --modules",
    "globals()": "%memclean --vars",
    "linecache.cache": "%memclean linecache",
    "atexit": "# atexit.unregister() each function that the cell registers, or register one only once",
    "logging.root.manager.loggerDict": "# logging.getLogger() with one name for all runs: a logger is kept for ever",
    "threading._active": "# its threads do not end: tell them to, by an Event, or start them only once",
    "subprocess._active": "%memclean --procs",
    "multiprocessing.process._children": (
        "import multiprocessing; [(one.terminate(), one.join()) for one in multiprocessing.active_children()]"
    ),
    "weakref.finalize._registry": "# weakref.finalize() once for each object, or call .detach() on what it returned",
}
#: Packages whose stores a built-in cleaner empties in the right way: its own name.
_CLEANED = frozenset({"bokeh", "fsspec", "jax", "pyvista", "re", "sympy", "xarray"})
#: Packages of the shell, which needs what they keep. The interpreter's own are known to it.
_SHELLS = frozenset(
    {"IPython", "comm", "debugpy", "ipykernel", "jupyter_client", "jupyter_core", "tornado", "traitlets", "zmq"}
)
#: What has to be ended before it is let go of: the class and what ends one of it.
_ENDED = {
    "ThreadPoolExecutor": "one.shutdown(wait=False, cancel_futures=True)",
    "ProcessPoolExecutor": "one.shutdown(wait=False, cancel_futures=True)",
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
#: How data is made empty, so that a cell which adds to it goes on, by the package and the end of its class.
_EMPTIED = {
    ("", "str"): "[:0]",
    ("", "bytes"): "[:0]",
    ("", "tuple"): "[:0]",
    ("numpy", "ndarray"): "[:0].copy()",
    ("pandas", "DataFrame"): ".iloc[:0].copy()",
    ("pandas", "Series"): ".iloc[:0].copy()",
    ("polars", "DataFrame"): ".clear()",
    ("polars", "Series"): ".clear()",
    ("torch", "Tensor"): "[:0].clone()",
}


def fix_for(grown: Grown) -> str:
    """The line to paste for something that grew. Names of the user's own are written without ``__main__``."""
    if grown.name in _KNOWN:
        return _KNOWN[grown.name]
    if grown.name.startswith("logging.getLogger("):
        return "%memclean logging-handlers"
    name = grown.name.removeprefix(USERS)
    if grown.kind.startswith(_PROCESS):
        ended = _ended(grown)
        return _ONE.sub(name, ended) if ended else f"%memprocs --kill {grown.kind.removeprefix(_PROCESS)}"
    if "._loop." in name or grown.of.startswith("asyncio."):
        return _CANCEL
    if grown.kind == "functools cache" and name.partition(".")[0] not in _CLEANED:
        return f"%memclean lru:{name}" if "[" not in name else f"{name}.cache_clear()"
    return _for_users(grown, name) if grown.name.startswith(USERS) else _for_librarys(grown)


def _for_users(grown: Grown, name: str) -> str:
    if grown.kind == "autograd graph":
        return f"{name} = {name}.detach()  # or add up loss.item()"
    ended = _ended(grown)
    if ended:
        entries = f"{name}.values()" if grown.kind.endswith(("dict", "Dict")) else name
        return f"[{ended} for one in {entries}]; {name}.clear()"
    # What an object keeps for itself is not to be emptied behind its back, unless it says that it is a cache.
    owner, private, rest = _cut(name, "._")
    if private and owner and not rest.startswith(_OF_FUNCTIONS) and "cache" not in rest:
        return f"del {owner}"
    if grown.whole:
        # A chain ends in what it began with, mostly None, and the cell will ask for that.
        is_chain = grown.kind.startswith(USERS) or grown.kind.endswith(("tuple", "Error", "Exception"))
        return f"{name} = None" if is_chain else f"del {name}"
    if _is_cleared(grown.kind):
        return f"{name}.clear()"
    if grown.kind in ("_io.BytesIO", "_io.StringIO"):
        return f"{name}.seek(0); {name}.truncate()"
    package, _, kind = grown.kind.rpartition(".")
    emptied = _EMPTIED.get((package.partition(".")[0], kind), "")
    if emptied and grown.unit == "bytes":
        return f"{name} = {name}{emptied}"
    # Data can be taken off an object; a part that an extension type needs cannot, so the whole goes.
    return f"del {name}" if grown.unit == "bytes" else f"del {_cut(name, '.')[0]}"


def _for_librarys(grown: Grown) -> str:
    package = grown.name.partition(".")[0]
    if package in _CLEANED:
        return f"%memclean {package}"
    if package.startswith("Out["):
        return "%memclean out"
    if grown.whole:  # what the user has put there wraps what was there before, again and again
        return f"import importlib, {grown.module}; importlib.reload({grown.module})  # and change it only once"
    if package in _SHELLS or package in sys.stdlib_module_names:
        whose = "the shell's" if package in _SHELLS else "Python's"
        return f"# {grown.name} is {whose}: take out what the cell puts in, or run it with %%memwatch --isolate"
    if not _is_cleared(grown.kind):
        return f"# {grown.name} cannot be emptied: try %memclean --deep, or run the cell with %%memwatch --isolate"
    # A library's store is looked up when it is cleared, so that nothing is pinned and a new one is found. Each store
    # has a cleaner of its own, named after it.
    importing = f"import {', '.join(grown.imports)}; " if grown.imports else ""
    return f"{importing}memcell.register({_cleaner_name(grown.name)!r}, lambda: {grown.name}.clear())"


def _ended(grown: Grown) -> str:
    return next((call for kind, call in _ENDED.items() if grown.holds.endswith(kind)), "")


def _cleaner_name(store: str) -> str:
    """A name without quotation marks and spaces: ``pkg.mod._cache.a`` for ``pkg.mod._cache['a']``."""
    return ".".join(filter(None, re.split(r"[^\w]+", store)))


def _cut(name: str, mark: str) -> tuple[str, str, str]:
    """As ``name.partition(mark)``, but not inside the key of a dictionary: ``d['data.csv'].x``."""
    at = _KEY.sub(lambda key: "[" * len(key[0]), name).find(mark)
    return (name, "", "") if at < 0 else (name[:at], mark, name[at + len(mark) :])


def _is_cleared(kind: str) -> bool:
    return kind.startswith(("closure variable", "default")) or kind.endswith(_CLEARED)
