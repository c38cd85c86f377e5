"""``memcell orphans``: what a shell shows of the processes that dead kernels left."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from memcell import cli
from memcell.protect import children, marker, processes
from memcell.protect.marker import SessionId


@pytest.fixture
def orphan(session, monkeypatch):
    """A process with the marker of a kernel that has died."""
    with subprocess.Popen(["true"]) as kernel:
        dead = SessionId(kernel.pid, processes.read_process(kernel.pid).birth, processes.boot_id())
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)"],
        env={**os.environ, marker.NAME: str(dead)},
    )
    while marker.of_process(child.pid) != dead:
        pass  # it is between fork and exec
    yield child
    child.kill()
    child.wait()
    session.forget_processes()


def orphans(*words):
    """What the command says. The test's own process starts the orphan, and who asks is spared with all below it."""
    return subprocess.run([sys.executable, "-m", "memcell", "orphans", *words], capture_output=True, text=True)


def test_it_lists_and_ends(orphan):
    listed = orphans().stdout
    assert f"{orphan.pid} " in listed
    assert "which has died" in listed
    assert f"{orphan.pid} " in orphans("--kill", str(orphan.pid)).stdout
    assert orphan.wait() == -15
    assert f"{orphan.pid} " not in orphans().stdout


def test_without_a_pid_all_are_ended(orphan, monkeypatch, capsys):
    # All that another process finds: that there are no others keeps the test from ending what is not its own.
    monkeypatch.setattr(children, "find_orphans", lambda table: {orphan.pid: marker.Origin.own()})
    assert cli.main(["orphans", "--kill"]) == 0
    assert f"{orphan.pid} " in capsys.readouterr().out
    assert orphan.wait() == -15


@pytest.mark.parametrize(
    ("pid", "why"), [(1, "belongs to another user|no cell of"), (4_000_000_000, "no such process")]
)
def test_nothing_else_is_ended(orphan, pid, why):
    answer = orphans("--kill", str(orphan.pid), str(pid))
    assert answer.returncode == 1
    assert re.fullmatch(
        rf"memcell orphans: cannot end {pid}: .*({why}).*; can be ended: .*{orphan.pid}.*\n", answer.stderr
    )
    assert orphan.poll() is None


def test_who_asks_spares_what_is_below_it(orphan, capsys):
    assert cli.main(["orphans"]) == 0
    assert f"{orphan.pid} " not in capsys.readouterr().out


def test_an_unknown_option_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["orphans", "--all"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --all" in capsys.readouterr().err
