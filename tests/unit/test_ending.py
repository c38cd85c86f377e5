"""Ending processes in order, and never another one that got the pid."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from memcell.protect.ending import collect, end, is_running
from memcell.protect.processes import Process, read_process

Start = Callable[..., subprocess.Popen[bytes]]

_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(1000)"
_TELLS = """
import signal, sys, time
def tell(*_):
    with open(sys.argv[1], "a") as file:
        file.write(sys.argv[2])
    sys.exit(7)
signal.signal(signal.SIGTERM, tell)
print(flush=True)
time.sleep(1000)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python processes that say when they are ready."""
    started = []

    def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code, *arguments], stdout=subprocess.PIPE)
        started.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def process_of(child: subprocess.Popen[bytes]) -> Process:
    process = read_process(child.pid)
    assert process is not None
    return process


def test_sigterm_is_enough_for_most_and_the_parent_gets_the_exit_status(start, tmp_path):
    child = start(_TELLS, str(tmp_path / "told"), "x")
    (outcome,) = end([process_of(child)])
    assert (outcome.ending, outcome.why) == ("terminated", "")
    assert 0 < outcome.duration_s < 3
    assert child.wait() == 7


def test_what_does_not_heed_sigterm_is_killed_after_the_grace(start):
    child = start(_DEAF)
    (outcome,) = end([process_of(child)], grace_s=0.2)
    assert outcome.ending == "killed"
    assert 0.2 <= outcome.duration_s < 1.5
    assert child.wait() == -signal.SIGKILL


def test_the_grace_is_for_all_together(start):
    children = [start(_DEAF) for _ in range(4)]
    began = time.monotonic()
    outcomes = end([process_of(child) for child in children], grace_s=0.3)
    assert {outcome.ending for outcome in outcomes} == {"killed"}
    assert time.monotonic() - began < 1.2


def test_the_signals_come_in_the_given_order(start, tmp_path):
    told = tmp_path / "told"
    children = [start(_TELLS, str(told), letter) for letter in "abc"]
    for child in children:
        os.kill(child.pid, signal.SIGSTOP)  # so that the order of their ends is that of the signals
    for child in children:
        while not process_of(child).is_stopped:
            time.sleep(0.01)
    end([process_of(child) for child in children])
    assert sorted(told.read_text()) == ["a", "b", "c"]


def test_a_stopped_process_is_let_go_on_so_that_it_can_end_itself(start, tmp_path):
    child = start(_TELLS, str(tmp_path / "told"), "x")
    os.kill(child.pid, signal.SIGSTOP)
    while not process_of(child).is_stopped:
        time.sleep(0.01)
    (outcome,) = end([process_of(child)])
    assert outcome.ending == "terminated"
    assert child.wait() == 7


def test_another_process_with_the_pid_is_not_hit(start):
    child = start(_DEAF)
    earlier = dataclasses.replace(process_of(child), birth=1)
    (outcome,) = end([earlier], grace_s=0.1)
    assert outcome.ending == "gone"
    assert is_running(process_of(child))


def test_without_pidfds_it_works_too(start, monkeypatch, tmp_path):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    child, deaf = start(_TELLS, str(tmp_path / "told"), "x"), start(_DEAF)
    assert [outcome.ending for outcome in end([process_of(child), process_of(deaf)], grace_s=0.2)] == [
        "terminated",
        "killed",
    ]


def test_no_descriptor_stays_open(start):
    child = start(_DEAF)
    before = os.listdir("/proc/self/fd")
    end([process_of(child)], grace_s=0.05)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_zombie_is_left_to_its_parent(start):
    child = start("import sys; print(flush=True); sys.exit(5)")
    while not process_of(child).has_ended:
        time.sleep(0.01)
    (outcome,) = end([process_of(child)])
    assert outcome.ending == "gone"
    assert "zombie" in outcome.why
    assert child.wait() == 5


def test_what_may_not_be_signalled_is_said(start, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    child = start(_DEAF)
    (outcome,) = end([process_of(child)], grace_s=0.1)
    assert (outcome.ending, outcome.why) == ("left", "it could not be signalled: Operation not permitted")
    assert is_running(process_of(child))


def test_collected_children_are_no_zombies_and_popen_objects_know_their_code(start):
    child = start("import sys; print(flush=True); sys.exit(5)")
    forked = os.fork()
    if forked == 0:
        os._exit(3)
    found = [process_of(child), read_process(forked)]
    while not all(read_process(process.pid).has_ended for process in found):
        time.sleep(0.01)
    collect(found)
    assert read_process(forked) is None
    assert child.returncode == 5
