"""What the watcher remembers for the case that the kernel dies."""

from __future__ import annotations

import os
import sys

import pytest

from memcell.measure import recorder as recorder_module

linux = pytest.mark.skipif(sys.platform != "linux", reason="the recorder reads /proc")


@linux
def test_the_last_minute_keeps_the_highest_level_of_each_slice(monkeypatch):
    recorder = recorder_module.Recorder(os.getpid())
    now = [1000.0]
    monkeypatch.setattr(recorder_module.time, "monotonic", lambda: now[0])
    for step in range(20_000):  # 100 s, a sample each 5 ms
        now[0] = 1000.0 + step * 0.005
        recorder.add(now[0], step, 2 * step)
    samples = recorder.samples()
    assert 1190 <= len(samples) <= 1200
    assert samples == sorted(samples)
    assert samples[-1] == (now[0], 19_999, 39_998)
    assert 59 < samples[-1][0] - samples[0][0] <= 60
    now[0] += 30
    assert 590 <= len(recorder.samples()) <= 601
    now[0] += 40
    assert recorder.samples() == []


@linux
def test_oom_kills_are_compared_with_a_count_that_is_some_seconds_old(monkeypatch):
    counts = iter(range(100))
    monkeypatch.setattr(recorder_module, "_counted", lambda name: next(counts) if name == "/proc/vmstat" else 7)
    monkeypatch.setattr(recorder_module, "_oom_counters", lambda pid: ("group", "/proc/vmstat"))
    now = [50.0]
    monkeypatch.setattr(recorder_module.time, "monotonic", lambda: now[0])
    recorder = recorder_module.Recorder(os.getpid())
    assert recorder.oom_kills_before == (7, 0)
    for now[0] in (51.0, 59.0, 61.0, 65.0):
        recorder.add(now[0], 1, 0)
    assert recorder.oom_kills_before == (7, 0)  # and the latest, of 61.0, may have the kill in it
    now[0] = 72.0
    recorder.add(now[0], 1, 0)
    assert recorder.oom_kills_before == (7, 1)
    recorder.begin()
    assert recorder.oom_kills_before == (7, 3)
    assert recorder.count_oom_kills() == (7, 4)


@linux
def test_oom_counters_that_are_not_there_are_unknown(tmp_path):
    assert recorder_module._counted(str(tmp_path / "gone")) is None
    (tmp_path / "old").write_text("under_oom 0\n")
    assert recorder_module._counted(str(tmp_path / "old")) is None
    (tmp_path / "torn").write_text("oom_kill x\n")
    assert recorder_module._counted(str(tmp_path / "torn")) is None
    (tmp_path / "new").write_text("under_oom 0\noom_kill 3\n")
    assert recorder_module._counted(str(tmp_path / "new")) == 3
    assert recorder_module._oom_counters(2**22 + 1) == (None, "/proc/vmstat")
