"""What a shell tells of the death of an earlier kernel in its folder."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest
from traitlets.config import Config

from memcell.protect.aftermath import keep, open_folder
from memcell.protect.blackbox import folder_key, state_folder
from memcell.protect.deaths import Boxes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a watcher on Linux only")


@pytest.fixture
def die(tmp_path, monkeypatch):
    """Puts a black box of this folder into a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def make(number: int = 3, age_s: int = 60, *, torn: bool = False) -> None:
        run = {
            "cell": "c",
            "number": number,
            "is_block": False,
            "source": f"cell_number = {number}",
            "source_characters": 15,
            "started": time.time() - age_s - 5,
            "before_bytes": 1 << 20,
            "earlier": [],
            "limit_bytes": 1 << 30,
            "limit_source": "%memlimit",
        }
        content = {
            "format": 1,
            "memcell": "0.1.0",
            "python": "3.11.7",
            "pid": 1,
            "folder": os.getcwd(),
            "notebook": "",
            "died": time.time() - age_s,
            "signal": "SIGKILL",
            "exit_status": None,
            "oom": "yes",
            "run": run,
            "running": True,
            "ended": None,
            "times_s": [-2.0, -1.0],
            "rss_bytes": [1 << 28, 1 << 29],
            "children_bytes": [],
        }
        folder = open_folder(state_folder(), make=True)
        name = f"{folder_key(os.getcwd())}-{int(time.time() - age_s)}-1-1.new.json"
        keep(folder, name, json.dumps(content).encode()[: 99 if torn else None])
        os.close(folder)

    return make


@pytest.fixture
def load(make_shell, session, capsys):
    """Loads memcell in a fresh shell and tells what that printed."""
    shells = []

    def call(config: Config | None = None):
        shell = make_shell(config)
        shells.append(shell)
        capsys.readouterr()
        shell.run_cell("%load_ext memcell")
        return shell, capsys.readouterr().out

    yield call
    for shell in shells:
        shell.run_cell("%unload_ext memcell")
        assert not [hook for hook in shell.events.callbacks["post_run_cell"] if "memcell" in str(hook)]


def test_a_death_is_told_when_memcell_is_loaded_and_only_once(die, load, capsys):
    die()
    shell, told = load()
    assert told.startswith("memcell: the last kernel here died in cell [3] at 512 MiB of 1 GiB, 1 min 00 s ago")
    assert told.count("\n") == 1
    shell.run_cell("x = 1")
    shell.run_cell("%reload_ext memcell")
    assert capsys.readouterr().out == ""


def test_without_a_death_nothing_is_told(die, load):
    assert load()[1] == ""


def test_it_is_not_told_to_who_wants_no_lines_or_has_it_off(die, load, session):
    die()
    for name, value in (("show", "never"), ("blackbox", False)):
        config = Config()
        config.Memcell[name] = value
        shell, told = load(config)
        assert told == ""
        shell.run_cell("%unload_ext memcell")
        type(shell).clear_instance()
    session.configure(blackbox=True)
    assert "died in cell [3]" in load()[1]


def test_a_torn_box_is_nobodys_trouble_at_the_start(die, load, capsys):
    die(torn=True)
    shell, told = load()
    assert told == ""
    shell.run_cell("%mempostmortem")
    told = capsys.readouterr().out
    assert "is torn" in told
    assert "no kernel has died" in told


def test_the_magic_shows_the_latest_lists_and_clears(die, load, capsys):
    die(number=4, age_s=500)
    die(number=5, age_s=60)
    shell, _ = load()
    shell.run_cell("%mempostmortem")
    told = capsys.readouterr().out
    assert "cell_number = 5" in told
    assert "What to try next:" in told
    shell.run_cell("%mempostmortem --list")
    told = capsys.readouterr().out
    assert told.index("cell_number = 5") < told.index("cell_number = 4")
    shell.run_cell("%mempostmortem --clear")
    assert capsys.readouterr().out == "memcell: black boxes removed: 2\n"
    assert Boxes().read().deaths == ()


@pytest.mark.parametrize("line", ["--nope", "3", "--list --clear", '"'])
def test_a_mistake_is_one_line(die, load, capsys, line):
    shell, _ = load()
    result = shell.run_cell(f"%mempostmortem {line}")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert str(result.error_in_exec).startswith("%mempostmortem: ")
    assert "\n" not in str(result.error_in_exec)


def test_a_state_folder_that_is_not_ours_is_one_line(die, load, tmp_path):
    (tmp_path / "state").write_text("no folder")
    shell, told = load()
    assert told == ""
    result = shell.run_cell("%mempostmortem")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert "XDG_STATE_HOME" in str(result.error_in_exec)


def test_the_look_at_the_start_costs_a_few_calls(die, session):
    for index in range(20):
        die(age_s=index + 1)
    session.untold_death()
    began = time.perf_counter()
    for _ in range(100):
        assert session.untold_death() is None
    assert (time.perf_counter() - began) / 100 < 0.005
