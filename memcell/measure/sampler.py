"""The kernel's side of sampling: where the curve of a run and the peak of its children come from.

Two samplers with one face. ``WatcherSampler`` orders the samples from a process of its own (Linux); ``ThreadSampler``
takes them in a thread, for platforms without ``/proc``, and is blind while C code holds the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from memcell.measure import watcher
from memcell.measure.stop_orders import StopOrders
from memcell.records.measured import Curve

logger = logging.getLogger("memcell")

#: A watcher that was killed is started again once: somebody may not want it.
_STARTS = 2
#: A watcher that is alive has sampled a run of this length.
_MUST_HAVE_SAMPLED_S = 1.0
_WAIT_FOR_SHELL_S = 5.0


class Sampler(Protocol):
    """Takes samples of one period at a time."""

    @property
    def pid(self) -> int | None:
        """The process that samples, which is no child of the user's; None if it is this one."""

    @property
    def notes(self) -> mmap.mmap | None:
        """Memory that outlives this process, for what it wants to leave behind; None without such a place."""

    @property
    def stop_orders(self) -> StopOrders | None:
        """Where a process that samples is told to stop a run; None without one."""

    @property
    def can_stop(self) -> bool:
        """Whether there is such a process, or one will be with the next run."""

    def begin(self, interval_s: float) -> None:
        """Sample a new period from now on."""

    def end(self) -> None:
        """End the period. Its curve stays until the next begins."""

    def curve(self) -> Curve:
        """The curve of the latest period so far."""

    def close(self) -> None:
        """End what was started. May be called twice; the next period starts it again."""

    def forget(self) -> None:
        """In a forked child: let go of what belongs to the parent."""


def make_sampler(
    rss: Callable[[], int],
    children: Callable[[], int],
    afterwards: str = "",
    last_act: Callable[[], Sequence[str]] = tuple,
) -> Sampler:
    """The best sampler for this platform. Nothing is started before the first period begins.

    Args:
        rss: Reads this process's memory.
        children: Reads that of its children.
        afterwards: The path of a file that a sampler which outlives this process runs then; see ``watcher.py``.
        last_act: The command that it is to become after that; empty for none.
    """
    if sys.platform == "linux" and sys.executable and Path("/proc/self/statm").exists():
        return WatcherSampler(afterwards, last_act)
    return ThreadSampler(rss, children)


def _to_curve(slice_s: float, levels: list[tuple[int, int]]) -> Curve:
    return Curve(slice_s, tuple(rss for rss, _ in levels), tuple(children for _, children in levels))


class WatcherSampler:
    """Samples from the watcher process. It is started with the first period and started again if it dies.

    Args:
        afterwards: The path of a file that the watcher runs when this process has ended; none if empty.
        last_act: The command that it is to become once this process has died; empty for none. Not if it was closed
            before.
    """

    def __init__(self, afterwards: str = "", last_act: Callable[[], Sequence[str]] = tuple) -> None:
        self._afterwards = afterwards
        self._last_act = last_act
        self._buffer: mmap.mmap | None = None
        self.notes: mmap.mmap | None = None
        self._curve: watcher.SharedCurve | None = None
        self._orders: StopOrders | None = None
        self._pipe = -1
        self._hang_up = select.poll()
        self._period = 0
        self._started = 0.0
        self._starts = 0
        self._pid: int | None = None

    @property
    def pid(self) -> int | None:
        return self._pid

    @property
    def stop_orders(self) -> StopOrders | None:
        return self._orders

    @property
    def can_stop(self) -> bool:
        return self._orders is not None or self._starts < _STARTS

    def begin(self, interval_s: float) -> None:
        self._period += 1
        self._started = time.monotonic()
        if self._curve is not None and self._hang_up.poll(0):
            self._lose()  # nobody holds the other end of the pipe
        if self._curve is None:
            self._start()
        if self._curve is not None and self._curve.order(self._period, self._started, interval_s):
            self._wake()

    def end(self) -> None:
        if self._curve is None:
            return
        self._curve.order(0, 0.0, 0.0)
        lasted_s = time.monotonic() - self._started
        if lasted_s > _MUST_HAVE_SAMPLED_S and not self._curve.read(self._period)[1]:
            self._lose()

    def curve(self) -> Curve:
        return _to_curve(*self._curve.read(self._period)) if self._curve is not None else Curve(0.0)

    def close(self) -> None:
        if self._curve is not None:
            with contextlib.suppress(OSError):  # full, or the watcher has ended
                os.write(self._pipe, watcher.SENT_AWAY)
        self.forget()

    def forget(self) -> None:
        self._stop()  # closing a forked child's copies leaves the parent's watcher as it is
        self._starts = 0

    def _wake(self) -> None:
        try:
            os.write(self._pipe, b"\n")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already
        except OSError:
            self._lose()

    def _lose(self) -> None:
        """Somebody has ended the watcher: the next period starts another, once."""
        self._stop()
        if self._starts < _STARTS:
            logger.warning("memcell: the process that samples memory was ended by somebody; it is started again")
        else:
            logger.warning(
                "memcell: the process that samples memory was ended again: no curves, and no cell is stopped at its"
                " memory limit, until %reload_ext memcell"
            )

    def _start(self) -> None:
        if self._starts >= _STARTS:
            return
        self._starts += 1
        kept: list[int] = []
        try:
            memory = _anonymous_file()
            kept.append(memory)
            os.ftruncate(memory, watcher.SIZE + watcher.NOTES_SIZE)
            read_end, write_end = os.pipe()
            kept += read_end, write_end
            os.set_blocking(write_end, False)
            pidfd = _own_pidfd()
            inherited = [memory, read_end]
            if pidfd >= 0:
                kept.append(pidfd)
                inherited.append(pidfd)
            # A shell that puts the watcher in the background and ends at once: the watcher then is a child of init,
            # so that the user's os.wait() never meets it. In a session of its own no Ctrl-C of a terminal reaches it.
            shell = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" >/dev/null & echo $!', "sh", sys.executable, "-I", "-S", watcher.__file__]
                + [str(number) for number in (os.getpid(), memory, read_end, pidfd)]
                + [self._afterwards, *self._last_act()],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
            )
            answer, _ = shell.communicate(timeout=_WAIT_FOR_SHELL_S)
            self._pid = int(answer)
            self._buffer = mmap.mmap(memory, watcher.SIZE)
            self.notes = mmap.mmap(memory, watcher.NOTES_SIZE, offset=watcher.SIZE)
            self._curve = watcher.SharedCurve(self._buffer)
            self._orders = StopOrders(self._buffer, watcher.STOP_ORDERS_AT)
            self._pipe = write_end
            self._hang_up = select.poll()
            self._hang_up.register(write_end, 0)  # which tells errors only
            kept.remove(write_end)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._starts = _STARTS
            logger.warning("memcell: no samples during runs, the watcher did not start: %s", error)
        finally:
            for descriptor in kept:
                os.close(descriptor)

    def _stop(self) -> None:
        if self._curve is not None and self._buffer is not None:
            os.close(self._pipe)  # the watcher sees the end of the pipe and ends
            # The memory goes with the last who writes into it: a run that is being guarded may still do.
            self._buffer = self._curve = self._orders = self.notes = None
            self._pid = None


def _own_pidfd() -> int:
    """A descriptor of this process: who inherits it learns of the end, however soon that comes; -1 without one."""
    if not hasattr(os, "pidfd_open"):
        return -1  # a Python that was built for an old Linux
    try:
        return os.pidfd_open(os.getpid())
    except OSError:
        return -1  # Linux before 5.3


def _anonymous_file() -> int:
    """A file that only its descriptors know."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("memcell-curve")
    with tempfile.TemporaryFile() as file:  # a Python that was built against an old C library
        return os.dup(file.fileno())


class ThreadSampler:
    """Samples from a daemon thread that sleeps between periods. Blind while C code holds the interpreter's lock."""

    def __init__(self, rss: Callable[[], int], children: Callable[[], int]) -> None:
        self._rss = rss
        self._children = children
        self._shared = watcher.SharedCurve(bytearray(watcher.SIZE))
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._period = 0

    @property
    def pid(self) -> int | None:
        return None

    @property
    def notes(self) -> mmap.mmap | None:
        return None

    @property
    def stop_orders(self) -> None:
        return None

    @property
    def can_stop(self) -> bool:
        return False

    def begin(self, interval_s: float) -> None:
        self._period += 1
        self._shared.order(self._period, time.monotonic(), interval_s)
        if self._thread is None or not self._thread.is_alive():
            self._closed = False
            self._thread = threading.Thread(target=self._run, name="memcell-sampler", daemon=True)
            self._thread.start()
        self._wake.set()

    def end(self) -> None:
        self._shared.order(0, 0.0, 0.0)
        self._wake.clear()

    def curve(self) -> Curve:
        return _to_curve(*self._shared.read(self._period))

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def forget(self) -> None:
        self._thread = None  # threads do not survive a fork
        self._wake = threading.Event()

    def _run(self) -> None:
        while self._wake.wait() and not self._closed:
            period, started, interval_s = self._shared.orders()
            if period:
                self._shared.add(period, time.monotonic() - started, self._rss(), self._children(), interval_s)
                time.sleep(interval_s)
