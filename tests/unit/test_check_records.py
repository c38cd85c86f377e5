"""What follows from the runs of a check: statuses, peaks, further re-runs, JSON."""

from __future__ import annotations

import json

import pytest

from memcell.records.checked import (
    CellCheck,
    CheckOptions,
    NotebookCheck,
    Problem,
    reruns_wanted,
    status_of,
    with_limit,
)
from memcell.records.explained import Verdict
from memcell.units import MIB
from memcell.view import check_html, check_text
from tests.unit.check_records import make_cell, make_check, make_verdict
from tests.unit.view_records import WEIRD, make_run


def test_a_steady_notebook_passes():
    assert make_check(make_cell(make_verdict("steady"))).status == 0


@pytest.mark.parametrize("kind", ["warming", "noisy", "steady", "unknown"])
def test_only_growth_is_a_leak(kind):
    assert make_check(make_cell(make_verdict(kind))).status == 0
    assert make_check(make_cell(make_verdict("growing"))).status == 1


def test_a_peak_above_the_limit_fails_and_one_at_it_does_not():
    cell = make_cell(make_verdict("steady"), peaks=(500, 700, 600))
    assert (cell.peak_bytes, cell.peak_run) == (700 * MIB, 2)
    assert make_check(cell, limit_bytes=700 * MIB).status == 0
    assert make_check(cell, limit_bytes=700 * MIB - 1).status == 1


def test_a_cell_that_cannot_be_re_run_fails_a_strict_check_only():
    cell = make_cell(None, state="not re-runnable", problem=Problem("error", "KeyError: 'a'", 1, 2))
    assert make_check(cell).status == 0
    assert make_check(cell, strict=True).status == 1


def test_an_undecided_cell_fails_a_strict_check_only():
    for verdict in (make_verdict("unknown"), None):
        cell = make_cell(verdict)
        assert cell.is_undecided
        assert make_check(cell).status == 0
        assert make_check(cell, strict=True).status == 1
    assert not make_cell(None, state="once").is_undecided


def test_the_worst_status_wins():
    ok, leaks = make_check(make_cell(make_verdict("steady"))), make_check(make_cell(make_verdict("growing")))
    broken = NotebookCheck("bad.ipynb", CheckOptions(), problem=Problem("notebook", "is no notebook"))
    interrupted = NotebookCheck("slow.ipynb", CheckOptions(), interrupted=True)
    assert [status_of(checks) for checks in ([], [ok], [ok, leaks], [leaks, broken, ok])] == [0, 0, 1, 2]
    assert status_of([broken, interrupted]) == 130


def test_child_processes_count_for_the_limit():
    cell = make_cell(make_verdict("steady"), peaks=(500, 400), children=200)
    assert (cell.peak_bytes, cell.peak_run) == (500 * MIB, 1)
    assert (cell.total_peak_bytes, cell.total_peak_run) == (600 * MIB, 2)
    assert make_check(cell, limit_bytes=600 * MIB).status == 0
    assert make_check(cell, limit_bytes=600 * MIB - 1).status == 1
    lines = check_text.cell_lines(cell, CheckOptions(limit_bytes=550 * MIB))
    assert lines[1].strip() == (
        "run 2 peaked at 600.0 MiB, 200.0 MiB of it in child processes: 50.0 MiB above the limit of 550.0 MiB"
    )
    assert with_limit(make_verdict("growing"), cell.runs, 680 * MIB).runs_until_limit == 10


@pytest.mark.parametrize(
    ("kind", "levels", "wanted"),
    [
        ("growing", (8, 16, 24, 32, 40, 48, 56), 3),
        ("unknown", (0, 0, 0, 0, 0, 0, 9), 3),
        ("warming", (30, 30, 30, 30, 30, 30, 30), 0),
        ("warming", (1, 6, 9, 11, 12, 13, 14), 3),
        ("steady", (0, 0, 0, 0, 0, 0, 2), 0),
        ("noisy", (0, 9, 0, 3, 0, 9, 4), 0),
    ],
)
def test_what_may_leak_is_run_half_as_often_again(kind, levels, wanted):
    verdict = make_verdict(kind, levels=tuple(level * MIB for level in levels))
    assert reruns_wanted(verdict, 6) == wanted
    assert reruns_wanted(None, 6) == 0


def test_the_limit_of_the_check_is_what_the_runs_are_left_to():
    runs = [make_run(before=400, kept=0, peak=100)]
    growing = make_verdict("growing", runs_until_limit=9999)
    assert with_limit(growing, runs, 580 * MIB).runs_until_limit == 10
    assert with_limit(growing, runs, 100 * MIB).runs_until_limit == 0
    assert with_limit(growing, runs, None).runs_until_limit == 9999
    assert with_limit(make_verdict("steady"), runs, 580 * MIB).runs_until_limit is None


def test_json_holds_all_and_the_verdict_comes_back():
    verdict = make_verdict("growing")
    check = make_check(make_cell(verdict, peaks=(500, 700)), limit_bytes=600 * MIB)
    values = json.loads(json.dumps(check.to_dict()))
    (cell,) = values["cells"]
    assert (values["status"], cell["leaks"], cell["above_limit"], cell["peak_run"]) == (1, True, True, 2)
    assert cell["runs"][1]["peak_bytes"] == 700 * MIB
    assert Verdict.from_dict(cell["verdict"]) == verdict


# What is said of it


def test_a_leak_is_told_with_its_culprit_and_its_fix():
    lines = check_text.cell_lines(make_cell(make_verdict("growing")), CheckOptions())
    assert lines[0].startswith("  cell 1   growing · +8.0 MiB a run")
    assert "held by pkg.load._cache: 9 → 18 → 27 entries" in lines[1]
    assert 'to fix it: memcell.register("pkg", lambda: pkg.load._cache.clear())' in lines[2]


def test_a_peak_is_told_with_its_run_and_how_far_it_is_above():
    cell = make_cell(make_verdict("steady"), peaks=(500, 700))
    lines = check_text.cell_lines(cell, CheckOptions(limit_bytes=600 * MIB))
    assert lines[1].strip() == "run 2 peaked at 700.0 MiB: 100.0 MiB above the limit of 600.0 MiB"


def test_a_peak_of_a_cell_that_did_not_come_to_its_turn_is_told_too():
    check = make_check(
        make_cell(None, peaks=(700,), state="not checked"), limit_bytes=600 * MIB, problem=Problem("died", "gone", 2, 1)
    )
    said = "\n".join(check_text.notebook_lines(check))
    assert "run 1 peaked at 700.0 MiB" in said
    assert "cell 2, run 1: gone" in said
    assert "not checked: 1 cell" in said


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (make_check(make_cell(make_verdict("steady"))), "1 notebook, 1 cell: nothing leaks"),
        (make_check(make_cell(make_verdict("growing"))), "1 leaks"),
        (
            make_check(make_cell(None, state="not re-runnable"), strict=True),
            "1 cannot be re-run; strict, so that fails",
        ),
        (make_check(), "1 notebook, 0 cells: nothing to check"),
        (make_check(problem=Problem("kernel", "no")), "1 notebook could not be checked to its end"),
        (make_check(make_cell(None, state="not checked"), interrupted=True), "; interrupted"),
    ],
)
def test_the_summary_is_one_line(check, words):
    said = check_text.summary([check])
    assert words in said
    assert "\n" not in said


def test_the_page_escapes_what_is_a_users_and_draws_a_curve_for_each_judged_cell():
    cell = make_cell(make_verdict("growing"), label=WEIRD, peaks=(500, 700))
    once = CellCheck(2, 3, "b", "x = 1", "once")
    page = check_html.page([make_check(cell, once, limit_bytes=600 * MIB)])
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert page.count('aria-label="Memory of cell') == 1
    assert "above the limit" in page
    page.encode("utf-8")
    for foreign in ("http://", "https://"):
        assert foreign not in page.replace("http://www.w3.org/2000/svg", "")
