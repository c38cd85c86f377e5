"""The demo notebook is a test, and ``memcell demo`` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import resources

import pytest

from tests.kernel.environments import CHECKOUT
from tests.lazily import Lazily

Image = Lazily("PIL.Image")
nbclient = Lazily("nbclient")
nbformat = Lazily("nbformat")


@pytest.fixture
def notebook():
    return nbformat.reads(resources.files("memcell").joinpath("demo.ipynb").read_text(encoding="utf-8"), as_version=4)


def test_the_committed_notebook_is_valid_and_has_no_outputs(notebook):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert (CHECKOUT / "notebooks" / "demo.ipynb").resolve() == (CHECKOUT / "memcell" / "demo.ipynb")


def test_the_notebook_runs(notebook, tmp_path):
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    heavy = next(found for source, found in outputs.items() if source.startswith("graph ="))
    assert any("kept · peak" in output.get("data", {}).get("text/plain", "") for output in heavy)
    report = outputs["%memclean -o report"][0].data["text/plain"]
    freed_mib = float(re.search(r"^graphs +([\d.]+) MiB", report, re.MULTILINE)[1])
    assert freed_mib > 50
    assert "image/png" in outputs["memcell.history().plot()"][0].data


def test_the_command_prints_the_runs_and_writes_a_page_and_a_picture(tmp_path):
    command = [sys.executable, "-m", "memcell", "demo", "--runs", "2", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "Without cleaning, 2 runs" in done.stdout
    assert "With cleaning after each run, 2 more" in done.stdout
    gave_back_mib = float(re.search(r"%memclean gave back ([\d.]+) MiB", done.stdout)[1])
    assert gave_back_mib > 100
    with Image.open(tmp_path / "out" / "memcell-demo.png") as image:
        image.verify()
    page = (tmp_path / "out" / "memcell-demo.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "graph = igraph.Graph.Erdos_Renyi" in page


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "memcell", "demo", "--out", str(tmp_path / "file" / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("memcell demo: cannot write to")
    assert len(done.stderr.splitlines()) == 1
