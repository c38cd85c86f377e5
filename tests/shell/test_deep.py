"""``%memclean --deep``, ``--vars`` and ``--modules``, the policy, and the executor's reset, as a user types them."""

from __future__ import annotations

import logging
import re
import sys

import pytest

import memcell
from memcell.units import MIB


def blob(mib: int) -> str:
    """Source of an object that is resident: each of its pages is written."""
    return f"bytearray(b'x') * ({mib} << 20)"


def test_deep_gives_back_what_the_shell_displayed_and_keeps_variables(shell, capsys):
    shell.run_cell(f"mine = {blob(8)}; class_of = type('Big', (bytearray,), {{'__repr__': lambda self: 'big'}})")
    shell.run_cell(f"class_of({blob(96)})", store_history=True)
    shell.run_cell("%memclean -q -o plain").raise_error()
    shell.run_cell("%memclean --deep -o report").raise_error()
    plain, report = shell.user_ns["plain"], shell.user_ns["report"]
    freed = {outcome.name: outcome.freed_bytes for outcome in report.outcomes}
    assert plain.freed_bytes < 32 * MIB
    assert freed["out"] >= 90 * MIB
    assert len(shell.user_ns["mine"]) == 8 << 20
    assert re.search(r"^out +9\d\.\d MiB", capsys.readouterr().out, re.MULTILINE)


def test_a_dry_run_of_variables_says_sizes_and_removes_nothing(shell, capsys):
    shell.run_cell(f"big = {blob(64)}; small = 1")
    shell.run_cell("%memclean --vars --dry-run").raise_error()
    out = capsys.readouterr().out
    assert re.search(r"^big +bytearray +64\.0 MiB", out, re.MULTILINE)
    assert "2 variables would be removed" in out
    assert {"big", "small"} <= set(shell.user_ns)


def test_variables_go_measured_and_those_to_keep_stay(shell, capsys):
    shell.run_cell(f"big = {blob(64)}; small = 1; other = 2")
    shell.run_cell("%memclean --vars --keep small,other -o report").raise_error()
    assert {"small", "other"} <= set(shell.user_ns)
    assert "big" not in shell.user_ns
    out = capsys.readouterr().out
    assert re.search(r"^variables +6[34]\.\d MiB", out, re.MULTILINE)
    assert "1 variable removed" in out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--vars --keep bgi", "cannot keep 'bgi': there is no such variable; did you mean 'big'?"),
        ("--vars --keep 1x", "'1x' is not a variable name"),
        ("--vars --larger 12XB", "cannot read '12XB' as a memory size"),
        ("--keep big", "--keep and --larger go with --vars"),
    ],
)
def test_a_mistake_is_said_in_one_line_and_nothing_goes(shell, capsys, line, says):
    called = []
    shell.run_cell("big = 1")
    memcell.register("watched", lambda: called.append(1))
    shell.run_cell(f"%memclean {line}")
    told = [row for row in capsys.readouterr().err.splitlines() if row]
    assert len(told) == 1
    assert says in told[0]
    assert shell.user_ns["big"] == 1
    assert called == []


def test_modules_go_where_that_does_no_harm(shell, tmp_path, monkeypatch, capsys):
    (tmp_path / "memcell_test_heavy.py").write_text("data = bytearray(b'x') * (64 << 20)")
    monkeypatch.syspath_prepend(tmp_path)
    shell.run_cell("import memcell_test_heavy")
    shell.run_cell("%memclean --vars --modules -o report").raise_error()
    assert "memcell_test_heavy" not in sys.modules
    out = capsys.readouterr().out
    assert re.search(r"^memcell_test_heavy +1 +dropped", out, re.MULTILINE)
    assert shell.user_ns["report"].freed_bytes >= 60 * MIB


def test_after_run_reset_leaves_nothing_failed_or_not(shell, session):
    shell.run_cell("%config Memcell.after_run = 'reset'")
    shell.run_cell(f"big = {blob(64)}; small = 1")
    assert not {"big", "small"} & set(shell.user_ns)
    shell.run_cell(f"def fail():\n    pinned = {blob(64)}\n    raise ValueError('no')\nfail()")
    assert "fail" not in shell.user_ns
    assert getattr(sys, "last_traceback", None) is None
    levels = []
    for _ in range(3):
        shell.run_cell(f"def fail():\n    pinned = {blob(64)}\n    raise ValueError('no')\nfail()")
        levels.append(session.health.look())
    assert max(levels) - min(levels) < 32 * MIB


def test_growth_is_cleaned_and_said(shell, capsys):
    shell.run_cell("%config Memcell.auto_clean = 'growth'")
    cache = []
    memcell.register("cache", cache.clear)
    shell.user_ns["cache"] = cache
    for _ in range(3):
        shell.run_cell(f"cache.append({blob(40)})")
    out = capsys.readouterr().out
    assert re.search(r"memcell: [48]\d\.\d MiB freed, cleaned: this cell has kept [48]0\.\d MiB", out)
    assert len(cache) <= 1


def test_by_default_growth_alone_cleans_nothing(shell):
    cache = []
    memcell.register("cache", cache.clear)
    shell.user_ns["cache"] = cache
    for _ in range(3):
        shell.run_cell(f"cache.append({blob(40)})")
    assert len(cache) == 3


def test_pressure_is_relieved_before_and_after_and_said(shell, session, capsys):
    level = session.health.look()
    shell.run_cell(f"%config Memcell.limit = {level + (200 << 20)}")
    shell.run_cell("%config Memcell.clean_fraction = 0.9")
    cache = []
    memcell.register("cache", cache.clear)
    shell.user_ns["cache"] = cache
    for _ in range(6):
        shell.run_cell(f"cache.append({blob(48)})")
    out = capsys.readouterr().out
    assert "is above 90%" in out or "cleaned before the run" in out
    assert session.health.look() < level + (200 << 20)


def test_records_show_themselves_as_tables(shell, capsys):
    shell.run_cell("%%memwatch -q -o record\nx = 1")
    shell.run_cell("import memcell")
    for source, words in (
        ("record", r"\[\d+\] \+0\.0 MiB kept"),
        ("memcell.clear_caches('re')", r"cleaner +freed"),
        ("memcell.history()", r"run +kept +peak"),
    ):
        capsys.readouterr()
        shell.run_cell(source).raise_error()
        assert re.search(words, capsys.readouterr().out), source


def test_shared_objects_are_listed_and_cleared_by_name(shell, session, capsys):
    shell.run_cell(f"import memcell\n@memcell.shared\ndef load():\n    return {blob(64)}\nfirst = load()")
    shell.run_cell(f"@memcell.shared\ndef load():\n    return {blob(64)}\nagain = load() is first")
    assert shell.user_ns["again"] is True
    shell.run_cell("del first\n%memclean --list")
    listed = capsys.readouterr().out
    assert re.search(
        r"^shared:load +state +registered, memcell\.shared +6[34]\.\d MiB +one object", listed, re.MULTILINE
    )
    shell.run_cell("%memclean shared:load -o report").raise_error()
    assert shell.user_ns["report"].freed_bytes >= 60 * MIB


def test_the_log_line_of_an_automatic_clean_up(shell, caplog):
    with caplog.at_level(logging.INFO, logger="memcell"):
        shell.run_cell("%config Memcell.auto_clean = 'always'")
        shell.run_cell("x = 1")
    assert any(record.getMessage().startswith("Memory cleanup: Before=") for record in caplog.records)
