"""Samples during runs: how a curve is put together, and the two samplers with real processes and threads."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from memcell.measure import sampler as sampler_module
from memcell.measure import watcher
from memcell.measure.sampler import ThreadSampler, WatcherSampler
from memcell.measure.watcher import SLICES, SharedCurve
from memcell.units import MIB
from tests.unit.test_process import open_descriptors

linux = pytest.mark.skipif(sys.platform != "linux", reason="the watcher reads /proc")


# Putting a curve together


def a_curve() -> SharedCurve:
    return SharedCurve(bytearray(watcher.SIZE))


def levels(curve: SharedCurve, period: int = 1) -> list[int]:
    return [rss for rss, _ in curve.read(period)[1]]


def test_each_slice_keeps_its_highest_level():
    curve = a_curve()
    for elapsed_s, level in [(0.0, 5), (0.4, 7), (0.9, 6), (1.0, 2), (1.9, 1), (2.5, 9)]:
        curve.add(1, elapsed_s, level, 0, 1.0)
    assert levels(curve) == [7, 2, 9]


def test_a_slice_without_a_sample_keeps_the_level_before_it():
    curve = a_curve()
    curve.add(1, 0.0, 5, 50, 1.0)
    curve.add(1, 3.5, 9, 90, 1.0)
    assert curve.read(1) == (1.0, [(5, 50), (5, 50), (5, 50), (9, 90)])


def test_a_curve_whose_first_sample_is_late_begins_at_its_level():
    curve = a_curve()
    curve.add(1, 2.5, 7, 0, 1.0)
    assert levels(curve) == [7, 7, 7]


def test_a_full_curve_merges_neighbours_and_doubles_its_slices():
    curve = a_curve()
    for index in range(SLICES):
        curve.add(1, index, index, 1000 - index, 1.0)
    assert levels(curve) == list(range(SLICES))
    curve.add(1, SLICES, 5000, 0, 1.0)
    slice_s, found = curve.read(1)
    assert slice_s == 2.0
    assert found[:2] == [(1, 1000), (3, 998)]
    assert found[-1] == (5000, 0)
    assert len(found) == SLICES // 2 + 1


@pytest.mark.parametrize("seed", range(20))
def test_a_curve_is_what_its_samples_are(seed):
    """Against the plain definition: the highest sample in each slice, else the level before."""
    source = random.Random(seed)
    slice_s = source.choice([0.005, 0.05, 1.0])
    curve, samples, elapsed_s = a_curve(), [], 0.0
    for _ in range(source.choice([1, 10, 400, 3000])):
        elapsed_s += slice_s * source.choice([0.01, 0.5, 1.0, 1.0, 7.0])
        samples.append((elapsed_s, source.randrange(1 << 40), source.randrange(1 << 40)))
        curve.add(1, *samples[-1], slice_s)
    found_s, found = curve.read(1)
    assert found_s / slice_s == 2 ** _log2(found_s / slice_s)
    assert len(found) <= SLICES
    assert len(found) * found_s >= elapsed_s * (1 - 1e-9)
    if found_s > slice_s:
        assert len(found) > SLICES // 2  # doubled only when it had to
    assert max(rss for rss, _ in found) == max(rss for _, rss, _ in samples)
    assert max(children for _, children in found) == max(children for _, _, children in samples)
    for at, rss, children in samples:
        index = min(int(at / found_s), len(found) - 1)
        assert found[index][0] >= rss
        assert found[index][1] >= children
    assert {rss for rss, _ in found} <= {rss for _, rss, _ in samples}


def _log2(ratio: float) -> int:
    return round(ratio).bit_length() - 1


def test_a_very_late_sample_fits():
    curve = a_curve()
    curve.add(1, 0.0, 3, 0, 0.005)
    curve.add(1, 30 * 24 * 3600.0, 4, 0, 0.005)
    slice_s, found = curve.read(1)
    assert len(found) <= SLICES
    assert slice_s * len(found) >= 30 * 24 * 3600
    assert (found[0][0], found[-1][0]) == (3, 4)


def test_a_sample_from_before_the_beginning_counts_to_the_first_slice():
    curve = a_curve()
    curve.add(1, -0.1, 3, 0, 1.0)
    assert levels(curve) == [3]


def test_a_new_period_begins_a_new_curve():
    curve = a_curve()
    for index in range(300):
        curve.add(1, index, 100 + index, 0, 1.0)
    curve.add(2, 0.0, 7, 0, 0.5)
    assert curve.read(2) == (0.5, [(7, 0)])
    assert curve.read(1)[1] == []


def test_a_curve_never_sampled_is_empty():
    assert a_curve().read(1)[1] == []
    assert a_curve().read(0)[1] == []


def test_orders_and_parking():
    curve = a_curve()
    assert curve.order(3, 12.5, 0.05) is False
    assert curve.orders() == (3, 12.5, 0.05)
    curve.add(3, 0.0, 1, 0, 0.05)
    curve.park(True)
    assert curve.order(0, 0.0, 0.0) is True
    assert curve.read(3)[1] == [(1, 0)]  # parking leaves the curve as it is
    curve.park(False)
    assert curve.order(4, 1.0, 0.05) is False


def test_a_half_written_curve_is_not_read(monkeypatch):
    curve = a_curve()
    curve.add(1, 0.0, 1, 0, 1.0)
    buffer = curve._buffer
    parked, version, period, slice_s = watcher._STATE.unpack_from(buffer, watcher._STATE_AT)
    watcher._STATE.pack_into(buffer, watcher._STATE_AT, parked, version + 1, period, slice_s)
    waited = []
    monkeypatch.setattr(watcher.time, "sleep", waited.append)
    assert curve.read(1) == (0.0, [])
    assert waited


# The watcher


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True


def has_ended(pid: int) -> bool:
    # Where init does not collect orphans at once, the ended watcher is a zombie for a while.
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def sampler() -> Iterator[WatcherSampler]:
    sampler = WatcherSampler()
    yield sampler
    pid = sampler.pid
    sampler.close()
    assert pid is None or wait_until(lambda: has_ended(pid))


@linux
def test_nothing_is_started_before_the_first_period(sampler):
    sampler.end()
    assert sampler.pid is None
    assert sampler.curve().rss_bytes == ()


@linux
def test_it_samples_the_level_of_this_process(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: len(sampler.curve().rss_bytes) >= 5)
    block = bytearray(b"x") * (128 * MIB)
    count = len(sampler.curve().rss_bytes)
    assert wait_until(lambda: len(sampler.curve().rss_bytes) > count + 2)
    del block
    sampler.end()
    curve = sampler.curve()
    assert curve.slice_s == 0.02
    assert max(curve.rss_bytes) - curve.rss_bytes[0] == pytest.approx(128 * MIB, rel=0.03)


@linux
def test_it_samples_while_c_code_holds_the_interpreters_lock(sampler):
    c = ctypes.PyDLL(None)  # calls without letting the lock go
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    before = len(sampler.curve().rss_bytes)
    c.usleep(500_000)
    assert len(sampler.curve().rss_bytes) - before >= 15
    sampler.end()


@linux
def test_a_short_run_right_after_another_is_sampled_too(sampler):
    sampler.begin(0.05)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    for pause_s in (0.02, 0.1, 0.3):
        sampler.end()
        time.sleep(pause_s)
        sampler.begin(0.05)
        time.sleep(0.25)
        assert len(sampler.curve().rss_bytes) >= 2, f"nothing in a run of 0.25 s that began {pause_s} s after another"


@linux
def test_it_sleeps_without_a_period_and_is_woken(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    sampler.end()
    time.sleep(0.5)
    pid = sampler.pid
    before = psutil.Process(pid).cpu_times(), psutil.Process(pid).num_ctx_switches()
    time.sleep(1)
    assert (psutil.Process(pid).cpu_times(), psutil.Process(pid).num_ctx_switches()) == before
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes, 0.3)
    assert sampler.pid == pid
    sampler.end()


@linux
def test_the_oom_killer_is_asked_to_spare_it_where_that_is_allowed(sampler):
    with open("/proc/self/status") as file:
        [effective] = [int(line.split()[1], 16) for line in file if line.startswith("CapEff:")]
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    with open(f"/proc/{sampler.pid}/oom_score_adj") as file:
        adjustment = int(file.read())
    with open("/proc/self/oom_score_adj") as file:
        assert adjustment == (-1000 if effective >> 24 & 1 else int(file.read()))  # CAP_SYS_RESOURCE


@linux
def test_it_is_no_child_of_this_process(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    assert psutil.Process(sampler.pid).ppid() != os.getpid()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    sampler.end()


@linux
def test_no_signal_of_a_terminal_reaches_it(sampler):
    sampler.begin(0.02)
    assert os.getsid(sampler.pid) != os.getsid(0)
    assert os.getpgid(sampler.pid) != os.getpgid(0)
    sampler.end()


@linux
def test_it_ends_when_the_pipe_closes_and_leaves_no_descriptor():
    before = open_descriptors()
    for _ in range(3):
        sampler = WatcherSampler()
        sampler.begin(0.02)
        assert wait_until(lambda sampler=sampler: sampler.curve().rss_bytes)
        pid = sampler.pid
        sampler.close()
        sampler.close()
        assert sampler.pid is None
        assert wait_until(lambda pid=pid: has_ended(pid))
    assert open_descriptors() == before


@linux
@pytest.mark.parametrize("parked", [False, True], ids=["while it samples", "while it sleeps"])
def test_it_ends_when_its_process_is_killed(parked):
    code = (
        "import time\n"
        "from memcell.measure.sampler import WatcherSampler\n"
        "sampler = WatcherSampler()\n"
        "sampler.begin(0.05)\n"
        f"{'time.sleep(0.3); sampler.end(); time.sleep(3)' if parked else ''}\n"
        "print(sampler.pid, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert not has_ended(pid)
        parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: has_ended(pid), 3)


@linux
def test_another_is_started_if_it_is_killed(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    first = sampler.pid
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: has_ended(first))
    sampler.end()
    sampler.begin(0.02)  # this run is lost
    time.sleep(1.1)
    sampler.end()
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    assert sampler.pid != first
    sampler.end()


@linux
def test_a_watcher_that_dies_asleep_is_noticed_at_the_next_period(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    sampler.end()
    first = sampler.pid
    assert wait_until(lambda: sampler._curve.order(0, 0.0, 0.0), 2)
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: has_ended(first))
    sampler.begin(0.02)
    sampler.end()
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    sampler.end()


@linux
def test_it_is_not_started_for_ever(sampler, monkeypatch, caplog):
    monkeypatch.setattr(sampler_module.subprocess, "Popen", _refused)
    for _ in range(5):
        sampler.begin(0.02)
        sampler.end()
    assert sampler.curve().rss_bytes == ()
    (line,) = caplog.messages
    assert "the watcher did not start: no more processes" in line


def _refused(*_: object, **__: object) -> object:
    raise OSError("no more processes")


@linux
def test_without_descriptors_left_there_are_no_samples_and_no_error(sampler, caplog):
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name.split(" ")[0]) for name in before)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    taken = []
    try:
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            os.close(taken.pop())  # room for one, which is too little
        sampler.begin(0.02)
        sampler.end()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(caplog.messages) == 1
    assert open_descriptors() == before


@linux
def test_a_python_without_memfd_has_samples_or_says_so(sampler, monkeypatch, caplog):
    # Pythons that were built for an old glibc (conda's, among others) lack it.
    monkeypatch.delattr(os, "memfd_create")
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes, 1) or caplog.messages
    sampler.end()


@linux
def test_after_a_fork_the_child_lets_go_and_the_parents_watcher_lives(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    child = os.fork()
    if child == 0:
        try:
            sampler.forget()
            sampler.begin(0.02)
            ok = wait_until(lambda: sampler.curve().rss_bytes)
            sampler.close()
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    before = len(sampler.curve().rss_bytes)
    assert wait_until(lambda: len(sampler.curve().rss_bytes) > before)
    sampler.end()


@linux
def test_it_costs_little_memory(sampler):
    sampler.begin(0.02)
    assert wait_until(lambda: sampler.curve().rss_bytes)
    assert psutil.Process(sampler.pid).memory_full_info().pss < 12 * MIB
    sampler.end()


# The thread


@pytest.fixture
def thread_sampler() -> Iterator[ThreadSampler]:
    sampler = ThreadSampler(lambda: 7, lambda: 3)
    yield sampler
    sampler.close()


def sampling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "memcell-sampler"]


def test_the_thread_samples_between_begin_and_end(thread_sampler):
    assert not sampling_threads()
    thread_sampler.begin(0.01)
    assert wait_until(lambda: len(thread_sampler.curve().rss_bytes) >= 3)
    thread_sampler.end()
    time.sleep(0.03)
    count = len(thread_sampler.curve().rss_bytes)
    assert set(thread_sampler.curve().rss_bytes) == {7}
    assert set(thread_sampler.curve().children_bytes) == {3}
    time.sleep(0.05)
    assert len(thread_sampler.curve().rss_bytes) == count
    thread_sampler.begin(0.01)
    assert wait_until(lambda: thread_sampler.curve().rss_bytes)
    assert len(sampling_threads()) == 1


def test_the_thread_ends_and_can_be_started_again(thread_sampler):
    for _ in range(2):
        thread_sampler.begin(0.01)
        assert wait_until(lambda: thread_sampler.curve().rss_bytes)
        thread_sampler.end()
        thread_sampler.close()
        thread_sampler.close()
        assert not sampling_threads()


@pytest.fixture
def large():
    """A process that takes 800 MiB: it needs some time to give them back."""
    code = "kept = bytearray(b'x') * (800 << 20); print(flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


@linux
def test_what_a_dying_process_has_is_given_back_before_anything_is_done_about_it(large):
    statm, pidfd = os.open(f"/proc/{large.pid}/statm", os.O_RDONLY), os.pidfd_open(large.pid)
    try:
        assert not os.pread(statm, 200, 0).startswith(b"0 ")
        large.kill()
        while not os.pread(statm, 200, 0).startswith(b"0 "):
            pass
        watcher.wait_while_dying(statm, pidfd)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        assert ended.poll(0)
    finally:
        os.close(statm)
        os.close(pidfd)


@linux
@pytest.mark.parametrize("has_pidfd", [True, False])
def test_nobody_waits_for_a_process_that_lives_or_has_ended(large, has_pidfd, monkeypatch):
    monkeypatch.setattr(watcher, "_DYING_S", 1e9)
    statm = os.open(f"/proc/{large.pid}/statm", os.O_RDONLY)
    pidfd = os.pidfd_open(large.pid) if has_pidfd else -1
    try:
        watcher.wait_while_dying(statm, pidfd)
        large.kill()
        watcher.wait_while_dying(statm, pidfd)  # a zombie
        large.wait()
        watcher.wait_while_dying(statm, pidfd)
    finally:
        os.close(statm)
        if has_pidfd:
            os.close(pidfd)


@linux
@pytest.mark.parametrize(("before", "acts"), [("", True), ("sampler.close()", False)])
def test_the_last_act_is_done_for_the_dead_that_had_not_sent_the_watcher_away(tmp_path, before, acts):
    mark = tmp_path / "acted"
    code = (
        "import os, signal, time; from memcell.measure.sampler import WatcherSampler\n"
        f"sampler = WatcherSampler('', lambda: ['/usr/bin/env', 'touch', {str(mark)!r}])\n"
        "sampler.begin(0.05)\nwhile not sampler.curve().rss_bytes: time.sleep(0.01)\n"
        f"print(sampler.pid, flush=True)\n{before}\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    watchers = psutil.Process(int(done.stdout)) if psutil.pid_exists(int(done.stdout)) else None
    if watchers is not None:
        watchers.wait(10)
    assert mark.exists() is acts
