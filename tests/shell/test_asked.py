"""What is asked of a kernel from outside: attached without a sign, and answers that JSON knows."""

from __future__ import annotations

import json

import pytest

from memcell.ipython import asked, unload
from memcell.records.measured import Run
from memcell.units import MIB


@pytest.fixture
def checked(bare_shell, session):
    """A shell to which memcell is attached from outside."""
    names = set(bare_shell.user_ns)
    asked.begin()
    assert set(bare_shell.user_ns) == names
    yield bare_shell
    unload(bare_shell)


def test_a_cell_is_measured_and_nothing_is_said_of_it(checked, capsys):
    checked.run_cell("big = bytearray(80_000_000)", cell_id="a")
    answer = asked.last_run("a")
    run = Run.from_dict(json.loads(json.dumps(answer["run"])))
    assert abs(run.retained_bytes - 80_000_000) < 2 * MIB
    assert run.settled_bytes is not None, "every run is settled"
    assert not answer["exits"]
    assert capsys.readouterr().out == ""


def test_a_run_of_another_cell_is_no_answer(checked):
    checked.run_cell("x = 1", cell_id="a")
    assert asked.last_run("b")["run"] is None


def test_the_notebook_may_load_and_unload_memcell(checked, capsys):
    checked.run_cell("%load_ext memcell", cell_id="a")
    assert capsys.readouterr().out == ""
    checked.run_cell("%unload_ext memcell", cell_id="a")
    asked.last_run("a")
    checked.run_cell("x = 1", cell_id="b")
    assert asked.last_run("b")["run"]["cell"] == "b"


def test_memcell_that_is_loaded_already_is_made_silent_and_thorough(shell, capsys):
    asked.begin()
    shell.run_cell("big = bytearray(80_000_000)", cell_id="a")
    assert asked.last_run("a")["run"]["settled_bytes"] is not None
    assert capsys.readouterr().out == ""


def test_a_leak_is_told_with_its_culprit(checked):
    checked.run_cell("keep = []", cell_id="a")
    for _ in range(6):
        checked.run_cell("keep.append(bytearray(8_000_000))", cell_id="b")
    verdict = json.loads(json.dumps(asked.verdict("b")))
    assert (verdict["kind"], verdict["culprits"][0]["name"]) == ("growing", "__main__.keep")
    assert abs(verdict["bytes_per_run"] - 8_000_000) < MIB
    assert asked.verdict("a") is None


def test_a_cell_that_asks_the_shell_to_exit_is_told(checked):
    checked.run_cell("get_ipython().exit_now = True", cell_id="a")
    try:
        assert asked.last_run("a")["exits"]
    finally:
        checked.exit_now = False


def test_an_answer_comes_past_the_notebooks_own_formatters(checked):
    checked.run_cell("get_ipython().display_formatter.formatters['text/plain'].for_type(dict, lambda *_: 1 / 0)")
    data, _ = checked.display_formatter.format(asked.Answer({"a": 1}, "application/x-test"))
    assert data["application/x-test"] == {"value": {"a": 1}}
