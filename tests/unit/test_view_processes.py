"""Processes as tables and lines."""

from __future__ import annotations

from memcell.records.protected import ChildProcess, EndOutcome
from memcell.units import MIB
from memcell.view import process_tables
from memcell.view.html import lines_html, table_html
from memcell.view.text import table_text

_SERVER = ChildProcess(4242, 1, "python -m http.server", 0.0, 83.0, 12 * MIB, cell=7, cell_line="serve()")
_DAEMON = ChildProcess(4300, 2, "daemon\x1b[31m --all\n", 0.0, 5.0, 3 * MIB, detached=True)
_ZOMBIE = ChildProcess(4301, 3, "[true]", 0.0, 5.0, 0, state="ended")
_ORPHAN = ChildProcess(99, 4, "sleep 1000", 0.0, 7384.0, MIB, kernel=55, state="stopped")


def test_the_table_of_children_and_orphans():
    assert table_text(process_tables.children([_SERVER, _DAEMON, _ZOMBIE], [_ORPHAN])).splitlines() == [
        " pid    memory         age  cell  command",
        (
            "────  ────────  ──────────  ────  ─────────────────────"
            "  ────────────────────────────────────────────────────────"
        ),
        "4242  12.0 MiB  1 min 23 s   [7]  python -m http.server",
        "4300   3.0 MiB      5.00 s        daemon [31m --all      detached on purpose",
        (
            "4301   0.0 MiB      5.00 s        [true]                 "
            "a zombie: p.wait() or p.poll() in its cell takes it away"
        ),
        "  99   1.0 MiB  2 h 03 min        sleep 1000             of kernel 55, which has died; stopped",
        "3 processes of this session: 15.0 MiB",
        "1 process of kernels that have died: 1.0 MiB; memcell orphans --kill ends them",
        "%memprocs --kill PID ends one with all that it started",
    ]


def test_a_dry_run_says_who_would_be_ended():
    lines = table_text(process_tables.children([_SERVER, _DAEMON, _ZOMBIE], dry_run=True)).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[2:5]] == [
        "yes",
        "no: detached on purpose",
        "no: a zombie: p.wait() or p.poll() in its cell takes it away",
    ]
    assert lines[-1] == "1 process would be ended; nothing was signalled"


def test_what_became_of_them():
    outcomes = [
        EndOutcome(4242, "python -m http.server", "terminated", 12 * MIB, 0.02),
        EndOutcome(4243, "deaf", "killed", 2 * MIB, 3.02),
        EndOutcome(4244, "other", "left", MIB, why="it could not be signalled: Operation not permitted"),
    ]
    said = table_text(process_tables.ended(outcomes, [_DAEMON])).splitlines()
    assert said[2].split() == ["4242", "12.0", "MiB", "ended", "20.0", "ms", "python", "-m", "http.server"]
    assert said[4].endswith("it could not be signalled: Operation not permitted")
    assert said[5:] == [
        "2 processes ended: 14.0 MiB of theirs given back",
        "detached on purpose, so left: 4300; %memprocs --kill PID ends one",
    ]
    assert table_text(process_tables.ended([])) == "0 processes ended"


def test_lines():
    assert process_tables.orphans_words([_ORPHAN]) == (
        "1 process of a kernel that has died is still there, 1.0 MiB:"
        " %memprocs lists them, memcell orphans --kill ends them"
    )
    assert table_text(process_tables.orphans([])) == "no kernel that has died left a process"
    assert process_tables.left_words([_DAEMON]) == (
        "memcell: 1 process of this kernel left running: 4300 (daemon [31m --all); memcell orphans lists them"
    )


def test_html_escapes_what_others_wrote():
    evil = ChildProcess(1, 1, "<script>alert(1)</script>", 0.0, 1.0, 0)
    for shown in (
        table_html(process_tables.children([evil])),
        table_html(process_tables.ended([EndOutcome(1, "<b>", "gone", 0, why="<i>")])),
    ):
        assert "<script>" not in shown
        assert "<b>" not in shown
        assert "<i>" not in shown
    assert "1 process of a kernel" in lines_html([process_tables.orphans_words([_ORPHAN])])
