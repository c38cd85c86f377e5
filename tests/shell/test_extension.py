"""Loading, reloading and unloading: one set of everything, or none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import memcell
from tests.shell.conftest import traces


def test_loading_adds_no_name_to_the_users_namespace(bare_shell, session):
    before = traces(bare_shell)["names"]
    bare_shell.run_line_magic("load_ext", "memcell")
    bare_shell.run_cell("pass")
    assert traces(bare_shell)["names"] == before
    bare_shell.run_line_magic("unload_ext", "memcell")


def test_loading_twice_is_loading_once(shell, runs, capsys):
    loaded = traces(shell)
    shell.run_line_magic("load_ext", "memcell")
    assert "already loaded" in capsys.readouterr().out
    memcell.load_ipython_extension(shell)
    assert traces(shell) == loaded
    shell.run_cell("pass")
    assert len(runs) == 1


def test_unloading_leaves_nothing(bare_shell, session):
    before = traces(bare_shell)
    bare_shell.run_line_magic("load_ext", "memcell")
    bare_shell.run_cell("%%memwatch -q\nx = 1")
    bare_shell.run_line_magic("unload_ext", "memcell")
    after = traces(bare_shell)
    del before["names"], after["names"]
    assert after == before


def test_unloading_twice_does_no_harm(shell):
    memcell.unload_ipython_extension(shell)
    memcell.unload_ipython_extension(shell)


def test_after_unloading_nothing_is_recorded_and_the_history_is_kept(shell, runs):
    shell.run_cell("x = 1")
    shell.run_line_magic("unload_ext", "memcell")
    shell.run_cell("x = 2")
    assert [run.source_line for run in runs] == ["x = 1"]


def test_reloading_leaves_one_set_and_keeps_registry_and_history(shell, runs, session):
    loaded = traces(shell)
    memcell.register("mine", lambda: None)
    shell.run_cell("x = 1")
    for _ in range(3):
        shell.run_line_magic("reload_ext", "memcell")
    reloaded = traces(shell)
    assert [*reloaded["hooks"]["pre_run_cell"]] != []
    for event, hooks in loaded["hooks"].items():
        assert len(reloaded["hooks"][event]) == len(hooks)
    for what in ("magics", "magic classes", "transformers", "configurables", "formatters"):
        assert reloaded[what] == loaded[what], what
    assert len(reloaded["matchers"]) == len(loaded["matchers"])
    shell.run_cell("x = 2")
    assert [run.source_line for run in runs] == ["x = 1", "x = 2"]
    assert "mine" in [info.name for info in sys.modules["memcell"].cleaners()]


def test_reloading_inside_a_cell(shell, runs):
    shell.run_cell("%reload_ext memcell\nx = 1").raise_error()
    shell.run_cell("x = 2")
    assert [run.source_line for run in runs] == ["%reload_ext memcell", "x = 2"]


def test_a_users_magic_of_the_same_name_survives_the_unloading(shell):
    shell.run_cell("from IPython.core.magic import register_line_magic")
    shell.run_cell("@register_line_magic\ndef memclean(line): return 'mine'")
    shell.run_line_magic("unload_ext", "memcell")
    assert shell.run_line_magic("memclean", "") == "mine"
    del shell.magics_manager.magics["line"]["memclean"]


def test_the_watcher_and_the_threads_end_with_the_unloading(shell, session):
    shell.run_cell("x = 1")
    assert session._sampler.pid is not None
    shell.run_line_magic("unload_ext", "memcell")
    assert session._sampler.pid is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("memcell")]


def test_unloaded_it_tells_of_nothing_in_the_shell_any_more(shell, session):
    assert session.cleaning.tell.__self__.__class__.__module__.startswith("memcell.ipython")
    shell.run_line_magic("unload_ext", "memcell")
    assert session.cleaning.tell.__module__ == "memcell.cleaning"


def test_two_shells_are_loaded_and_unloaded_on_their_own(shell, session):
    from IPython.core.interactiveshell import InteractiveShell

    other = InteractiveShell(config=shell.config)
    other.run_line_magic("load_ext", "memcell")
    other.run_line_magic("unload_ext", "memcell")
    shell.run_cell("x = 1")
    other.run_cell("x = 2")
    assert [run.source_line for run in session.history] == ["x = 1"]


def test_a_failing_run_does_not_keep_the_extension_from_unloading(shell, session, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("no reading")

    with monkeypatch.context() as patch:
        patch.setattr(session.meter, "close", broken)
        shell.run_cell("%unload_ext memcell").raise_error()
    assert "memcell" not in shell.extension_manager.loaded


_IN_A_TERMINAL = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
for cell in ("%load_ext memcell", "%config Memcell.show = 'always'", "x = 1", "%%memwatch -o record\\nx = 1"):
    shell.run_cell(cell).raise_error()
print(shell.user_ns["record"].outcome)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_cannot_show_the_line_does_not_lose_the_rest(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", _IN_A_TERMINAL], capture_output=True, env=environment, check=False)
    told = done.stdout + done.stderr
    assert b"switched off" not in told, told
    assert done.stdout.endswith(b"ok\n"), told
    assert done.stdout.count(b" kept ") == 3
