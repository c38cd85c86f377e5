"""``%memclean``: what runs, what is said, and what is kept."""

from __future__ import annotations

import logging
import re

import pytest
from IPython.core.completer import provisionalcompleter

import memcell
from memcell.records.cleaned import CleanReport
from memcell.units import MIB


@pytest.fixture
def called(shell, session):
    """Two registered cleaners, one of effect ``state``; the names of those that were called."""
    called = []
    session.cleaning.registry.register("graphs", lambda: called.append("graphs"), owner="test")
    session.cleaning.registry.register(
        "grid-cells", lambda: called.append("grid-cells"), owner="test", size=lambda: 5 * MIB
    )
    session.cleaning.registry.register("models", lambda: called.append("models"), owner="test", effect="state")
    return called


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.split()]


def test_without_names_all_run_but_those_of_effect_state(shell, called, capsys):
    shell.run_cell("%memclean").raise_error()
    assert called == ["graphs", "grid-cells"]
    words = first_words(capsys.readouterr().out)
    assert {"graphs", "grid-cells", "gc", "trim"} <= set(words)
    assert "models" not in words


def test_names_are_exactly_what_runs(shell, called, capsys):
    shell.run_cell("%memclean models graphs").raise_error()
    assert sorted(called) == ["graphs", "models"]
    assert "gc" not in first_words(capsys.readouterr().out)


def test_what_comes_back_is_measured_and_said(shell, runs, session, capsys):
    cache = [bytearray(b"x") * (64 * MIB)]
    session.cleaning.registry.register("cache", cache.clear, owner="test")
    shell.run_cell("%memclean -o report cache").raise_error()
    report = shell.user_ns["report"]
    assert isinstance(report, CleanReport)
    assert report.freed_bytes == pytest.approx(64 * MIB, rel=0.02)
    assert report.outcomes[0].freed_bytes == pytest.approx(64 * MIB, rel=0.02)
    assert re.search(r"^cache +6[34]\.\d MiB", capsys.readouterr().out, re.MULTILINE)
    assert runs[-1].cleaned_bytes == report.freed_bytes


def test_list_runs_nothing_and_names_all(shell, called, capsys):
    shell.run_cell("%memclean --list").raise_error()
    out = capsys.readouterr().out
    assert {"graphs", "grid-cells", "models", "re", "gc", "trim"} <= set(first_words(out))
    assert "5.0 MiB" in out
    assert called == []


def test_dry_run_says_what_would_run_and_runs_nothing(shell, called, capsys):
    shell.run_cell("%memclean --dry-run").raise_error()
    out = capsys.readouterr().out
    assert "graphs" in first_words(out)
    assert "models" not in first_words(out)
    assert "nothing was cleaned" in out
    assert called == []


def test_dry_run_of_an_unknown_name(shell, called, capsys):
    shell.run_cell("%memclean --dry-run nope")
    assert capsys.readouterr().err.startswith("UsageError: unknown cleaner 'nope'")


def test_q_says_nothing(shell, called, capsys):
    shell.run_cell("%memclean -q").raise_error()
    assert capsys.readouterr().out == ""
    assert called


def test_it_has_no_value(shell, called, capsys):
    assert shell.run_line_magic("memclean", "-q") is None
    assert shell.run_cell("x = %memclean -q").result is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("grpahs", "unknown cleaner 'grpahs'; did you mean 'graphs'? registered: "),
        ("graphs nope", "unknown cleaner 'nope'"),
        ("--nope", "unrecognized arguments: --nope"),
        ("-o", "expected one argument"),
        ("-o 1x graphs", "'1x' is not a variable name"),
        ("'graphs", "No closing quotation"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(shell, called, capsys, line, says):
    shell.run_cell(f"%memclean {line}")
    told = capsys.readouterr()
    assert told.err.startswith("UsageError: ")
    assert says in told.err
    assert len(told.err.splitlines()) == 1
    assert "Traceback" not in told.out
    assert called == []


def test_a_cleaner_that_fails_is_reported_and_the_rest_run(shell, called, session, capsys):
    def broken() -> None:
        raise SystemExit(3)

    session.cleaning.registry.register("broken", broken, owner="test")
    session.cleaning.registry.register("last", lambda: called.append("last"), owner="test")
    shell.run_cell("%memclean").raise_error()
    assert called == ["graphs", "grid-cells", "last"]
    assert re.search(r"^broken .*SystemExit: 3", capsys.readouterr().out, re.MULTILINE)


def test_a_cleaner_registered_in_a_cell_can_be_registered_again(shell, session, capsys):
    cell = "import memcell\n@memcell.on_clear('cells')\ndef clear():\n    seen.append({})"
    shell.user_ns["seen"] = []
    shell.run_cell(cell.format(1)).raise_error()
    shell.run_cell(cell.format(2)).raise_error()
    shell.run_cell("%memclean -q cells").raise_error()
    assert shell.user_ns["seen"] == [2]
    assert [info.name for info in memcell.cleaners()].count("cells") == 1


def test_the_log_line(shell, called, session, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="memcell"):
        shell.run_cell("%memclean -o report").raise_error()
    report = shell.user_ns["report"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("memcell", logging.INFO)
    size = r"-?\d+\.\dMiB"
    line = rf"Memory cleanup: Before={size}, After={size}, Freed={size}, Objects=\d+"
    assert re.fullmatch(line, record.getMessage())
    assert f"Objects={report.objects}" in record.getMessage()
    assert f"Before={report.before_bytes / MIB:.1f}MiB" in record.getMessage()


def completions(shell, text: str) -> list[str]:
    """What is offered at the end of a text, each with the part of the text that it replaces."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(text, len(text)))
    assert all(
        item.end == len(text) and item.text.lstrip("%").startswith(text[item.start :].lstrip("%")) for item in found
    )
    return sorted({item.text for item in found})


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("%memclean gr", ["graphs", "grid-cells"]),
        ("%memclean grid-", ["grid-cells"]),
        ("%memclean graphs mo", ["models"]),
        ("memclean gr", ["graphs", "grid-cells"]),
        ("%memclean --", ["--deep", "--dry-run", "--keep", "--larger", "--list", "--modules", "--procs", "--vars"]),
        ("%memclean nope", []),
        ("x = 1\n%memclean grid-", ["grid-cells"]),
    ],
)
def test_names_and_options_complete(shell, called, text, offered):
    assert completions(shell, text) == offered


def test_a_name_alone_completes_to_all(shell, called):
    offered = completions(shell, "%memclean ")
    assert {"graphs", "grid-cells", "models", "gc", "trim"} <= set(offered)


def test_other_lines_complete_as_before(shell, called):
    shell.user_ns["grotto"] = 1
    assert "grotto" in completions(shell, "gro")
    assert "graphs" not in completions(shell, "gr")
    assert "%memclean" in completions(shell, "%memcl")


def test_help(shell, capsys):
    shell.run_cell("%memclean?")
    out = capsys.readouterr().out
    assert "--dry-run" in out
    assert "effect" in out
