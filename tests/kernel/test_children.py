"""What becomes of child processes when a real kernel ends, and what the next one and a shell know of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.kernel.kernels import Kernel

_START = """
import os, subprocess, sys
sleep = [sys.executable, '-I', '-S', '-c', 'import time; time.sleep(1000)']
plain = subprocess.Popen(sleep)
detached = subprocess.Popen(sleep, start_new_session=True)
launcher = subprocess.Popen(['/bin/sh', '-c', '"$@" & echo $!; wait', 'sh', *sleep], stdout=subprocess.PIPE)
server = int(launcher.stdout.readline())
os.system(f"env -i /bin/sh -c 'echo $$ > {os.getcwd()}/unmarked; exec sleep 1000' &")
while not os.path.exists('unmarked') or not (line := open('unmarked').read()).endswith('\\n'):
    pass
unmarked = int(line)
ended = subprocess.Popen(['true'])
"""
_NAMES = ("plain", "detached", "launcher", "server", "unmarked")
_PIDS = f"{{name: getattr(globals()[name], 'pid', globals()[name]) for name in {_NAMES}}}"


@pytest.fixture
def started(python, tmp_path) -> Iterator[tuple[Kernel, dict[str, psutil.Process]]]:
    """A kernel with memcell and children of several kinds."""
    with Kernel(python, tmp_path) as kernel:
        kernel.run("%load_ext memcell")
        result = kernel.run(_START)
        assert result.status == "ok", result.error
        kernel.run("pass")
        children = {name: psutil.Process(pid) for name, pid in kernel.value(_PIDS).items()}
        try:
            yield kernel, children
        finally:
            for child in children.values():
                if child.is_running():
                    child.kill()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def alive(children: dict[str, psutil.Process], expected: set[str], timeout_s: float = 10) -> set[str]:
    """Which are alive, once they are the expected ones or time is up."""
    ends = time.monotonic() + timeout_s
    while (found := {name for name, child in children.items() if is_alive(child)}) != expected:
        if time.monotonic() > ends:
            break
        time.sleep(0.05)
    return found


def orphans(python: str, *arguments: str) -> str:
    command = [python, "-m", "memcell", "orphans", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert not done.stderr
    return done.stdout


def _shut_down(kernel: Kernel) -> None:
    kernel.manager.shutdown_kernel()


def _restart(kernel: Kernel) -> None:
    kernel.manager.restart_kernel()


def _terminate(kernel: Kernel) -> None:
    _signal(kernel, signal.SIGTERM)


def _kill(kernel: Kernel) -> None:
    _signal(kernel, signal.SIGKILL)


def _signal(kernel: Kernel, number: int) -> None:
    os.kill(kernel.value("__import__('os').getpid()"), number)
    while kernel.manager.is_alive():
        time.sleep(0.02)


@pytest.mark.parametrize("end", [_shut_down, _restart, _terminate, _kill])
def test_however_the_kernel_ends_only_detached_children_stay_and_are_known_as_orphans(
    started, python, end: Callable[[Kernel], None]
):
    kernel, children = started
    end(kernel)
    assert alive(children, {"detached"}) == {"detached"}
    assert f"{children['detached'].pid} " in orphans(python)
    assert f"{children['detached'].pid} " in orphans(python, "--kill", str(children["detached"].pid))
    assert alive(children, set()) == set()
    assert f"{children['detached'].pid} " not in orphans(python)


def test_a_shutdown_does_not_wait_for_zombies_and_runs_what_the_user_registered(started, tmp_path):
    kernel, children = started
    kernel.run(f"import atexit; atexit.register(open({str(tmp_path / 'ended')!r}, 'w').close)")
    kernel.manager.shutdown_wait_time = 24  # it sends SIGTERM after half of that, and then nothing more runs
    began = time.monotonic()
    kernel.manager.shutdown_kernel()
    assert time.monotonic() - began < 10  # ipykernel waits 14 s for a zombie
    assert (tmp_path / "ended").exists()
    assert alive(children, {"detached"}, timeout_s=0) == {"detached"}


def test_a_kernel_inside_a_c_call_ends_at_once_on_sigterm(started):
    kernel, children = started
    # It holds the interpreter's lock from then on, so nothing could be printed any more.
    sent = kernel.send("import time; print('here', flush=True); time.sleep(1)\nsum(range(10**11))")
    kernel.wait_for_output(sent, "here")
    time.sleep(1.5)
    pid = psutil.Process(children["plain"].ppid()).pid
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    while kernel.manager.is_alive():
        time.sleep(0.02)
    assert time.monotonic() - began < 2
    assert alive(children, {"detached"}) == {"detached"}


def test_switched_off_children_are_left_and_the_next_kernel_tells_of_them(started, python, tmp_path):
    kernel, children = started
    kernel.run("%config Memcell.end_children = False")
    kernel.run("pass")
    _kill(kernel)
    assert alive(children, set(children), timeout_s=1) == set(children)
    (tmp_path / "next").mkdir()
    with Kernel(python, tmp_path / "next") as following:
        following.run("%load_ext memcell")
        line = next(line for line in following.run("x = 1").lines if "died" in line)
        assert "%memprocs lists them, memcell orphans --kill ends them" in line
        assert not [line for line in following.run("x = 2").lines if "died" in line]
        (listed,) = following.run("%memprocs").lines
        assert f"{children['plain'].pid} " in listed
        assert following.run(f"%memprocs --kill {children['launcher'].pid}").status == "ok"
        assert alive(children, {"plain", "detached", "unmarked"}) == {"plain", "detached", "unmarked"}
        orphans(python, "--kill", *(str(children[name].pid) for name in ("plain", "detached", "unmarked")))
        assert alive(children, set()) == set()


def test_unloaded_it_ends_nothing(started):
    kernel, children = started
    kernel.run("%unload_ext memcell")
    assert kernel.value("'MEMCELL_SESSION' in __import__('os').environ") is False
    _kill(kernel)
    assert alive(children, set(children), timeout_s=1) == set(children)


def test_a_living_kernel_keeps_its_children_while_orphans_of_another_are_ended(started, python, tmp_path):
    kernel, children = started
    (tmp_path / "second").mkdir()
    with Kernel(python, tmp_path / "second") as second:
        second.run("%load_ext memcell")
        second.run(_START)
        others = {name: psutil.Process(pid) for name, pid in second.value(_PIDS).items()}
        _kill(kernel)
        assert alive(children, {"detached"}) == {"detached"}
        listed = orphans(python)  # --kill without a pid ends exactly these
        assert f"{children['detached'].pid} " in listed
        assert not any(f"{child.pid} " in listed for child in others.values())
        orphans(python, "--kill", str(children["detached"].pid))
        assert alive(children, set()) == set()
        assert alive(others, set(others), timeout_s=0.5) == set(others)
        listed = second.run("%memprocs").lines[0]
        assert all(f"{child.pid} " in listed for child in others.values())
        second.manager.shutdown_kernel()
        assert alive(others, {"detached"}) == {"detached"}
        others["detached"].kill()
