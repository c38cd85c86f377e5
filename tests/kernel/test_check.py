"""``memcell check``, as a person or a CI system runs it: real notebooks, real kernels, what is said and the status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from memcell.units import MIB
from tests.lazily import Lazily

nbformat = Lazily("nbformat")

#: A library that keeps 16 MB with each call, on a function.
_LIBRARY = """
def collect(size):
    cache = collect.__dict__.setdefault("_metadata_cache", {})
    cache[len(cache)] = bytearray(size)
"""
#: A kernel in whose environment memcell is not installed.
_WITHOUT_MEMCELL = (
    "import sys; sys.modules['memcell'] = None; from ipykernel import kernelapp; kernelapp.launch_new_instance()"
)
_LEAK = "minitrace.collect(16_000_000)"


class Folder:
    """Notebooks of one test, and the command run in their folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "minitrace.py").write_text(_LIBRARY)

    def notebook(self, name: str, *cells: str, tags: dict[int, list[str]] | None = None, **metadata: Any) -> None:
        """Write a notebook; ``tags`` by the place of the cell."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata.update({"kernelspec": {"name": "python3", "display_name": "Python 3"}, **metadata})
        for place, names in (tags or {}).items():
            notebook.cells[place].metadata["tags"] = names
        nbformat.write(notebook, self.path / name)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "memcell", "check", *arguments],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts what it runs in the background with Ctrl-C ignored, and these tests may run there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def check(self, *arguments: str, reruns: int = 3) -> tuple[int, str, str]:
        """Exit status, standard output, standard error; by default as few re-runs as there can be."""
        process = self.start(f"--reruns={reruns}", *arguments)
        out, err = process.communicate(timeout=180)
        return process.returncode, out, err


@pytest.fixture
def folder(tmp_path: Path) -> object:
    yield Folder(tmp_path)
    assert _kernels_in(tmp_path) == [], "a kernel, or what it started, is left"


def _kernels_in(path: Path) -> list[str]:
    """Processes that work in a folder: kernels, and what they started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(path.resolve()):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_a_leak_is_named_with_its_culprit_and_its_fix(folder):
    folder.notebook("leaky.ipynb", "import minitrace", _LEAK, "steady = [0] * 1000")
    status, out, err = folder.check("leaky.ipynb", "--html", "page.html", reruns=6)
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == "leaky.ipynb · kernel python3 · 3 code cells"
    assert re.match(r"  cell 1   steady +import minitrace", lines[1])
    assert "growing" in lines[2]
    per_run_mib = float(re.search(r"\+([\d.]+) MiB a run", lines[2])[1])
    assert abs(per_run_mib * MIB - 16_000_000) < 2 * MIB
    assert re.search(r"held by minitrace\.collect\._metadata_cache: \d+ → \d+", lines[3])
    assert "lambda: minitrace.collect._metadata_cache.clear()" in lines[4]
    assert re.match(r"  cell 3   (steady|warming) ", lines[5])
    assert lines[6].startswith("1 notebook, 3 cells: 1 leaks, highest peak ")
    page = (folder.path / "page.html").read_text(encoding="utf-8")
    assert page.count('aria-label="Memory of cell') == 3
    assert "minitrace.collect._metadata_cache" in page


def test_a_steady_notebook_passes_also_one_that_loads_and_unloads_memcell_itself(folder):
    folder.notebook(
        "steady.ipynb",
        "%load_ext memcell\nimport numpy as np",
        "a = np.ones(4_000_000)\na.sum()",
        "%reload_ext memcell\n%unload_ext memcell",
        "b = a * 2",
    )
    status, out, err = folder.check("steady.ipynb")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("1 notebook, 4 cells: nothing leaks, highest peak ")


def test_the_notebook_sees_no_sign_of_memcell(folder):
    # No name, no extension that is listed as loaded, no number of a cell taken.
    folder.notebook(
        "plain.ipynb",
        "big = bytearray(80_000_000)",
        "names = set(globals())\n"
        "from pathlib import Path\n"
        "shell = get_ipython()\n"
        "Path('seen.txt').write_text(repr(('memcell' in names, sorted(shell.extension_manager.loaded))))\n"
        "Path('count.txt').write_text(str(len(In) - 1));",
        tags={1: ["memcell-skip"]},
    )
    status, _, _ = folder.check("plain.ipynb")
    assert status == 0
    has_name, loaded = eval((folder.path / "seen.txt").read_text())
    assert not has_name
    assert "memcell" not in loaded
    assert (folder.path / "count.txt").read_text() == "2"


def test_cells_with_the_same_source_are_told_apart(folder):
    folder.notebook("same.ipynb", "keep = []", "keep.append(bytearray(8_000_000))", "keep.append(bytearray(8_000_000))")
    status, out, _ = folder.check("same.ipynb", "--json", reruns=6)
    cells = json.loads(out)["notebooks"][0]["cells"]
    assert status == 1
    assert [cell["leaks"] for cell in cells] == [False, True, True]
    for cell in cells[1:]:
        assert cell["verdict"]["runs"] == len(cell["runs"]) == 1 + 6 + 3


def test_json_is_all_that_is_printed_also_when_the_notebook_prints_past_python(folder):
    folder.notebook("loud.ipynb", "import os\nos.system('echo loud')\nos.write(1, b'raw\\n')\nprint('said')")
    status, out, err = folder.check("loud.ipynb", "--json")
    document = json.loads(out)
    assert (status, document["status"], document["schema"], err) == (0, 0, 1, "")
    (notebook,) = document["notebooks"]
    assert (notebook["path"], notebook["kernel"], notebook["problem"]) == ("loud.ipynb", "python3", None)
    assert len(notebook["cells"][0]["runs"]) == 4


def test_a_limit_that_is_passed_is_named_with_cell_and_run(folder):
    folder.notebook("big.ipynb", "x = 1", "big = bytearray(300_000_000)\ndel big")
    status, out, _ = folder.check("big.ipynb", "--limit", "200MB")
    assert status == 1
    assert re.search(r"^  cell 2 .*\n +run \d peaked at 3\d\d\.\d MiB: .* above the limit of 190\.7 MiB", out, re.M)
    assert "1 passes the limit" in out
    assert folder.check("big.ipynb", "--limit", "1GB")[0] == 0


def test_a_child_process_counts_for_the_limit(folder):
    child = "import time; held = bytearray(b'x') * 200_000_000; print(flush=True); time.sleep(1)"
    folder.notebook(
        "parent.ipynb",
        "import subprocess, sys",
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); child.communicate();",
    )
    status, out, _ = folder.check("parent.ipynb", "--limit", "200MB", "--json")
    document = json.loads(out)
    cell = document["notebooks"][0]["cells"][1]
    assert (status, cell["above_limit"]) == (1, True)
    assert cell["peak_bytes"] < 200_000_000 < cell["total_peak_bytes"] < 500_000_000
    assert not document["notebooks"][0]["cells"][0]["above_limit"]


def test_a_cell_that_fails_only_when_it_is_run_again_is_no_leak(folder):
    folder.notebook("once.ipynb", "data = {'a': 1}", "del data['a']", "x = 1")
    status, out, _ = folder.check("once.ipynb")
    assert status == 0
    assert re.search(r"^  cell 2   cannot be re-run .*\n +run 3: KeyError: 'a'", out, re.M)
    assert "1 cannot be re-run" in out.splitlines()[-1]
    assert folder.check("once.ipynb", "--strict")[0] == 1


def test_what_a_later_cell_deletes_is_there_again_when_a_cell_is_re_run(folder):
    folder.notebook("deletes.ipynb", "data = [1]", "total = sum(data)", "del data", tags={2: ["memcell-skip"]})
    status, out, _ = folder.check("deletes.ipynb", "--strict")
    assert status == 0, out


def test_tags_are_honoured(folder):
    folder.notebook(
        "tags.ipynb",
        "runs = globals().get('runs', 0) + 1\nassert runs == 1",
        "input('who? ')",
        "raise ValueError('on purpose')",
        tags={0: ["memcell-skip"], 1: ["skip-execution"], 2: ["raises-exception"]},
    )
    status, out, _ = folder.check("tags.ipynb")
    assert status == 0
    assert [line.split("  ")[1] for line in out.splitlines()[1:4]] == ["cell 1", "cell 2", "cell 3"]
    assert "run once, as tagged" in out
    assert "not run, as tagged" in out


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["x = 1", "1 / 0", "y = 2"], "cell 2, run 1: ZeroDivisionError: division by zero\n  not checked: 2 cells"),
        (["input('who? ')"], "cell 1, run 1: it asks for input, and nobody is there to answer; tag it skip-execution"),
        (["import sys; sys.exit(3)"], "cell 1, run 1: SystemExit: 3"),
        (["x = 1", "quit()"], "cell 2, run 1: the kernel ended, as exit() and quit() make it"),
        (["def f(:"], "cell 1, run 1: SyntaxError: "),
    ],
)
def test_a_notebook_that_does_not_run_is_a_failure_of_its_own(folder, cells, words):
    folder.notebook("broken.ipynb", *cells)
    status, out, err = folder.check("broken.ipynb")
    assert (status, err) == (2, "")
    assert f"broken.ipynb: {words}" in out


def test_a_kernel_that_dies_is_named_and_the_other_notebooks_go_on(folder):
    folder.notebook(
        "dies.ipynb",
        "import os, signal, time\nruns = 0",
        "runs += 1\nbig = bytearray(200_000_000)\ntime.sleep(0.3)\nif runs == 3: os.kill(os.getpid(), signal.SIGKILL)",
        "never = 1",
    )
    folder.notebook("fine.ipynb", "x = 1")
    status, out, err = folder.check("dies.ipynb", "fine.ipynb", reruns=4)
    assert (status, err) == (2, "")
    said = re.search(r"dies\.ipynb: cell 2, run (\d): the kernel was killed \(SIGKILL\).*; (\d+) MiB at the last", out)
    assert said
    assert said[1] == "4"
    assert int(said[2]) > 190
    assert "fine.ipynb · kernel python3 · 1 code cell\n  cell 1   steady" in out


def test_a_cell_that_never_ends_is_named(folder):
    folder.notebook("never.ipynb", "x = 1", "runs = globals().get('runs', 0) + 1\nwhile runs == 2: pass", "y = 1")
    status, out, _ = folder.check("never.ipynb", "--timeout", "3")
    assert status == 2
    assert "never.ipynb: cell 2, run 2: it did not end within 3 s; allow more with --timeout" in out
    assert re.search(r"^  cell 1   steady", out, re.M), "what is known is said"


def test_a_cell_that_leaves_the_kernel_busy_is_named(folder):
    busy = "import asyncio, time\nasyncio.get_event_loop().call_soon(time.sleep, 100)"
    folder.notebook("busy.ipynb", "x = 1", busy)
    status, out, err = folder.check("busy.ipynb", "--timeout", "5")
    assert (status, err) == (2, "")
    assert "busy.ipynb: cell 2, run 1: it did not answer within 5 s; allow more with --timeout" in out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", "is no notebook: Notebook does not appear to be JSON"),
        ("", "is no notebook: "),
        ("[1, 2]", "is no notebook: it is JSON, but not laid out as a notebook"),
        ('"x"', "is no notebook: it is JSON, but not laid out as a notebook"),
        ("3", "is no notebook: it is JSON, but not laid out as a notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}', "it is JSON, but not laid out as a"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "is no notebook: "),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": 5}}, "cells": []}',
            "is no notebook: the name of its kernel is 5",
        ),
        ('{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}', "Unsupported nbformat version 9"),
        (None, "cannot be read: No such file or directory; check the path"),
    ],
)
def test_what_is_no_notebook_is_one_line(folder, content, words):
    if content is not None:
        (folder.path / "bad.ipynb").write_text(content)
    status, out, err = folder.check("bad.ipynb", ".")
    assert (status, err) == (2, "")
    first, second, last = out.splitlines()
    assert first.startswith("bad.ipynb: ")
    assert words in first
    assert second == ".: cannot be read: it is a folder; name the notebooks in it"
    assert "2 notebooks could not be checked" in last


def test_an_older_format_is_brought_up_to_date(folder):
    cell = {"cell_type": "code", "collapsed": False, "input": "x = 1", "language": "python", "outputs": []}
    old = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": [cell]}]}
    (folder.path / "old.ipynb").write_text(json.dumps(old))
    status, out, err = folder.check("old.ipynb")
    assert (status, err) == (0, "")
    assert "cell 1   steady" in out


def test_an_empty_notebook_says_so(folder):
    folder.notebook("empty.ipynb", "  \n ")
    status, out, _ = folder.check("empty.ipynb")
    assert status == 0
    assert out.splitlines()[0] == "empty.ipynb: no code cells, nothing to check"


def test_a_kernel_that_is_not_there_is_named_with_those_that_are(folder):
    folder.notebook("other.ipynb", "x = 1", kernelspec={"name": "no-such", "display_name": "no"})
    status, out, _ = folder.check("other.ipynb")
    assert status == 2
    assert "kernel 'no-such' is not installed; installed: " in out
    assert folder.check("other.ipynb", "--kernel", "python3")[0] == 0


@pytest.mark.parametrize(
    ("argv", "language", "words"),
    [
        (["Rscript", "{connection_file}"], "R", "kernel 'mine' is for R; memcell looks into Python kernels only"),
        (["/no/such/python", "{connection_file}"], "python", "kernel 'mine' does not start: "),
        ([sys.executable, "-c", "raise SystemExit('no kernel here')"], "python", "does not start: no kernel here"),
        (
            [sys.executable, "-c", _WITHOUT_MEMCELL, "-f", "{connection_file}"],
            "python",
            "kernel 'mine' cannot load memcell (ModuleNotFoundError: ",
        ),
    ],
    ids=["language", "missing", "crash", "no memcell"],
)
def test_a_kernel_that_cannot_be_used_is_named(folder, monkeypatch, argv, language, words):
    spec = folder.path / "jupyter" / "kernels" / "mine" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "mine", "language": language}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder.path / "jupyter"))
    folder.notebook("x.ipynb", "x = 1")
    status, out, err = folder.check("x.ipynb", "--kernel", "mine")
    assert (status, err) == (2, "")
    assert words in out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reruns", "2"], "'2' is not a number of re-runs from 3 on"),
        (["--reruns", "many"], "'many' is not a number of re-runs from 3 on"),
        (["--limit", "12XB"], "cannot read '12XB' as a memory size"),
        (["--html", "nowhere/page.html"], "cannot write 'nowhere/page.html'"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
def test_a_bad_option_is_told_before_anything_runs(folder, arguments, words):
    folder.notebook("x.ipynb", "open('ran', 'w')")
    status, out, err = folder.check("x.ipynb", *arguments)
    assert (status, out) == (2, "")
    assert words in err.splitlines()[-1]
    assert not (folder.path / "ran").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_what_is_known_and_takes_the_kernel_down(folder, sent):
    folder.notebook("fine.ipynb", "x = 1")
    folder.notebook(
        "slow.ipynb",
        "import subprocess\nchild = subprocess.Popen(['sleep', '1000'], start_new_session=True)",
        "open('running', 'w').close()\nwhile True: pass",
    )
    process = folder.start("fine.ipynb", "slow.ipynb", "fine.ipynb")
    deadline = time.monotonic() + 60
    while not (folder.path / "running").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "fine.ipynb · kernel python3 · 1 code cell\n  cell 1   steady" in out
    assert out.splitlines()[-1].startswith("2 notebooks, 3 cells: nothing leaks; interrupted")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_kernel_starts_it_leaves_none(folder, sent):
    folder.notebook("fine.ipynb", "x = 1")
    process = folder.start("--json", "fine.ipynb")
    deadline = time.monotonic() + 60
    while not any("ipykernel" in command for command in _kernels_in(folder.path)):
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(sent)
    process.send_signal(sent)  # in haste
    out, err = process.communicate(timeout=60)  # the fixture looks at what is left
    assert process.returncode == 130
    assert err in ("", "interrupted\n")
    assert err or json.loads(out)["notebooks"][0]["interrupted"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_has_enough_ends_it_and_the_kernel_quietly(folder, options):
    folder.notebook("fine.ipynb", "x = 1", "y = 1")
    process = folder.start(*options, "fine.ipynb", "fine.ipynb")
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=180)
    assert (process.returncode, err) == (128 + signal.SIGPIPE, "")


def test_all_that_a_notebook_started_is_gone_at_the_end(folder):
    folder.notebook(
        "children.ipynb",
        "import subprocess",
        "subprocess.Popen(['sleep', '1000'])\n"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "subprocess.Popen('sleep 1000 & exec env -i sleep 1000', shell=True);",
        tags={0: ["memcell-skip"], 1: ["memcell-skip"]},
    )
    assert folder.check("children.ipynb")[0] == 0  # the fixture looks at what is left


def test_on_a_terminal_there_is_a_bar_that_is_taken_away_again(folder):
    folder.notebook("x.ipynb", "x = 1")
    main, other = os.openpty()
    command = [sys.executable, "-m", "memcell", "check", "x.ipynb", "--reruns", "3"]
    process = subprocess.Popen(command, cwd=folder.path, stdout=subprocess.PIPE, stderr=other, text=True)
    out, _ = process.communicate(timeout=60)
    os.close(other)
    drawn = os.read(main, 100_000).decode()
    os.close(main)
    assert process.returncode == 0
    assert "[#######.......................] 1/4 cell 1, run 2: x = 1" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert "\x1b" not in out
