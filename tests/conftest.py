"""What every test has: a session of its own, and the check that it leaves nothing behind."""

from __future__ import annotations

import gc
import signal
import sys
import threading

import psutil
import pytest

import memcell.session
from memcell.measure.process import trim_heap
from memcell.session import Session


def _left_over() -> dict[str, set[object]]:
    widgets = sys.modules.get("ipywidgets.widgets.widget")
    return {
        "threads": {thread for thread in threading.enumerate() if thread.name.startswith("memcell")},
        "child processes": {child.pid for child in psutil.Process().children(recursive=True)},
        "widgets": set(widgets._instances) if widgets else set(),
    }


@pytest.fixture(scope="session", autouse=True)
def _hears_a_hangup() -> object:
    """As a kernel does. Under ``nohup`` this process, and all that it starts, would be detached ones."""
    if sys.platform == "win32":  # which has no such signal
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> object:
    """No thread, child process or widget outlives its test. The shell's fixture looks at the hooks."""
    before = _left_over()
    yield
    after = _left_over()
    for kind, things in after.items():
        assert things <= before[kind], f"{request.node.name} left {kind} behind: {things - before[kind]}"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> object:
    """A new session in the place of the process's own, ended afterwards with its watcher."""
    # Free memory that other tests left in malloc's heap would take in what a test allocates: no level would move.
    gc.collect()
    trim_heap()
    session = Session()
    monkeypatch.setattr(memcell.session, "_session", session)
    yield session
    watcher = session._sampler.pid
    session.close_all()
    if watcher is not None:
        psutil.wait_procs([psutil.Process(watcher)], timeout=10) if psutil.pid_exists(watcher) else None
        assert not psutil.pid_exists(watcher) or psutil.Process(watcher).status() == psutil.STATUS_ZOMBIE
