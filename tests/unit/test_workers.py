"""``memcell.isolated``: a function in worker processes that are replaced, and whose end is one call's error."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types

import psutil
import pytest

import memcell
from memcell.errors import (
    InvalidSettingError,
    InvalidSizeError,
    IsolatedTimeoutError,
    IsolatedWorkerDied,
    IsolationError,
    MissingLibraryError,
)
from memcell.protect import workers
from tests.lazily import Lazily

np = Lazily("numpy")

_STATE: list[bytearray] = []


def _state(size):
    _STATE.append(bytearray(b"x") * size)
    return os.getpid(), len(_STATE)


def _die(how):
    if isinstance(how, int):
        os._exit(how)
    faulthandler.disable()  # pytest's would print a page
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(9)


def _fail(error):
    raise error


class Model:
    factor = 3

    @memcell.isolated(max_runs=2)
    def apply(self, number):
        return self.factor * number


class OwnError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.fixture(autouse=True)
def _forks(monkeypatch):
    """Other tests have loaded libraries that cannot be forked; what is tested here does not touch them."""
    monkeypatch.setattr(workers, "fork_hazard", lambda: None)


@pytest.fixture
def spawns(monkeypatch):
    monkeypatch.setattr(workers, "fork_hazard", lambda: "this is a test")


@pytest.fixture
def isolated(session):
    """As ``memcell.isolated``; closed at the end."""
    made = []

    def make(function, **options):
        made.append(memcell.isolated(function, **options))
        return made[-1]

    yield make
    for function in made:
        function.close()


def test_it_runs_elsewhere_and_leaves_nothing_here(isolated):
    pid, count = isolated(_state)(1)
    assert pid != os.getpid()
    assert count == 1
    assert not _STATE


def test_it_looks_like_the_function():
    @memcell.isolated
    def double(number):
        """Twice."""
        return 2 * number

    with double:
        assert (double.__name__, double.__doc__) == ("double", "Twice.")
        assert double(4) == 8
        assert repr(double).startswith("<isolated function ")


def test_as_a_method():
    with Model.__dict__["apply"]:
        assert Model().apply(5) == 15


def test_large_arrays_go_there_and_back(isolated):
    array = np.arange(10_000_000.0)
    result = isolated(np.negative)(array)
    assert result[3] == -3
    result[0] = 1


def test_a_worker_is_replaced_after_max_runs(isolated):
    pid = isolated(os.getpid, max_runs=2)
    pids = [pid() for _ in range(5)]
    assert len(set(pids)) == 3
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert not any(psutil.pid_exists(old) for old in pids[:4])


def test_every_call_can_have_a_fresh_worker(isolated):
    state = isolated(_state, max_runs=1)
    assert [state(1)[1] for _ in range(3)] == [1, 1, 1]


def test_a_worker_that_grew_is_replaced(isolated):
    grow = isolated(_state, max_runs=None, max_growth="150MB")
    seen = [grow(100 << 20) for _ in range(4)]
    assert [count for _, count in seen] == [1, 2, 1, 2]
    assert len({pid for pid, _ in seen}) == 2


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("SIGSEGV", "was killed by SIGSEGV (a crash in compiled code)"),
        ("SIGKILL", "was killed by SIGKILL"),
        (3, "ended itself with exit code 3"),
        (0, "ended itself with exit code 0"),
    ],
)
def test_a_crash_is_the_error_of_one_call(isolated, how, told):
    die = isolated(lambda how: _die(how) if how != "live" else "lives")
    assert die("live") == "lives"
    with pytest.raises(IsolatedWorkerDied, match="the next call gets a new worker") as raised:
        die(how)
    assert told in str(raised.value)
    assert die("live") == "lives"


def test_a_worker_that_was_killed_while_idle_is_nobodys_error(isolated):
    pid = isolated(os.getpid)
    first = pid()
    os.kill(first, signal.SIGKILL)
    time.sleep(0.2)
    assert pid() != first


def test_errors_come_back_with_where_they_happened(isolated):
    fail = isolated(_fail)
    with pytest.raises(KeyError, match="gone") as raised:
        fail(KeyError("gone"))
    assert "in _fail" in str(raised.value.__cause__)
    assert "protect/workers.py" not in str(raised.value.__cause__)


def test_an_error_that_cannot_be_pickled_is_told_in_words(isolated):
    fail = isolated(lambda: _fail(OwnError("a", "b")))
    with pytest.raises(IsolationError, match="raised OwnError: a and b"):
        fail()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_is_no_exception_comes_back_too(isolated, kind):
    with pytest.raises(kind):
        isolated(_fail)(kind(3))


def test_what_cannot_be_pickled_is_named(isolated):
    give = isolated(lambda *_: threading.Lock())
    with pytest.raises(IsolationError, match="cannot be sent its arguments: TypeError: cannot pickle"):
        give(threading.Lock())
    with pytest.raises(IsolationError, match="returned a lock that cannot come back: TypeError"):
        give()


def test_nobody_can_be_asked(isolated):
    with pytest.raises(IsolationError, match="nobody can be asked in an isolated function"):
        isolated(lambda: input("?"))()


def test_a_call_that_takes_too_long(isolated):
    sleep = isolated(time.sleep, timeout=0.3)
    began = time.monotonic()
    with pytest.raises(IsolatedTimeoutError, match=r"time\.sleep took longer than 0\.3 s"):
        sleep(60)
    assert time.monotonic() - began < 5
    assert sleep(0) is None


def test_an_interrupted_call_ends_its_worker(isolated):
    sleep = isolated(time.sleep)
    sleep(0)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sleep(60)
    timer.join()
    assert not psutil.Process().children()
    assert sleep(0) is None


def test_as_many_calls_at_once_as_there_are_workers(isolated):
    sleep = isolated(lambda: (time.sleep(0.3), os.getpid())[1], workers=3)
    pids = []
    threads = [threading.Thread(target=lambda: pids.append(sleep())) for _ in range(6)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.55 < time.monotonic() - began < 5
    assert len(pids) == 6
    assert len(set(pids)) == 3


def test_a_worker_outlives_the_thread_that_started_it(isolated):
    pid = isolated(os.getpid)
    pids = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: pids.append(pid()))
        thread.start()
        thread.join()
        time.sleep(0.1)
    assert pids[0] == pids[1]


def test_from_async_code(isolated):
    double = isolated(lambda number: 2 * number, workers=2)

    async def gather():
        return await asyncio.gather(*(asyncio.to_thread(double, number) for number in range(6)))

    assert asyncio.run(gather()) == [0, 2, 4, 6, 8, 10]


def test_close(isolated):
    pid = isolated(os.getpid)
    worker = psutil.Process(pid())
    pid.close()
    pid.close()
    assert not worker.is_running()
    with pytest.raises(IsolationError, match=r"posix\.getpid is closed; make it anew"):
        pid()


def test_close_while_a_call_runs(isolated):
    sleep = isolated(time.sleep)
    thread = threading.Thread(target=sleep, args=(0.5,))
    thread.start()
    time.sleep(0.2)
    sleep.close()
    thread.join()
    assert not psutil.Process().children()


def test_processes_that_the_function_left_go_with_the_worker(isolated):
    start = isolated(lambda: subprocess.Popen(["sleep", "600"]).pid, max_runs=1)
    left = start()
    psutil.wait_procs([psutil.Process(left)] if psutil.pid_exists(left) else [], timeout=5)
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_a_forked_child_has_workers_of_its_own(isolated):
    state = isolated(_state)
    pid, _ = state(1)
    child = os.fork()
    if child == 0:
        try:
            with state:
                os._exit(0 if state(1)[0] != pid and state(1)[1] == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state(1) == (pid, 2)


def test_in_a_new_interpreter(isolated, spawns):
    factor = 3
    times = isolated(lambda array: (factor * array, os.getpid(), sys.argv[0]), max_runs=2)
    array, pid, argv = times(np.arange(5))
    assert array.tolist() == [0, 3, 6, 9, 12]
    assert pid != os.getpid()
    assert argv == "-c"
    with pytest.raises(IsolatedWorkerDied, match="SIGSEGV"):
        isolated(_die)("SIGSEGV")


def test_a_new_interpreter_has_a_group_but_no_session_of_its_own(isolated, spawns):
    """A session of its own would look as if a user had detached it."""
    pid, group, session = isolated(lambda: (os.getpid(), os.getpgid(0), os.getsid(0)))()
    assert group == pid
    assert session == os.getsid(0)


def _module_with(text):
    """A module that is ``__main__`` to what is pickled, as a notebook's is."""
    module = types.ModuleType("__main__")
    exec(textwrap.dedent(text), vars(module))
    return module


_NAMED = """
import memcell, os
@memcell.isolated
def fact(n): return (1, os.getpid()) if n < 2 else (n * fact(n - 1)[0], os.getpid())
@memcell.isolated(max_runs=1)
def other(n): return fact(n)[0], os.getpid(), fact(1)[1]
class Model:
    @memcell.isolated
    def apply(self, n): return fact(n)[0]
def plain(): return fact, fact(3)
functions = (fact, other, vars(Model)["apply"])
"""


@pytest.mark.parametrize("how", ["fork", "interpreter"])
def test_a_function_that_calls_itself_or_another_isolated_one(session, monkeypatch, how):
    """In a worker that is a plain call."""
    main = _module_with(_NAMED)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(workers, "fork_hazard", lambda: None if how == "fork" else "this is a test")
    try:
        assert main.fact(4)[0] == 24
        result, pid, inner = main.other(4)
        assert result == 24
        assert pid == inner != os.getpid()
        assert main.Model().apply(3) == 6
        with memcell.isolated(main.plain) as plain:
            back, (result, pid) = plain()
            assert result == 6
            if how == "fork":
                assert back is main.fact
            else:
                assert back(3)[0] == 6  # a copy, with workers of its own
                back.close()
    finally:
        for function in main.functions:
            function.close()


def test_a_function_that_is_gone_leaves_no_zombie(session):
    function = memcell.isolated(os.getpid)
    worker = psutil.Process(function())
    assert worker.is_running()
    del function
    gc.collect()
    assert not worker.is_running()


def test_one_that_is_gone_in_a_forked_child_leaves_the_parents_alone(isolated):
    function = memcell.isolated(os.getpid)
    pid = function()
    child = os.fork()
    if child == 0:
        try:
            del function
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert function() == pid
    function.close()


def test_workers_that_were_ended_while_idle_are_waited_for_when_processes_are_listed(session, isolated):
    pid = isolated(os.getpid)()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid not in [child.pid for child in memcell.children()]
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("how", ["fork", "interpreter"])
def test_all_processes_that_are_ended_are_workers_too(session, isolated, monkeypatch, how):
    monkeypatch.setattr(workers, "fork_hazard", lambda: None if how == "fork" else "this is a test")
    function = isolated(os.getpid)
    pid = function()
    (listed,) = [child for child in memcell.children() if child.pid == pid]
    assert not listed.detached
    assert [outcome.ending for outcome in memcell.end_children() if outcome.pid == pid] == ["terminated"]
    assert not psutil.pid_exists(pid)
    assert function() != pid


def _fork_and_return():
    return os.fork() or os.getpid()


@pytest.mark.parametrize("how", ["fork", "interpreter"])
def test_a_fork_of_a_worker_ends_in_silence(isolated, monkeypatch, capfd, how):
    monkeypatch.setattr(workers, "fork_hazard", lambda: None if how == "fork" else "this is a test")
    fork = isolated(_fork_and_return)
    assert fork() > 0
    assert fork() > 0
    fork.close()
    assert capfd.readouterr() == ("", "")


def test_a_function_that_cannot_go_to_a_new_interpreter(isolated, spawns):
    lock = threading.Lock()
    with pytest.raises(IsolationError, match="cannot be sent itself: TypeError: cannot pickle"):
        isolated(lambda: lock)()


def test_without_cloudpickle(isolated, spawns, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(MissingLibraryError, match=r"since this is a test, .*pip install 'memcell\[isolate\]'"):
        isolated(os.getpid)()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_runs": 0}, InvalidSettingError, "max_runs of .* must be above 0, not 0"),
        ({"workers": -1}, InvalidSettingError, "workers of .* must be above 0"),
        ({"timeout": 0}, InvalidSettingError, "timeout of .* must be above 0"),
        ({"max_runs": "x"}, InvalidSettingError, "max_runs of .* must be a whole number, not str"),
        ({"max_runs": 2.5}, InvalidSettingError, "max_runs of .* must be a whole number, not float"),
        ({"workers": None}, InvalidSettingError, "workers of .* must be a whole number, not NoneType"),
        ({"workers": True}, InvalidSettingError, "workers of .* must be a whole number, not bool"),
        ({"timeout": "5s"}, InvalidSettingError, "timeout of .* must be a number of seconds, not str"),
        ({"max_growth": []}, InvalidSizeError, "isolated: max_growth of .*: .* text like 500MB, not list"),
        ({"max_growth": True}, InvalidSizeError, "text like 500MB, not bool"),
        ({"max_growth": "12 parsecs"}, InvalidSizeError, "cannot read '12 parsecs'"),
    ],
)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=says):
        memcell.isolated(os.getpid, **options)


def test_no_function():
    with pytest.raises(InvalidSettingError, match="is not a function"):
        memcell.isolated(3)


def _script(text, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_in_a_script_that_just_ends():
    done = _script("""
        import atexit, memcell, os
        atexit.register(print, "parent's own exit handler")
        class Point:
            def __init__(self, x): self.x = x
        @memcell.isolated
        def move(point):
            print("in the worker")
            return Point(point.x + 1)
        moved = move(Point(1))
        assert type(moved) is Point and moved.x == 2
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["in the worker", "parent's own exit handler"]
    assert not done.stderr


@pytest.mark.parametrize("hazard", ["", "import sys, types; sys.modules['polars'] = types.ModuleType('polars')"])
def test_what_a_worker_started_ends_with_a_parent_that_is_killed(hazard):
    done = _script(f"""
        import memcell, os, subprocess, threading
        {hazard}
        start = memcell.isolated(lambda: subprocess.Popen(["sleep", "600"]).pid)
        thread = threading.Thread(target=lambda: print(start(), flush=True))  # not the main thread
        thread.start(); thread.join()
        os.kill(os.getpid(), 9)
    """)
    assert done.returncode == -9, done.stderr
    left = int(done.stdout)
    ends = time.monotonic() + 10
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_workers_end_with_a_parent_that_is_killed():
    done = _script("""
        import memcell, os, threading
        pid = memcell.isolated(os.getpid)
        thread = threading.Thread(target=lambda: print(pid(), flush=True))  # not the main thread
        thread.start(); thread.join()
        print(memcell.isolated(os.getpid)(), flush=True)
        os.kill(os.getpid(), 9)
    """)
    assert done.returncode == -9
    pids = [int(line) for line in done.stdout.splitlines()]
    assert len(pids) == 2
    ends = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, pids))
