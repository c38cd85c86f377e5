"""The black box of real kernels: which ends leave one, what it tells, and how the next kernel is told."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memcell.protect.deaths import Boxes
from memcell.records.deaths import Death
from memcell.units import MIB
from tests.kernel.control_groups import own_group, small_group
from tests.kernel.kernels import Kernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a watcher on Linux only")

_GROW = (
    "import time, os\n"
    "kept = []\n"
    "for step in range(6):\n"
    "    kept.append(bytearray(b'x') * (64 << 20))\n"
    "    time.sleep(0.2)\n"
    "os.kill(os.getpid(), 9)"
)


@pytest.fixture
def start(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Kernel]]:
    """Starts kernels in one folder, with a state folder of their own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    started: list[Kernel] = []

    def make(load: bool = True) -> Kernel:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        specification = folder / "kernels" / "tested" / "kernel.json"
        if specification.exists():
            specification.unlink()
            specification.parent.rmdir()
            specification.parent.parent.rmdir()
        kernel = Kernel(python, folder)
        started.append(kernel)
        if load:
            assert kernel.run("%load_ext memcell").status == "ok"
        return kernel

    yield make
    for kernel in started:
        kernel.shutdown()


def deaths(expected: int) -> list[Death]:
    """The deaths that were left, once there are so many, or after a time in which none can still be coming."""
    until = time.monotonic() + (5 if expected else 1.5)
    while len(found := Boxes().read().deaths) < max(expected, 1) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(found) == expected
    return list(found)


def wait_for_death(kernel: Kernel) -> None:
    until = time.monotonic() + 20
    while kernel.manager.is_alive():
        assert time.monotonic() < until, "the kernel lives"
        time.sleep(0.05)


def test_a_kill_in_a_cell_is_told_by_the_next_kernel_once(start, tmp_path):
    kernel = start()
    kernel.run("1 + 1")
    kernel.send(_GROW)
    wait_for_death(kernel)
    [death] = deaths(1)
    assert (death.signal, death.is_running, death.folder) == ("SIGKILL", True, str(tmp_path / "work"))
    assert death.run.source == _GROW
    assert death.run.number == 3
    grown = death.levels[-1] - death.run.before_bytes
    assert grown == pytest.approx(6 * 64 * MIB, rel=0.05)
    assert (
        list(death.levels) == sorted(death.levels)
        or max(earlier - later for earlier, later in zip(death.levels, death.levels[1:], strict=False)) < 2 * MIB
    )

    second = start(load=False)
    told = second.run("%load_ext memcell")
    assert [line.startswith("memcell: the last kernel here died in cell [3] at ") for line in told.lines] == [True]
    assert "%mempostmortem tells more" in told.lines[0]
    assert not second.run("%reload_ext memcell").lines
    [report] = second.run("%mempostmortem").data
    assert "kept.append(bytearray" in report["text/plain"]
    assert "█" in report["text/plain"]
    assert "<svg" in report["text/html"]
    assert second.run("import time; time.sleep(0.1)").status == "ok"
    second.shutdown()
    assert not start(load=False).run("%load_ext memcell").lines
    deaths(1)  # the orderly end of the second has left nothing


def test_the_command_tells_it_in_a_shell(start, python, tmp_path):
    kernel = start()
    kernel.send(_GROW)
    wait_for_death(kernel)
    deaths(1)

    def command(*arguments: str) -> str:
        call = [python, "-m", "memcell", "postmortem", *arguments]
        return subprocess.run(call, cwd=tmp_path / "work", capture_output=True, text=True, check=True).stdout

    assert "The kernel died in cell [2], " in command()
    assert "SIGKILL" in command("--list")
    assert command("--clear") == "1 black box removed\n"
    assert "has left a black box" in command()
    deaths(0)


@pytest.mark.parametrize(
    ("cell", "signal", "status"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV", None),
        ("import os; os._exit(1)", None, 1),
        ("import os; os._exit(0)", None, 0),
        ("import os; os.abort()", "SIGABRT", None),
        ("import asyncio, os\nawait asyncio.sleep(0.1)\nos._exit(1)", None, 1),
        ("%%memwatch -q\nimport os; os._exit(1)", None, 1),
    ],
    ids=["SIGSEGV", "_exit(1)", "_exit(0)", "SIGABRT", "await", "watched"],
)
def test_a_crash_in_a_cell_tells_its_kind(start, cell, signal, status):
    kernel = start()
    kernel.send(cell)
    wait_for_death(kernel)
    [death] = deaths(1)
    assert (death.signal, death.exit_status, death.is_running, death.oom) == (signal, status, True, "no")
    assert death.run.source == cell.removeprefix("%%memwatch -q\n")


def test_a_kill_between_cells_names_the_last_one(start):
    kernel = start()
    kernel.run("first = 1")
    kernel.run("last = 2")
    time.sleep(0.5)
    kernel.manager.signal_kernel(9)
    wait_for_death(kernel)
    [death] = deaths(1)
    assert (death.run.source, death.is_running) == ("last = 2", False)
    assert 0.3 < death.died - death.ended < 5


def test_a_kill_while_a_forked_child_lives(start):
    kernel = start()
    kernel.send(
        "import os, time\nif os.fork() == 0:\n    os.closerange(0, 3)\n    time.sleep(4)\n    os._exit(0)\n"
        "time.sleep(0.3)\nos.kill(os.getpid(), 9)"
    )
    wait_for_death(kernel)
    [death] = deaths(1)
    assert (death.signal, death.is_running) == ("SIGKILL", True)


def test_earlier_runs_of_the_cell_are_told(start):
    kernel = start()
    grow = "cache = globals().get('cache', [])\ncache.append(bytearray(b'x') * (64 << 20))\nif len(cache) > 4: 1 / 0"
    for _ in range(4):
        assert kernel.run(grow).status == "ok"
    kernel.run("import os, memcell\nclass Bomb(list):\n    def append(self, _): os._exit(1)\ncache = Bomb(cache)")
    kernel.run("memcell.leaks();")
    kernel.send(grow)
    wait_for_death(kernel)
    [death] = deaths(1)
    assert death.run.kept_bytes == pytest.approx([64 * MIB] * 4, rel=0.05)
    assert min(death.run.peak_growth_bytes) > 63 * MIB
    assert death.run.bytes_per_run == pytest.approx(64 * MIB, rel=0.1)


def test_what_was_allocated_in_children_is_told(start):
    kernel = start()
    kernel.send(
        "import subprocess, sys, time, os\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'import time; x = bytearray(b\"x\") * (150 << 20); time.sleep(3)'])\n"
        "time.sleep(1.2)\nos.kill(os.getpid(), 9)"
    )
    wait_for_death(kernel)
    [death] = deaths(1)
    assert death.children_bytes[-1] == pytest.approx(150 * MIB, rel=0.15)


@pytest.mark.parametrize(
    "end",
    [
        lambda kernel: kernel.manager.shutdown_kernel(),
        lambda kernel: kernel.manager.restart_kernel(),
        lambda kernel: kernel.manager.signal_kernel(15),
        lambda kernel: kernel.send("exit()"),
        lambda kernel: (kernel.run("%unload_ext memcell"), kernel.manager.signal_kernel(9)),
        lambda kernel: (kernel.run("%config Memcell.blackbox = False"), kernel.manager.signal_kernel(9)),
    ],
    ids=["shutdown", "restart", "SIGTERM", "exit()", "unloaded", "switched off"],
)
def test_an_orderly_end_leaves_nothing(start, end):
    kernel = start()
    kernel.run("import time; time.sleep(0.1)")
    end(kernel)
    deaths(0)


@pytest.mark.parametrize("end", ["shutdown_kernel", "restart_kernel"])
def test_ending_a_busy_kernel_leaves_nothing(start, end):
    kernel = start()
    sent = kernel.send("import time\nprint('here', flush=True)\ntime.sleep(60)")
    kernel.wait_for_output(sent, "here")
    getattr(kernel.manager, end)()
    deaths(0)


def test_it_can_be_switched_on_again(start):
    kernel = start()
    kernel.run("%config Memcell.blackbox = False")
    kernel.run("%config Memcell.blackbox = True")
    kernel.run("x = 1")
    kernel.manager.signal_kernel(9)
    wait_for_death(kernel)
    [death] = deaths(1)
    assert death.run.source == "x = 1"


def test_a_kernel_whose_configuration_loads_memcell_tells_with_the_first_cell(start, tmp_path):
    kernel = start()
    kernel.send("import os; os._exit(1)")
    wait_for_death(kernel)
    deaths(1)
    profile = tmp_path / "work" / "ipython" / "profile_default"
    (profile / "ipython_config.py").write_text("c.InteractiveShellApp.extensions = ['memcell']")
    second = start(load=False)
    assert "died in cell [2]" in second.run("1 + 1").lines[0]
    assert not second.run("1 + 1").lines


@pytest.mark.skipif(own_group() is None, reason="no right to make a control group (v1) here")
def test_a_real_kill_by_the_out_of_memory_killer_is_told_as_such(start):
    with small_group(400 * MIB) as group:
        kernel = start(load=False)
        (group / "cgroup.procs").write_text(str(kernel.value("__import__('os').getpid()")))
        kernel.run("%load_ext memcell")
        kernel.run("%config Memcell.limit_fraction = 1.0")  # else the cell is stopped in time
        kernel.run("import time; time.sleep(0.1)")
        # One call of C code that fills memory which is mapped already: nothing stops that.
        kernel.send("time.sleep(0.3)\nkept = bytearray(b'x') * (2 << 30)")
        wait_for_death(kernel)
        [death] = deaths(1)
        assert (death.signal, death.oom, death.run.limit_bytes) == ("SIGKILL", "yes", 400 * MIB)
        assert death.levels[-1] == pytest.approx(400 * MIB, rel=0.25)
