"""``memcell check``: runs notebooks, re-runs each cell, and says which of them leak.

A notebook first runs from top to bottom, as it is meant to. Then each cell in its turn is run again several times, in
order: when a cell's turn comes those above it have just been run again, so what they define is there even where a cell
below has deleted it. ``docs/decisions/010-cells-are-re-run-in-order-after-the-whole-notebook.md`` compares the orders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from memcell.errors import NotebookError
from memcell.notebook import (
    ENDED_BY_ITSELF,
    CellFailedError,
    CellTimeoutExpiredError,
    KernelDiedError,
    NotebookKernel,
    read_notebook,
)
from memcell.records.checked import (
    CellCheck,
    CellState,
    CheckOptions,
    NotebookCheck,
    Problem,
    ProblemKind,
    reruns_wanted,
    with_limit,
)
from memcell.records.explained import Verdict
from memcell.records.measured import Run
from memcell.runs import first_line

#: nbclient's own tag: such a cell is not run at all.
SKIP_TAG = "skip-execution"
#: memcell's tag: such a cell is run once, with the notebook.
ONCE_TAG = "memcell-skip"


class Progress(Protocol):
    """Is told how a check goes on."""

    def begin(self, path: str, kernel: str, cells: int, runs: int) -> None:
        """A notebook's kernel has started. It has so many code cells, and so many runs are to come."""

    def step(self, number: int, run: int, label: str) -> None:
        """A cell begins to run, the how-many-eth time."""

    def more(self, runs: int) -> None:
        """So many further runs are to come."""

    def tell(self, cell: CellCheck) -> None:
        """A cell is done."""

    def end(self, check: NotebookCheck) -> None:
        """The notebook is done."""


def check_notebook(path: Path, options: CheckOptions, progress: Progress) -> NotebookCheck:
    """Check one notebook. Whatever is wrong with it is in the record that comes back; Ctrl-C too."""
    check = _Checking(path, options, progress).check()
    progress.end(check)
    return check


class _StopError(Exception):
    """The notebook cannot go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Cell:
    """A cell that is being checked."""

    number: int
    index: int
    key: str
    label: str
    state: CellState
    begun: int = 0
    runs: list[Run] = field(default_factory=list)
    verdict: Verdict | None = None
    problem: Problem | None = None

    def record(self) -> CellCheck:
        return CellCheck(
            self.number, self.index, self.key, self.label, self.state, tuple(self.runs), self.verdict, self.problem
        )


class _Checking:
    """The check of one notebook."""

    def __init__(self, path: Path, options: CheckOptions, progress: Progress) -> None:
        self._path = path
        self._options = options
        self._progress = progress
        self._cells: list[_Cell] = []
        self._kernel_name = ""
        self._latest: _Cell | None = None

    def check(self) -> NotebookCheck:
        began = time.monotonic()
        problem: Problem | None = None
        interrupted = False
        try:
            self._check()
        except _StopError as stop:
            problem = stop.problem
        except KeyboardInterrupt:
            interrupted = True
        return NotebookCheck(
            path=str(self._path),
            options=self._options,
            kernel=self._kernel_name,
            cells=tuple(cell.record() for cell in self._cells),
            problem=problem,
            interrupted=interrupted,
            duration_s=time.monotonic() - began,
        )

    def _check(self) -> None:
        try:
            notebook = read_notebook(self._path)
        except NotebookError as error:
            raise _StopError(Problem("notebook", str(error))) from error
        self._cells = find_cells(notebook)
        options = self._options
        kernel = NotebookKernel(
            notebook, self._path.resolve().parent, kernel_name=options.kernel, timeout_s=options.timeout_s
        )
        self._kernel_name = kernel.name
        again = sum(cell.state == "not checked" for cell in self._cells)
        once = sum(cell.state == "once" for cell in self._cells)
        if not again and not once:
            return
        try:
            with kernel:
                self._attach(kernel)
                runs = again * (1 + options.reruns) + once
                self._progress.begin(str(self._path), kernel.name, len(self._cells), runs)
                self._run_once(kernel)
                self._run_again(kernel)
        except KernelDiedError as error:
            raise _StopError(self._final("died", str(error), kernel)) from error
        except CellTimeoutExpiredError as error:
            raise _StopError(self._final("timeout", f"it {error}; allow more with --timeout", kernel)) from error
        except NotebookError as error:
            raise _StopError(Problem("kernel", str(error))) from error

    def _attach(self, kernel: NotebookKernel) -> None:
        try:
            kernel.ask("m.begin()")
        except (KernelDiedError, CellTimeoutExpiredError):
            raise
        except NotebookError as error:
            raise NotebookError(
                f"kernel {kernel.name!r} cannot load memcell ({error}); install the same memcell where that kernel runs"
            ) from error

    def _run_once(self, kernel: NotebookKernel) -> None:
        for cell in self._cells:
            if cell.state == "skipped":
                continue
            problem = self._run(kernel, cell)
            if problem is not None:
                cell.state = "failed"
                raise _StopError(problem)

    def _run_again(self, kernel: NotebookKernel) -> None:
        for cell in self._cells:
            if cell.state == "not checked":
                wanted = self._options.reruns
                if self._repeat(kernel, cell, wanted):
                    more = reruns_wanted(cell.verdict, wanted)
                    if more:
                        self._progress.more(more)
                        self._repeat(kernel, cell, more)
            self._progress.tell(cell.record())

    def _repeat(self, kernel: NotebookKernel, cell: _Cell, times: int) -> bool:
        """Run a cell again and judge it; tells whether it could be run."""
        state: CellState = "checked"
        for _ in range(times):
            cell.problem = self._run(kernel, cell)
            if cell.problem is not None:
                state = "not re-runnable"
                break
        verdict = kernel.ask(f"m.verdict({cell.key!r})")
        if verdict is not None:
            cell.verdict = with_limit(Verdict.from_dict(verdict), cell.runs, self._options.limit_bytes)
        cell.state = state
        return cell.problem is None

    def _run(self, kernel: NotebookKernel, cell: _Cell) -> Problem | None:
        """Run a cell once; returns its error, if it raises one."""
        cell.begun += 1
        self._latest = cell
        self._progress.step(cell.number, cell.begun, cell.label)
        problem: Problem | None = None
        try:
            kernel.run(cell.index, cell.key)
        except CellFailedError as error:
            kind: ProblemKind = "error"
            message = str(error)
            if error.name == "StdinNotImplementedError":
                kind = "input"
                message = f"it asks for input, and nobody is there to answer; tag it {SKIP_TAG}, or give it a value"
            problem = Problem(kind, message, cell.number, cell.begun, kernel.level_bytes)
        answer = kernel.ask(f"m.last_run({cell.key!r})")
        if answer["run"] is not None:
            cell.runs.append(Run.from_dict(answer["run"]))
        if answer["exits"]:  # the kernel goes a moment later, in another cell's run
            raise _StopError(self._final("died", ENDED_BY_ITSELF, kernel))
        return problem

    def _final(self, kind: ProblemKind, message: str, kernel: NotebookKernel) -> Problem:
        """A problem after which the kernel is of no use: it is the latest cell's."""
        cell = self._latest
        if cell is None:
            return Problem(kind, message, level_bytes=kernel.level_bytes)
        cell.state = "failed"
        return Problem(kind, message, cell.number, cell.begun, kernel.level_bytes)


def find_cells(notebook: Any) -> list[_Cell]:
    """The code cells that have a source, and what is to be done with each."""
    cells: list[_Cell] = []
    keys: set[str] = set()
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        number = len(cells) + 1
        key = cell.get("id") or ""
        if not key or key in keys:  # before format 4.5 cells had none, and a copied cell may keep its model's
            key = f"cell-{number}-of-{index}"
        keys.add(key)
        tags = cell.metadata.get("tags", [])
        state: CellState = "skipped" if SKIP_TAG in tags else "once" if ONCE_TAG in tags else "not checked"
        cells.append(_Cell(number, index, key, first_line(cell.source), state))
    return cells
