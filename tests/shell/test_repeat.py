"""``%%memwatch --repeat``: the cell runs several times as by hand, shows itself once, and gets its verdict."""

from __future__ import annotations

import os
import re
import signal
import threading

import pytest

from memcell.records.explained import RepeatReport
from memcell.runs import hash_source

LEAK = "kept.append(bytearray(b'x') * (32 << 20))"


def run(shell, cell, **options):
    return shell.run_cell(cell, store_history=True, **options)


@pytest.fixture
def patient(shell, session, monkeypatch):
    """A shell in a process whose censuses have time, as large as it is."""
    shell.run_cell("kept = []")
    monkeypatch.setattr("memcell.ipython.census._DEADLINE_S", 30.0)
    session._settle()
    return shell


def test_four_runs_give_the_verdict_and_what_holds_it(patient, runs, capsys):
    run(patient, f"%%memwatch --repeat 4 -o report\n{LEAK}").raise_error()
    assert len(patient.user_ns["kept"]) == 4
    report = patient.user_ns["report"]
    assert isinstance(report, RepeatReport)
    assert report.verdict.kind == "growing", report.verdict
    assert report.verdict.bytes_per_run == pytest.approx(32 << 20, rel=0.15)
    assert report.verdict.culprits[0].name.endswith("kept")
    out = capsys.readouterr().out
    assert re.search(r"^growing +\+3\d\.\d MiB +4 ", out, re.MULTILINE), out
    assert re.search(r"^4 of 4 runs in .* to measure what stays$", out, re.MULTILINE), out
    assert "kept ·" not in out, "no summary line for each run"


def test_a_leak_of_small_objects_is_not_hidden_by_the_counting(patient):
    # Large enough to fill at once what earlier tests have left free in the interpreter's heap.
    run(patient, "%%memwatch -q --repeat 6 -o report\nkept.append([object() for _ in range(1_500_000)])")
    verdict = patient.user_ns["report"].verdict
    assert verdict.kind == "growing", verdict
    assert verdict.bytes_per_run == pytest.approx(1_500_000 * 24, rel=0.35)  # 16 bytes and a pointer each


def test_a_cell_that_keeps_nothing_is_no_leak(patient):
    run(patient, "%%memwatch -q --repeat 5 -o report\ndata = bytearray(b'x') * (32 << 20)")
    assert patient.user_ns["report"].verdict.kind in ("steady", "warming", "noisy")


def test_only_the_first_run_shows_itself(shell, runs, capsys):
    shell.run_cell("n = 0\nimport sys\nfrom IPython.display import display")
    capsys.readouterr()
    run(
        shell,
        "%%memwatch -q --repeat 4\nn += 1\nprint('said', n)\nprint('err', n, file=sys.stderr)\ndisplay(n)\nn * 100",
    )
    told = capsys.readouterr()
    assert told.out.split("\n")[:2] == ["said 1", "1"]
    assert "100" in told.out
    assert "said 2" not in told.out
    assert told.err == "err 1\n"
    assert shell.user_ns["n"] == 4


class Formatted:
    """A value that counts how often it is formatted."""

    def __init__(self) -> None:
        self.times = 0

    def __repr__(self) -> str:
        self.times += 1
        return "the value"


@pytest.mark.parametrize("above", ["", "import asyncio\nawait asyncio.sleep(0)\n"], ids=["plain", "await"])
def test_a_semicolon_holds_the_value_back_in_every_run(shell, capsys, above):
    value = shell.user_ns["value"] = Formatted()
    run(shell, f"%%memwatch -q --repeat 3\n{above}value;").raise_error()
    assert value.times == 0
    assert shell.user_ns["Out"] == {}
    assert capsys.readouterr().out == ""
    run(shell, f"%%memwatch -q --repeat 3\n{above}value  # ;").raise_error()
    assert value.times == 3
    assert set(shell.user_ns["Out"]) == {2}
    run(shell, f"value;\nshell = get_ipython()\n{above}value")  # nothing is left of it
    assert value.times == 4


def test_a_cell_that_a_repeated_one_runs_has_a_semicolon_of_its_own(shell, capsys):
    shell.user_ns["value"] = value = Formatted()
    run(shell, "%%memwatch -q --repeat 3\nresult = get_ipython().run_cell('value', store_history=True);").raise_error()
    assert value.times == 3
    run(shell, "%%memwatch -q --repeat 3\nresult = get_ipython().run_cell('value;', store_history=True)").raise_error()
    assert value.times == 3


def test_the_histories_do_not_grow_and_the_series_is_that_of_the_cell(shell, runs, capsys):
    run(shell, "x = [1]\nx")
    run(shell, "%%memwatch --repeat 5\nx = [1]\nx", cell_id=None)
    assert len(runs) == 6
    assert {run.cell for run in runs} == {hash_source("x = [1]\nx")}
    assert [run.number for run in runs] == [1, 2, 2, 2, 2, 2]
    assert set(shell.user_ns["Out"]) == {1, 2}
    assert shell.user_ns["__"] is shell.user_ns["Out"][1]
    assert len(shell.user_ns["In"]) == 3
    assert shell.user_ns["In"][2].startswith("get_ipython().run_cell_magic('memwatch'")
    run(shell, "y = 1")
    assert runs[-1].number == 3


def test_the_front_ends_id_of_the_cell_is_the_key(shell, runs):
    run(shell, "%%memwatch -q --repeat 3\nx = 1", cell_id="abc")
    run(shell, "x = 1", cell_id="abc")
    assert [run.cell for run in runs] == ["abc"] * 4
    assert session_runs_of(shell, "abc") == 4


def session_runs_of(shell, cell):
    import memcell

    return next(verdict.runs for verdict in memcell.leaks() if verdict.cell == cell)


def test_await_works(shell, runs, capsys):
    cell = "%%memwatch --repeat 3\nimport asyncio\nawait asyncio.sleep(0.01)\nprint('once')\nx = 1"
    run(shell, cell).raise_error()
    assert [run.source_line for run in runs] == ["import asyncio"] * 3
    out = capsys.readouterr().out
    assert out.count("once") == 1
    assert "3 of 3 runs" in out


def test_await_where_it_cannot_work_is_one_line_and_nothing_runs(shell, runs, capsys):
    shell.user_ns["shell"] = shell
    body = "import asyncio\\nawait asyncio.sleep(0)\\ninner = 1"
    run(shell, f"import asyncio\nawait asyncio.sleep(0)\nshell.run_cell_magic('memwatch', '--repeat 3', '{body}')")
    assert "a cell with await cannot be repeated from inside other code" in capsys.readouterr().err
    assert "inner" not in shell.user_ns


def test_a_run_that_fails_ends_it_and_is_shown_once(shell, runs, capsys):
    shell.run_cell("n = 0")
    capsys.readouterr()
    result = run(shell, "%%memwatch --repeat 9 -o report\nn += 1\nif n == 4:\n    raise ValueError('the fourth')")
    out = capsys.readouterr().out
    assert isinstance(result.error_in_exec, ValueError)
    assert not shell.last_execution_succeeded
    assert out.count("Traceback") == 1
    assert "memcell" not in out.partition("run 4 of 9")[0]
    assert "run 4 of 9 failed with ValueError: the fourth; this is about the 3 runs before" in out
    report = shell.user_ns["report"]
    assert (len(report.runs), report.outcome, report.verdict.runs) == (3, "error", 3)
    assert shell.user_ns["n"] == 4


def test_a_first_run_that_fails_has_no_verdict(shell, capsys):
    assert not run(shell, "%%memwatch --repeat 3\n1/0").success
    out = capsys.readouterr().out
    assert out.count("ZeroDivisionError: division") == 2  # the traceback, and the line below it
    assert "run 1 of 3 failed" in out
    assert not run(shell, "%%memwatch --repeat 3\nx = = 1").success


@pytest.mark.filterwarnings("ignore:To exit")  # the shell's own word on it
@pytest.mark.parametrize(
    ("raised", "said"), [("SystemExit", "SystemExit"), ("SystemExit(3)", "SystemExit: 3"), ("KeyError()", "KeyError")]
)
def test_an_error_without_a_message_is_its_class_alone(shell, capsys, raised, said):
    run(shell, f"%%memwatch --repeat 3\nraise {raised}")
    assert f"run 1 of 3 failed with {said}; no run before it" in capsys.readouterr().out


def test_an_error_whose_message_cannot_be_read(shell, capsys):
    shell.run_cell("class Odd(BaseException):\n    def __str__(self): raise ValueError('odd')")
    run(shell, "%%memwatch --repeat 3\nraise Odd")
    assert "failed with Odd (its message cannot be read); no run before it" in capsys.readouterr().out


def test_usage_errors_of_later_runs_are_shown(shell, capsys):
    shell.run_cell("n = 0")
    run(shell, "%%memwatch -q --repeat 3\nn += 1\nif n == 2:\n    get_ipython().run_line_magic('memtop', 'nope')")
    assert "UsageError: %memtop" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_known(shell, runs, capsys):
    shell.user_ns["press"] = lambda: threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    shell.run_cell("import time\nn = 0")
    cell = "n += 1\nif n == 4:\n    press()\n    for _ in range(500):\n        time.sleep(0.01)"
    result = run(shell, f"%%memwatch --repeat 50 -o report\n{cell}")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    out = capsys.readouterr().out
    assert "run 4 of 50 interrupted; this is about the 3 runs before" in out
    assert shell.user_ns["report"].outcome == "interrupted"
    assert shell.user_ns["report"].verdict.runs == 3


def test_ctrl_c_in_a_loop_that_forgets_what_it_ran(shell, runs, capsys):
    """In a terminal an interrupt leaves the loop, and what it ran stays in there until the next cell that awaits."""
    shell.user_ns["press"] = lambda: threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    shell.run_cell("import asyncio\nn = 0")
    cell = "n += 1\nif n == 3:\n    press()\nawait asyncio.sleep(3 if n == 3 else 0.01)"
    result = run(shell, f"%%memwatch --repeat 9\n{cell}")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert "run 3 of 9 interrupted; this is about the 2 runs before" in capsys.readouterr().out
    assert "quiet" not in vars(shell.displayhook)
    recorded = len(runs)
    run(shell, "await asyncio.sleep(4)\nprint('heard')").raise_error()
    assert "heard" in capsys.readouterr().out
    assert shell.user_ns["n"] == 3
    assert len(runs) == recorded + 1
    assert shell.execution_count == 3


def test_q_says_nothing_of_memcell(shell, capsys):
    run(shell, "%%memwatch -q --repeat 3\nx = 1")
    told = capsys.readouterr()
    assert told.out + told.err == ""


def test_clean_runs_once_after_the_last(shell, runs, session, capsys):
    called = []
    session.cleaning.registry.register("mine", lambda: called.append(len(runs)), owner="test")
    run(shell, "%%memwatch --clean --repeat 3\nx = 1")
    assert called == [3]
    assert re.search(r"^mine ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("number", ["1", "0", "-3", "1001", "2.5", "many", "²", ""])
def test_a_wrong_number_is_one_line_and_nothing_runs(shell, runs, capsys, number):
    run(shell, f"%%memwatch --repeat {number}\nx = 1")
    told = capsys.readouterr()
    assert told.err.startswith("UsageError: %%memwatch: ")
    assert len(told.err.splitlines()) == 1
    assert "x" not in shell.user_ns


def test_repeating_inside_a_repeated_cell_is_refused(shell, capsys):
    shell.user_ns["shell"] = shell
    result = run(shell, "%%memwatch --repeat 3\nshell.run_cell_magic('memwatch', '--repeat 3', 'x = 1')")
    assert "cannot be used inside a cell that is being repeated" in capsys.readouterr().err
    assert not result.success


def test_called_by_name_and_below_another_magic(shell, runs, capsys):
    shell.run_cell_magic("memwatch", "--repeat 3", "x = 1")
    assert [run.source_line for run in runs] == ["x = 1"] * 3
    run(shell, "%%time\n%%memwatch --repeat 3\ny = 1").raise_error()
    assert [run.source_line for run in runs][3:] == ["y = 1", "y = 1", "y = 1", "%%time"]
    assert capsys.readouterr().out.count("3 of 3 runs") == 2
    run(shell, "%%time\n%%memwatch -q --repeat 3\n'a value'")
    assert "a value" in capsys.readouterr().out
    run(shell, "%%time\n%%memwatch -q --repeat 3\n'a value';")
    assert "a value" not in capsys.readouterr().out


def test_a_logging_handler_made_in_a_later_run_writes_afterwards(shell, capsys):
    shell.run_cell("import logging\nlog = logging.Logger('mine')")
    run(shell, "%%memwatch -q --repeat 3\nlog.handlers[:] = [logging.StreamHandler()]\nlog.warning('within')")
    run(shell, "log.warning('afterwards')")
    assert capsys.readouterr().err.split() == ["within", "afterwards"]


def test_unloading_inside_it(shell, runs, capsys):
    run(shell, "%%memwatch --repeat 5\nx = 1\n%unload_ext memcell")
    assert len(runs) == 1
    run(shell, "%load_ext memcell")
    run(shell, "y = 1").raise_error()
    assert runs[-1].source_line == "y = 1"


def test_everything_is_as_before_afterwards(shell):
    import sys

    def places():
        return (
            sys.stdout,
            sys.stderr,
            sys.displayhook,
            shell.display_pub,
            shell.display_trap.hook,
            "showtraceback" in vars(shell),
            "quiet" in vars(shell.displayhook),
        )

    before, names = places(), set(shell.user_ns)
    for cell in ("x = 1;", "1/0", "x = = 1", "raise KeyboardInterrupt"):
        run(shell, f"%%memwatch -q --repeat 3\n{cell}")
    assert places() == before
    assert {name for name in set(shell.user_ns) - names if not name.startswith("_")} == {"x"}


def test_completeness_and_help(shell, capsys):
    assert shell.check_complete("%%memwatch --repeat 3\nx = 1")[0] == "incomplete"
    run(shell, "%%memwatch?")
    out = capsys.readouterr().out
    assert all(option in out for option in ("--repeat N", "--top [N]", "--fresh"))


@pytest.mark.parametrize("options", ["--top", "--top 2 --repeat 3"])
def test_the_lines_whose_allocations_stay(shell, runs, capsys, options):
    run(shell, "kept = []\ndef keep(size):\n    return bytearray(b'x') * size")
    capsys.readouterr()
    run(shell, f"%%memwatch {options}\ngone = keep(64 << 20)\ndel gone\nkept.append(keep(32 << 20))").raise_error()
    total = len(shell.user_ns["kept"]) * 32.0
    out = capsys.readouterr().out
    assert re.search(rf"^In\[\d+\] line 3 +keep +\[cell\] line 3 +{total} MiB", out, re.MULTILINE), out
    assert "traced by memray" in out


def test_what_the_tracer_takes_is_not_the_cells(shell, runs, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run(shell, "%%memwatch --top\nkept = [object() for _ in range(400_000)]").raise_error()
    assert "traced by tracemalloc" in capsys.readouterr().out
    objects_bytes = 400_000 * 24
    assert runs[-1].retained_bytes < objects_bytes + (16 << 20)  # its traces took 40 MiB meanwhile


def test_top_of_a_cell_that_fails_and_of_one_that_unloads(shell, capsys):
    import tracemalloc

    assert not run(shell, "%%memwatch --top\n1/0").success
    run(shell, "%%memwatch --top\n%unload_ext memcell")
    assert not tracemalloc.is_tracing()
    run(shell, "%load_ext memcell")
    run(shell, "%%memwatch --top 1\nx = bytearray(b'x') * (8 << 20)").raise_error()
    assert "traced by memray" in capsys.readouterr().out, "the tracker of the cell that unloaded is gone"


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_a_wrong_number_of_sites(shell, capsys, number):
    run(shell, f"%%memwatch --top {number}\nx = 1")
    assert capsys.readouterr().err.startswith("UsageError: %%memwatch: argument --top")
    assert "x" not in shell.user_ns


def test_a_prompt_that_was_pasted_with_it(shell, runs):
    run(shell, ">>> %%memwatch --repeat 2 -q -o report\n... x = 1").raise_error()
    assert isinstance(shell.user_ns["report"], RepeatReport)
    assert [run.source_line for run in runs] == ["x = 1"] * 2


def test_inside_a_watched_cell_both_are_what_they_are(shell, runs):
    shell.user_ns["shell"] = shell
    code = "shell.run_cell_magic('memwatch', '--repeat 2 -q', 'y = 1')"
    run(shell, f"%%memwatch -q -o outer\n{code}").raise_error()
    assert shell.user_ns["outer"].source_line == code
    assert [run.source_line for run in runs] == ["y = 1", "y = 1", code]
