"""Importing memcell, and loading it into a shell, is light: each is tried in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

_LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
_LOAD_EXT = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_cell("%load_ext memcell").raise_error()
shell.run_cell("x = 1").raise_error()
assert "memclean" in shell.magics_manager.magics["line"]
"""


def _loaded_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{_LOADED}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_loads_nothing_heavy():
    loaded = _loaded_by("import memcell")
    assert "memcell" in loaded
    assert not loaded & {"matplotlib", "ipywidgets", "numpy", "pandas", "IPython", "traitlets"}


def test_using_it_outside_notebooks_loads_nothing_heavy():
    loaded = _loaded_by(
        "import memcell\n"
        "memcell.register('nothing', lambda: None)\n"
        "memcell.clear_caches(verbose=True)\n"
        "with memcell.watch('block'): pass\n"
        "memcell.history().to_csv()"
    )
    assert not loaded & {"matplotlib", "ipywidgets", "numpy", "pandas", "IPython", "traitlets"}


def test_load_ext_and_a_cell_load_nothing_heavy():
    loaded = _loaded_by(_LOAD_EXT)
    assert {"memcell", "IPython"} <= loaded
    assert not loaded & {"matplotlib", "ipywidgets", "numpy", "pandas"}
