"""A real kernel whose memory is read from outside, so that reading it costs it nothing."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.kernel.kernels import CellResult, Kernel

#: How long to wait before a level is read: some libraries return memory from a thread of their own within two seconds.
SETTLE_S = 2.5
#: Long enough for the slowest cell: drawing, compiling, or making millions of objects on a busy machine.
CELL_S = 300.0

#: Garbage and free heap go before a level is read that others are compared with.
_TIDY = "(__import__('gc').collect(), __import__('ctypes').CDLL(None).malloc_trim(0)) and None"


class CellFailedError(Exception):
    """A cell raised what it should not have raised, or the kernel died in it."""


class MeasuredKernel(Kernel):
    """A kernel of this interpreter in an empty folder, and its levels in bytes."""

    @property
    def pid(self) -> int:
        """The process that runs the cells now; a restart changes it."""
        pid: int = self.manager.provisioner.pid  # type: ignore[union-attr]
        return pid

    def is_alive(self) -> bool:
        """Whether the process still runs; one that was killed is a zombie until somebody asks."""
        alive: bool = self.manager.is_alive()
        return alive

    def rss_bytes(self) -> int:
        """Resident memory."""
        rss: int = psutil.Process(self.pid).memory_info().rss
        return rss

    def shmem_bytes(self) -> int:
        """Resident memory that is shared by name, such as ``multiprocessing.shared_memory``."""
        return status_bytes(self.pid, b"RssShmem")

    def children_bytes(self) -> int:
        """The proportional share (PSS) of all descendants: a forked child shares most pages with the kernel."""
        total = 0
        for child in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                total += child.memory_full_info().pss
        return total

    def level_bytes(self, metric: str = "rss", *, settle_s: float = SETTLE_S) -> int:
        """The level of ``rss``, ``shmem`` or ``children``, once it has had time to fall."""
        time.sleep(settle_s)
        read = {"rss": self.rss_bytes, "shmem": self.shmem_bytes, "children": self.children_bytes}[metric]
        return read()

    def must(self, code: str, timeout_s: float = CELL_S) -> CellResult:
        """Run a cell that has to succeed.

        Raises:
            CellFailedError: It did not; the message is that of its error.
        """
        result = self.run(code, timeout_s)
        if result.status != "ok":
            raise CellFailedError(result.error or f"the cell ended with {result.status!r}: {code[:80]}")
        return result

    def tidy(self) -> None:
        """Collect garbage and trim the heap by the kernel's own means; no hook and no history sees it."""
        self.value(_TIDY)

    def restart(self) -> None:
        """Restart the kernel, as the button of a front end does."""
        self.manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=CELL_S)


def status_bytes(pid: int, *fields: bytes) -> int:
    """The sum of some fields that the system tells of a process."""
    status = Path(f"/proc/{pid}/status").read_bytes()
    return sum(int(status.partition(b"\n%s:" % field)[2].split()[0]) * 1024 for field in fields)


@contextlib.contextmanager
def measured_kernel(*, live: bool = False) -> Iterator[MeasuredKernel]:
    """A fresh kernel, which ends with its folder; ``live``: as a Jupyter server starts it."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = MeasuredKernel(sys.executable, Path(folder), live=live)
        with kernel:
            yield kernel
