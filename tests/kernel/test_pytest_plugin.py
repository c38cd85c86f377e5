"""The pytest plugin, in a pytest of its own: another process, as a user starts it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lazily import Lazily

nbformat = Lazily("nbformat")


def _pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    return done.returncode, done.stdout + done.stderr


def _notebook(path: Path, *cells: str) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbformat.write(notebook, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # no configuration from above
    return tmp_path


def test_notebooks_are_tests_with_the_flag_and_only_then(folder):
    _notebook(folder / "notebooks" / "steady.ipynb", "x = 1")
    _notebook(folder / "notebooks" / "leaky.ipynb", "keep = []", "keep.append(bytearray(16_000_000))")
    _notebook(folder / "notebooks" / ".ipynb_checkpoints" / "old-checkpoint.ipynb", "1 / 0")
    status, said = _pytest(folder, "notebooks", "--memcell")
    assert status == 1
    assert "1 failed, 1 passed" in said
    assert "memcell: leaky.ipynb" in said
    assert re.search(r"cell 2 +growing · \+15\.\d MiB a run", said)
    assert "held by __main__.keep: " in said
    assert "to fix it: keep.clear()" in said
    assert "Traceback" not in said
    assert "pytest_plugin.py" not in said.partition("FAILURES")[2]
    assert _pytest(folder, "notebooks")[0] == pytest.ExitCode.NO_TESTS_COLLECTED


def test_options_go_on_to_the_check(folder):
    _notebook(folder / "big.ipynb", "big = bytearray(200_000_000)\ndel big")
    status, said = _pytest(folder, "big.ipynb", "--memcell", "--memcell-reruns=3", "--memcell-limit=100MB")
    assert status == 1
    assert "above the limit of 95.4 MiB" in said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--memcell-reruns=2", "'2' is not a number of re-runs from 3 on"),
        ("--memcell-limit=12XB", "cannot read '12XB' as a memory size"),
        ("--memcell-timeout=soon", "'soon' is not a number of seconds from 0 on"),
    ],
)
def test_a_bad_option_is_a_mistake_on_the_command_line(folder, option, words):
    status, said = _pytest(folder, "--memcell", option)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert words in said


def test_the_fixture_fails_a_test_whose_function_leaks(folder):
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "KEPT = []\n"
        "def leak(): KEPT.append(bytearray(8_000_000))\n"
        "def test_leak(memcell_steady): memcell_steady(leak, runs=6)\n"
        "def test_allowed(memcell_steady):\n"
        "    assert memcell_steady(leak, runs=6, limit_per_run='9MB').kind == 'growing'\n"
        "def test_steady(memcell_steady):\n"
        "    verdict = memcell_steady(lambda: bytearray(8_000_000), runs=6)\n"
        "    assert (verdict.kind, verdict.runs) == ('steady', 6)\n"
        "def test_error(memcell_steady):\n"
        "    with pytest.raises(ZeroDivisionError): memcell_steady(lambda: 1 / 0)\n"
    )
    status, said = _pytest(folder)
    assert status == 1
    assert "1 failed, 3 passed" in said
    assert re.search(r"^leak leaks: \+7\.\d MiB a run, over 6 runs", said, re.M)
    assert "held by test_it.KEPT: " in said
    assert "Traceback" not in said


def test_unused_it_loads_next_to_nothing(folder):
    code = (
        "import sys; import pytest; before = set(sys.modules); import memcell.pytest_plugin;"
        " print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert set(done.stdout.split()) <= {"memcell", "memcell.errors", "memcell.pytest_plugin"}
