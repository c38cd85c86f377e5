"""``%memleaks``: which re-run cell leaks, what holds it, and the line that fixes it."""

from __future__ import annotations

import re

import pytest

import memcell

LEAK = "import memcell\nhub.kept[len(hub.kept)] = bytearray(b'x') * (48 << 20)"
CYCLE = "class Node: pass\nnode = Node(); node.self = node; node.data = bytearray(b'x') * (16 << 20)"
STEADY = "data = bytearray(b'x') * (16 << 20)"


@pytest.fixture
def patient(shell, session, monkeypatch):
    """A shell whose user takes long between two cells, so that every measurement fits its share of time."""
    shell.run_cell("def hub(): pass\nhub.kept = {}")
    shell.run_cell("pass")  # loads what the first run needs
    monkeypatch.setattr("memcell.ipython.census._DEADLINE_S", 30.0)
    session._settle()  # what other tests have left in this process goes first
    for budget in (session.leaks._settle_budget, session.leaks._census_budget):
        monkeypatch.setattr(budget, "_share", 1e9)
    return shell


def rerun(shell, source: str, times: int) -> None:
    for _ in range(times):
        shell.run_cell(source).raise_error()


def test_a_leak_is_found_with_what_holds_it_and_the_line_that_fixes_it(patient, session, capsys):
    rerun(patient, LEAK, 5)
    [verdict] = memcell.leaks()
    assert verdict.kind == "growing", verdict
    assert verdict.bytes_per_run == pytest.approx(48 << 20, rel=0.15)
    assert verdict.culprits[0].name.endswith("hub.kept")
    assert verdict.culprits[0].sizes[-1] == 5
    capsys.readouterr()
    patient.run_cell("%memleaks").raise_error()
    out = capsys.readouterr().out
    assert re.search(r"growing +\+[45]\d\.\d MiB +5 .*hub\.kept: .*→ 5 entries", out), out
    before = session.health.look()
    fix = out[out.index("to fix it:") :].splitlines()[1]
    patient.run_cell(fix)
    patient.run_cell("%memclean -q")
    assert patient.user_ns["hub"].kept == {}
    assert before - session.health.look() > 200 << 20


@pytest.mark.parametrize("source", [CYCLE, STEADY], ids=["garbage", "rebound"])
def test_what_only_looks_like_a_leak_is_none(patient, source):
    rerun(patient, source, 6)
    [verdict] = memcell.leaks()
    assert verdict.kind != "growing", verdict


def test_asked_once_after_quick_runs_it_names_the_culprit_with_one_more(shell, session):
    shell.run_cell("def hub(): pass\nhub.kept = {}")
    rerun(shell, LEAK, 6)
    memcell.leaks()
    rerun(shell, LEAK, 1)
    [verdict] = memcell.leaks()
    assert verdict.kind == "growing"
    assert verdict.culprits[0].name.endswith("hub.kept")


def test_without_a_re_run_it_says_what_to_do(shell, capsys):
    shell.run_cell("x = 1")
    capsys.readouterr()
    shell.run_cell("%memleaks")
    assert "no cell was run twice yet" in capsys.readouterr().out


@pytest.mark.parametrize("above", ["", "# what leaks?\n"])
def test_cells_that_only_ask_memcell_are_in_the_history_alone(shell, session, runs, above):
    asked = ["%memleaks", "%memtop 20", "%memprocs", "%memclean -q gc", "%memlimit  ", "%mempostmortem --list"]
    for magic in asked:
        rerun(shell, above + magic, 2)
    if not above:
        rerun(shell, "memtop 20", 2)  # without the %, as the shell allows
    assert memcell.leaks() == []
    recorded = [run.source_line for run in runs][: 2 * len(asked) : 2]
    assert recorded == [above.strip() or magic.strip() for magic in asked]
    shell.user_ns["memtop"] = [1]
    for other in ("%memtop\nx = 1", "memtop = [1]", "memtop[0]", "x = 5 if memtop else 6", "%memtopx = 1", "%time 1"):
        shell.run_cell(other)
        shell.run_cell(other)
        assert len(memcell.leaks()) == 1, other
        session.leaks.clear()


def test_in_a_check_memcells_magics_are_judged_as_other_cells_are(shell, session):
    session.leaks.be_thorough()
    rerun(shell, "%memleaks", 2)
    assert [verdict.label for verdict in memcell.leaks()] == ["%memleaks"]


def test_cells_of_the_same_text_are_told_apart_by_their_last_run(shell, runs, capsys):
    for cell, source in [("a", "x = 1")] * 2 + [("b", "x = 1")] * 2 + [("c", "y = 1")] * 2:
        shell.run_cell(source, store_history=True, cell_id=cell).raise_error()
    capsys.readouterr()
    shell.run_cell("%memleaks").raise_error()
    rows = capsys.readouterr().out.splitlines()[2:5]
    assert {re.search(r"(\[\d+\] )?. = 1", row)[0] for row in rows} == {"[2] x = 1", "[4] x = 1", "y = 1"}


def test_a_mistake_is_said_in_one_line(shell, capsys):
    shell.run_cell("%memleaks all")
    assert "unknown argument 'all'" in capsys.readouterr().err


def test_an_edited_cell_begins_anew(patient):
    rerun(patient, LEAK, 3)
    patient.run_cell(LEAK.replace("48 <<", "49 <<"))
    assert all(verdict.runs == 3 for verdict in memcell.leaks())


def test_what_is_looked_at_is_not_kept_alive(patient, session):
    import weakref

    patient.run_cell("class Big: pass\nbig = Big(); big.data = bytearray(16 << 20)")
    rerun(patient, LEAK, 4)
    memcell.leaks()
    reference = weakref.ref(patient.user_ns["big"])
    patient.run_cell("del big")
    assert reference() is None


def test_watch_labels_have_verdicts_too(session):
    kept = []
    for _ in range(7):
        with session.watch("load"):
            kept.append(bytearray(b"x") * (64 << 20))
    [verdict] = memcell.leaks()
    assert (verdict.cell, verdict.kind) == ("load", "growing")
