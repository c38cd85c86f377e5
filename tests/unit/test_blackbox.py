"""The black box: notes that are never torn, a private and bounded folder, the cause of a death, and reading it all."""

from __future__ import annotations

import json
import marshal
import os
import random
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from memcell.errors import BlackBoxFolderError, UnreadableBlackBoxError
from memcell.measure.watcher import NOTES_SIZE
from memcell.protect import aftermath
from memcell.protect.aftermath import (
    ALIVE,
    MOST,
    MOST_PER_FOLDER,
    Notes,
    judge_oom,
    keep,
    open_folder,
    parse_name,
    read_exit_code,
    read_stat,
    surplus,
    wait_for_end,
)
from memcell.protect.blackbox import BlackBox, folder_key, state_folder, untold_death
from memcell.protect.deaths import Boxes
from memcell.records.deaths import Death
from memcell.records.explained import Culprit, Verdict
from memcell.records.measured import Limit, Sample
from memcell.units import MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a watcher on Linux only")

_NOW = 1_800_000_000


@dataclass
class FakeRun:
    cell: str = "c1"
    number: int = 7
    source: str = "x = 1"
    started: float = _NOW
    before: Sample = field(default_factory=lambda: Sample(50 * MIB))


@dataclass
class FakeRecorder:
    """A watcher that has seen what a test says. The process it watched has ended."""

    pid: int
    pidfd: int = -1
    oom_kills_before: tuple[int | None, int | None] = (0, 5)
    oom_kills_after: tuple[int | None, int | None] = (0, 5)
    levels: list[tuple[float, int, int]] = field(default_factory=list)

    def count_oom_kills(self) -> tuple[int | None, int | None]:
        return self.oom_kills_after

    def samples(self) -> list[tuple[float, int, int]]:
        return self.levels


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def environ(state) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(state), "HOME": "/nonexistent"}


@pytest.fixture
def memory() -> bytearray:
    return bytearray(NOTES_SIZE)


@pytest.fixture
def box(memory, environ):
    box = BlackBox(lambda: memory, environ, clock=lambda: _NOW + 3.0)
    yield box
    box.goodbye()


def note(box: BlackBox, run: FakeRun | None = None, **known) -> None:
    box.note(
        run or FakeRun(),
        known.get("earlier", ()),
        known.get("verdict"),
        known.get("limit", Limit(1 << 30, 0, "%memlimit")),
    )


@pytest.fixture
def zombie():
    """A process that has ended in a way, and that nobody has collected yet."""
    started: list[subprocess.Popen] = []

    def make(code: str) -> int:
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stderr=subprocess.DEVNULL)
        started.append(process)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process.pid

    yield make
    for process in started:
        process.wait()


def die(memory: bytearray, pid: int, **seen) -> None:
    """What the watcher does after the death of a process, which takes the place of this one."""
    notes = Notes(memory)
    identity = marshal.loads(notes._get(0))
    notes._put(0, marshal.dumps({**identity, "pid": pid, "start": read_stat(pid)[1]}))
    aftermath.write(FakeRecorder(pid, **seen), memory)


def files(state: Path) -> list[str]:
    return sorted(os.listdir(state / "memcell")) if (state / "memcell").exists() else []


# Notes


def test_nothing_is_read_before_an_introduction_and_after_a_goodbye(memory):
    notes = Notes(memory)
    notes.write(b"one")
    assert notes.read() is None
    notes.introduce(b"me")
    assert notes.read() == (b"me", b"one", True, 0.0)
    notes.end(12.5)
    assert notes.read() == (b"me", b"one", False, 12.5)
    notes.wipe()
    assert notes.read() is None


def test_a_note_that_is_half_written_leaves_the_one_before_valid(memory):
    """Cut off after every possible number of written bytes, as a SIGKILL does."""

    class DeadError(Exception):
        pass

    class DyingBuffer(bytearray):
        left = -1

        def __setitem__(self, key, value):
            data = bytes([value]) if isinstance(key, int) else bytes(value)
            start = key if isinstance(key, int) else key.start
            for offset, byte in enumerate(data):
                if self.left == 0:
                    raise DeadError
                self.left -= 1
                super().__setitem__(start + offset, byte)

    first, second = b"the first note" * 3, b"another" * 9
    for survived in range(len(second) + 1):
        buffer = DyingBuffer(NOTES_SIZE)
        notes = Notes(buffer)
        notes.introduce(b"me")
        notes.write(first)
        notes.end(1.0)
        buffer.left = survived
        with pytest.raises(DeadError):
            notes.write(second)
        told = Notes(buffer).read()
        assert told is not None
        assert told[1] == first
    buffer.left = -1
    notes.write(second)
    assert Notes(buffer).read()[1:3] == (second, True)


def test_random_notes_come_back_as_they_were(memory):
    source, notes = random.Random(5), Notes(memory)
    notes.introduce(b"me")
    for _ in range(300):
        content = source.randbytes(source.choice([0, 1, 100, 30_000]))
        notes.write(content)
        assert notes.read()[1] == content
        assert notes.read()[0] == b"me"


def test_what_is_too_long_touches_no_other_note(memory):
    notes = Notes(memory)
    notes.introduce(b"me")
    notes.write(b"first")
    with pytest.raises(ValueError, match="too long"):
        notes.write(b"a" * NOTES_SIZE)
    assert notes.read()[:2] == (b"me", b"first")


# Writing


@pytest.mark.parametrize(
    ("code", "signal", "status"),
    [
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL", None),
        ("import os; os.abort()", "SIGABRT", None),
        ("import os; os._exit(3)", None, 3),
        ("import os; os._exit(0)", None, 0),
        ("import os; os.kill(os.getpid(), 40)", "signal 40", None),
    ],
)
def test_a_death_leaves_a_private_file_that_tells_all(box, memory, zombie, state, environ, code, signal, status):
    earlier = ((20 * MIB, 30 * MIB), (21 * MIB, 40 * MIB))
    culprit = Culprit("pkg.cache", "dict", (1, 2), "entries", 0.9, 0.9, "pkg.cache.clear()")
    verdict = Verdict("c1", "x = 1", "growing", "memory", 20 * MIB, 0.9, 5, culprits=(culprit,))
    note(box, earlier=earlier, verdict=verdict)
    now = time.monotonic()
    die(memory, zombie(code), levels=[(now - 2, 60 * MIB, 0), (now - 1, 70 * MIB, 5 * MIB)])
    [name] = files(state)
    assert stat.S_IMODE((state / "memcell").stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "memcell" / name).stat().st_mode) == 0o600
    [death] = Boxes(environ).read(os.getcwd()).deaths
    assert (death.signal, death.exit_status, death.is_running, death.ended) == (signal, status, True, None)
    assert death.folder == os.getcwd()
    assert death.levels == (60 * MIB, 75 * MIB)
    assert death.times_s == pytest.approx((-2, -1), abs=0.5)
    run = death.run
    assert (run.number, run.cell, run.source, run.is_block) == (7, "c1", "x = 1", False)
    assert (run.before_bytes, run.limit_bytes, run.limit_source) == (50 * MIB, 1 << 30, "%memlimit")
    assert run.kept_bytes == (20 * MIB, 21 * MIB)
    assert run.peak_growth_bytes == (30 * MIB, 40 * MIB)
    assert (run.bytes_per_run, run.culprit) == (20 * MIB, "pkg.cache")


def test_a_death_between_runs_tells_of_the_last_one(box, memory, zombie, environ):
    note(box, FakeRun(number=7))
    box.end()
    note(box, FakeRun(number=8, source="last"))
    box.end()
    die(memory, zombie("import os; os.kill(os.getpid(), 9)"))
    [death] = Boxes(environ).read().deaths
    assert (death.run.number, death.run.source, death.is_running, death.ended) == (8, "last", False, _NOW + 3.0)


@pytest.mark.parametrize("number", [1, 2, 3, 15])
def test_an_end_that_somebody_asked_for_leaves_nothing(box, memory, zombie, state, number):
    note(box)
    die(memory, zombie(f"import os, signal; signal.signal({number}, 0); os.kill(os.getpid(), {number})"))
    assert files(state) == []


def test_a_goodbye_leaves_nothing_until_the_next_run(box, memory, zombie, state):
    note(box)
    box.goodbye()
    box.goodbye()
    pid = zombie("import os; os.kill(os.getpid(), 9)")
    die(memory, pid)
    assert files(state) == []
    note(box)
    die(memory, pid)
    assert len(files(state)) == 1


def test_a_forked_child_leaves_nothing_and_says_no_goodbye_for_its_parent(box, memory):
    note(box)
    child = os.fork()
    if child == 0:
        box.forget_parent()
        box.goodbye()
        note(box)
        box.end()
        os._exit(0)
    os.waitpid(child, 0)
    # The memory of this test is not shared: look at what a child of its own would have done.
    box.forget_parent()
    box.goodbye()
    note(box, FakeRun(number=99))
    assert marshal.loads(Notes(memory).read()[1])["number"] == 7


def test_new_memory_is_introduced_anew(environ):
    first, second = bytearray(NOTES_SIZE), bytearray(NOTES_SIZE)
    current = [first]
    box = BlackBox(lambda: current[0], environ)
    note(box)
    current[0] = second  # the watcher was started again
    box.end()
    assert Notes(first).read()[2] is True
    note(box)
    assert Notes(second).read() is not None
    box.goodbye()


@pytest.mark.parametrize(
    "source",
    ["", "é" * 9000, "𝒳" * 9000, "\x00\x1b\x07" * 3000, "\ud800 lone", "'\"\\\n" * 3000, "x" * 10_000_000],
    ids=["empty", "two bytes", "four bytes", "controls", "surrogate", "quotes", "huge"],
)
def test_any_source_comes_back_and_the_file_is_small(box, memory, zombie, state, environ, source):
    note(box, FakeRun(source=source))
    now = time.monotonic()
    levels = [(now - 60 + index * 0.05, (1 << 40) + index, (1 << 38) + index) for index in range(1200)]
    die(memory, zombie("import os; os.kill(os.getpid(), 9)"), levels=levels)
    [name] = files(state)
    assert (state / "memcell" / name).stat().st_size < 65536
    [death] = Boxes(environ).read().deaths
    assert source.startswith(death.run.source)
    assert len(death.run.source) >= min(len(source), 1000)
    assert death.run.source_characters == len(source)
    assert death.rss_bytes[-1] == (1 << 40) + 1199
    assert death.times_s[0] == pytest.approx(-60, abs=0.5)


def test_names_of_any_length_fit(memory, environ, zombie):
    long = "𝒳" * 100_000
    box = BlackBox(lambda: memory, {**environ, "JPY_SESSION_NAME": "/" + "n" * 4000})
    culprit = Culprit(long, "dict", (1, 2), "entries", 0.9, 0.9, "")
    verdict = Verdict("c", "x", "growing", "memory", 1, 0.9, 5, culprits=(culprit,))
    box.note(FakeRun(cell=long, source=long), (), verdict, Limit(5, 0, long))
    die(memory, zombie("import os; os.kill(os.getpid(), 9)"))
    box.goodbye()
    [death] = Boxes(environ).read().deaths
    assert death.run.is_block
    assert all(long.startswith(text) for text in (death.run.cell, death.run.source, death.run.culprit))


def test_a_living_process_leaves_nothing(box, memory, state):
    """The pipe was closed, but not by a death: by exec, or by code that closes all descriptors."""
    note(box)
    began = time.monotonic()
    die(memory, os.getpid())
    assert files(state) == []
    assert time.monotonic() - began < 1


def test_a_pid_that_is_used_again_is_another_process(zombie):
    pid = zombie("import os; os._exit(3)")
    start = read_stat(pid)[1]
    assert wait_for_end(pid, start, -1) == 3 << 8
    assert wait_for_end(pid, start - 1, -1) is None
    assert wait_for_end(os.getpid(), read_stat(os.getpid())[1], -1) == ALIVE
    assert wait_for_end(2**22 + 1, 1, -1) is None


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this Python was built for an old Linux")
def test_the_exit_code_of_a_process_that_was_collected_is_told_or_unknown():
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    start, pidfd = read_stat(process.pid)[1], os.pidfd_open(process.pid)
    try:
        process.kill()
        process.communicate()
        assert wait_for_end(process.pid, start, pidfd) in (9, None)  # None before Linux 6.15
    finally:
        os.close(pidfd)


# Causes


@pytest.mark.parametrize(
    ("signal", "status", "before", "after", "told"),
    [
        ("SIGKILL", None, (0, 5), (1, 6), "yes"),
        ("SIGKILL", None, (None, 5), (None, 6), "likely"),
        ("SIGKILL", None, (0, 5), (0, 6), "likely"),
        ("SIGKILL", None, (0, 5), (0, 5), "no"),
        ("SIGKILL", None, (None, 5), (None, 5), "no"),
        ("SIGKILL", None, (None, None), (None, None), "unknown"),
        ("SIGKILL", None, (0, None), (None, None), "unknown"),  # the control group is gone
        (None, None, (0, 5), (1, 6), "yes"),  # nobody tells the signal
        (None, None, (0, 5), (0, 5), "no"),
        ("SIGSEGV", None, (0, 5), (1, 6), "no"),
        (None, 1, (0, 5), (1, 6), "no"),
    ],
)
def test_the_out_of_memory_killer_is_told_by_its_counters(signal, status, before, after, told):
    assert judge_oom(signal, status, before, after) == told


@pytest.mark.parametrize(
    ("code", "told"),
    [(9, ("SIGKILL", None)), (11 | 0x80, ("SIGSEGV", None)), (256, (None, 1)), (0, (None, 0)), (None, (None, None))],
)
def test_exit_codes_are_read(code, told):
    assert read_exit_code(code) == told


# The folder


def test_names_are_read_and_others_are_left_alone():
    assert parse_name("ab-0000000012-3-4.new.json") == ("ab", 12, True)
    assert parse_name("ab-0000000012-3-4.json") == ("ab", 12, False)
    for name in ("notes.txt", "a.json", "ab-x-3-4.json", "ab-1-2-3-4.json", "ab-١-2-3.json", "", ".json"):
        assert parse_name(name) is None


def named(key: str, died: int, suffix: str = ".json") -> str:
    return f"{key}-{died:010d}-1-1{suffix}"


def test_old_files_and_too_many_go_and_others_stay():
    recent = [named("a", _NOW - index) for index in range(8)]
    assert set(surplus(["mine.txt", *recent], _NOW)) == set(recent[MOST_PER_FOLDER:])
    many = [named(f"f{index:03}", _NOW - index, ".new.json") for index in range(MOST + 7)]
    assert set(surplus(many, _NOW)) == set(many[MOST:])
    assert surplus([named("a", _NOW - 31 * 86400), named("a", _NOW - 29 * 86400)], _NOW) == [
        named("a", _NOW - 31 * 86400)
    ]
    assert surplus([named("a", _NOW + 999)], _NOW) == []  # a clock that was turned back
    unfinished = [f".{named('a', _NOW - age, '.new.json')}" for age in (1, 7200)]
    assert surplus(unfinished, _NOW) == unfinished[1:]


def test_a_death_takes_surplus_files_away(box, memory, zombie, state):
    note(box)
    pid, key = zombie("import os; os.kill(os.getpid(), 9)"), folder_key(os.getcwd())
    old = [named(key, _NOW - 10**9 - index) for index in range(9)]
    for name in old:
        (state / "memcell" / name).write_text("{}")
    (state / "memcell" / "mine.txt").write_text("stays")
    die(memory, pid)
    left = files(state)
    assert "mine.txt" in left
    assert len(left) == 2


def test_the_folder_is_made_private(state):
    os.close(open_folder(str(state), make=True))
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    (state / "memcell").chmod(0o755)
    os.close(open_folder(str(state)))
    assert stat.S_IMODE((state / "memcell").stat().st_mode) == 0o700


def test_a_file_is_there_as_a_whole_or_not_at_all(state, monkeypatch):
    folder = open_folder(str(state), make=True)
    try:
        monkeypatch.setattr(aftermath.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(OSError, match="No space"):
            keep(folder, "a.json", b"content")
        assert files(state) == []
        monkeypatch.undo()
        outside = state / "outside"
        (state / "memcell" / ".a.json").symlink_to(outside)
        with pytest.raises(FileExistsError):
            keep(folder, "a.json", b"content")
        assert not outside.exists()
    finally:
        os.close(folder)


def _a_file(state: Path) -> None:
    state.write_text("no folder")


def _a_link(state: Path) -> None:
    (state.parent / "elsewhere").mkdir(mode=0o700)
    state.mkdir()
    (state / "memcell").symlink_to(state.parent / "elsewhere")


def _a_file_in_it(state: Path) -> None:
    state.mkdir()
    (state / "memcell").write_text("no folder")


@pytest.mark.parametrize("spoil", [_a_file, _a_link, _a_file_in_it])
def test_a_folder_that_is_not_ours_is_said_once_and_nothing_is_written(spoil, state, memory, environ, caplog):
    spoil(state)
    caplog.set_level("INFO", "memcell")
    box = BlackBox(lambda: memory, environ)
    for _ in range(3):
        note(box)
        box.end()
    assert len(caplog.messages) == 1
    assert "no black box" in caplog.messages[0]
    assert Notes(memory).read() is None
    assert untold_death(os.getcwd(), environ) is None
    with pytest.raises(BlackBoxFolderError, match="XDG_STATE_HOME"):
        Boxes(environ).read()
    assert not (state.parent / "elsewhere").exists() or not os.listdir(state.parent / "elsewhere")


def test_a_folder_of_somebody_else_is_not_used(state, memory, environ, caplog, monkeypatch):
    os.close(open_folder(str(state), make=True))
    monkeypatch.setattr(aftermath.os, "geteuid", lambda: os.getuid() + 1)
    caplog.set_level("INFO", "memcell")
    note(BlackBox(lambda: memory, environ))
    assert "belongs to user" in caplog.messages[0]
    with pytest.raises(BlackBoxFolderError, match="belongs to user"):
        Boxes(environ).read()


def test_a_read_only_place_is_said_once(memory, caplog):
    caplog.set_level("INFO", "memcell")
    note(BlackBox(lambda: memory, {"XDG_STATE_HOME": "/proc/memcell-test"}))
    assert len(caplog.messages) == 1


def test_where_the_state_folder_is(monkeypatch):
    assert state_folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == "/s"
    assert state_folder({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == "/h/.local/state"
    assert state_folder({"XDG_STATE_HOME": "", "HOME": "/h"}) == "/h/.local/state"
    monkeypatch.setattr(os.path, "expanduser", lambda path: "/from/passwd")
    assert state_folder({}) == "/from/passwd/.local/state"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert state_folder({}) is None


def test_without_a_home_there_is_no_box_and_one_line(memory, monkeypatch, caplog):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    caplog.set_level("INFO", "memcell")
    box = BlackBox(lambda: memory, {})
    note(box)
    note(box)
    assert len(caplog.messages) == 1
    assert "XDG_STATE_HOME" in caplog.messages[0]
    assert untold_death("/", {}) is None
    with pytest.raises(BlackBoxFolderError, match="home"):
        Boxes({}).read()


def test_a_working_folder_that_is_gone_is_said(memory, environ, caplog, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    caplog.set_level("INFO", "memcell")
    note(BlackBox(lambda: memory, environ))
    assert "the working folder is gone" in caplog.messages[0]


# Reading


@pytest.fixture
def a_box(box, memory, zombie, state) -> Path:
    note(box)
    die(memory, zombie("import os; os.kill(os.getpid(), 9)"), levels=[(time.monotonic() - 1, 70 * MIB, 0)])
    [name] = files(state)
    return state / "memcell" / name


def test_a_death_is_told_once(a_box, environ):
    told = untold_death(os.getcwd(), environ)
    assert told == a_box.name.replace(".new", "")
    assert untold_death(os.getcwd(), environ) is None
    assert Boxes(environ).get(told).run.number == 7
    assert untold_death("/somewhere/else", environ) is None


def test_the_latest_of_several_is_told_and_all_count_as_told(a_box, environ):
    key = folder_key(os.getcwd())
    for died in (1, 2):
        (a_box.parent / named(key, died, ".new.json")).write_bytes(a_box.read_bytes())
    assert untold_death(os.getcwd(), environ) == a_box.name.replace(".new", "")
    assert untold_death(os.getcwd(), environ) is None


def test_a_torn_file_is_named_and_the_others_are_read(a_box, environ):
    whole = a_box.read_bytes()
    for length in range(0, len(whole), 37):
        (a_box.parent / named("torn", length + 1)).write_bytes(whole[:length])
    found = Boxes(environ).read()
    assert len(found.deaths) == 1
    assert len(found.unreadable) == len(range(0, len(whole), 37))
    assert all("is torn" in line and "--clear" in line for line in found.unreadable)
    assert Boxes(environ).clear() == 1 + len(found.unreadable)
    assert files(a_box.parent.parent) == []


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("format", 2),
        ("died", "yesterday"),
        ("died", 1e300),
        ("times_s", [-1, float("nan")]),
        ("times_s", [5.0]),
        ("rss_bytes", [10**400]),
        ("rss_bytes", [1, 2]),
        ("children_bytes", [1, 2, 3]),
        ("oom", "perhaps"),
        ("run", {"cell": "c"}),
        ("run", 5),
        ("folder", None),
        ("signal", 9),
    ],
)
def test_a_value_that_cannot_be_is_a_torn_file(a_box, environ, field_name, value):
    content = json.loads(a_box.read_text())
    a_box.write_text(json.dumps({**content, field_name: value}))
    found = Boxes(environ).read()
    assert not found.deaths
    assert len(found.unreadable) == 1


def test_what_is_no_plain_file_is_not_opened(a_box, environ):
    secret = a_box.parent.parent / "secret"
    secret.write_bytes(a_box.read_bytes())
    (a_box.parent / named("l", 1)).symlink_to(secret)
    os.mkfifo(a_box.parent / named("f", 2))
    (a_box.parent / named("d", 3)).mkdir()
    found = Boxes(environ).read()
    assert [death.name for death in found.deaths] == [a_box.name]
    assert len(found.unreadable) == 3


def test_only_the_boxes_of_a_folder_are_read_and_removed(a_box, environ):
    (a_box.parent / named("other", 5)).write_bytes(a_box.read_bytes())
    boxes = Boxes(environ)
    assert len(boxes.read().deaths) == 2
    assert len(boxes.read(os.getcwd()).deaths) == 1
    assert boxes.clear(os.getcwd()) == 1
    assert len(boxes.read().deaths) == 1
    with pytest.raises(UnreadableBlackBoxError):
        boxes.get(a_box.name)


def test_before_the_first_death_there_is_nothing(environ):
    boxes = Boxes(environ)
    assert boxes.read().deaths == ()
    assert boxes.clear() == 0
    with pytest.raises(UnreadableBlackBoxError):
        boxes.get("x")


def test_a_death_goes_into_json(a_box, environ):
    [death] = Boxes(environ).read().deaths
    assert isinstance(death, Death)
    assert json.loads(json.dumps(death.to_dict()))["run"]["source"] == "x = 1"
