"""Ending processes in order: children before parents, SIGTERM, a bounded wait, SIGKILL.

Before every signal the process is confirmed by pid and start, and where the system has pidfds the signal goes through
one, so that it cannot hit another process that got the pid meanwhile. Exit statuses are left for the parent: a user's
``Popen.wait()`` is to get its own. Groups are never signalled, because the kernel is in one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memcell.protect.processes import Process, read_process

if TYPE_CHECKING:
    from memcell.records.protected import Ending

#: How long processes have to end after SIGTERM, and what the system gets to carry out a SIGKILL. Together they stay
#: below the five seconds after which a Jupyter server kills a kernel that is shutting down.
GRACE_S = 3.0
KILL_S = 1.0
_LOOK_EVERY_S = 0.02
_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has only the one, and it cannot be refused


@dataclass(slots=True)
class Ended:
    """What became of one process so far."""

    process: Process
    ending: Ending = "left"
    duration_s: float = 0.0
    why: str = ""
    is_signalled: bool = False


def end(ordered: Sequence[Process], grace_s: float = GRACE_S, kill_s: float = KILL_S) -> list[Ended]:
    """End processes, in the given order: children before their parents.

    Args:
        ordered: The processes as they were found.
        grace_s: Seconds after SIGTERM before SIGKILL follows, for all together.
        kill_s: Seconds to wait for that.

    Returns:
        What became of each, in the same order.
    """
    began = time.monotonic()
    outcomes = [Ended(process) for process in ordered]
    with ExitStack() as opened:
        handles = [(outcome, opened.enter_context(_handle(outcome.process.pid))) for outcome in outcomes]
        for outcome, handle in handles:
            _ask_to_end(outcome, handle)
        waiting = _wait([outcome for outcome, _ in handles if outcome.is_signalled], "terminated", began, grace_s)
        for outcome, handle in handles:
            if outcome in waiting:
                _signal(outcome, handle, _SIGKILL)
        for outcome in _wait(waiting, "killed", began, time.monotonic() - began + kill_s):
            outcome.why = outcome.why or f"it has not ended {kill_s:g} s after SIGKILL"
    return outcomes


def is_running(process: Process) -> bool:
    """Whether it is still there, and has not ended; another process with its pid does not count."""
    now = read_process(process.pid)
    return now is not None and now.birth == process.birth and not now.has_ended


def collect(processes: Iterable[Process]) -> None:
    """Take the exit statuses of our own children that have ended, so that nothing waits for them as zombies.

    Only for a process that is about to end: later code that waits for such a child would find none. Popen objects
    get their return codes first.
    """
    import gc
    import subprocess

    for found in gc.get_objects():
        if issubclass(type(found), subprocess.Popen):
            with contextlib.suppress(Exception):  # a subclass of somebody's, or one that is only half made
                found.poll()
    for process in processes:
        if process.parent == os.getpid():
            with contextlib.suppress(OSError):  # somebody has taken it meanwhile
                os.waitpid(process.pid, os.WNOHANG)


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int]:
    """A pidfd, which stays with one process when its pid goes on to another; -1 where the system has none."""
    descriptor = -1
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _ask_to_end(outcome: Ended, handle: int) -> None:
    now = read_process(outcome.process.pid)
    if now is None or now.birth != outcome.process.birth:
        outcome.ending = "gone"
    elif now.has_ended:
        outcome.ending = "gone"
        outcome.why = "a zombie: it goes when its parent asks for its exit status, as p.wait() does"
    else:
        _signal(outcome, handle, signal.SIGTERM)
        if now.is_stopped and hasattr(signal, "SIGCONT"):
            _signal(outcome, handle, signal.SIGCONT)


def _signal(outcome: Ended, handle: int, number: int) -> None:
    if not is_running(outcome.process):
        return
    try:
        if handle >= 0:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(outcome.process.pid, number)
        outcome.is_signalled = True
    except ProcessLookupError:
        pass  # it has ended since
    except OSError as error:
        outcome.why = f"it could not be signalled: {error.strerror}"


def _wait(waiting: list[Ended], ending: Ending, began: float, until_s: float) -> list[Ended]:
    """Wait until processes have ended; returns those that have not when time is up."""
    while waiting:
        still = []
        for outcome in waiting:
            if is_running(outcome.process):
                still.append(outcome)
            else:
                outcome.ending, outcome.why = ending, ""
                outcome.duration_s = time.monotonic() - began
        waiting = still
        if time.monotonic() - began >= until_s:
            break
        if waiting:
            time.sleep(_LOOK_EVERY_S)
    return waiting
