"""What ``memcell check`` found, and what follows from it. Pure: nothing here runs a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from memcell.units import MIB

if TYPE_CHECKING:
    from memcell.records.explained import Verdict
    from memcell.records.measured import Run

#: Exit statuses: nothing leaks; a leak, or a limit passed; a notebook that does not run; Ctrl-C, as shells say it.
OK, LEAKS, BROKEN, INTERRUPTED = 0, 1, 2, 130
#: What a verdict needs at least: a first run and so many re-runs.
FEWEST_RERUNS = 3

#: ``checked``: re-run as asked. ``once``: tagged ``memcell-skip``. ``skipped``: tagged ``skip-execution``, never run.
#: ``not re-runnable``: it ran, and failed when it was run again. ``failed``: it stopped the notebook.
#: ``not checked``: the check ended before its turn.
CellState = Literal["checked", "once", "skipped", "not re-runnable", "failed", "not checked"]
#: Why a notebook could not be checked to its end.
ProblemKind = Literal["notebook", "kernel", "error", "input", "timeout", "died"]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How to check.

    Attributes:
        reruns: How often each cell is run again.
        limit_bytes: What no run's peak may pass, that of the kernel and its children; None for no limit.
        timeout_s: How long one run of a cell may take; None for ever.
        kernel: Another kernel than the notebook's own.
        strict: Cells that cannot be re-run, or stay undecided, fail the check too.
    """

    reruns: int = 6
    limit_bytes: int | None = None
    timeout_s: int | None = 600
    kernel: str | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, in one line. ``cell`` and ``run`` are numbers from 1 on; ``level_bytes`` the memory by then."""

    kind: ProblemKind
    message: str
    cell: int | None = None
    run: int | None = None
    level_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CellCheck:
    """One code cell.

    Attributes:
        number: The how-many-eth code cell of the notebook it is, from 1 on, empty ones not counted.
        index: Its place among all cells of the file, from 0 on.
        key: Its id in the file.
        label: The first line of its source.
        state: What became of it.
        runs: Its recorded runs, the first one included.
        verdict: Whether it leaks; None where it was not re-run.
        problem: The error of a cell that cannot be re-run.
    """

    number: int
    index: int
    key: str
    label: str
    state: CellState
    runs: tuple[Run, ...] = ()
    verdict: Verdict | None = None
    problem: Problem | None = None

    @property
    def leaks(self) -> bool:
        """Whether it grows with each run."""
        return self.verdict is not None and self.verdict.kind == "growing"

    @property
    def is_undecided(self) -> bool:
        """Whether it was re-run and no verdict came out of it."""
        return self.state == "checked" and (self.verdict is None or self.verdict.kind == "unknown")

    @property
    def peak_bytes(self) -> int:
        """The highest level of the kernel alone in any of its runs; 0 if it never ran."""
        return max((run.peak_bytes for run in self.runs), default=0)

    @property
    def peak_run(self) -> int | None:
        """Which of its runs that was, from 1 on."""
        peaks = [run.peak_bytes for run in self.runs]
        return peaks.index(max(peaks)) + 1 if peaks else None

    @property
    def highest_run(self) -> Run | None:
        """The run with the highest peak of the kernel and its child processes together."""
        return max(self.runs, key=total_peak_bytes, default=None)

    @property
    def total_peak_bytes(self) -> int:
        """The peak of that run, 0 if the cell never ran: what a limit is for."""
        return 0 if self.highest_run is None else total_peak_bytes(self.highest_run)

    @property
    def total_peak_run(self) -> int | None:
        """Which of its runs that was, from 1 on."""
        return None if self.highest_run is None else self.runs.index(self.highest_run) + 1

    def is_above(self, limit_bytes: int | None) -> bool:
        """Whether one of its runs passed a limit."""
        return limit_bytes is not None and self.total_peak_bytes > limit_bytes

    def to_dict(self) -> dict[str, Any]:
        """All fields and the derived ones as plain values for JSON."""
        return {
            **dataclasses.asdict(self),
            "runs": [run.to_dict() for run in self.runs],
            "leaks": self.leaks,
            "peak_bytes": self.peak_bytes,
            "peak_run": self.peak_run,
            "total_peak_bytes": self.total_peak_bytes,
            "total_peak_run": self.total_peak_run,
        }


@dataclass(frozen=True, slots=True)
class NotebookCheck:
    """One notebook. ``problem`` says why it could not be checked to its end, None if it was."""

    path: str
    options: CheckOptions
    kernel: str = ""
    cells: tuple[CellCheck, ...] = ()
    problem: Problem | None = None
    interrupted: bool = False
    duration_s: float = 0.0

    @property
    def leaking(self) -> tuple[CellCheck, ...]:
        """The cells that leak."""
        return tuple(cell for cell in self.cells if cell.leaks)

    @property
    def above_limit(self) -> tuple[CellCheck, ...]:
        """The cells that passed the limit."""
        return tuple(cell for cell in self.cells if cell.is_above(self.options.limit_bytes))

    @property
    def doubtful(self) -> tuple[CellCheck, ...]:
        """The cells of which no verdict is known although they were re-run. They fail a strict check only."""
        return tuple(cell for cell in self.cells if cell.state == "not re-runnable" or cell.is_undecided)

    @property
    def status(self) -> int:
        """The exit status for this notebook."""
        if self.interrupted:
            return INTERRUPTED
        if self.problem is not None:
            return BROKEN
        if self.leaking or self.above_limit or (self.options.strict and self.doubtful):
            return LEAKS
        return OK

    def to_dict(self) -> dict[str, Any]:
        """All fields and the status as plain values for JSON."""
        return {
            **dataclasses.asdict(self),
            "cells": [
                {**cell.to_dict(), "above_limit": cell.is_above(self.options.limit_bytes)} for cell in self.cells
            ],
            "status": self.status,
        }


def status_of(checks: Sequence[NotebookCheck]) -> int:
    """The exit status of several notebooks: the worst one."""
    return max((check.status for check in checks), default=OK)


def total_peak_bytes(run: Run) -> int:
    """The peak of a run with that of its child processes, which may have been at another moment."""
    return run.peak_bytes + run.children_peak_bytes


def reruns_wanted(verdict: Verdict | None, reruns: int) -> int:
    """How many more re-runs to make after ``reruns``, before a verdict stands.

    A cache that fills looks like a leak until it is full, some cells need one more run to be told, and a leak can look
    like a warm-up that is not over: these get half as many again. It costs nothing where nothing rises.
    """
    if verdict is None or verdict.kind in ("steady", "noisy"):
        return 0
    late = verdict.levels[len(verdict.levels) // 2 :]
    is_rising = bool(late) and late[-1] - late[0] >= MIB
    return reruns // 2 if verdict.kind != "warming" or is_rising else 0


def with_limit(verdict: Verdict, runs: Sequence[Run], limit_bytes: int | None) -> Verdict:
    """The verdict with the runs that are left until the limit of the check, where it has one, and not the machine's."""
    if limit_bytes is None or verdict.kind != "growing" or not runs:
        return verdict
    left_bytes = max(0, limit_bytes - total_peak_bytes(runs[-1]))
    return replace(verdict, runs_until_limit=left_bytes // max(1, verdict.bytes_per_run))
