"""``%memprocs`` and ``%memclean --procs``: what is listed, what is ended, and what is refused."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from memcell.ipython.kernel_end import call_at_end
from memcell.protect import marker
from memcell.records.protected import ChildProcess

_START = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(1000)'], start_new_session={})
"""


@contextlib.contextmanager
def started_by(shell, *, detached: bool = False) -> Iterator[int]:
    """A process that a cell starts."""
    shell.run_cell(_START.format(detached)).raise_error()
    child = shell.user_ns.pop("child")
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def is_alive(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def row_of(pid: int, text: str) -> str:
    return re.search(rf"^ *{pid} .*$", text, re.MULTILINE)[0]


def test_nothing_to_list(shell, capsys):
    shell.run_cell("%memprocs").raise_error()
    assert capsys.readouterr().out == "no cell of this session started a process that is still there\n"


def test_the_list_names_the_cell_the_command_and_the_memory(shell, runs, capsys):
    with started_by(shell) as pid:
        number = runs[-1].number
        shell.run_cell("%memprocs").raise_error()
        row = row_of(pid, capsys.readouterr().out)
    assert re.search(rf"\d\.\d MiB +[\d.]+ m?s +\[{number}\] .*time\.sleep\(1000\)", row)


# The pauses: when a process was started is told in hundredths of a second, and cells follow one another faster.
_BIDDEN = """
import subprocess, time
time.sleep(0.1)
child = subprocess.Popen(
    ['sh', '-c', 'read word; sleep 1000 & echo $!; wait'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
time.sleep(0.1)
"""


def test_what_a_process_starts_later_is_of_the_cell_that_started_that_one(shell, runs, capsys):
    shell.run_cell(_BIDDEN, store_history=True).raise_error()
    child, number = shell.user_ns.pop("child"), runs[-1].number
    shell.user_ns["bid"] = lambda: (child.stdin.write("go\n"), child.stdin.flush(), int(child.stdout.readline()))[2]
    try:
        shell.run_cell("import time; time.sleep(0.1)", store_history=True).raise_error()
        shell.run_cell("pid = bid(); time.sleep(0.1)", store_history=True).raise_error()
        shell.run_cell("%memprocs").raise_error()
        listed = capsys.readouterr().out
        assert f" [{number}] " in row_of(child.pid, listed)
        assert f" [{number}] " in row_of(shell.user_ns["pid"], listed)
    finally:
        os.kill(shell.user_ns["pid"], signal.SIGKILL)
        child.communicate()


def test_kill_ends_the_named_one_only(shell, capsys):
    with started_by(shell) as one, started_by(shell, detached=True) as other:
        shell.run_cell(f"%memprocs --kill {other}").raise_error()
        assert (is_alive(one), is_alive(other)) == (True, False)
        out = capsys.readouterr().out
        assert re.search(r" ended +[\d.]+ ", row_of(other, out))
        assert re.search(r"^1 process ended: \d\.\d MiB of theirs given back$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--kill 1", "cannot end 1: no cell of this session or of a dead kernel started it"),
        ("--kill 4194305", "cannot end 4194305: there is no such process; can be ended: "),
        (f"--kill {os.getpid()}", "that is this process itself"),
        ("--kill abc", "'abc' is not a pid; without --kill those are listed that can be ended"),
        ("--kill ٣", "is not a pid"),
        ("--kill -5", "'-5' is not a pid"),
        ("--kill", "expected at least one argument"),
        ("--kill '1", "No closing quotation"),
        ("123", "unrecognized arguments: 123 "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_signalled(shell, capsys, line, says):
    with started_by(shell) as pid:
        shell.run_cell(f"%memprocs {line} {pid}" if line != "--kill" else "%memprocs --kill")
        assert is_alive(pid)
    told = capsys.readouterr()
    assert told.err.startswith("UsageError: ")
    assert says in told.err
    assert len(told.err.splitlines()) == 1


def test_procs_ends_all_but_the_detached_and_shows_what_it_gave_back(shell, capsys):
    with started_by(shell) as one, started_by(shell, detached=True) as other:
        shell.run_cell("%memclean --procs gc").raise_error()
        assert (is_alive(one), is_alive(other)) == (False, True)
        out = capsys.readouterr().out
        assert re.search(r"^processes ", out, re.MULTILINE)
        assert re.search(r" ended ", row_of(one, out))
        assert f"detached on purpose, so left: {other}; %memprocs --kill PID ends one" in out


def test_a_dry_run_signals_nothing(shell, capsys):
    with started_by(shell) as one, started_by(shell, detached=True) as other:
        shell.run_cell("%memclean --procs --dry-run gc").raise_error()
        out = capsys.readouterr().out
        assert row_of(one, out).endswith("yes")
        assert row_of(other, out).endswith("no: detached on purpose")
        assert "1 process would be ended; nothing was signalled" in out
        assert is_alive(one)


def test_without_procs_processes_stay(shell, capsys):
    with started_by(shell) as pid:
        shell.run_cell("%memclean --deep").raise_error()
        assert is_alive(pid)


def test_a_zombie_is_said_to_be_one_and_its_exit_status_stays(shell, capsys):
    shell.run_cell("import subprocess; child = subprocess.Popen(['false'])").raise_error()
    child = shell.user_ns["child"]
    while is_alive(child.pid):
        time.sleep(0.01)
    shell.run_cell("%memprocs").raise_error()
    assert "a zombie: p.wait() or p.poll() in its cell takes it away" in row_of(child.pid, capsys.readouterr().out)
    shell.run_cell(f"%memprocs --kill {child.pid}").raise_error()
    assert " had ended already " in row_of(child.pid, capsys.readouterr().out)
    assert child.wait() == 1


def test_the_marker_is_there_while_memcell_is_loaded(bare_shell, session, monkeypatch):
    monkeypatch.setenv(marker.NAME, "1-2-inherited")  # of a kernel in which this one was started
    bare_shell.run_line_magic("load_ext", "memcell")
    try:
        assert os.environ[marker.NAME] == str(marker.SessionId.own())
        assert marker.of_process(int(subprocess.check_output(["/bin/sh", "-c", "echo $$"]))) is None  # it has ended
        said = subprocess.check_output(["/bin/sh", "-c", f"echo ${marker.NAME}"], text=True)
        assert said.strip() == str(marker.SessionId.own())
    finally:
        bare_shell.run_line_magic("unload_ext", "memcell")
    assert marker.NAME not in os.environ
    assert session.settings.end_children is False


def test_a_kernel_that_was_forked_from_another_has_a_marker_of_its_own(shell, session):
    forked = os.fork()
    if forked == 0:
        session.forget_parent()
        shell.run_cell("x = 1")
        os._exit(os.environ[marker.NAME] != str(marker.SessionId.own()))
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert os.environ[marker.NAME] == str(marker.SessionId.own())


class FakeKernel:
    """Is asked to shut down, as ipykernel's is."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def do_shutdown(self, restart: bool) -> dict[str, object]:
        self.asked.append(restart)
        return {"status": "ok", "restart": restart}


def test_children_are_ended_before_the_kernel_shuts_down_and_no_more_once_that_is_undone(bare_shell):
    kernel, ended, closed = FakeKernel(), [], []
    bare_shell.kernel = kernel
    undo = call_at_end(bare_shell, lambda: ended.append(len(kernel.asked)), lambda: closed.append(1))
    assert kernel.do_shutdown(True) == {"status": "ok", "restart": True}
    assert (kernel.asked, ended, closed) == ([True], [0], [])
    wrapped = kernel.do_shutdown
    undo()
    undo()
    assert "do_shutdown" not in vars(kernel)
    wrapped(False)  # somebody has kept it
    assert (kernel.asked, ended) == ([True, False], [0])


def test_an_error_while_ending_does_not_keep_a_kernel_from_shutting_down(bare_shell, caplog):
    def fail() -> None:
        raise RuntimeError("no")

    kernel = bare_shell.kernel = FakeKernel()
    undo = call_at_end(bare_shell, fail, list)
    assert kernel.do_shutdown(False)["status"] == "ok"
    assert "ending the child processes failed: RuntimeError: no" in caplog.text
    undo()


def test_a_forked_child_that_exits_ends_nothing_of_its_parents(bare_shell, monkeypatch):
    registered, ended = [], []
    monkeypatch.setattr(atexit, "register", registered.append)
    undo = call_at_end(bare_shell, lambda: ended.append(1), lambda: ended.append(2))
    forked = os.fork()
    if forked == 0:
        registered[0]()
        os._exit(len(ended))
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    registered[0]()
    assert ended == [1, 2]
    undo()


def test_the_setting_reaches_the_watcher(shell, session, capsys):
    def command() -> str:
        shell.run_cell("1;").raise_error()
        with open(f"/proc/{session._sampler.pid}/cmdline") as file:
            return file.read()

    assert "last_act" in command()
    shell.run_cell("%config Memcell.end_children = False").raise_error()
    assert "last_act" not in command()
    shell.run_cell("%config Memcell.end_children = True").raise_error()
    assert "last_act" in command()


def test_orphans_are_told_once_in_one_line(shell, session, monkeypatch, capsys):
    asked = []

    def orphans() -> list[ChildProcess]:
        asked.append(1)
        return [ChildProcess(4242, 1, "sleep 1000", 0.0, 10.0, 5 << 20, kernel=77)]

    monkeypatch.setattr(session.processes, "orphans", orphans)
    # The fixture has loaded memcell; the first cell comes now.
    shell.run_cell("x = 1").raise_error()
    shell.run_cell("x = 2").raise_error()
    shell.run_cell("%reload_ext memcell").raise_error()
    monkeypatch.setattr(session.processes, "orphans", orphans)
    shell.run_cell("x = 3").raise_error()
    assert capsys.readouterr().out == (
        "1 process of a kernel that has died is still there, 5.0 MiB:"
        " %memprocs lists them, memcell orphans --kill ends them\n"
    )
    assert asked == [1]


def test_a_scan_that_fails_is_no_error_of_the_cell(shell, session, monkeypatch, caplog):
    def fail() -> list[ChildProcess]:
        raise OSError("no /proc")

    monkeypatch.setattr(session.processes, "orphans", fail)
    assert shell.run_cell("x = 1").success
    assert "looking for orphans failed and is switched off" in caplog.text


def test_children_run_while_a_process_ends_do_no_harm(shell, capsys):
    """Processes come and go while they are listed."""
    shell.user_ns["stop"] = stop = []
    shell.run_cell(
        "import subprocess, threading\n"
        "def churn():\n    while not stop: subprocess.run(['true'])\n"
        "thread = threading.Thread(target=churn); thread.start()"
    ).raise_error()
    try:
        for _ in range(10):
            shell.run_cell("%memprocs").raise_error()
    finally:
        stop.append(1)
        shell.user_ns["thread"].join()
    assert sys.exc_info() == (None, None, None)
