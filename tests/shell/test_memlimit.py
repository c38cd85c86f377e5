"""``%memlimit`` and ``%%memwatch --limit`` in a fresh shell."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest
from IPython.core.error import UsageError

import memcell
from memcell.errors import LimitTooLowError, NotInMainThreadError
from memcell.units import GIB, MIB

linux = pytest.mark.skipif(sys.platform != "linux", reason="the watcher reads /proc")


def used_mib(session) -> int:
    return session.limits.used_bytes() // MIB


def test_it_shows_the_limit_and_what_happens_on_the_way_to_it(shell, session, capsys):
    shell.run_line_magic("memlimit", "64GiB" if session.limits.read().limit_bytes > 64 * GIB else "4GiB")
    text = capsys.readouterr().out
    assert "(%memlimit)" in text
    for word in ("warns at", "(70%)", "cleans at", "(80%)", "stops the cell that grows at", "(95%)"):
        assert word in text


def test_it_sets_the_setting(shell, session):
    shell.run_line_magic("memlimit", "3GiB")
    assert session.limits.read().limit_bytes == 3 * GIB
    shell.run_line_magic("memlimit", "off")
    assert session.limits.read().limit_bytes is None
    shell.run_line_magic("memlimit", "auto")
    assert session.settings.limit == "auto"


def test_off_says_that_there_is_none(shell, capsys):
    shell.run_line_magic("memlimit", "off")
    assert capsys.readouterr().out.startswith("memory limit: none (off); this kernel uses ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1MB", r"%memlimit: a limit of 1\.0 MiB is below the \d+\.\d MiB that are used already; free some"),
        ("600", r"%memlimit: a limit of 600 B is below the \d+\.\d MiB that are used already; did you mean 600MB\?"),
        ("12XB", "%memlimit: cannot read '12XB' as a memory size"),
        ("-3GB", "%memlimit: a memory size must be at least one byte"),
        ("8GB 9GB", "%memlimit: cannot read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing(shell, session, line, message):
    with pytest.raises(UsageError, match=message) as caught:
        shell.run_line_magic("memlimit", line)
    assert "\n" not in str(caught.value)
    assert session.settings.limit == "auto"


@linux
def test_a_watched_cell_is_stopped_at_its_own_limit(shell, session, runs):
    limit = used_mib(session) + 200
    result = shell.run_cell(
        f"%%memwatch -q --limit {limit}MiB\ndata = []\nwhile len(data) < 700: data.append(b'x' * (1 << 20))"
    )
    assert isinstance(result.error_in_exec, memcell.MemoryLimitExceeded)
    assert runs[-1].outcome == "limit"
    assert result.error_in_exec.stop.limit_bytes == limit * MIB
    assert shell.run_cell("data = None").success
    assert runs[-1].outcome == "ok"


@linux
def test_what_a_stopped_cell_left_is_given_back_before_the_next_and_said(shell, session, capsys):
    limit = used_mib(session) + 200
    code = "def fill():\n    data = []\n    while len(data) < 700: data.append(b'x' * (1 << 20))\nfill()"
    shell.run_cell(f"%%memwatch -q --limit {limit}MiB\n{code}")
    session.limits.close()  # waits for the cleaning that the run itself has brought about
    shell.run_cell("pass")
    assert " MiB freed, cleaned: what the stopped cell left, and what was deleted since\n" in capsys.readouterr().out


@linux
def test_a_cell_that_caught_the_error_is_told_so(shell, session, runs, capsys):
    limit = used_mib(session) + 200
    # Slow enough for the watcher, whatever else the machine does.
    fill = "    while len(data) < 700: data.append(b'x' * (1 << 20)); time.sleep(0.002)"
    code = f"import time; data = []\ntry:\n{fill}\nexcept BaseException:\n    pass"
    assert shell.run_cell(f"%%memwatch -q --limit {limit}MiB\n{code}").success
    assert runs[-1].outcome == "ok"
    assert "memcell: the code caught the error and went on: " in capsys.readouterr().out
    shell.run_cell("data = None")


@linux
@pytest.mark.parametrize(
    ("code", "errors", "largest"),
    [
        (
            "def fill():\n    held = [b'x' * (1 << 20) for _ in range(99)]\n    return list(range(60_000_000))\nfill()",
            (MemoryError, KeyboardInterrupt),  # the latter where a library is loaded that listens to it
            "held in fill() ",
        ),
        (
            """
import asyncio
async def fill():
    while len(data) < 700:
        data.append(b'x' * (1 << 20))
        await asyncio.sleep(0)
await asyncio.gather(fill(), fill())""",
            asyncio.CancelledError,
            "data ",
        ),
    ],
    ids=["refused", "cancelled"],
)
def test_a_cell_that_ends_with_another_error_names_what_is_large_and_why(
    shell, session, runs, capsys, code, errors, largest
):
    limit = used_mib(session) + 200
    shell.run_cell("data = []")
    result = shell.run_cell(f"%%memwatch -q --limit {limit}MiB\n{code}")
    error = result.error_in_exec or result.error_before_exec
    assert isinstance(error, errors)
    assert runs[-1].outcome == "limit"
    told = capsys.readouterr().out
    assert f"it ends with {type(error).__name__} instead of MemoryLimitExceeded because " in told
    assert f"largest variables: {largest}" in told
    shell.run_cell("data = None")


def test_a_limit_below_what_is_used_is_refused_and_the_cell_does_not_run(shell, capsys):
    result = shell.run_cell("%%memwatch --limit 1MB\nran = True")
    assert isinstance(result.error_in_exec or result.error_before_exec, UsageError)
    assert "ran" not in shell.user_ns
    assert "%%memwatch --limit: a limit of 1.0 MiB is below" in capsys.readouterr().err


def test_a_limit_that_is_no_size_is_refused(shell, capsys):
    shell.run_cell("%%memwatch --limit lots\nran = True")
    assert "ran" not in shell.user_ns
    assert "cannot read 'lots' as a memory size" in capsys.readouterr().err


@linux
def test_a_block_is_stopped_outside_of_cells(session):
    limit = f"{used_mib(session) + 200}MiB"
    data = []
    stopped = pytest.raises(memcell.MemoryLimitExceeded, match="this run")
    with stopped as caught, memcell.watch("block", limit=limit) as watched:
        while len(data) < 700:
            data.append(b"x" * MIB)
    data.clear()
    assert watched.run.outcome == "limit"
    assert caught.value.stop.grown_bytes > 150 * MIB


@linux
def test_a_block_whose_allocation_was_refused_says_why(session):
    limit = f"{used_mib(session) + 200}MiB"
    stopped = pytest.raises(memcell.MemoryLimitExceeded, match="was stopped")
    with stopped, memcell.watch("block", limit=limit) as watched:
        list(range(30_000_000))
    assert watched.run.outcome == "limit"


def test_a_ctrl_c_at_the_end_of_a_block_comes_after_it(session, monkeypatch):
    close = session.meter.close

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return close(*arguments)

    monkeypatch.setattr(session.meter, "close", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), memcell.watch("block", limit="100GB") as watched:
        pass
    assert watched.run.outcome == "ok"
    assert not session.meter.open_runs
    assert signal.getsignal(signal.SIGINT) == before


# pyarrow listens to Ctrl-C, so the watcher sends it, which arrives when the allocation has failed, at the block's end.
_REFUSED = """
import memcell, pyarrow
from memcell.session import get_session

class Caught:
    def __enter__(self): pass
    def __exit__(self, kind, error, trace): return kind is memcell.MemoryLimitExceeded

for _ in range(3):
    limit = get_session().limits.used_bytes() + (200 << 20)
    with Caught(), memcell.watch("block", limit=limit) as watched:
        list(range(30_000_000))
    print(watched.run.outcome, len(get_session().meter.open_runs))
"""


@linux
def test_a_ctrl_c_of_the_watchers_is_not_heard_after_the_block():
    done = subprocess.run([sys.executable, "-c", _REFUSED], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == ["limit 0"] * 3, done.stderr


def test_a_block_with_a_limit_below_what_is_used_is_not_entered(session):
    with pytest.raises(LimitTooLowError, match="used already"), memcell.watch(limit="1MB"):
        pytest.fail("entered")
    assert not session.history


def test_a_limit_in_another_thread_is_refused(session):
    errors = []

    def enter() -> None:
        try:
            with memcell.watch(limit="100GB"):
                pass
        except NotInMainThreadError as error:
            errors.append(str(error))

    thread = threading.Thread(target=enter, name="worker")
    thread.start()
    thread.join()
    assert "'worker'" in errors[0]
