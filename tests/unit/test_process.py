"""The memory of this process, read for real: levels, the exact peak, and what stands in for it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from memcell.measure.process import HeapGauge, LinuxReader, PsutilReader, make_heap_gauge, make_reader, rss_error_bytes
from memcell.measure.usage_mark import UsageMark
from memcell.records.measured import Sample
from memcell.session import Session
from memcell.units import GIB, MIB
from tests.unit.fakes import FakeChildren, FakeClock, FakeSampler

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SPIKE = 300 * MIB


def spike(size: int = SPIKE, seconds: float = 0.001) -> None:
    """Touch every page of a mapping, hold it, and let it go: nothing of it stays in a heap."""
    with mmap.mmap(-1, size) as block:
        for at in range(0, size, mmap.PAGESIZE):
            block[at] = 1
        time.sleep(seconds)


def open_descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            found.add(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
    return found


@pytest.fixture
def reader():
    reader = LinuxReader()
    yield reader
    reader.close()


@pytest.fixture
def reader_without_reset(monkeypatch):
    """A reader whose high-water mark can be read and not reset, as in a container with a read-only /proc."""
    real = os.open

    def refuse(path, flags, *rest, **more):
        if str(path).endswith("clear_refs"):
            raise OSError(30, "Read-only file system", path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    reader = LinuxReader()
    monkeypatch.setattr(os, "open", real)
    yield reader
    reader.close()


def test_linux_has_the_exact_reader():
    reader = make_reader(exact_peak=lambda: True)
    assert isinstance(reader, LinuxReader)
    reader.close()


def test_the_peak_of_a_spike_of_a_millisecond_is_exact(reader):
    reader.reset_peak()
    before = reader.rss()
    spike()
    assert reader.peak() - before == pytest.approx(SPIKE, rel=0.01)
    assert reader.rss() - before < 0.01 * SPIKE


def test_a_cheap_mark_counts_only_above_what_was_there_before_the_program():
    before_exec, mark = 90, [60]
    usage = UsageMark(lambda: max(before_exec, mark[0]))
    assert usage.read() is None, "nothing is known yet"
    mark[0] = 80
    assert usage.read() is None, "that may be from before"
    mark[0] = 91
    assert usage.read() == 91
    mark[0] = 50  # a reset
    assert usage.read() is None


def test_the_cheap_mark_is_that_of_status(reader):
    reader.reset_peak()
    reader.read(heap=False)
    for size in (64 * MIB, 16 * MIB, 96 * MIB):
        reader.reset_peak()
        spike(size)
        _, mark = reader.read(heap=False)
        assert mark == pytest.approx(reader._fields()[0], abs=MIB)


def test_a_reset_forgets_the_spike_before_it(reader):
    spike()
    reader.reset_peak()
    assert reader.peak() - reader.rss() < 2 * MIB


def test_the_reading_is_what_the_system_says(reader):
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as shared:
        before, _ = reader.read(heap=True)
        for at in range(0, 64 * MIB, mmap.PAGESIZE):
            shared[at] = 1
        during, mark = reader.read(heap=True)
    assert during.shmem_bytes - before.shmem_bytes == pytest.approx(64 * MIB, rel=0.01)
    assert abs(during.anon_bytes - before.anon_bytes) < 2 * MIB
    assert during.anon_bytes + during.file_bytes + during.shmem_bytes == during.rss_bytes
    assert mark >= during.rss_bytes - reader.error_bytes()


def test_file_backed_memory_is_told_apart(reader, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(64 * MIB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before, _ = reader.read(heap=True)
        assert sum(mapped[at] for at in range(0, 64 * MIB, mmap.PAGESIZE)) == 0
        after, _ = reader.read(heap=True)
    assert after.file_bytes - before.file_bytes == pytest.approx(64 * MIB, rel=0.02)
    assert abs(after.anon_bytes - before.anon_bytes) < 2 * MIB


def test_the_heap_tells_memory_in_use_inside_a_level_that_does_not_move():
    def heap_bytes() -> int:
        return make_heap_gauge().bytes_in_use()  # a new gauge, because the first reading is always within its budget

    before = heap_bytes()
    small = [bytes(4000) for _ in range(16_000)]
    assert heap_bytes() - before == pytest.approx(16_000 * 4000, rel=0.1)
    last = small[-1]  # keeps the top of the heap, so that its pages stay resident
    del small
    assert heap_bytes() - before < 8 * MIB
    assert len(last) == 4000


def test_where_the_reset_is_refused_only_a_new_lifetime_peak_is_known(reader_without_reset):
    reader = reader_without_reset
    reader.reset_peak()
    assert reader.peak() is None
    above_the_mark = reader._fields()[0] - reader.rss() + 64 * MIB
    spike(above_the_mark)
    assert reader.peak() - reader.rss() == pytest.approx(above_the_mark, rel=0.02)
    reader.reset_peak()
    spike(above_the_mark // 2)
    assert reader.peak() is None


def test_exact_peak_false_leaves_the_mark_alone():
    reader = LinuxReader(lambda: False)
    spike(64 * MIB)
    mark = reader._fields()[0]
    reader.reset_peak()
    assert reader._fields()[0] >= mark
    assert reader.peak() is None
    reader.close()


def test_a_reset_that_fails_later_falls_back(reader, monkeypatch):
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(13, "Permission denied")))
    reader.reset_peak()
    assert reader.peak() is None


class _LifetimeReader:
    """A process in MiB whose mark cannot be reset: the rule of ``LinuxReader``, and levels that a test sets."""

    def __init__(self) -> None:
        self.level = self.mark = self.known_from = 100

    def spike(self, mib: int) -> None:
        self.mark = max(self.mark, self.level + mib)

    def rss(self):
        return self.level * MIB

    heap = staticmethod(lambda: None)

    def sample(self):
        return Sample(self.rss())

    def read(self, *, heap=False):
        return self.sample(), self.peak()

    def reset_peak(self):
        self.known_from = self.mark
        return False

    def peak(self):
        return self.mark * MIB if self.mark > self.known_from else None

    def error_bytes(self):
        return 0


def test_a_peak_that_memcell_itself_hid_is_not_called_exact():
    reader, clock = _LifetimeReader(), FakeClock()
    session = Session(reader, FakeSampler(), FakeChildren(), clock)
    run = session.meter.open("cell", number=1)
    reader.spike(50)  # the user's: known
    with session.meter.own():
        reader.spike(200)  # memcell's own
    reader.spike(150)  # the user's again: below the mark that memcell has left
    record = session.meter.close(run)
    assert record.peak_growth_bytes >= 150 * MIB or record.peak_error_bytes is None


def test_a_forked_child_reads_its_own_memory(reader):
    reader.reset_peak()
    reader.read(heap=True)
    ours = reader.rss()
    pipe_read, pipe_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            reader.reset_peak()
            before = reader.rss()
            block = bytearray(b"x") * (64 * MIB)
            told = [before, reader.rss(), reader.read(heap=True)[0].rss_bytes, reader.peak(), len(block)]
            os.write(pipe_write, " ".join(map(str, told)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    before, level, read, peak, _ = map(int, os.read(pipe_read, 1000).split())
    os.close(pipe_read)
    os.close(pipe_write)
    assert level - before == pytest.approx(64 * MIB, rel=0.05)
    assert read == pytest.approx(level, rel=0.05)
    assert peak >= level - MIB
    assert abs(reader.rss() - ours) < 8 * MIB


def test_descriptors_are_opened_once_and_closed_once():
    before = open_descriptors()
    reader = LinuxReader()
    kept = open_descriptors()
    assert len(kept - before) == 3
    for _ in range(50):
        reader.reset_peak()
        reader.read(heap=True)
        reader.rss()
    assert open_descriptors() == kept
    reader.close()
    reader.close()
    assert open_descriptors() == before
    assert reader.rss() > 0  # the next reading opens them again
    reader.close()
    assert open_descriptors() == before


def test_a_closed_session_leaves_no_descriptor():
    before = open_descriptors()
    session = Session()
    session.meter.close(session.meter.open("pass", number=1))
    session.close_all()
    session.close_all()
    deadline = time.monotonic() + 5
    while open_descriptors() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_descriptors() == before


def test_a_proc_without_the_fields_is_refused(monkeypatch):
    monkeypatch.setattr(
        os, "pread", lambda *_: b"Name:\tx\nVmHWM:\t 1 kB\nVmRSS:\t 1 kB\nVmData:\t 1 kB\n" + b"x 1 " * 9
    )
    with pytest.raises(ValueError, match=r"Linux 4\.5"):
        LinuxReader()


def test_the_name_of_the_process_does_no_harm():
    code = (
        "import ctypes\n"
        "from memcell.measure.process import LinuxReader\n"
        "ctypes.CDLL(None).prctl(15, b'VmHWM: 1 2 3', 0, 0, 0)\n"
        "print(LinuxReader().sample().rss_bytes > 1 << 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_psutil_tells_the_same_level(reader):
    other = PsutilReader()
    assert other.rss() == pytest.approx(reader.rss(), rel=0.05)
    other.reset_peak()
    assert other.peak() is None
    assert other.sample().rss_bytes > MIB


def test_the_heap_is_read_within_its_share_of_time():
    clock = FakeClock()
    readings = []

    def slow_read() -> int:
        clock.pass_time(0.01)
        readings.append(1)
        return 7

    gauge = HeapGauge(slow_read, clock)
    assert gauge.bytes_in_use() == 7
    clock.pass_time(0.39)
    assert gauge.bytes_in_use() is None
    clock.pass_time(0.02)
    assert gauge.bytes_in_use() == 7
    assert len(readings) == 2


@pytest.mark.parametrize(
    ("rss", "release", "processors", "usable", "expected"),
    [
        (100 * MIB, "6.1.0-17-amd64", 64, 64, 64 * mmap.PAGESIZE * 4),
        (100 * MIB, "5.15.0", 2, 2, 64 * mmap.PAGESIZE * 4),
        (100 * MIB, "6.2.0", 2, 2, 32 * 2 * mmap.PAGESIZE),
        (2 * GIB, "6.18.5", 128, 128, 256 * 128 * mmap.PAGESIZE),
        (2 * GIB, "6.18.5", 128, 4, 256 * 4 * mmap.PAGESIZE),
    ],
    ids=["threads", "old", "two processors", "many processors, large", "many processors, few usable"],
)
def test_how_far_the_counter_may_be_off(rss, release, processors, usable, expected):
    assert rss_error_bytes(rss, release=release, processors=processors, usable=usable) == expected


def test_on_many_processors_the_error_is_measured():
    # In a process of its own: one above 1 GiB, as this one may be, is not measured.
    program = (
        "from memcell.measure.process import LinuxReader, rss_error_bytes\n"
        "print(rss_error_bytes(LinuxReader().rss(), release='6.18', processors=256, usable=256))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert MIB <= int(done.stdout) < 256 * 512 * mmap.PAGESIZE
    assert rss_error_bytes(900 * MIB, release="6.18", processors=256, usable=256) > 100 * MIB


def test_a_sample_tells_what_a_full_reading_tells(reader, tmp_path):
    """Also after file-backed memory has changed, which the short cut through statm must notice."""
    path = tmp_path / "mapped"
    path.write_bytes(b"x" * (8 * MIB))
    full, _ = reader.read(heap=True)
    assert reader.sample().file_bytes == full.file_bytes
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE])
        sample, (full, _) = reader.sample(), reader.read(heap=True)
    assert sample.file_bytes - full.file_bytes == pytest.approx(0, abs=MIB // 2)
    assert sample.anon_bytes == pytest.approx(full.anon_bytes, abs=MIB // 2)
    assert sample.rss_bytes == pytest.approx(sample.anon_bytes + sample.file_bytes + sample.shmem_bytes, abs=MIB // 2)
