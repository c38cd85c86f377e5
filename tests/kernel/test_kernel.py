"""memcell in real kernels without a live front end: lines, pictures, outcomes, children, and the end of a kernel."""

from __future__ import annotations

import base64
import io
import re
import time

import psutil
import pytest
from PIL import Image

from memcell.units import MIB
from tests.kernel.kernels import Kernel

_WATCHER = "__import__('memcell.session').session.get_session()._sampler.pid"
_CHILD = "import time; b = bytearray(b'x') * (300 << 20); time.sleep(0.6)"


def test_the_oldest_supported_versions_are_tested_with_the_wheel(kernel, request):
    if "oldest" in request.node.callspec.id:
        assert kernel.value("__import__('IPython').__version__").startswith("8.12.")
        assert kernel.value("__import__('ipykernel').__version__").startswith("6.")
        assert "site-packages" in kernel.value("__import__('memcell').__file__")


def test_a_light_cell_says_nothing(kernel):
    result = kernel.run("x = 1")
    assert result.status == "ok"
    assert not result.data
    assert not result.stdout
    assert not result.stderr


def test_a_heavy_cell_says_its_line(kernel):
    result = kernel.run("heavy = bytearray(b'x') * (64 << 20)")
    (data,) = result.data
    assert set(data) == {"text/plain", "text/html"}
    assert re.fullmatch(r"\[\d+\] \+6[34]\.\d MiB kept · peak \+6[345]\.\d MiB · .* · kernel .*", data["text/plain"])
    run = kernel.last_run()
    assert f"[{run['number']}]" in data["text/plain"]
    assert run["number"] == kernel.value("len(In) - 1")
    assert kernel.run("del heavy").lines[0].split("] ")[1].startswith("64.0 MiB freed")


def test_the_value_of_a_cell_comes_before_its_line(kernel):
    result = kernel.run("spike = bytearray(b'x') * (64 << 20); del spike; 42")
    first, second = result.data
    assert first["text/plain"] == "42"
    assert re.search(r"peak \+6[345]\.\d MiB", second["text/plain"])


def test_a_watched_cell_leaves_a_line_and_a_picture_and_no_widget(kernel):
    result = kernel.run("%%memwatch -o watched\nimport time\ntime.sleep(0.3)")
    line, picture = result.data
    assert "kept · peak" in line["text/plain"]
    assert "text/html" not in picture
    with Image.open(io.BytesIO(base64.b64decode(picture["image/png"]))) as image:
        assert image.width > 300
        assert image.mode == "RGB" or image.getchannel("A").getextrema() == (255, 255)
    assert not result.contents("comm_open")
    assert kernel.value("'ipywidgets' in __import__('sys').modules") is False
    assert kernel.value("watched.source_line") == "import time"


def test_what_memcell_loads_for_a_picture_is_nobodys_growth(kernel):
    kernel.run("%%memwatch\npass")
    kernel.run("pass")
    run = kernel.last_run()
    assert abs(run["after_bytes"] - run["before_bytes"]) < 8 * MIB


def test_a_watched_cell_can_await(kernel):
    result = kernel.run("%%memwatch -q -o awaited\nimport asyncio\nawait asyncio.sleep(0.3)\n'awake'")
    assert [data["text/plain"] for data in result.data] == ["'awake'"]
    assert 0.25 < kernel.value("awaited.duration_s") < 2
    assert kernel.value("awaited.outcome") == "ok"


@pytest.mark.parametrize(
    "cell",
    [
        "import time\nprint('here', flush=True)\ntime.sleep(30)",
        "import asyncio\nprint('here', flush=True)\nfor _ in range(100): await asyncio.sleep(0.1)",
        "%%memwatch -q\nimport asyncio\nprint('here', flush=True)\nfor _ in range(100): await asyncio.sleep(0.1)",
    ],
    ids=["sleep", "await", "watched await"],
)
def test_an_interrupted_cell_is_recorded_as_such_and_the_kernel_lives(kernel, cell):
    sent = kernel.send(cell)
    kernel.wait_for_output(sent, "here")
    time.sleep(0.2)
    kernel.manager.interrupt_kernel()
    assert kernel.collect(sent).status == "error"
    assert kernel.last_run()["outcome"] == "interrupted"
    assert kernel.run("6 * 7").data[0]["text/plain"] == "42"
    assert kernel.last_run()["outcome"] == "ok"


def test_ctrl_c_skips_the_cleaner_that_runs_and_the_rest_still_run(kernel):
    setup = kernel.run(
        "import memcell, time\n"
        "called = []\n"
        "def slow():\n    print('here', flush=True)\n    time.sleep(10)\n"
        "memcell.register('slow', slow)\n"
        "_ = memcell.register('after', lambda: called.append('after'))"
    )
    assert setup.status == "ok", setup.error
    sent = kernel.send("%memclean -o report")
    kernel.wait_for_output(sent, "here")
    time.sleep(0.2)
    kernel.manager.interrupt_kernel()
    result = kernel.collect(sent, timeout_s=9)
    assert result.status == "ok"
    assert kernel.value("called") == ["after"]
    outcomes = dict(kernel.value("[(outcome.name, outcome.error) for outcome in report.outcomes]"))
    assert outcomes["slow"] == "skipped by Ctrl-C"
    assert {name for name, error in outcomes.items() if error} == {"slow"}
    assert "skipped by Ctrl-C" in result.lines[0]
    kernel.run("memcell.unregister('slow'); memcell.unregister('after')")


def test_the_peak_of_a_child_is_in_the_record(kernel):
    cell = f"import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', {_CHILD!r}])"
    line = kernel.run(cell).lines[0]
    assert "children peak" in line
    growth = kernel.last_run()["children_peak_bytes"] - kernel.last_run()["children_before_bytes"]
    interpreter_bytes = 12 * MIB
    assert 300 * MIB * 0.95 <= growth - interpreter_bytes / 2 <= 300 * MIB * 1.05


def test_records_show_themselves_as_tables(kernel):
    assert "text/html" in kernel.run("memcell.history()").data[0]
    assert "text/html" in kernel.run("memcell.clear_caches()").data[0]
    assert "image/png" in kernel.run("memcell.history().plot()").data[0]


def test_a_cell_that_forks_is_recorded_and_the_child_stays_out_of_it(kernel):
    result = kernel.run(
        "import os\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    with memcell.watch('child') as in_child:\n"
        "        block = bytearray(b'x') * (64 << 20)\n"
        "    os._exit(0 if in_child.run.retained_bytes > 60 << 20 else 1)\n"
        "os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])"
    )
    assert result.data[0]["text/plain"] == "0"
    assert kernel.last_run()["source_line"] == "import os"


def test_unloading_inside_a_watched_cell(kernel):
    result = kernel.run("%%memwatch\n%unload_ext memcell\n'still here'")
    assert result.status == "ok"
    assert any(data.get("text/plain") == "'still here'" for data in result.data)
    assert kernel.value("memcell.history()[-1].source_line") == "%unload_ext memcell"
    assert not kernel.run("heavy = bytearray(b'x') * (64 << 20); del heavy").data
    assert kernel.run("%load_ext memcell").status == "ok"
    assert kernel.run("heavy = bytearray(b'x') * (64 << 20); del heavy").lines


@pytest.mark.parametrize("how", ["shut down", "killed"])
def test_the_watcher_ends_with_the_kernel(python, tmp_path, how):
    with Kernel(python, tmp_path) as kernel:
        kernel.run("%load_ext memcell")
        kernel.run("import time; time.sleep(0.1)")
        watcher = psutil.Process(kernel.value(_WATCHER))
        assert watcher.is_running()
        if how == "killed":
            kernel.manager.signal_kernel(9)
    psutil.wait_procs([watcher], timeout=5)
    assert not watcher.is_running() or watcher.status() == psutil.STATUS_ZOMBIE
