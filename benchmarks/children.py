"""What is left of ten kinds of children after four ways to end a kernel: ``python -m benchmarks.children [--write]``.

Every case has a kernel of its own. Beside them runs a second kernel with memcell that has children of the same kinds,
and a process that no kernel started; whoever touches those fails the benchmark.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.children_kinds import KINDS
from benchmarks.kernels import MeasuredKernel, measured_kernel
from benchmarks.report import provenance, put_between, table

_PAGE = Path(__file__).parents[1] / "docs" / "children.md"
_BEGIN, _END = "<!-- children:begin -->", "<!-- children:end -->"
#: SIGTERM, three seconds, SIGKILL: whoever is to be ended after the kernel has gone has ended by then.
_SETTLE_S = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.children", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{_PAGE.name}")
    parser.add_argument("--only", default="", metavar="WORD", help="only kinds whose name has this word in it")
    options = parser.parse_args()
    text = measure({kind: code for kind, code in KINDS.items() if options.only in kind})
    print(text)
    if options.write:
        put_between(_PAGE, _BEGIN, _END, f"\n{text}\n")


def measure(kinds: dict[str, str]) -> str:
    """The table, and a line on who was not to be touched.

    Raises:
        AssertionError: A process that was not to be touched has ended.
    """
    rows = []
    with measured_kernel() as living:
        others = [_Process(subprocess.Popen(["sleep", "3600"]).pid)]
        try:
            living.must("%load_ext memcell")
            for code in KINDS.values():
                others += _start(living, code)
            others = [process for process in others if not process.is_zombie]
            for kind, code in kinds.items():
                row = [kind]
                for end in ENDS.values():
                    bare = _left(code, end, with_memcell=False)
                    row.append(f"{bare[0]} → {' → '.join(map(str, _left(code, end, with_memcell=True)))}")
                    touched = [process for process in others if not process.is_alive]
                    assert not touched, f"{kind}: processes of others have ended: {touched}"
                print("|", " | ".join(row), "|", file=sys.stderr, flush=True)
                rows.append(row)
        finally:
            for process in others:
                process.end()
    columns = ["what a cell started", *ENDS]
    head = (
        "Each figure is how many of its processes are left: in a bare kernel → with memcell → with memcell, after"
        " `memcell orphans --kill`."
    )
    foot = (
        f"Untouched throughout: a process that no kernel started, and {len(others) - 1} processes of these kinds of a"
        " second, living kernel."
    )
    made = provenance("benchmarks.children --write", ["ipykernel", "loky", "distributed"])
    return "\n\n".join([head, table(columns, rows), foot, made])


def _left(code: str, end: Callable[[MeasuredKernel], None], *, with_memcell: bool) -> list[int]:
    """How many processes of one kind are left after the kernel's end, and after their orphans were ended."""
    with measured_kernel() as kernel:
        if with_memcell:
            kernel.must("%load_ext memcell")
        started = _start(kernel, code)
        kernel.must("pass")
        end(kernel)
        left = [_wait_for_end(started)]
        if with_memcell:
            subprocess.run(
                [sys.executable, "-m", "memcell", "orphans", "--kill"], check=True, stdout=subprocess.DEVNULL
            )
            left.append(sum(process.is_there for process in started))
        for process in started:
            process.end()
    return left


def _start(kernel: MeasuredKernel, code: str) -> list[_Process]:
    kernel.must(code)
    return [_Process(pid) for pid in kernel.value("pids")]


def _wait_for_end(started: list[_Process]) -> int:
    ends = time.monotonic() + _SETTLE_S
    while (left := sum(process.is_there for process in started)) and time.monotonic() < ends:
        time.sleep(0.1)
    return left


class _Process:
    """A process as it is seen from outside: a pid that is used again is another one."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began_as_zombie = self.is_zombie

    def __repr__(self) -> str:
        return repr(self._process)

    @property
    def is_zombie(self) -> bool:
        return self._process.is_running() and self._process.status() == psutil.STATUS_ZOMBIE

    @property
    def is_alive(self) -> bool:
        try:
            return self._process.is_running() and not self.is_zombie
        except psutil.NoSuchProcess:
            return False

    @property
    def is_there(self) -> bool:
        """Whether it is alive or, if it was a zombie to begin with, still one."""
        return self._process.is_running() if self._began_as_zombie else self.is_alive

    def end(self) -> None:
        if self.is_alive:
            self._process.kill()


def _shut_down(kernel: MeasuredKernel) -> None:
    kernel.manager.shutdown_kernel()


def _restart(kernel: MeasuredKernel) -> None:
    kernel.manager.restart_kernel()


def _signalled(number: int) -> Callable[[MeasuredKernel], None]:
    def end(kernel: MeasuredKernel) -> None:
        os.kill(kernel.pid, number)
        while kernel.is_alive():  # which also asks for its exit status
            time.sleep(0.02)

    return end


ENDS: dict[str, Callable[[MeasuredKernel], None]] = {
    "shutdown": _shut_down,
    "restart": _restart,
    "SIGTERM": _signalled(signal.SIGTERM),
    "SIGKILL": _signalled(signal.SIGKILL),
}


if __name__ == "__main__":
    main()
