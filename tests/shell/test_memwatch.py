"""``%%memwatch``: the cell below it runs exactly as without it, and its run is recorded and said."""

from __future__ import annotations

import re

import pytest

from memcell.records.measured import Run
from memcell.runs import hash_source

_LINE = re.compile(r"^\[\d+\] \S+ MiB (kept|freed) · peak .* · kernel .*$", re.MULTILINE)


def run(shell, cell, **options):
    return shell.run_cell(cell, store_history=True, **options)


def test_the_line_is_said_and_one_run_is_recorded(shell, runs, capsys):
    run(shell, "%%memwatch\nx = 1").raise_error()
    assert shell.user_ns["x"] == 1
    assert len(_LINE.findall(capsys.readouterr().out)) == 1
    assert len(runs) == 1


def test_the_value_is_shown_once(shell, runs, capsys):
    result = run(shell, "%%memwatch\n6 * 7")
    assert result.result == 42
    assert capsys.readouterr().out.count("42\n") == 1
    assert shell.user_ns["_"] == 42
    assert shell.user_ns["Out"] == {1: 42}


def test_key_and_source_leave_the_line_out(shell, runs):
    run(shell, "%%memwatch -q\nx = 1")
    run(shell, "x = 1")
    run(shell, "%%memwatch -q\nx = 1", cell_id="abc")
    assert [run.cell for run in runs] == [hash_source("x = 1")] * 2 + ["abc"]
    assert {run.source_hash for run in runs} == {hash_source("x = 1")}
    assert {run.source_line for run in runs} == {"x = 1"}


def test_the_history_keeps_what_was_typed(shell, runs):
    cell = "%%memwatch -q\nx = 1\n"
    run(shell, cell)
    assert shell.history_manager.input_hist_raw[1].rstrip("\n") == cell.rstrip("\n")
    assert shell.user_ns["_i1"].rstrip("\n") == cell.rstrip("\n")
    assert runs[0].number == 1


def test_await_works(shell, runs):
    run(shell, "%%memwatch -q\nimport asyncio\nawait asyncio.sleep(0.01)\nx = 1").raise_error()
    assert shell.user_ns["x"] == 1
    assert len(runs) == 1


def test_the_traceback_is_the_one_without_the_magic(shell, runs, capsys):
    body = "def fail():\n    raise ValueError('no')\n\nfail()"
    told = []
    for cell in (body, f"%%memwatch -q\n{body}"):
        run(shell, cell)
        told.append(capsys.readouterr().out)
    assert told[1].replace("In[2]", "In[1]").replace("In [2]", "In [1]") == told[0]
    assert "memcell" not in told[1]
    assert [run.outcome for run in runs] == ["error", "error"]


def test_a_syntax_error_names_the_users_line(shell, runs, capsys):
    run(shell, "%%memwatch -q\nx = 1\ndef broken(:")
    assert "def broken(:" in capsys.readouterr().out
    assert runs[0].outcome == "error"


def test_another_cell_magic_below_it(shell, runs, capsys):
    run(shell, "%%memwatch\n%%time\nx = 5").raise_error()
    out = capsys.readouterr().out
    assert "Wall time" in out
    assert _LINE.search(out)
    assert shell.user_ns["x"] == 5
    assert [run.source_line for run in runs] == ["%%time"]


@pytest.mark.parametrize("above", ["%%time", "%%capture"])
def test_below_another_cell_magic_its_options_hold_too(shell, runs, capsys, above):
    run(shell, f"{above}\n%%memwatch -q -o record\nx = 5").raise_error()
    assert shell.user_ns["x"] == 5
    assert isinstance(shell.user_ns.get("record"), Run)


@pytest.mark.parametrize(
    "cell",
    [
        "\n\n%%memwatch -q -o record\nx = 1",
        "  \n%%memwatch -q -o record\nx = 1",
        "\t\n \n%%memwatch -q -o record\nx = 1",
        "    %%memwatch -q -o record\n    x = 1",
        "%%memwatch -q -o record\r\nx = 1\r\n",
        "%%memwatch\t-q  -orecord  \n\n\nx = 1",
        ">>> %%memwatch -q -o record\n>>> x = 1",
        "In [1]: %%memwatch -q -o record\n   ...: x = 1",
    ],
    ids=["blank lines", "a line of spaces", "lines of spaces", "indented", "CRLF", "tabs", "prompt", "ipython prompt"],
)
def test_wherever_the_line_is_taken_off_its_options_hold(shell, runs, cell):
    run(shell, cell).raise_error()
    assert shell.user_ns["x"] == 1
    assert isinstance(shell.user_ns.get("record"), Run)
    assert len(runs) == 1


def test_o_keeps_the_record(shell, runs):
    run(shell, "%%memwatch -q -o record\nx = 1")
    assert shell.user_ns["record"] is runs[0]


def test_o_keeps_the_record_of_a_failed_cell_too(shell, runs, capsys):
    run(shell, "%%memwatch -q -o record\n1/0")
    assert shell.user_ns["record"].outcome == "error"


def test_q_says_nothing(shell, runs, capsys):
    run(shell, "%%memwatch -q\nx = 1")
    assert capsys.readouterr().out == ""
    assert len(runs) == 1


def test_clean_runs_the_cleaners_after_the_run(shell, runs, session, capsys):
    called = []
    session.cleaning.registry.register("mine", lambda: called.append(len(runs)), owner="test")
    run(shell, "%%memwatch --clean\nx = 1")
    assert called == [1]
    out = capsys.readouterr().out
    assert _LINE.search(out)
    assert re.search(r"^mine ", out, re.MULTILINE)
    run(shell, "%%memwatch -q --clean\nx = 1")
    assert called == [1, 2]
    assert capsys.readouterr().out == ""


def test_clean_after_an_error_too(shell, runs, session, capsys):
    called = []
    session.cleaning.registry.register("mine", lambda: called.append(1), owner="test")
    run(shell, "%%memwatch -q --clean\n1/0")
    assert called == [1]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%memwatch --nope\nx = 1", "unrecognized arguments: --nope"),
        ("%%memwatch nope\nx = 1", "unrecognized arguments: nope"),
        ("%%memwatch -o\nx = 1", "expected one argument"),
        ("%%memwatch -o 1x\nx = 1", "'1x' is not a variable name"),
        ("%%memwatch -o class\nx = 1", "'class' is not a variable name"),
        ("%%memwatch -o a.b\nx = 1", "'a.b' is not a variable name"),
        ("%%memwatch -o 'a\nx = 1", "No closing quotation"),
        ("%%memwatch -h\nx = 1", "unrecognized arguments: -h"),
        ("%%memwatch\n", "empty"),
        ("%%memwatch\n  \n\n", "no code"),
        ("%%memwatch", "empty"),
        ("%memwatch nope", "unknown argument 'nope'"),
        ("%memwatch -q", "unknown argument '-q'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(shell, runs, capsys, cell, says):
    run(shell, cell)
    told = capsys.readouterr()
    assert says in told.err
    assert told.err.startswith("UsageError: %")
    assert len(told.err.splitlines()) == 1
    assert "Traceback" not in told.out
    assert "x" not in shell.user_ns
    run(shell, "y = 1").raise_error()
    assert runs[-1].source_line == "y = 1"


def test_an_unknown_name_is_another_magic(shell, runs, capsys):
    run(shell, "%%memwatchers\nx = 1")
    assert "x" not in shell.user_ns
    assert "memwatchers" in capsys.readouterr().err


def test_text_that_only_looks_like_it(shell, runs):
    run(shell, 'text = """\n%%memwatch -o record\n"""').raise_error()
    assert shell.user_ns["text"] == "\n%%memwatch -o record\n"
    assert "record" not in shell.user_ns


def test_unloading_inside_it(shell, runs, capsys):
    run(shell, "%%memwatch -o record\nx = 1\n%unload_ext memcell\nx = 2").raise_error()
    assert shell.user_ns["x"] == 2
    assert len(runs) == 1
    assert isinstance(shell.user_ns["record"], Run)
    run(shell, "x = 3").raise_error()
    assert len(runs) == 1


def test_help(shell, capsys):
    run(shell, "%%memwatch?")
    out = capsys.readouterr().out
    assert "-o NAME" in out
    assert "--clean" in out


def test_called_by_name(shell, runs, capsys):
    shell.run_cell_magic("memwatch", "-q -o record", "x = 1")
    assert shell.user_ns["x"] == 1
    assert shell.user_ns["record"] is runs[0]
    assert len(runs) == 1
    assert runs[0].source_line == "x = 1"


def test_below_another_magic_a_semicolon_holds_the_value_back(shell, capsys):
    run(shell, "%%time\n%%memwatch -q\n'a value'").raise_error()
    assert "a value" in capsys.readouterr().out
    run(shell, "%%time\n%%memwatch -q\n'a value';").raise_error()
    assert "a value" not in capsys.readouterr().out
    assert "quiet" not in vars(shell.displayhook)


def test_called_by_name_inside_a_cell(shell, runs, capsys):
    shell.user_ns["shell"] = shell
    run(shell, "shell.run_cell_magic('memwatch', '', 'x = 1')").raise_error()
    assert [run.source_line for run in runs] == ["x = 1", "shell.run_cell_magic('memwatch', '', 'x = 1')"]
    assert len(_LINE.findall(capsys.readouterr().out)) == 1


def test_called_by_name_where_the_line_cannot_be_taken_off(shell, runs, capsys):
    """Without its transformer it must say so, not call itself for ever."""
    transformers = list(shell.input_transformers_cleanup)
    shell.input_transformers_cleanup[:] = [item for item in transformers if not item.__module__.startswith("memcell")]
    try:
        run(shell, "%%memwatch -q\nx = 1")
    finally:
        shell.input_transformers_cleanup[:] = transformers
    out = capsys.readouterr()
    assert "RecursionError" not in out.out + out.err
    assert "UsageError: %%memwatch: its input transformer was taken away; %reload_ext" in out.err
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("%%memwatch", "incomplete"),
        ("%%memwatch -q\nx = 1", "incomplete"),
        ("%%memwatch -q\nfor i in x:\n    y", "incomplete"),
        ("%%memwatch -q\nx = 1\n", "incomplete"),
        ("%%memwatch -q\nx = 1\n\n", "complete"),
        ("x = 1", "complete"),
        ("%memwatch", "complete"),
        ("for i in x:", "incomplete"),
    ],
)
def test_a_terminal_waits_for_the_blank_line(shell, text, status):
    assert shell.check_complete(text)[0] == status
    # as for a cell magic of IPython
    assert shell.check_complete(text.replace("%%memwatch -q", "%%time"))[0] == status


def test_a_nested_watched_run_is_said_too(shell, runs, capsys):
    shell.user_ns["shell"] = shell
    run(shell, "%%memwatch\nshell.run_cell('%%memwatch\\nx = 1')").raise_error()
    assert len(_LINE.findall(capsys.readouterr().out)) == 2
    assert len(runs) == 2


def test_the_line_magic_in_a_terminal(shell, capsys):
    run(shell, "%memwatch")
    assert "no live view in this front end" in capsys.readouterr().out
    run(shell, "%memwatch off")
    assert "no live view is open" in capsys.readouterr().out


@pytest.mark.parametrize("options", ["-q", "-q --repeat 2", "-q --isolate"])
def test_below_another_cell_magic_a_cell_that_fails_is_no_success(shell, runs, capsys, options):
    result = run(shell, f"%%time\n%%memwatch {options}\n1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert capsys.readouterr().out.count("ZeroDivisionError: division by zero") == 1
    assert runs[-1].outcome == "error"
    run(shell, f"%%time\n%%memwatch {options}\nx = 1").raise_error()


def test_below_another_cell_magic_an_isolated_cell_keeps_its_options(shell, runs, capsys):
    run(shell, "%%time\n%%memwatch -q --isolate -o record --keep x\nx = 5\ny = 6").raise_error()
    assert shell.user_ns["x"] == 5
    assert "y" not in shell.user_ns
    assert isinstance(shell.user_ns.get("record"), Run)
