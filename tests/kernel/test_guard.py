"""Cells that run out of memory in real kernels: they are stopped, and the kernel and its variables are still there."""

from __future__ import annotations

import os
import signal
import sys
import time

import psutil
import pytest

from memcell.units import MIB
from tests.kernel.control_groups import own_group, small_group
from tests.kernel.kernels import CellResult, Kernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watcher reads /proc")

#: The base of a kernel is 40 to 60 MiB. A cell that is not stopped ends at 1000.
LIMIT = 400
_BLOCK = "b'x' * (1 << 20)"
_DATA_LIMIT = "__import__('resource').getrlimit(__import__('resource').RLIMIT_DATA)"

CELLS = {
    "list": f"data = []\nwhile len(data) < 1000: data.append({_BLOCK})",
    "function": f"def make():\n    held = [{_BLOCK} for _ in range(1000)]\n    return held\nmake()",
    "bare except": (
        f"data = []\nwhile len(data) < 1000:\n    try:\n        data.append({_BLOCK})\n    except:\n        pass"
    ),
    "await": (
        f"import asyncio\ndata = []\nfor _ in range(1000):\n    data.append({_BLOCK})\n    await asyncio.sleep(0)"
    ),
    "generator": f"def blocks():\n    for _ in range(1000):\n        yield {_BLOCK}\ndata = list(blocks())",
    "threads": (
        f"import threading\ndata = []\ndef fill():\n    for _ in range(500): data.append({_BLOCK})\n"
        "threads = [threading.Thread(target=fill) for _ in range(2)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()"
    ),
}


def shown(result: CellResult) -> str:
    """All that a stopped cell says: in its error, or in memcell's line below another one."""
    return "\n".join([result.error, *result.lines])


@pytest.fixture(scope="module")
def limited(kernel):
    assert kernel.run(f"%memlimit {LIMIT}MiB").status == "ok"
    yield kernel
    kernel.run("%memlimit auto")


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_fills_memory_is_stopped_and_the_kernel_goes_on(limited, name):
    limited.run("precious = 'still here'; data = None")
    pid = limited.value("__import__('os').getpid()")
    result = limited.run(CELLS[name], timeout_s=120)
    assert result.status == "error"
    assert "was stopped" in shown(result)
    assert f"of {LIMIT}.0 MiB (%memlimit)" in shown(result)
    assert limited.last_run()["outcome"] == "limit"
    following = limited.run("data = None\n6 * 7")
    assert following.status == "ok"
    assert "42" in [data["text/plain"] for data in following.data]
    assert limited.value("precious") == "still here"
    assert limited.value("__import__('os').getpid()") == pid
    assert limited.value(_DATA_LIMIT) == (-1, -1)


def test_the_error_names_what_is_large_and_what_to_try(limited):
    error = limited.run(CELLS["list"], timeout_s=120).error
    limited.run("data = None")
    assert error.startswith("MemoryLimitExceeded: ")
    assert "largest variables: data " in error
    for word in ("%memtop", "%memclean", "--isolate", "%memlimit", "has grown by"):
        assert word in error


def test_the_memory_of_a_stopped_function_comes_back_before_the_next_cell(limited):
    assert limited.run(CELLS["function"], timeout_s=120).status == "error"
    limited.run("pass")
    run = limited.last_run()
    assert run["before_bytes"] < 200 * MIB


def test_c_code_that_keeps_the_interpreter_is_refused_memory(limited):
    result = limited.run("data = list(range(60_000_000))", timeout_s=180)  # 2.3 GiB
    assert result.status == "error"
    assert "was stopped" in shown(result)
    assert limited.last_run()["outcome"] == "limit"
    assert limited.last_run()["peak_bytes"] < 1900 * MIB  # the watcher, too, waits for a processor that is free
    assert limited.run("data = None; 1").status == "ok"
    assert limited.value(_DATA_LIMIT) == (-1, -1)


def test_one_call_of_c_code_that_could_not_be_stopped_is_called_that(limited):
    result = limited.run("data = [0] * (70 << 20)")  # 560 MiB in one allocation, which is allowed before it is filled
    assert result.status == "ok"
    assert "one call of C code could not be stopped in time: the limit of 400.0 MiB (%memlimit)" in shown(result)
    assert "largest variables: data 560.0 MiB" in shown(result)
    assert limited.run("data = None; 1").status == "ok"


def test_a_child_that_grows_stops_the_cell_that_waits_for_it(limited):
    child = f"data = []\nwhile len(data) < 1000: data.append({_BLOCK})\nimport time; time.sleep(60)"
    result = limited.run(f"import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', {child!r}])", timeout_s=50)
    assert result.status == "error"
    assert "child processes hold" in shown(result)
    assert limited.last_run()["outcome"] == "limit"


def test_the_next_cell_can_use_the_thread_pool_of_a_stopped_one(limited):
    result = limited.run(
        "import concurrent.futures, time\ndata = []\n"
        "def work(_): data.append(b'x' * (16 << 20)); time.sleep(0.02)\n"
        "pool = concurrent.futures.ThreadPoolExecutor(4)\n_ = list(pool.map(work, range(60)))",
        timeout_s=60,
    )
    assert "was stopped" in shown(result)
    limited.run("data.clear()")
    assert (
        "[0, 1, 2, 3, 4, 5, 6, 7]" in limited.run("list(pool.map(abs, range(8)))", timeout_s=20).data[-1]["text/plain"]
    )
    limited.run("pool.shutdown()")


def test_a_cell_that_stays_below_is_left_alone(limited):
    assert limited.run(f"data = [{_BLOCK} for _ in range(150)]; data = None; 'whole'").status == "ok"
    assert limited.last_run()["outcome"] == "ok"


def test_one_cell_can_have_a_limit_of_its_own(kernel):
    kernel.run("%memlimit auto")
    result = kernel.run(f"%%memwatch -q --limit {LIMIT}MiB\n{CELLS['list']}", timeout_s=120)
    assert result.error.startswith("MemoryLimitExceeded: ")
    assert "(this run)" in result.error
    kernel.run("data = None")
    assert kernel.run(f"data = [{_BLOCK} for _ in range({LIMIT + 50})]; data = None").status == "ok"


def test_ctrl_c_still_is_what_it_was(limited):
    sent = limited.send("import time\nprint('here', flush=True)\ntime.sleep(30)")
    limited.wait_for_output(sent, "here")
    limited.manager.interrupt_kernel()
    assert limited.collect(sent).error.startswith("KeyboardInterrupt")
    assert limited.last_run()["outcome"] == "interrupted"


def test_cells_stopped_in_a_row_leave_no_signal_behind(limited):
    """Each is stopped near its end, so that a late signal would hit the time between the cells."""
    for _ in range(15):
        limited.run(f"data = []\nfor _ in range(345): data.append({_BLOCK})", timeout_s=60)
        assert limited.run("data = None; 6 * 7").status == "ok"
    for number in (signal.SIGURG, signal.SIGINT):
        os.kill(limited.value("__import__('os').getpid()"), number)
    time.sleep(0.2)
    assert limited.run("'alive'").status == "ok"


def test_a_watcher_that_is_killed_is_started_again_once_and_both_times_said(python, tmp_path):
    with Kernel(python, tmp_path) as kernel:
        kernel.run("%load_ext memcell")
        kernel.run("1")
        said = []
        for _ in range(2):
            watcher = psutil.Process(kernel.value("__import__('memcell.session').session._session._sampler.pid"))
            watcher.kill()
            psutil.wait_procs([watcher], timeout=5)
            said.append(kernel.run("2").stderr)
            assert kernel.run("3").stderr == ""
        assert "is started again" in said[0]
        assert "no cell is stopped" in said[1]
        assert " %reload_ext memcell" in said[1]
        assert "no process watches this one" in kernel.run("%memlimit").stdout
        assert kernel.run("%reload_ext memcell").status == "ok"
        assert "stops the cell" in kernel.run("%memlimit").stdout


@pytest.mark.skipif(own_group() is None, reason="no right to make a control group (v1) here")
def test_by_default_a_cell_is_stopped_before_the_limit_of_its_control_group(python, tmp_path):
    with small_group(500 * MIB) as group, Kernel(python, tmp_path) as kernel:
        pid = kernel.value("__import__('os').getpid()")
        (group / "cgroup.procs").write_text(str(pid))
        kernel.run("%load_ext memcell")
        assert "500.0 MiB (cgroup" in kernel.run("%memlimit").stdout
        kernel.run("precious = 'still here'")
        result = kernel.run(
            f"import time\ndata = []\nwhile True: data.append({_BLOCK}); time.sleep(0.001)", timeout_s=60
        )
        assert "MemoryLimitExceeded" in result.error
        assert "was stopped" in shown(result)
        assert kernel.value("precious") == "still here"
        assert kernel.value("__import__('os').getpid()") == pid
