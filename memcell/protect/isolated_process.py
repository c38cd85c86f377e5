"""A process beside this one that shares a connection with it and leaves nothing behind: forked, or a new interpreter.

It leads a process group of its own, so that no Ctrl-C of a terminal reaches it unasked, and so that what it starts can
be ended with it. It never outlives this process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NoReturn

from memcell.protect.executors import Inherited, find_executors, renew, shut_down_own
from memcell.protect.group import end_group, wait_for_trackers

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOOK_FOR_PARENT_S = 1.0
#: Added to the score (0 to 1000) by which the out-of-memory killer chooses: the child goes before its parent.
_OUT_OF_MEMORY_SCORE = 200
_BOOTSTRAP = """import sys
sys.path[:] = {path!r}
import {module}
from memcell.protect.isolated_process import run_spawned
run_spawned({module}.{function}, {descriptor}, {parent})
"""


class IsolatedProcess:
    """The other process, seen from here.

    Args:
        pid: Its pid, which is that of its group too.
        connection: This side's end.
        popen: Who started it, if it was not forked.
    """

    def __init__(self, pid: int, connection: Connection, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.connection = connection
        self._popen = popen
        self._is_reaped = False
        self._exit_code: int | None = None

    def has_ended(self) -> bool:
        """Whether it has ended; it stays a zombie until ``close``, so that its pid stays its own."""
        if self._is_reaped:
            return True
        if sys.platform == "win32":
            return self._popen is not None and self._popen.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True  # somebody waits for all children: how it ended is lost

    def interrupt(self) -> None:
        """As Ctrl-C does: SIGINT to it and to what it started."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it, and what it started and left in its process group, but for what ``nohup`` detached."""
        if sys.platform == "win32":
            self._signal(signal.Signals.SIGTERM)
        elif not self._is_reaped:
            end_group(self.pid)

    def close(self) -> int | None:
        """End what is left of it; returns its exit code (negative for a signal), None if that is lost."""
        if not self._is_reaped:
            self.kill()
            self.connection.close()
            if self._popen is not None and sys.platform == "win32":
                self._exit_code = self._popen.wait()
            else:
                wait_for_trackers(self.pid)
                with contextlib.suppress(ChildProcessError):
                    self._exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._is_reaped = True
            if self._popen is not None:
                self._popen.returncode = self._exit_code or 0  # it need not wait for it any more
        return self._exit_code

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._is_reaped = True
        self.connection.close()
        if self._popen is not None:
            self._popen.returncode = 0

    def _signal(self, number: signal.Signals) -> None:
        if self._is_reaped:
            return
        if sys.platform == "win32":
            if self._popen is not None:
                self._popen.send_signal(number)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def fork(main: Callable[[Connection], object]) -> IsolatedProcess:
    """Go on in a fork of this process, which runs ``main`` and then ends, without this process's exit handlers."""
    ours, theirs = Pipe()
    flush_c_streams()
    parent, is_main_thread = os.getpid(), threading.current_thread() is threading.main_thread()
    inherited = find_executors()
    try:
        with warnings.catch_warnings():
            # True, and the reason for fork_hazard().
            warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            ours.close()
            _run_forked(main, theirs, inherited, parent, is_main_thread=is_main_thread)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here too: whoever is first
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return IsolatedProcess(pid, ours)


def spawn(target: str) -> IsolatedProcess:
    """Start a new interpreter that calls ``target`` ("package.module:function") with its end of the connection."""
    module, _, function = target.partition(":")
    ours, theirs = Pipe()
    try:
        descriptor = theirs.fileno()
        bootstrap = _BOOTSTRAP.format(
            path=sys.path, module=module, function=function, descriptor=descriptor, parent=os.getpid()
        )
        command = [sys.executable, "-c", bootstrap]
        if sys.platform == "win32":
            os.set_handle_inheritable(descriptor, True)
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [descriptor]})
            popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, startupinfo=startup)
        else:
            popen = _popen_in_own_group(command, descriptor)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return IsolatedProcess(popen.pid, ours, popen)


def _popen_in_own_group(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    # Not a session of its own, which would look as if somebody had detached it on purpose.
    if sys.version_info >= (3, 11):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), process_group=0)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), preexec_fn=os.setpgrp)


def run_spawned(main: Callable[[Connection], object], descriptor: int, parent: int) -> None:
    """The life of a spawned process. It ends as interpreters do, exit handlers and all."""
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        connection: Connection = PipeConnection(descriptor)
    else:
        connection = Connection(descriptor)
        os.set_inheritable(descriptor, False)
        _ignore_terminal()
        atexit.register(_end_rest_of_group)  # the first, so the last that is called
        _take_precautions(parent, is_main_thread=False)
    _keep_to_oneself(connection)
    pid = os.getpid()
    main(connection)
    if os.getpid() != pid:  # a fork of it, which is not to run its exit handlers
        _end_fork()


def flush_c_streams() -> None:
    """Write out what C code has printed: a fork would print it twice, and ``os._exit`` not at all."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _run_forked(
    main: Callable[[Connection], object],
    connection: Connection,
    inherited: Sequence[Inherited],
    parent: int,
    *,
    is_main_thread: bool,
) -> NoReturn:
    exit_code = 1
    # A collection would write to, and so copy, every page with objects on it. Not before the fork: in the parent
    # it would make all young garbage old, and stay for long.
    gc.freeze()
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        # An event loop of the parent would be told of the child's signals: it shares the descriptor.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _ignore_terminal()
        _take_precautions(parent, is_main_thread=is_main_thread)
        _use_one_openmp_thread()
        renew(inherited)
        _keep_to_oneself(connection)
        pid = os.getpid()
        main(connection)
        if os.getpid() != pid:  # a fork of it: what there is to clean up is not its own
            _end_fork()
        shut_down_own(inherited)
        _end_rest_of_group()
        flush_c_streams()
        exit_code = 0
    except Exception:
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(exit_code)


def _end_fork() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    flush_c_streams()
    os._exit(0)


def _ignore_terminal() -> None:
    """Asking a terminal for input fails instead of stopping the process: its group is not the one in front."""
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)


def _take_precautions(parent: int, *, is_main_thread: bool) -> None:
    """See that this process ends with its parent, and goes first when memory runs out."""
    if is_main_thread and sys.platform == "linux":
        # The signal comes when the thread ends that forked: only the main one lives as long as the parent.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=_end_with, args=(parent,), name="memcell-parent", daemon=True).start()
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        score = min(1000, int(file.read()) + _OUT_OF_MEMORY_SCORE)
        file.seek(0)
        file.write(str(score))


def _keep_to_oneself(connection: Connection) -> None:
    """A fork of this process must not hold the connection open: its end tells that this process is gone."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=connection.close)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT_S)
    _end_rest_of_group()
    os._exit(1)


def _end_rest_of_group() -> None:
    """What this process started ends with it, also where the parent is gone that would see to it."""
    if os.getpgrp() == os.getpid():
        end_group(os.getpid(), spare=(os.getpid(),))


def _use_one_openmp_thread() -> None:
    """The threads of GNU's OpenMP and of torch stayed in the parent; asked for work in parallel they would hang."""
    torch = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)  # type: ignore[union-attr]
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for path in {line.split(maxsplit=5)[-1].rstrip() for line in file if "libgomp" in line}:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(path).omp_set_num_threads(1)
