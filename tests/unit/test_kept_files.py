"""Files of /proc that stay open: what they tell is of now, and what is gone is let go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from memcell.measure import kept_files
from memcell.measure.kept_files import DirectChildren, KeptFiles
from tests.unit.test_process import open_descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are files of Linux")


@pytest.fixture
def files():
    files = KeptFiles()
    yield files
    files.close_others(())


def test_a_file_is_read_anew_without_being_opened_anew(files, tmp_path):
    path = tmp_path / "usage"
    path.write_text("1")
    assert files.read(str(path)) == b"1"
    before = open_descriptors()
    path.write_text("2" * 100_000)
    assert files.text(str(path)) == "2" * 100_000
    assert open_descriptors() == before


def test_what_is_gone_is_an_error_or_no_text_and_keeps_no_descriptor(files):
    before = open_descriptors()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        path = f"/proc/{process.pid}/stat"
        assert b"(cat)" in files.read(path)
        process.kill()
    with pytest.raises(OSError, match="No such"):
        files.read(path)
    assert files.text(path) == ""
    assert open_descriptors() == before


def test_only_so_many_stay_open(files, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_files, "_MOST", 3)
    before = len(open_descriptors())
    for _ in range(2):
        for number in range(5):
            (tmp_path / str(number)).write_text(f"is {number}")
            assert files.text(str(tmp_path / str(number))) == f"is {number}"
    assert len(open_descriptors()) == before + 3
    files.close_others([str(tmp_path / "1")])
    assert len(open_descriptors()) == before + 1


def test_children_of_any_thread_are_found_as_long_as_they_live():
    children, ended = DirectChildren(os.getpid()), threading.Event()
    assert children.read() == []
    started = []

    def start():
        started.append(subprocess.Popen(["sleep", "60"]))
        ended.wait()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        while not started:
            pass
        assert children.read() == [started[0].pid]
        own = subprocess.Popen(["sleep", "60"])
        assert sorted(children.read()) == sorted([started[0].pid, own.pid])
        own.kill()
        own.wait()
        ended.set()
        thread.join()
        assert children.read() == [started[0].pid], "the main thread has it now"
    finally:
        ended.set()
        for process in started:
            process.kill()
            process.wait()
    assert children.read() == []


def test_a_process_that_has_ended_has_none():
    with subprocess.Popen(["sleep", "60"]) as process:
        children = DirectChildren(process.pid)
        process.kill()
    assert children.read() == []
    with pytest.raises(OSError, match="No such"):
        DirectChildren(process.pid)
