"""Which processes are a kernel's: by tables of processes that a test makes up, and by real ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

import memcell
from memcell.errors import UnknownProcessError
from memcell.protect import marker, processes
from memcell.protect.children import Children
from memcell.protect.finding import find_orphans, find_started, find_to_end, is_detached
from memcell.protect.marker import Origin, SessionId
from memcell.protect.processes import Process, descendants, read_process, read_processes, started_at
from memcell.units import MIB

_KERNEL = SessionId(100, 50, "boot")
_SLEEP = [sys.executable, "-I", "-S", "-c", "import time; print(flush=True); time.sleep(1000)"]


def process(pid: int, parent: int = 1, *, session: int = 100, birth: int = 60, **more: object) -> Process:
    values = {"state": "S", "user": os.geteuid(), "has_terminal": False, **more}
    return Process(pid, parent, session, birth, **values)  # type: ignore[arg-type]


class Machine:
    """A made-up machine: its processes, their markers and command lines; what has ended is not in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table: dict[int, Process] = {}
        self.markers: dict[int, SessionId] = {}
        self.commands: dict[int, list[str]] = {}
        self.in_containers: set[int] = set()
        monkeypatch.setattr(processes, "read_process", self.table.get)
        monkeypatch.setattr(processes, "read_processes", lambda: dict(self.table))
        monkeypatch.setattr(processes, "boot_id", lambda: "boot")
        monkeypatch.setattr(processes, "arguments_of", lambda pid: self.commands.get(pid, []))
        monkeypatch.setattr(processes, "shares_pid_namespace", lambda pid: pid not in self.in_containers)
        monkeypatch.setattr(processes, "ignores_hangup", lambda _: False)
        monkeypatch.setattr(marker, "of_process", self.markers.get)

    def add(self, *added: Process, marked: SessionId | None = None, command: str = "") -> None:
        for one in added:
            self.table[one.pid] = one
            self.commands[one.pid] = command.split()
            if marked:
                self.markers[one.pid] = marked


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(monkeypatch)
    machine.add(process(1, 0, session=1, birth=1), process(20, session=20, birth=5))
    return machine


@pytest.fixture
def kernel(machine: Machine) -> Origin:
    """A living kernel that leads its session, as Jupyter starts it."""
    machine.add(process(100, 20, birth=50))
    return Origin(_KERNEL, 100)


# The marker


def test_a_marker_goes_into_the_environment_and_back():
    assert SessionId.parse(str(_KERNEL)) == _KERNEL
    own = SessionId.own()
    assert SessionId.parse(str(own)) == own
    assert not own.is_dead()


@pytest.mark.parametrize("text", ["", "x", "1-2", "1-2-", "-1-2-boot", "1--boot", "a-2-boot", "1-b-boot", "٣-2-boot"])
def test_what_is_no_marker_is_none(text):
    assert SessionId.parse(text) is None


def test_a_pid_that_is_used_again_is_not_the_kernel(machine, kernel):
    assert not _KERNEL.is_dead()
    assert SessionId(100, 49, "boot").is_dead()
    assert SessionId(999, 50, "boot").is_dead()
    machine.add(process(100, 20, birth=50, state="Z"))
    assert _KERNEL.is_dead()


def test_of_another_boot_nothing_is_known(machine):
    assert not SessionId(999, 50, "another").is_dead()


# A living kernel


def test_the_tree_is_the_kernels(machine, kernel):
    machine.add(process(101, 100), process(102, 101, session=102), process(30, 20, session=30))
    assert find_started(machine.table, kernel) == {101, 102}


def test_what_left_the_tree_is_known_by_its_marker_with_all_below(machine, kernel):
    machine.add(process(101, 1, session=101), marked=_KERNEL)
    machine.add(process(102, 101, session=101))
    machine.add(process(103, 1, session=103), marked=SessionId(100, 51, "boot"))
    assert find_started(machine.table, kernel) == {101, 102}


def test_what_lost_tree_and_marker_is_known_by_the_session(machine, kernel):
    machine.add(process(101, 1, session=100))
    assert find_started(machine.table, kernel) == {101}


def test_the_session_of_a_terminal_is_shared_with_others(machine):
    machine.add(process(100, 20, session=20, birth=50), process(101, 20, session=20))
    assert find_started(machine.table, Origin(_KERNEL, 20)) == set()


def test_what_is_older_than_the_kernel_is_not_its_own(machine, kernel):
    machine.add(process(90, 1, session=100, birth=49), marked=_KERNEL)
    assert find_started(machine.table, kernel) == set()


def test_other_users_processes_are_left_out(machine, kernel):
    machine.add(process(101, 100, user=os.geteuid() + 1), marked=_KERNEL)
    assert find_started(machine.table, kernel) == set()


# Detached on purpose


def test_a_session_of_its_own_is_detached_but_not_one_with_a_terminal(kernel):
    assert is_detached(process(101, session=101), kernel)
    assert not is_detached(process(101, session=100), kernel)
    assert not is_detached(process(101, session=101, has_terminal=True), kernel)  # as of `!command`


def test_nohup_detaches_unless_the_kernel_itself_runs_under_it(machine, kernel, monkeypatch):
    monkeypatch.setattr(processes, "ignores_hangup", lambda pid: pid == 101)
    assert is_detached(process(101), kernel)
    assert not is_detached(process(102), kernel)
    assert not is_detached(process(101), Origin(_KERNEL, 100, ignores_hangup=True))


def test_zombies_detached_ones_and_resource_trackers_are_not_ended_unless_named(machine, kernel):
    machine.add(process(101, 100), process(102, 100, state="Z"), process(103, 100, session=103))
    machine.add(process(104, 100))
    machine.commands[104] = ["python", "-c", "from multiprocessing.resource_tracker import main;main(5)"]
    assert find_to_end(machine.table, find_started(machine.table, kernel), kernel) == {101}


# Dead kernels


def test_what_a_dead_kernel_left_is_known_by_its_marker_with_all_below(machine):
    machine.add(process(101, 1, session=101), marked=_KERNEL)
    machine.add(process(102, 101, session=101))
    assert {pid: origin.id for pid, origin in find_orphans(machine.table).items()} == {101: _KERNEL, 102: _KERNEL}


def test_its_session_counts_once_a_marked_process_in_it_proves_it(machine):
    machine.add(process(101, 1))
    assert not find_orphans(machine.table)
    machine.add(process(102, 1, session=102), marked=_KERNEL)
    assert set(find_orphans(machine.table)) == {102}
    machine.add(process(103, 1), marked=_KERNEL)
    assert set(find_orphans(machine.table)) == {101, 102, 103}


def test_the_children_of_a_living_kernel_are_no_orphans(machine, kernel):
    machine.add(process(101, 1), process(102, 100), marked=_KERNEL)
    assert not find_orphans(machine.table)


def test_a_process_in_a_container_names_another_pid(machine):
    machine.add(process(101, 1), marked=_KERNEL)
    machine.in_containers.add(101)
    assert not find_orphans(machine.table)


def test_a_server_that_a_dead_kernel_started_is_left_while_kernels_live_in_it(machine):
    machine.add(process(101, 1, session=101), process(102, 101, session=102), marked=_KERNEL)
    machine.add(process(103, 101, session=101), marked=_KERNEL)
    assert set(find_orphans(machine.table)) == {101, 102, 103}
    machine.add(process(104, 102, session=102), marked=SessionId(102, 60, "boot"))
    assert set(find_orphans(machine.table)) == {103}


@pytest.mark.parametrize(
    "command", ["python -m ipykernel_launcher -f connection.json", "python -m ipykernel -f c.json"]
)
def test_a_kernel_without_memcell_is_known_by_its_command(machine, command):
    machine.add(process(101, 1), marked=_KERNEL)
    machine.add(process(102, 101), process(105, 1), marked=_KERNEL, command=command)
    machine.add(process(103, 102), marked=_KERNEL)
    assert not find_orphans(machine.table)


def test_a_forked_worker_looks_like_its_dead_kernel_and_is_an_orphan(machine):
    machine.add(process(101, 1), marked=_KERNEL)
    machine.add(process(102, 1), command="python -m ipykernel_launcher -f connection.json")
    assert set(find_orphans(machine.table)) == {101, 102}


def test_a_kernel_is_known_by_its_watcher(machine):
    machine.add(process(101, 1), marked=_KERNEL)
    assert find_orphans(machine.table)
    machine.add(process(40, 1, session=39), command="python -I -S /lib/memcell/measure/watcher.py 101 5 6")
    assert not find_orphans(machine.table)


def test_we_ourselves_and_who_started_us_are_no_orphans(machine):
    machine.add(process(101, 1), marked=_KERNEL)
    machine.add(process(os.getpid(), 101), marked=_KERNEL)
    assert not find_orphans(machine.table)


def test_descendants_have_depths():
    table = {pid: process(pid, parent) for pid, parent in [(2, 1), (3, 2), (4, 3), (5, 2), (9, 8)]}
    assert descendants(table, [2]) == {3: 1, 5: 1, 4: 2}
    assert descendants({7: process(7, 7)}, [7]) == {}


# Real processes


@contextlib.contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written its first line, and that is ended whatever a test finds."""
    found = subprocess.Popen(command, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
    try:
        first = found.stdout.readline()
        found.first_line = first
        yield found
    finally:
        found.kill()
        found.wait()
        found.stdout.close()


@contextlib.contextmanager
def _settled() -> Iterator[None]:
    """The start of a process is known to five milliseconds."""
    time.sleep(0.02)
    yield
    time.sleep(0.02)


@pytest.fixture
def child(session):
    with running(_SLEEP) as found:
        yield found
    session.forget_processes()
    assert marker.NAME not in os.environ


def test_the_reading_agrees_with_psutil(child):
    found, known = read_process(child.pid), psutil.Process(child.pid)
    assert read_processes()[child.pid].birth == found.birth
    assert (found.parent, found.session) == (known.ppid(), os.getsid(child.pid))
    assert found.is_ours
    assert not found.has_ended
    assert abs(started_at(found) - known.create_time()) < 1.1  # psutil's time of booting is in whole seconds
    assert abs(time.time() - started_at(found)) < 60
    assert processes.arguments_of(child.pid) == _SLEEP
    assert processes.rss_of(child.pid) > MIB
    assert read_process(2**22 + 1) is None
    assert processes.command_of(2**22 + 1) == ""


def test_the_environment_is_read_only_where_it_may_be(child, monkeypatch):
    assert processes.environment_value(child.pid, "PATH") == os.environ["PATH"]
    assert processes.environment_value(child.pid, "PAT") is None
    assert processes.environment_value(2**22 + 1, "PATH") is None


def test_without_a_notebook(session, child):
    (found,) = memcell.children()
    assert (found.pid, found.state, found.detached, found.kernel) == (child.pid, "running", False, None)
    assert "time.sleep(1000)" in found.command
    assert found.memory_bytes > MIB
    assert found.cell is None
    assert os.environ[marker.NAME].startswith(f"{os.getpid()}-")
    (outcome,) = memcell.end_children()
    assert (outcome.pid, outcome.ending) == (child.pid, "terminated")
    assert outcome.memory_bytes > MIB
    assert child.wait() == -15
    assert memcell.children() == []
    assert memcell.end_children() == []


def test_the_run_that_started_it_is_named(session, child):
    time.sleep(0.05)
    with memcell.watch("loading"), running(_SLEEP) as second:
        time.sleep(0.05)
        found = {one.pid: one for one in memcell.children()}
        assert (found[child.pid].cell, found[second.pid].cell) == (None, 1)
        with memcell.watch("inner"), _settled(), running(_SLEEP) as third:
            found = {one.pid: one for one in memcell.children()}
            assert found[third.pid].cell_line == "inner"
            assert found[second.pid].cell_line == "loading"


def test_of_runs_that_follow_one_another_it_is_the_right_one(session, child):
    with contextlib.ExitStack() as started:
        for _ in range(4):
            with memcell.watch("quick"), _settled():
                started.enter_context(running(["/bin/sh", "-c", "echo; sleep 1000"]))
        cells = [one.cell for one in memcell.children() if one.command.startswith("/bin/sh")]
        memcell.end_children()
    assert cells == [1, 2, 3, 4]


def test_a_named_one_goes_with_what_it_started_even_if_it_was_detached(session, child):
    shell = f"{sys.executable} -I -S -c 'import time; time.sleep(1000)' & echo $!; wait"
    with running(["/bin/sh", "-c", shell], start_new_session=True) as launcher:
        server = int(launcher.first_line)
        assert all(one.detached for one in memcell.children() if one.pid in (launcher.pid, server))
        outcomes = memcell.end_children(launcher.pid)
        assert [outcome.pid for outcome in outcomes] == [server, launcher.pid]
        # The shell ends by itself once its child has, perhaps before it is signalled.
        assert outcomes[0].ending == "terminated"
        assert outcomes[1].ending in ("terminated", "gone")
    assert child.poll() is None


def test_a_record_of_one_that_has_ended_since_hits_nobody(session, child):
    (found,) = memcell.children()
    child.kill()
    child.wait()
    (outcome,) = memcell.end_children(found)
    assert (outcome.pid, outcome.ending) == (found.pid, "gone")


@pytest.mark.parametrize(
    ("pid", "why"),
    [
        (1, "no cell of this session or of a dead kernel started it"),
        (2**22 + 1, "there is no such process"),
        (os.getpid(), "that is this process itself"),
        (os.getppid(), "no cell of this session or of a dead kernel started it"),
        (0, "there is no such process"),
        (-1, "there is no such process"),
    ],
)
def test_a_foreign_process_is_refused_and_nothing_is_signalled(session, child, pid, why):
    with pytest.raises(UnknownProcessError, match=f"cannot end {pid}: {why}.*; can be ended: .*{child.pid}"):
        memcell.end_children(child.pid, pid)
    assert child.poll() is None


def test_what_is_no_process_is_refused(session, child):
    with pytest.raises(UnknownProcessError, match=r"cannot end '12': it is neither a pid nor one of memcell\.children"):
        memcell.end_children("12")


def test_memcells_own_watcher_is_no_child_and_is_not_ended(session, child):
    with memcell.watch("run"):
        time.sleep(0.05)
    watcher = session._sampler.pid
    assert watcher is not None
    assert watcher not in {one.pid for one in memcell.children()}
    with pytest.raises(UnknownProcessError, match="memcell's own watcher"):
        memcell.end_children(watcher)
    assert psutil.pid_exists(watcher)


def test_a_forked_child_ends_nothing_of_its_parents(session, child):
    session.configure(end_children=True)
    _ = session.processes
    forked = os.fork()
    if forked == 0:
        session.end_at_exit()
        os._exit(0 if memcell.children() == [] and memcell.end_children() == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert child.poll() is None


_POOL = """
import multiprocessing, time
import memcell
if __name__ == "__main__":
    pool = multiprocessing.get_context("spawn").Pool(2)
    pool.map(abs, [1, 2])
    workers = {worker.pid for worker in pool._pool}
    outcomes = memcell.end_children()
    assert {outcome.pid for outcome in outcomes} >= workers, outcomes
    assert {outcome.ending for outcome in outcomes} == {"terminated"}, outcomes
    time.sleep(0.5)
    left = memcell.children()
    assert ["resource_tracker" in one.command for one in left] == [True], left
"""


def test_a_pool_is_told_to_stop_so_that_it_starts_no_new_workers(tmp_path):
    (tmp_path / "script.py").write_text(_POOL)
    subprocess.run([sys.executable, str(tmp_path / "script.py")], check=True, timeout=60)


def test_ending_at_the_exit_leaves_no_zombie_and_names_what_stays(child, session):
    with running(_SLEEP, start_new_session=True) as detached:
        left = Children().end_at_exit(grace_s=1)
        assert [one.pid for one in left] == [detached.pid]
        assert child.returncode == -15


def test_the_last_act_waits_for_the_death_of_the_kernel(child, session):
    from memcell.protect.last_act import command, main

    own = Origin.own()
    main([str(own.id), str(own.session), "0", "--"])
    assert child.poll() is None
    assert command(own)[:4] == [sys.executable, "-I", "-S", "-c"]
    subprocess.run(command(own), check=True)
    assert child.poll() is None
    assert find_orphans(read_processes()).get(child.pid) is None
