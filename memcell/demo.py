"""``memcell demo``: a real kernel, a real graph library, a heavy cell that is re-run without and with cleaning."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from memcell.errors import MemcellError, MissingLibraryError, NotebookError
from memcell.records.cleaned import CleanReport
from memcell.records.measured import Limit, Run
from memcell.units import format_bytes
from memcell.view import tables
from memcell.view.figure import save
from memcell.view.html import page, table_html
from memcell.view.progress import ProgressBar
from memcell.view.text import table_text

_NEEDS = ("nbclient", "nbformat", "ipykernel", "igraph")
#: A cell with this tag in the notebook is run as often as the user asks.
_RERUN = "rerun"
_CELL_TIMEOUT_S = 300

#: What the kernel is asked at the end; ``report`` is the notebook's variable.
_COLLECT = "{'runs': m.runs(), 'limit': m.limit(), 'report': report.to_dict()}"


def run_demo(reruns: int, folder: Path) -> None:
    """Run the demo notebook and show what came back.

    Args:
        reruns: How often the heavy cell is run without cleaning, and again with it.
        folder: Where the page and the picture are written.

    Raises:
        MissingLibraryError: A library of the extra ``demo`` is not installed.
        MemcellError: The notebook failed, or the folder cannot be written.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingLibraryError(f"the demo needs {', '.join(missing)}; run: pip install 'memcell[demo]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # it can be written to
    except OSError as error:
        raise MemcellError(f"cannot write to {str(folder)!r}: {error.strerror}; choose another with --out") from error
    runs, report, limit = _run_notebook(reruns)
    without, with_cleaning = _split(runs)
    grown = without[-1].after_bytes - without[0].before_bytes
    drifted = with_cleaning[-1].before_bytes - with_cleaning[0].before_bytes
    print(f"\nWithout cleaning, {reruns} runs of one cell:\n\n{table_text(tables.runs(without))}")
    print(f"\n%memclean gave back {format_bytes(report.freed_bytes)}:\n\n{table_text(tables.clean_report(report))}")
    print(f"\nWith cleaning after each run, {reruns} more:\n\n{table_text(tables.runs(with_cleaning))}")
    print(
        f"\nWithout cleaning the kernel grew by {format_bytes(grown)} in {reruns} runs. Cleaning gave back"
        f" {format_bytes(report.freed_bytes)}. With cleaning it moved by {format_bytes(drifted, sign=True)}"
        f" from the first run to the last of {reruns}."
    )
    html, picture = folder / "memcell-demo.html", folder / "memcell-demo.png"
    sections = [("What %memclean gave back", table_html(tables.clean_report(report)))]
    html.write_text(page(runs, title="memcell demo", limit=limit, sections=sections), encoding="utf-8")
    save(runs, picture, limit)
    print(f"\nWritten: {html.resolve()}\n         {picture.resolve()}")


def _split(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """The runs of the heavy cell without and with cleaning: one source, run more often than any other."""
    heavy, _ = Counter(run.source_hash for run in runs).most_common(1)[0]
    heavy_runs = [run for run in runs if run.source_hash == heavy]
    return heavy_runs[: len(heavy_runs) // 2], heavy_runs[len(heavy_runs) // 2 :]


def _run_notebook(reruns: int) -> tuple[list[Run], CleanReport, Limit]:
    from memcell.notebook import DEFAULT_KERNEL, NotebookKernel, parse_notebook  # loads nbclient

    notebook = parse_notebook(resources.files("memcell").joinpath("demo.ipynb").read_text(encoding="utf-8"))
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    runs = [(index, cell) for index, cell in cells for _ in range(reruns if _is_rerun(cell) else 1)]
    bar = ProgressBar(sys.stdout, len(runs))
    kernel = NotebookKernel(notebook, Path.cwd(), kernel_name=DEFAULT_KERNEL, timeout_s=_CELL_TIMEOUT_S)
    with kernel:
        for done, (index, cell) in enumerate(runs, 1):
            try:
                kernel.run(index, cell.id)
            except NotebookError as error:
                raise MemcellError(f"the demo's cell {cell.id!r} failed: {error}") from error
            bar.done = done
            bar.draw(cell.id)
            if not sys.stdout.isatty() and _is_rerun(cell):
                print(f"{done}/{len(runs)} {cell.id}", flush=True)
        collected = kernel.ask(_COLLECT)
    bar.clear()
    return (
        [Run.from_dict(run) for run in collected["runs"]],
        CleanReport.from_dict(collected["report"]),
        Limit(**collected["limit"]),
    )


def _is_rerun(cell: Any) -> bool:
    return _RERUN in cell.metadata.get("tags", ())
