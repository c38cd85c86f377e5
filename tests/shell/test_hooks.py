"""What is recorded of each cell, and that the hooks harm none."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest
from IPython.core.interactiveshell import ExecutionInfo

from memcell.runs import hash_source
from memcell.units import MIB

_HEAVY = f"block = bytearray(b'x') * ({64 * MIB})"


class Block:
    """Something big enough to matter, which can be referred to weakly."""

    def __init__(self) -> None:
        self.bytes = bytes(1000)


def test_a_run_has_the_number_that_in_has(shell, runs):
    for cell in ("a = 1", "b = 2", "1/0", "c = 3"):
        shell.run_cell(cell, store_history=True)
    assert [run.number for run in runs] == [1, 2, 3, 4]
    assert [shell.user_ns["In"][run.number] for run in runs] == ["a = 1", "b = 2", "1/0", "c = 3"]


def test_the_key_is_the_cell_id_else_a_hash_of_the_source(shell, runs):
    shell.run_cell("x = 1", cell_id="abc")
    shell.run_cell("x = 1")
    assert [run.cell for run in runs] == ["abc", hash_source("x = 1")]
    assert [run.source_hash for run in runs] == [hash_source("x = 1")] * 2


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        ("x = 1", "ok"),
        ("1/0", "error"),
        ("def broken(:", "error"),
        ("raise KeyboardInterrupt", "interrupted"),
        ("import sys; sys.exit(3)", "error"),
        ("%no_such_magic", "error"),
        ("  # only a comment", "ok"),
        ("class Falsy(Exception):\n    def __bool__(self): return False\nraise Falsy", "error"),
        ("class Loud(Exception):\n    def __bool__(self): raise Exception('no')\nraise Loud", "error"),
        ("class Stop(KeyboardInterrupt): pass\nraise Stop", "interrupted"),
        ("await no_such_name", "error"),
    ],
)
def test_the_outcome(shell, runs, cell, outcome, capsys):
    shell.run_cell(cell)
    assert [run.outcome for run in runs] == [outcome]
    shell.run_cell("pass")
    assert len(runs) == 2


def test_a_cell_that_keeps_memory(shell, runs, capsys):
    shell.run_cell(_HEAVY)
    assert runs[0].retained_bytes == pytest.approx(64 * MIB, rel=0.02)
    assert runs[0].peak_growth_bytes == pytest.approx(64 * MIB, rel=0.02)
    shell.run_cell("del block")
    assert runs[1].retained_bytes == pytest.approx(-64 * MIB, rel=0.02)


def test_empty_cells_and_silent_ones_are_not_recorded(shell, runs):
    shell.run_cell("")
    shell.run_cell("  \n ")
    shell.run_cell("x = 1", silent=True)
    assert len(runs) == 0


def test_nested_runs_are_recorded_each(shell, runs, session):
    shell.user_ns["shell"] = shell
    shell.run_cell("shell.run_cell('y = 1')\nx = 1", store_history=True)
    assert [(run.number, run.source_line) for run in runs] == [(1, "y = 1"), (1, "shell.run_cell('y = 1')")]
    assert session.meter.snapshot().number is None


def test_a_nested_run_that_fails_ends_only_itself(shell, runs, capsys):
    shell.user_ns["shell"] = shell
    shell.run_cell("shell.run_cell('1/0')\nshell.run_cell('raise KeyboardInterrupt')\nx = 1")
    assert [run.outcome for run in runs] == ["error", "interrupted", "ok"]


def test_a_nested_run_of_the_same_source(shell, runs):
    shell.user_ns.update(shell=shell, depth=3)
    source = "depth -= 1\nif depth: shell.run_cell(source)"
    shell.user_ns["source"] = source
    shell.run_cell(source)
    assert len(runs) == 3
    assert runs[0].started >= runs[1].started >= runs[2].started


def test_a_nested_run_in_a_task_leaves_the_outer_run_alone(shell, runs):
    shell.user_ns["shell"] = shell
    shell.run_cell(
        "import asyncio\nasync def task(): shell.run_cell('y = 1')\nawait asyncio.create_task(task())"
    ).raise_error()
    assert [run.source_line for run in runs] == ["y = 1", "import asyncio"]


def test_a_nested_empty_run_does_not_end_the_view(shell, runs, monkeypatch):
    ended = []
    frontend = shell.events.callbacks["post_run_cell"][-1].__self__._frontend
    monkeypatch.setattr(frontend, "end_live", lambda: ended.append(len(runs)))
    shell.user_ns["shell"] = shell
    shell.run_cell("shell.run_cell('')\nx = 1")
    assert ended == [1]  # once, when the cell was recorded


def test_a_cell_that_awaits(shell, runs):
    shell.run_cell("import asyncio\nawait asyncio.sleep(0.05)\nx = 1").raise_error()
    assert runs[0].duration_s >= 0.05
    assert shell.user_ns["x"] == 1


def test_a_cell_that_runs_in_a_running_loop(shell, runs):
    """As ipykernel runs cells: the coroutine within its own loop, and the events from outside."""

    async def run() -> None:
        shell.events.trigger("pre_execute")
        cell = "import asyncio\nawait asyncio.sleep(0)"
        result = await shell.run_cell_async(cell, transformed_cell=shell.transform_cell(cell))
        shell.events.trigger("post_run_cell", result)

    asyncio.run(run())
    assert [run.outcome for run in runs] == ["ok"]


def test_a_post_without_a_pre(shell, runs, session, caplog):
    result = shell.run_cell("x = 1")
    shell.events.trigger("post_run_cell", result)
    shell.events.trigger("post_run_cell", result)
    assert len(runs) == 1
    shell.run_cell("x = 2")
    assert len(runs) == 2
    assert not caplog.messages


def test_a_post_without_a_result(shell, runs, caplog):
    # ipykernel tells None where a cell was cancelled before it came to its end.
    shell.events.trigger("post_run_cell", None)
    shell.run_cell("x = 1")
    assert len(runs) == 1
    assert not caplog.messages


def test_a_pre_without_a_post(shell, runs, session):
    for number in range(3):
        shell.events.trigger("pre_run_cell", ExecutionInfo(f"lost = {number}", True, False, True, None))
    shell.run_cell("x = 1")
    assert [run.source_line for run in runs] == ["x = 1"]
    assert not session.meter.open_runs


def test_the_cell_that_unloads_is_recorded(shell, runs):
    shell.run_cell("x = 1\n%unload_ext memcell\nx = 2").raise_error()
    assert shell.user_ns["x"] == 2
    assert [run.source_line for run in runs] == ["x = 1"]


def test_the_cell_that_loads_does_no_harm(bare_shell, session, caplog):
    bare_shell.run_cell("%load_ext memcell\nx = 1").raise_error()
    bare_shell.run_cell("x = 2").raise_error()
    bare_shell.run_cell("%unload_ext memcell").raise_error()
    assert [run.source_line for run in session.history] == ["x = 2", "%unload_ext memcell"]
    assert not [record for record in caplog.records if record.name == "memcell"]


def test_a_cell_in_another_thread_has_a_run_of_its_own(shell, runs, session):
    shell.user_ns["shell"] = shell
    shell.run_cell(
        "import threading\n"
        "thread = threading.Thread(target=lambda: shell.run_cell('y = 1'))\n"
        "thread.start(); thread.join()"
    ).raise_error()
    assert [run.source_line for run in runs] == ["y = 1", "import threading"]
    assert not session.meter.open_runs


def test_no_object_of_the_user_is_kept(shell, runs, capsys):
    # Shown with display(), because a value that the display hook shows is kept by IPython itself.
    shell.user_ns["Block"] = Block
    shell.run_cell("block = Block()\ndisplay(block)\n_ = %memclean -q").raise_error()
    kept = weakref.ref(shell.user_ns["block"])
    shell.run_cell("del block")
    gc.collect()
    assert kept() is None


def test_no_result_is_kept(shell, runs):
    result = weakref.ref(shell.run_cell("x = 1"))
    shell.run_cell("x = 2")
    gc.collect()
    assert result() is None


def test_what_an_error_held_is_not_kept(shell, runs, capsys):
    shell.user_ns["Block"] = Block
    shell.run_cell(
        "def fail():\n    block = Block()\n    seen.append(weakref.ref(block))\n    1/0", store_history=False
    )
    shell.user_ns.update(seen=[], weakref=weakref)
    shell.run_cell("fail()", store_history=False)
    shell.run_cell("x = 1", store_history=False)
    import sys

    for name in ("last_traceback", "last_value", "last_exc", "last_type"):
        if hasattr(sys, name):
            delattr(sys, name)
    shell.InteractiveTB.tb = None
    shell.last_execution_result = None
    gc.collect()
    assert shell.user_ns["seen"][0]() is None


@pytest.mark.parametrize("part", ["open", "close"])
def test_a_failing_hook_says_one_line_once_and_never_reaches_the_cell(
    shell, session, monkeypatch, caplog, capsys, part
):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no reading")

    monkeypatch.setattr(session.meter, part, broken)
    for number in range(3):
        shell.run_cell(f"x = {number}").raise_error()
    assert shell.user_ns["x"] == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (message,) = caplog.messages
    assert message.startswith("memcell: measuring failed and is switched off: RuntimeError: no reading; %reload_ext")
    assert "Traceback" not in capsys.readouterr().out


def test_reloading_switches_a_failed_part_on_again(shell, session, monkeypatch, caplog):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no reading")

    with monkeypatch.context() as patch:
        patch.setattr(session.meter, "open", broken)
        shell.run_cell("x = 1")
    shell.run_cell("x = 2")
    assert len(session.history) == 0
    shell.run_line_magic("reload_ext", "memcell")
    shell.run_cell("x = 3")
    assert [run.source_line for run in session.history] == ["x = 3"]


def test_a_run_that_could_not_be_closed_does_not_stay_open(shell, session, monkeypatch, caplog):
    def broken() -> None:
        raise OSError("no reading")

    with monkeypatch.context() as patch:
        patch.setattr(session._children, "level", lambda **_: 0)
        shell.events.register("pre_run_cell", lambda _: patch.setattr(session._reader, "read", broken))
        shell.run_cell("x = 1").raise_error()
        shell.events.callbacks["pre_run_cell"].pop()
    assert not session.meter.open_runs


def test_a_run_that_could_not_be_opened_does_not_stay_open(shell, session, monkeypatch, caplog):
    def broken() -> None:
        raise OSError("no reading")

    with monkeypatch.context() as patch:
        patch.setattr(session._reader, "read", broken)
        shell.run_cell("x = 1").raise_error()
    assert not session.meter.open_runs


def test_a_line_that_cannot_be_shown_does_not_stop_the_recording(shell, runs, monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise OSError("no output")

    shell.run_line_magic("config", "Memcell.show = 'always'")
    frontend = shell.events.callbacks["post_run_cell"][-1].__self__._frontend
    monkeypatch.setattr(frontend, "show_run", broken)
    shell.run_cell("x = 1").raise_error()
    shell.run_cell("x = 2").raise_error()
    assert len(runs) == 2
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("memcell: showing failed")


def test_other_hooks_still_run(shell, runs):
    called = []
    shell.events.register("post_run_cell", called.append)
    shell.run_cell("x = 1")
    shell.events.callbacks["post_run_cell"].pop()
    assert len(called) == 1
