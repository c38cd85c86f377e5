"""The ``memcell check`` command: reads its line, checks one notebook after the other, says what was found."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import memcell
from memcell import arguments
from memcell.errors import MissingLibraryError
from memcell.records.checked import BROKEN, CellCheck, CheckOptions, NotebookCheck, status_of
from memcell.view import check_text
from memcell.view.progress import ProgressBar

_NEEDS = ("nbclient", "nbformat", "ipykernel")


def add_parser(commands: Any) -> None:
    """Add ``check`` to the command line's parser."""
    parser = commands.add_parser(
        "check",
        help="re-run every cell of notebooks, and fail if one leaks or passes a limit; for CI",
        description="Runs each notebook in its own kernel, then re-runs each code cell, and says which of them leak, "
        "what holds the growth and the line that fixes it. Exit status: 0 nothing leaks, 1 a leak or a limit passed, "
        "2 a notebook that does not run, 130 interrupted. A cell tagged memcell-skip is run once and never again.",
    )
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK", help="an .ipynb file")
    parser.add_argument(
        "--reruns", type=arguments.reruns, default=6, metavar="N", help="how often each cell is run again (default: 6)"
    )
    parser.add_argument(
        "--limit",
        type=arguments.size,
        dest="limit_bytes",
        metavar="SIZE",
        help="what the kernel and its child processes may peak at, such as 2GB",
    )
    parser.add_argument(
        "--timeout",
        type=arguments.seconds,
        default=600,
        dest="timeout_s",
        metavar="SECONDS",
        help="how long one run of a cell may take (default: 600; 0 for ever)",
    )
    parser.add_argument("--kernel", metavar="NAME", help="a kernel to use in place of the notebook's own")
    parser.add_argument(
        "--strict", action="store_true", help="fail also on cells that cannot be re-run, or stay undecided"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, and nothing else")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with a curve for each cell")


def run_command(options: argparse.Namespace) -> int:
    """Check the notebooks of a command line and return the exit status.

    Raises:
        MissingLibraryError: A library of the extra ``check`` is not installed.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingLibraryError(f"it needs {', '.join(missing)}; run: pip install 'memcell[check]'")
    html: Path | None = options.html
    if html is not None and (html.is_dir() or not html.resolve().parent.is_dir()):
        print(f"memcell check: cannot write {str(html)!r}; name a file in a folder that exists", file=sys.stderr)
        return BROKEN
    asked = CheckOptions(options.reruns, options.limit_bytes, options.timeout_s or None, options.kernel, options.strict)
    checks = _check_all(options.notebooks, asked, Reporter(asked, quiet=options.json))
    status = status_of(checks)
    if options.json:
        print(json.dumps(document(checks), indent=1))
    else:
        print(check_text.summary(checks))
    if html is not None:
        from memcell.view.check_html import page

        try:
            html.write_text(page(checks), encoding="utf-8")
        except OSError as error:
            print(f"memcell check: cannot write {str(html)!r}: {error.strerror}", file=sys.stderr)
            return max(status, BROKEN)
    return status


def document(checks: list[NotebookCheck]) -> dict[str, Any]:
    """The JSON document; ``docs/check.md`` describes it."""
    return {
        "schema": 1,
        "memcell": memcell.__version__,
        "status": status_of(checks),
        "notebooks": [check.to_dict() for check in checks],
    }


def _check_all(paths: list[Path], options: CheckOptions, reporter: Reporter) -> list[NotebookCheck]:
    from memcell.check import check_notebook  # loads nbclient

    checks: list[NotebookCheck] = []
    with _ended_by_sigterm():
        for path in paths:
            checks.append(check_notebook(path, options, reporter))
            if checks[-1].interrupted:
                break
    return checks


class Reporter:
    """Prints lines as each cell is done and, on a terminal, a bar below them.

    Args:
        options: Those of the check.
        quiet: Print no lines: standard output is for something else.
    """

    def __init__(self, options: CheckOptions, *, quiet: bool) -> None:
        self._options = options
        self._quiet = quiet
        self._bar = ProgressBar(sys.stderr)

    def begin(self, path: str, kernel: str, cells: int, runs: int) -> None:
        self._bar.done, self._bar.total = 0, runs
        self._say(check_text.head(path, kernel, cells))

    def step(self, number: int, run: int, label: str) -> None:
        self._bar.draw(f"cell {number}, run {run}: {label}")
        self._bar.done += 1

    def more(self, runs: int) -> None:
        self._bar.total += runs

    def tell(self, cell: CellCheck) -> None:
        self._say(*check_text.cell_lines(cell, self._options))

    def end(self, check: NotebookCheck) -> None:
        self._bar.clear()
        self._say(*check_text.notebook_lines(check))

    def _say(self, *lines: str) -> None:
        if lines and not self._quiet:
            self._bar.clear()
            print("\n".join(lines), flush=True)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A CI system that cancels a job sends SIGTERM: the kernel must not outlive that either."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
