"""The memory of child processes: real ones of a known size, from any thread, forked or not."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from memcell.measure import watcher
from memcell.measure.children import LinuxChildrenGauge, PsutilChildrenGauge
from memcell.units import MIB
from tests.unit.fakes import FakeClock
from tests.unit.test_process import open_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SIZE = 300 * MIB
_HOLD = f"import sys; block = bytearray(b'x') * {SIZE}; print('held', flush=True); sys.stdin.read()"
_PARENT_OF_HOLDER = (
    "import subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {_HOLD!r}], stdin=sys.stdin, stdout=sys.stdout)\n"
    "child.wait()"
)
#: What an interpreter without a block takes.
_INTERPRETER = 12 * MIB


class Holder:
    """A child (or its child) that holds 300 MiB until it is told to end."""

    def __init__(self, code: str = _HOLD) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout.readline() == b"held\n"

    def end(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture
def gauge() -> Iterator[LinuxChildrenGauge]:
    gauge = LinuxChildrenGauge()
    yield gauge
    gauge.close()


def test_without_children_there_is_nothing(gauge):
    assert gauge.level() == 0
    assert gauge.level(thorough=True) == 0


@pytest.mark.parametrize(("code", "interpreters"), [(_HOLD, 1), (_PARENT_OF_HOLDER, 2)], ids=["child", "grandchild"])
def test_a_process_of_300_mib_is_seen(gauge, code, interpreters):
    holder = Holder(code)
    level = gauge.level()
    holder.end()
    assert SIZE <= level <= 1.05 * SIZE + interpreters * _INTERPRETER
    assert gauge.level() == 0


def test_a_child_of_another_thread_is_seen_by_the_thorough_reading_and_from_then_on(gauge):
    started, ending = threading.Event(), threading.Event()
    holders = []

    def hold() -> None:
        holders.append(Holder())
        started.set()
        ending.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert started.wait(20)
    assert gauge.level() == 0
    assert gauge.level(thorough=True) >= SIZE
    assert gauge.level() >= SIZE
    ending.set()
    thread.join()
    holders[0].end()
    assert gauge.level() == 0


def test_pages_that_a_forked_worker_shares_count_once(gauge):
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        for at in range(0, SIZE, mmap.PAGESIZE):
            block[at] = 1
        ready, told = os.pipe()
        wait_for, end = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"x")
            os.close(end)
            os.read(wait_for, 1)
            os._exit(0)
        os.read(ready, 1)
        level, rss = gauge.level(), psutil.Process(child).memory_info().rss
        os.close(end)
        os.waitpid(child, 0)
        for descriptor in (ready, told, wait_for):
            os.close(descriptor)
    assert rss >= SIZE
    assert level == pytest.approx(rss / 2, rel=0.15)


def test_the_watcher_is_left_out():
    holder = Holder()
    pid = holder._process.pid
    assert LinuxChildrenGauge(lambda: pid).level(thorough=True) == 0
    holder.end()


def gauge_that_counts(monkeypatch, reading_s):
    """A gauge of one child, each reading of which takes so long and says how many there were; and its clock."""
    clock, readings = FakeClock(), []
    monkeypatch.setattr("memcell.measure.children.descendants_of", lambda pids: pids)

    def pss(_pid: int) -> int:
        clock.pass_time(reading_s)
        readings.append(1)
        return len(readings)

    monkeypatch.setattr("memcell.measure.children.pss_of", pss)
    gauge = LinuxChildrenGauge(clock=clock)
    monkeypatch.setattr(gauge, "_of_main_thread", lambda: {101})
    return gauge, clock


def test_the_memory_of_children_is_read_within_its_share_of_time(monkeypatch):
    gauge, clock = gauge_that_counts(monkeypatch, reading_s=0.1)
    assert gauge.level() == 1  # half of it was saved up
    clock.pass_time(0.9)
    assert gauge.level(after=True) == 1
    clock.pass_time(0.2)
    assert gauge.level() == 2
    clock.pass_time(1.8)
    assert gauge.level(after=True) == 2
    monkeypatch.setattr(gauge, "_of_main_thread", lambda: {101, 102})
    assert gauge.level() == 3 + 4  # a new child is never overlooked
    monkeypatch.setattr(gauge, "_of_main_thread", set)
    assert gauge.level() == 0


def test_the_end_of_a_short_run_is_read_rather_than_its_begin(monkeypatch):
    gauge, clock = gauge_that_counts(monkeypatch, reading_s=0.001)
    levels = [(gauge.level(), gauge.level(after=True)) for _ in range(4)]
    assert levels == [(1, 2), (2, 3), (3, 4), (4, 5)]
    clock.pass_time(1.0)
    assert (gauge.level(), gauge.level(after=True)) == (6, 7)


def test_a_child_that_has_ended_counts_nothing():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
    assert watcher.pss_of(child.pid) == 0
    child.wait()
    assert watcher.pss_of(child.pid) == 0
    assert watcher.children_of(child.pid) == []


def test_where_the_shares_are_refused_shared_pages_are_left_out(monkeypatch):
    holder = Holder()
    real = open

    def refuse(path, *rest):
        if str(path).endswith("smaps_rollup"):
            raise PermissionError(path)
        return real(path, *rest)

    monkeypatch.setattr("builtins.open", refuse)
    level = watcher.pss_of(holder._process.pid)
    monkeypatch.undo()
    holder.end()
    assert SIZE <= level <= 1.05 * SIZE + _INTERPRETER


def test_one_descriptor_is_kept_and_let_go():
    before = open_descriptors()
    gauge = LinuxChildrenGauge()
    for _ in range(20):
        gauge.level(thorough=True)
    assert len(open_descriptors() - before) == 1
    gauge.close()
    gauge.close()
    assert open_descriptors() == before
    assert gauge.level() == 0
    gauge.close()


def test_a_forked_child_sees_its_own_children(gauge):
    gauge.level()
    holder = Holder()
    child = os.fork()
    if child == 0:
        os._exit(0 if gauge.level() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gauge.level() >= SIZE
    holder.end()


def test_psutil_sees_children_too():
    holder = Holder(_PARENT_OF_HOLDER)
    level = PsutilChildrenGauge().level()
    holder.end()
    assert SIZE <= level <= 1.05 * SIZE + 3 * _INTERPRETER
    assert PsutilChildrenGauge().level() == 0


def test_the_peak_of_a_child_within_a_run(session):
    run = session.meter.open("child", number=1)
    holder = Holder()
    time.sleep(0.5)
    holder.end()
    record = session.meter.close(run)
    assert record.children_after_bytes == 0
    assert SIZE <= record.children_peak_bytes <= 1.05 * SIZE + _INTERPRETER
    assert abs(record.peak_growth_bytes) < 32 * MIB  # a child is not in the peak of this process


def test_a_thread_that_ends_meanwhile_hides_no_child_of_the_others(monkeypatch):
    with subprocess.Popen(["sleep", "100"]) as child:
        monkeypatch.setattr(watcher.os, "listdir", lambda _: ["0", str(os.getpid())])
        assert child.pid in watcher.children_of(os.getpid())
        child.kill()
