"""Whether a kernel survives running out of memory: twenty ways to do so, with memcell's guard and without it.

``python -m benchmarks.guard [NAME…] [--write]``; ``--write`` puts the measured rows into ``docs/guard.md``. Each cell
runs in a fresh kernel. No control group can be made here, so the killer is emulated: a thread of this script looks at
the kernel and its children every two milliseconds and sends SIGKILL when they pass the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.guard_cells import CAP, OVERFLOWS, Overflow
from benchmarks.kernels import MeasuredKernel, measured_kernel, status_bytes
from benchmarks.report import KERNEL, provenance, rows, table
from memcell.units import MIB

PAGE = Path(__file__).parents[1] / "docs" / "guard.md"

#: The kernel is stopped at this level, and killed at that one. The room between them is what lies above 95 % of 8 GiB.
STOP, ROOM = 700, 410
LIMIT = STOP + ROOM
_GUARD = (
    "%load_ext memcell\n"
    f"%config Memcell.warn_fraction = {0.8 * STOP / LIMIT:.4f}\n"
    f"%config Memcell.clean_fraction = {0.9 * STOP / LIMIT:.4f}\n"
    f"%config Memcell.limit_fraction = {STOP / LIMIT:.6f}\n"
    f"%config Memcell.limit = '{LIMIT}MiB'"
)
_CELL_S = 90.0
_GOAL = 18


@dataclass(frozen=True)
class Result:
    """What became of one kernel. ``peak`` is in MiB, of the kernel and its children, from samples."""

    alive: bool
    error: str
    explained: bool
    peak: int
    killed: bool
    next_works: bool

    def text(self) -> str:
        if self.killed:
            return "killed"
        if not self.alive:
            return "died"
        return f"{self.error or 'no error'}{'' if self.next_works else ', next cell fails'}"


class Killer(threading.Thread):
    """Sends SIGKILL to its own kernel when that and its children pass the limit, as the OOM killer would."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak = 0
        self.has_killed = False

    def run(self) -> None:
        while not self._ended.wait(0.002):
            try:
                level = _undroppable(self._pid) + sum(map(_private, _descendants(self._pid)))
            except OSError:
                return
            self.peak = max(self.peak, level)
            if level > LIMIT * MIB:
                self.has_killed = True
                os.kill(self._pid, signal.SIGKILL)
                for child in _descendants(self._pid):
                    with contextlib.suppress(OSError):
                        os.kill(child, signal.SIGKILL)
                return

    def end(self) -> None:
        self._ended.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(OVERFLOWS)}; default: all")
    parser.add_argument("--write", action="store_true", help=f"put the rows into docs/{PAGE.name}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(OVERFLOWS)):
        parser.error(f"unknown overflow {unknown[0]!r}; there are {', '.join(OVERFLOWS)}")
    measured = rows(PAGE.read_text(encoding="utf-8")) if options.names and PAGE.exists() else {}
    for name in options.names or OVERFLOWS:
        measured[name] = _row(name, OVERFLOWS[name])
        print(" | ".join(measured[name]), flush=True)
    text = _page(measured)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


def _row(name: str, overflow: Overflow) -> list[str]:
    guarded = measure(overflow, with_memcell=True)
    bare = measure(overflow, with_memcell=False)
    reached = guarded.alive and guarded.next_works and guarded.explained
    return [
        f"`{name}`",
        overflow.about,
        "yes" if guarded.alive and guarded.next_works else "no",
        guarded.text(),
        f"{guarded.peak - STOP:+,}".replace("-", "−"),
        bare.text(),
        "" if reached else overflow.why or "see below",
    ]


def measure(overflow: Overflow, *, with_memcell: bool) -> Result:
    """Run one overflow in a kernel of its own."""
    with measured_kernel() as kernel:
        if with_memcell:
            kernel.must(_GUARD)
        kernel.must(overflow.before)
        killer = Killer(kernel.pid)
        killer.start()
        try:
            errors, words = _run(kernel, overflow.cell)
        finally:
            killer.end()
        alive = not killer.has_killed and kernel.is_alive()
        next_works = False
        if alive:
            with contextlib.suppress(TimeoutError):
                next_works = "42" in _run(kernel, "data = frame = figure = None; 6 * 7")[1]
        return Result(
            alive=alive,
            error=errors[-1] if errors else "",
            explained="was stopped" in words,
            peak=killer.peak // MIB,
            killed=killer.has_killed,
            next_works=next_works,
        )


def _run(kernel: MeasuredKernel, code: str) -> tuple[list[str], str]:
    """The names of the errors that a cell shows, and all its text; ends as well when the kernel dies."""
    sent, errors, words = kernel.send(code), [], []
    until = time.monotonic() + _CELL_S
    while time.monotonic() < until:
        try:
            message = kernel._client.get_iopub_msg(timeout=0.2)
        except queue.Empty:
            if not kernel.is_alive():
                return errors, "\n".join(words)
            continue
        if message["parent_header"].get("msg_id") != sent:
            continue
        content = message["content"]
        if message["msg_type"] == "error":
            errors.append(content["ename"])
            words.append(content["evalue"])
        words.append(content.get("text", "") + content.get("data", {}).get("text/plain", ""))
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return errors, "\n".join(words)
    raise TimeoutError(f"the cell did not end within {_CELL_S:.0f} s")


def _undroppable(pid: int) -> int:
    return status_bytes(pid, b"RssAnon", b"RssShmem")


def _private(pid: int) -> int:
    try:
        return _undroppable(pid)
    except (OSError, IndexError):
        return 0  # it has just ended


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _page(measured: dict[str, list[str]]) -> str:
    ordered = [measured[name] for name in OVERFLOWS if name in measured]
    survived = sum(row[2] == "yes" and not row[6] for row in ordered)
    packages = [package for overflow in OVERFLOWS.values() for package in overflow.packages]
    made = provenance(
        "benchmarks.guard --write",
        [*KERNEL, *packages],
        machine=f"{os.cpu_count()} CPUs",
    )
    introduction = _INTRODUCTION.format(cap=CAP, stop=STOP, limit=LIMIT, room=ROOM)
    reached = _REACHED.format(survived=survived, count=len(ordered), goal=_GOAL, stop=STOP)
    return "\n\n".join([introduction, table(_COLUMNS, ordered), reached, _LIMITS, made]) + "\n"


_COLUMNS = (
    "",
    "what fills the memory",
    "kernel alive",
    "what the cell shows",
    "overshoot, MiB",
    "without memcell",
    "why not",
)
_INTRODUCTION = """\
# What the guard saves

Twenty cells that run out of memory; each would take up to {cap} MiB. memcell stops a cell at {stop} MiB, and the
kernel is killed at {limit} MiB. The {room} MiB between them are what lies above the default of 95 % under a limit of
8 GiB; a larger limit leaves more room, a smaller one less. The killer is an emulation, because no control group could
be made where this was measured: a thread beside the kernel looks every 2 ms at what the kernel and its children have
that cannot be dropped, and sends SIGKILL. Each cell has a fresh kernel."""
_REACHED = """\
**{survived} of {count}** end with the kernel alive, the reason shown, and a next cell that works (goal: {goal}). The
overshoot is the highest level seen above {stop} MiB. Where the error is not `MemoryLimitExceeded`, memcell's line
below it says why the cell was stopped, what is large, and why it is that error: C code kept the interpreter, so an
allocation was refused, or Ctrl-C ended a wait, or a task that waited was cancelled."""
_LIMITS = """\
## In a real control group

A kernel in a control group (version 1) of 500 MiB is stopped by default, and goes on: a test does that where it may
make such a group. Making and showing the first error of a kernel takes tens of MiB, so under a limit that kills a cell
is stopped 64 MiB below it if that is lower than 95 %, but not below the level at which caches are cleaned. Version 2
is untested.

## What cannot be stopped

One call of C code that fills memory which is mapped already gets no signal and needs no further allocation. It is
stopped only by the system, and then the kernel is gone: run such a cell with `%%memwatch --isolate`. Where polars is
loaded no allocation is made to fail, because it would end the process; a long query of its is sent Ctrl-C instead, and
stops if it listens. A run in another thread than the main one (a subshell) is measured and not guarded, and neither is
one on a platform without `/proc`."""


if __name__ == "__main__":
    main()
