"""Variables, modules and garbage of the user in a shell, and the level of memory over 200 cells that are reset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import memcell
from memcell.clean.imports import Imports
from memcell.clean.namespace import Namespace
from memcell.units import MIB


def names_of(variables):
    return {variable.name for variable in variables}


@pytest.fixture
def namespace(shell):
    return Namespace(shell.user_ns, shell.user_ns_hidden, Imports(stays=lambda: shell.extension_manager.loaded))


def test_only_what_cells_bound_is_the_users(shell, namespace):
    cells = "x = 1", "'displayed'", "!true", "import json as j", "def f(): return x", "for _ in [f]: pass", "1 + 1"
    for cell in cells:
        shell.run_cell(cell, store_history=True)
    assert names_of(namespace.variables()) == {"x", "j", "f", "_"}
    before = set(shell.user_ns) - {"x", "j", "f"}
    namespace.remove_variables()
    assert set(shell.user_ns) == before
    assert shell.user_ns["_"] == "displayed", "it is the shell's again"


def test_a_shell_works_on_after_its_variables_went(shell, namespace):
    shell.run_cell("open = x = 5\n_ = 7", store_history=True)
    namespace.reset()
    result = shell.run_cell("import os\nwith open(os.devnull) as file: pass\nfile.closed", store_history=True)
    result.raise_error()
    assert result.result is True
    assert shell.user_ns["_"] is True
    assert len(shell.user_ns["In"]) == 3
    assert shell.user_ns["get_ipython"]() is shell


def test_an_extension_of_the_shell_stays_imported(shell, namespace, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_extension.py").write_text("def load_ipython_extension(shell): pass\n")
    (tmp_path / "some_module.py").write_text("")
    shell.run_cell("%load_ext some_extension\nimport some_module").raise_error()
    found = {outcome.name: outcome.note for outcome in namespace.drop_modules()}
    assert found["some_extension"] == "it is an extension of the shell"
    assert found["some_module"] == "the variable some_module keeps it in memory"
    assert "some_module" not in sys.modules
    del sys.modules["some_extension"]


CELLS = """
import gc, json, os, pathlib, sys, tempfile
import numpy
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
from memcell.clean.imports import Imports
from memcell.clean.namespace import Namespace
from memcell.ipython.outputs import forget_outputs, forget_tracebacks
from memcell.measure.process import make_reader, trim_heap

resets, count = json.loads(sys.argv[1])
sys.stdout, out = open(os.devnull, "w"), sys.stdout
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
rss = make_reader(exact_peak=lambda: False).rss
folder = pathlib.Path(tempfile.mkdtemp())
sys.path.insert(0, str(folder))
sys.dont_write_bytecode = True
namespace = Namespace(shell.user_ns, shell.user_ns_hidden, Imports(stays=lambda: shell.extension_manager.loaded))

def reset(result):
    forget_outputs(shell)
    forget_tracebacks(shell)
    namespace.reset()
    gc.collect()
    trim_heap()

if resets:
    shell.events.register("post_run_cell", reset)

ARRAY = "numpy.full(20 << 17, 1.0)"
KINDS = [
    "import numpy\\nv{n} = " + ARRAY,
    "import numpy\\n" + ARRAY,
    "import module{n}\\nmodule{n}.fill()",
    "from module{n} import Base, fill\\nfill()\\nclass Own(Base): pass\\nown{n} = Own()\\nown{n}.itself = own{n}",
    "import numpy\\ndef fail(depth):\\n    local = " + ARRAY + "\\n    1 / depth\\n    fail(depth - 1)\\nfail(1)",
    "import numpy\\ndef g():\\n    local = " + ARRAY + "\\n    try:\\n        1 / 0\\n    except Exception as e:\\n"
    "        global kept\\n        kept = e\\n        raise ValueError({n}) from e\\ng()",
    "import numpy\\ncell = []\\ncell.append((cell, " + ARRAY + ", lambda: cell))\\nx: int = {n}",
    "import numpy\\nf{n} = lambda a=" + ARRAY + ": a\\nf{n}",
    "import colorsys, wave, xml.dom.minidom, fractions{n}",
    "this is no python {n}",
]
levels = []
for n in range(count):
    (folder / f"module{n}.py").write_text(
        "import numpy\\nDATA = []\\ndef fill(): DATA.append(" + ARRAY + ")\\nclass Base: pass\\nfill()\\n"
    )
    shell.run_cell(KINDS[n % len(KINDS)].replace("{n}", str(n)), store_history=True)
    levels.append(rss())
print(json.dumps(levels), file=out)
"""


def levels_of_cells(resets: bool, count: int) -> list[int]:
    """Resident memory after each of so many different cells in a shell of its own process."""
    root = str(Path(memcell.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", CELLS, json.dumps([resets, count])],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    return json.loads(done.stdout)


def test_200_cells_that_are_reset_leave_the_level_flat():
    levels = levels_of_cells(True, 200)
    assert levels[199] - levels[19] < 10 * MIB
    # Each with the same kind of cell: malloc may keep the pages of a result that its caller lets go of after the reset.
    assert max(later - levels[10 + index % 10] for index, later in enumerate(levels[20:])) < 10 * MIB


def test_without_a_reset_the_same_cells_pile_up():
    levels = levels_of_cells(False, 30)
    assert levels[29] - levels[9] > 200 * MIB, "and so they would in the test above"
