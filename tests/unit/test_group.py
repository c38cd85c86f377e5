"""Ending a group of processes: who goes at once, who stays, and who cleans up after the others."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from memcell.protect import group, processes
from memcell.protect.ending import end
from memcell.protect.group import end_group, wait_for_trackers

#: The leader of a group. It prints the pids of what it starts.
_BEGIN = """
import os, signal, subprocess, sys, time
null = subprocess.DEVNULL
def start(*command, **options):
    options = {"stdin": null, **options}
    print(subprocess.Popen(command, stdout=null, stderr=null, **options).pid, end=" ")
"""
_END = "\nprint(flush=True)\ntime.sleep(60)"
_SLEEP = "start('sleep', '60')\n"
_NOHUP = f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{_SLEEP}signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
#: What multiprocessing's and loky's trackers look like: they end once nobody has the other end of their pipe.
_TRACKER = """
code = "import sys\\nif 0:\\n    from multiprocessing.resource_tracker" + " import main\\nsys.stdin.read()"
start(sys.executable, "-c", code, stdin=os.pipe()[0])
"""


@pytest.fixture
def start():
    """Starts a group, and returns the pids in it, the leader's first."""
    leaders, found = [], []

    def run(script):
        leader = subprocess.Popen(
            [sys.executable, "-c", _BEGIN + script + _END], stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        leaders.append(leader)
        pids = [leader.pid, *(int(word) for word in leader.stdout.readline().split())]
        found.extend(processes.read_process(pid) for pid in pids)
        return pids

    yield run
    end(found, grace_s=0)
    for leader in leaders:
        leader.stdout.close()
        leader.wait()


def _end(pids, goes, spare=()):
    """Which of these are there after their group was ended, and those that go had the time for it."""
    end_group(pids[0], spare)
    _wait_until(lambda: not any(map(_runs, goes)))
    return list(filter(_runs, pids))


def _wait_until(condition):
    ends = time.monotonic() + 10
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)


def _runs(pid):
    process = processes.read_process(pid)
    return process is not None and not process.has_ended


def test_all_of_it_goes(start):
    pids = start(_SLEEP)
    assert _end(pids, goes=pids) == []


def test_what_ignores_a_hangup_stays(start):
    leader, detached, other = start(_NOHUP + _SLEEP)
    assert _end([leader, detached, other], goes=[leader, other]) == [detached]


def test_it_goes_where_this_process_ignores_hangups_too(start, monkeypatch):
    pids = start(_NOHUP)
    monkeypatch.setattr(processes, "ignores_hangup", lambda _: True)
    assert _end(pids, goes=pids) == []


def test_a_resource_tracker_ends_by_itself_after_the_others(start, monkeypatch):
    monkeypatch.setattr(group, "_TRACKERS_S", 30.0)  # whatever else the machine does; it returns once it has ended
    leader, tracker = start(_TRACKER)
    _wait_until(lambda: processes.is_resource_tracker(tracker))  # which takes until it has a command line
    end_group(leader)
    wait_for_trackers(leader)
    assert not _runs(tracker)


def test_a_tracker_that_does_not_end_is_not_waited_for_for_ever(start, monkeypatch):
    leader, tracker = start(_TRACKER)
    _wait_until(lambda: processes.is_resource_tracker(tracker))
    monkeypatch.setattr(group, "_TRACKERS_S", 0)
    wait_for_trackers(leader)
    assert _runs(tracker)


def test_who_is_spared_stays(start):
    leader, other = start(_SLEEP)
    assert _end([leader, other], goes=[other], spare=[leader]) == [leader]


def test_a_group_that_is_gone(start):
    (leader,) = start("")
    assert _end([leader], goes=[leader]) == []
    end_group(leader)
    wait_for_trackers(leader)
