"""The black box of real processes without a shell: which ends leave a file, and what stands in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memcell.protect.deaths import Boxes
from memcell.records.deaths import Death
from memcell.units import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a watcher on Linux only")

_START = "import memcell, os, signal, sys, time\n"
_RUN = _START + "with memcell.watch('load'): time.sleep(0.2)\n"
#: The watcher looks, waits for the end and writes: well within this.
_SOON_S = 2.0
_WRITES_S = 5.0


@pytest.fixture
def run(tmp_path):
    """Runs a script to its end, in a folder of its own, and tells which deaths it left."""

    def call(script: str, *, deaths: int, **environment: str) -> list[Death]:
        environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), **environment}
        file = tmp_path / "script.py"
        file.write_text(script)
        paths = [str(Path(__file__).parents[2]), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        ended = subprocess.run([sys.executable, file], cwd=tmp_path, env=environ, capture_output=True, text=True)
        until = time.monotonic() + (_WRITES_S if deaths else _SOON_S)
        boxes = Boxes({"XDG_STATE_HOME": environ["XDG_STATE_HOME"], "HOME": environ.get("HOME", "")})
        while len(found := boxes.read(str(tmp_path)).deaths) < max(deaths, 1) and time.monotonic() < until:
            time.sleep(0.05)
        assert len(found) == deaths, ended.stderr
        return list(found)

    return call


@pytest.mark.parametrize(
    "script",
    [
        _RUN,
        _RUN + "sys.exit(3)",
        _RUN + "raise RuntimeError",
        _RUN + "raise KeyboardInterrupt",
        _RUN + "os.kill(os.getpid(), signal.SIGTERM)",
        _START + "with memcell.watch(): os.kill(os.getpid(), signal.SIGTERM)",
        _START + "with memcell.watch(): sys.exit(0)",
        _START + "os.kill(os.getpid(), 9)",  # nothing was run yet
        _START + "with memcell.watch():\n    time.sleep(0.2)\n    os.execv('/bin/sleep', ['sleep', '0.5'])",
        _RUN + "os.closerange(3, 200)\ntime.sleep(1)\nos._exit(0)",
        _RUN + "child = os.fork()\nif child == 0: os._exit(1)\nos.waitpid(child, 0)",
        _RUN + "child = os.fork()\nif child == 0: sys.exit(1)\nos.waitpid(child, 0)",
        _RUN
        + "child = os.fork()\nif child == 0:\n    with memcell.watch(): os.kill(os.getpid(), 9)\nos.waitpid(child, 0)",
        _RUN + "os._exit(0)",
        _START
        + "import multiprocessing\ndef work(_):\n    with memcell.watch(): return 1\n"
        + "with multiprocessing.get_context('fork').Pool(2, maxtasksperchild=1) as pool: pool.map(work, range(4))",
    ],
    ids=[
        "end of the script",
        "exit",
        "error",
        "Ctrl-C",
        "SIGTERM",
        "SIGTERM in a run",
        "exit in a run",
        "killed before a run",
        "exec",
        "descriptors closed",
        "fork, _exit",
        "fork, exit",
        "fork, killed in a run of its own",
        "_exit between runs",
        "pool",
    ],
)
def test_an_orderly_end_leaves_nothing(run, script):
    run(script, deaths=0)


def test_a_kill_in_a_run_tells_how_memory_went(run):
    [death] = run(
        _START + "with memcell.watch('load'):\n"
        "    time.sleep(0.3)\n"
        "    one = bytearray(b'x') * (128 << 20)\n"
        "    time.sleep(0.3)\n"
        "    two = bytearray(b'x') * (128 << 20)\n"
        "    time.sleep(0.3)\n"
        "    os.kill(os.getpid(), 9)",
        deaths=1,
    )
    assert (death.signal, death.is_running, death.run.is_block, death.run.cell) == ("SIGKILL", True, True, "load")
    assert death.oom in ("no", "likely", "unknown")  # another process of this host may be ended just now
    assert death.levels[-1] - death.levels[0] == pytest.approx(256 * MIB, rel=0.05)
    assert any(level - death.levels[0] == pytest.approx(128 * MIB, rel=0.1) for level in death.levels), "the step"
    assert sorted(death.levels) == pytest.approx(list(death.levels), abs=4 * MIB)
    assert -0.3 < death.times_s[-1] <= 0
    assert death.run.limit_bytes is not None


@pytest.mark.parametrize(
    ("ending", "signal", "status"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV", None),
        ("os.abort()", "SIGABRT", None),
        ("os._exit(1)", None, 1),
        ("memcell.watch().__enter__(); os._exit(0)", None, 0),
    ],
)
def test_crashes_tell_their_kind(run, ending, signal, status):
    [death] = run(_RUN + ending, deaths=1)
    assert (death.signal, death.exit_status, death.oom, death.is_running) == (signal, status, "no", status == 0)


def test_a_death_is_told_from_a_forked_child_that_lives_on(run):
    """The child has copies of the pipe and of the shared memory."""
    [death] = run(
        _RUN + "if os.fork() == 0:\n"
        "    for descriptor in 0, 1, 2: os.close(descriptor)\n"
        "    time.sleep(3)\n    os._exit(0)\n"
        "os.kill(os.getpid(), 9)",
        deaths=1,
    )
    assert death.signal == "SIGKILL"
    assert time.time() - death.died < 3


def test_a_python_without_pidfd_notices_a_death_too(run):
    """Also while the watcher sleeps and a child of the kernel holds the pipe open."""
    [death] = run(
        _START + "del os.pidfd_open\n" + _RUN + "if os.fork() == 0:\n"
        "    for descriptor in 0, 1, 2: os.close(descriptor)\n"
        "    time.sleep(6)\n    os._exit(0)\n"
        "time.sleep(0.5)\n"
        "os.kill(os.getpid(), 9)",
        deaths=1,
    )
    # Without a pidfd the exit code is told by the zombie only, which this Python's parent mostly collects at once.
    assert (death.signal, death.exit_status) in ((None, None), ("SIGKILL", None))


def test_a_box_belongs_to_the_folder_in_which_the_session_was_made(run):
    [death] = run(_RUN + "os.makedirs('deep/er'); os.chdir('deep/er')\n" + _RUN + "os.kill(os.getpid(), 9)", deaths=1)
    assert not death.folder.endswith("er")


def test_a_run_inside_another_leaves_the_outer_one_in_the_box(run):
    [death] = run(
        _START + "with memcell.watch('outer'):\n    with memcell.watch('inner'): pass\n    os._exit(1)", deaths=1
    )
    assert (death.run.cell, death.is_running) == ("outer", True)


def test_a_run_that_outlasts_the_noted_one_takes_its_place(run):
    [death] = run(
        _START + "one, two = memcell.watch('one'), memcell.watch('two')\n"
        "one.__enter__(); two.__enter__(); one.__exit__(None, None, None)\nos._exit(1)",
        deaths=1,
    )
    assert (death.run.cell, death.is_running) == ("two", True)


def test_a_process_without_a_usable_state_folder_runs_as_ever(tmp_path):
    environ = {**os.environ, "XDG_STATE_HOME": "/proc/memcell", "PYTHONPATH": str(Path(__file__).parents[2])}
    script = _RUN + "print(memcell.history()[0].source_line)"
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "load\n", "")
