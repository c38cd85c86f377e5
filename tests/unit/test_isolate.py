"""Fork or a new interpreter, and how the end of a process is worded."""

from __future__ import annotations

import os
import signal
import sys
import types

import pytest

from memcell.errors import MissingLibraryError
from memcell.ipython.isolating import reachable_names
from memcell.protect import isolate
from memcell.protect.isolate import end_words, fork_hazard, out_of_memory_kills, require_cloudpickle


@pytest.fixture
def no_hazard(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for module in isolate._NOT_FORKABLE:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_nothing_speaks_against_a_fork(no_hazard):
    assert fork_hazard() is None


@pytest.mark.parametrize("module", list(isolate._NOT_FORKABLE))
def test_libraries_that_hang_in_a_fork(no_hazard, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    assert fork_hazard() == isolate._NOT_FORKABLE[module]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_platforms(no_hazard, monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert fork_hazard() == f"{platform} cannot fork safely"


@pytest.mark.parametrize(("initialized", "hazard"), [(True, "CUDA is in use"), (False, None)])
def test_a_cuda_context_of_torch(no_hazard, monkeypatch, initialized, hazard):
    torch = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: initialized))
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert fork_hazard() == hazard


def test_a_cuda_context_of_anybody(no_hazard, monkeypatch, tmp_path):
    """The driver's device is open; here a link to it stands for that."""
    (tmp_path / "3").symlink_to("/dev/null")
    monkeypatch.setattr(isolate, "Path", lambda _: tmp_path)
    assert fork_hazard() is None
    (tmp_path / "4").symlink_to("/dev/nvidia-uvm")
    assert fork_hazard() == "CUDA is in use"


@pytest.mark.parametrize(
    ("exit_code", "out_of_memory", "words"),
    [
        (3, False, "ended itself with exit code 3"),
        (0, True, "ended itself with exit code 0"),
        (-signal.SIGSEGV, True, "was killed by SIGSEGV (a crash in compiled code)"),
        (-signal.SIGKILL, False, "was killed by SIGKILL"),
        (-signal.SIGKILL, True, "was killed by SIGKILL (out of memory: the system's OOM killer)"),
        (-63, False, "was killed by signal 63"),
        (None, False, "ended in an unknown way"),
    ],
)
def test_how_an_end_is_told(exit_code, out_of_memory, words):
    assert end_words(exit_code, out_of_memory=out_of_memory) == words


def test_the_counter_of_the_out_of_memory_killer():
    with open("/proc/vmstat", encoding="ascii") as file:
        assert f"oom_kill {out_of_memory_kills()}\n" in file.read()


def test_without_cloudpickle_the_next_step_is_named(monkeypatch):
    require_cloudpickle("why")
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(MissingLibraryError, match=r"^polars is loaded, .* pip install 'memcell\[isolate\]'$"):
        require_cloudpickle("polars is loaded")


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("y = f(x)", {"y", "f", "x"}),
        ("get_ipython().run_line_magic('timeit', 'f(x)')", {"get_ipython", "timeit", "f", "x"}),
        ("x = ", {"x"}),
        ("# z\n1", set()),
        ("f'{a} {b.c!r}'", {"a", "b"}),
        ("größe", {"größe"}),
    ],
)
def test_what_a_cell_can_reach(code, names):
    assert reachable_names(code) == names


def test_a_fork_takes_no_lock_of_this_process(monkeypatch):
    """The oldest trick: a thread holds a lock of the parent's streams while it forks."""
    from memcell.protect.isolated_process import fork

    process = fork(lambda connection: connection.send_bytes(b"%d" % os.getpgid(0)))
    try:
        assert process.connection.poll(10)
        assert int(process.connection.recv_bytes()) == process.pid
    finally:
        assert process.close() in (0, -signal.SIGKILL)
    assert process.close() is not None
    assert process.has_ended()
