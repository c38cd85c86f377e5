"""``memcell orphans``: what a shell shows of the processes that dead kernels left."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memcell import cli
from memcell.protect import marker, processes
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


def test_it_lists_and_ends(orphan, capsys, monkeypatch):
    # The test's own process starts it, and who asks is spared with all below: another one has to ask.
    command = [sys.executable, "-m", "memcell", "orphans"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{orphan.pid} " in listed
    assert "which has died" in listed
    ended = subprocess.run([*command, "--kill"], capture_output=True, text=True, check=True).stdout
    assert f"{orphan.pid} " in ended
    assert orphan.wait() == -15
    assert f"{orphan.pid} " not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_who_asks_spares_what_is_below_it(orphan, capsys):
    assert cli.main(["orphans", "--kill"]) == 0
    assert f"{orphan.pid} " not in capsys.readouterr().out
    assert orphan.poll() is None


def test_an_unknown_option_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["orphans", "--all"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --all" in capsys.readouterr().err
