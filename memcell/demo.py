"""``memcell demo``: a real kernel, a real graph library, a heavy cell that is re-run without and with cleaning."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from memcell.errors import MemcellError, MissingLibraryError
from memcell.records import CleanReport, Limit, Run
from memcell.units import format_bytes
from memcell.view import html, text
from memcell.view.figure import save

_NEEDS = ("nbclient", "nbformat", "ipykernel", "igraph")
#: A cell with this tag in the notebook is run as often as the user asks.
_RERUN = "rerun"
_CELL_TIMEOUT_S = 300

_COLLECT = """
import dataclasses as _d, json as _j, memcell as _m
from memcell.session import get_session as _s
print(_j.dumps({"runs": _m.history().to_dicts(), "report": report.to_dict(), "limit": _d.asdict(_s().limit())}))
"""


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
    except OSError as error:
        raise MemcellError(f"cannot write to {str(folder)!r}: {error.strerror}; choose another with --out") from error
    runs, report, limit = _run_notebook(reruns)
    without, with_cleaning = _split(runs)
    grown = without[-1].after_bytes - without[0].before_bytes
    drifted = with_cleaning[-1].before_bytes - with_cleaning[0].before_bytes
    print(f"\nWithout cleaning, {reruns} runs of one cell:\n\n{text.runs_table(without)}")
    print(f"\n%memclean gave back {format_bytes(report.freed_bytes)}:\n\n{text.clean_table(report)}")
    print(f"\nWith cleaning after each run, {reruns} more:\n\n{text.runs_table(with_cleaning)}")
    print(
        f"\nWithout cleaning the kernel grew by {format_bytes(grown)} in {reruns} runs. Cleaning gave back"
        f" {format_bytes(report.freed_bytes)}. With cleaning it moved by {format_bytes(drifted, sign=True)}"
        f" from the first run to the last of {reruns}."
    )
    page, picture = folder / "memcell-demo.html", folder / "memcell-demo.png"
    sections = [("What %memclean gave back", html.clean_table_html(report))]
    page.write_text(html.page(runs, title="memcell demo", limit=limit, sections=sections), encoding="utf-8")
    save(runs, picture, limit)
    print(f"\nWritten: {page.resolve()}\n         {picture.resolve()}")


def _split(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """The runs of the heavy cell without and with cleaning: one source, run more often than any other."""
    heavy, _ = Counter(run.source_hash for run in runs).most_common(1)[0]
    heavy_runs = [run for run in runs if run.source_hash == heavy]
    return heavy_runs[: len(heavy_runs) // 2], heavy_runs[len(heavy_runs) // 2 :]


def _run_notebook(reruns: int) -> tuple[list[Run], CleanReport, Limit]:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    source = resources.files("memcell").joinpath("demo.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(source, as_version=4)
    client = NotebookClient(
        notebook, timeout=_CELL_TIMEOUT_S, kernel_name="python3", extra_arguments=["--log-level=ERROR"]
    )
    collect = nbformat.v4.new_code_cell(_COLLECT)
    notebook.cells.append(collect)
    times = [reruns if _RERUN in cell.metadata.get("tags", ()) else 1 for cell in notebook.cells]
    with client.setup_kernel():
        done = 0
        for index, cell in enumerate(notebook.cells):
            for _ in range(times[index] if cell.cell_type == "code" else 0):
                try:
                    client.execute_cell(cell, index)
                except (CellExecutionError, DeadKernelError) as error:
                    raise MemcellError(f"the demo's cell {cell.id!r} failed: {error}") from error
                done += 1
                _show_progress(done, sum(times), cell)
    collected = json.loads(collect.outputs[0].text)
    return (
        [Run.from_dict(run) for run in collected["runs"]],
        CleanReport.from_dict(collected["report"]),
        Limit(**collected["limit"]),
    )


def _show_progress(done: int, total: int, cell: Any) -> None:
    if sys.stdout.isatty():
        width = 30
        filled = width * done // total
        print(f"\r[{'#' * filled}{'.' * (width - filled)}] {done}/{total} {cell.id:<14}", end="", flush=True)
    elif _RERUN in cell.metadata.get("tags", ()):
        print(f"{done}/{total} {cell.id}", flush=True)
