"""Isolated cells in real kernels: what they show, what comes back, how they end, and what they leave: nothing."""

from __future__ import annotations

import time

import psutil
import pytest

from memcell.units import MIB
from tests.kernel.kernels import Kernel

_ISOLATE = "%%memwatch --isolate -q"
#: As if a library were loaded that cannot be forked.
_HAZARD = "import sys, types; sys.modules['polars'] = types.ModuleType('polars')"
_NO_HAZARD = "import sys; _ = sys.modules.pop('polars', None)"


@pytest.fixture
def isolate(kernel):
    """Runs a cell isolated; afterwards the kernel must be as it was."""

    def run(code, keep="", timeout_s=60):
        return kernel.run(f"{_ISOLATE}{' --keep ' * bool(keep)}{keep}\n{code}", timeout_s)

    kernel.run("import os, sys, time\nimport numpy as np\nx = 5\nbase = np.ones(1000)\nclass Point: pass")
    before = kernel.value("len(os.listdir('/proc/self/fd'))")
    yield run
    assert kernel.value("x, float(base[0])") == (5, 1.0)
    assert kernel.value("__import__('psutil').Process().children(recursive=True)") == []
    assert kernel.value("len(os.listdir('/proc/self/fd'))") <= before + 3  # the kernel's own first use of a stream


def test_output_appears_in_its_order(isolate):
    result = isolate(
        "print('one', x)\ndisplay('two')\nprint('three', file=sys.stderr)\n"
        "h = display('four', display_id='d')\nh.update('five')\nx = 6\nx"
    )
    assert result.status == "ok"
    types = [message["msg_type"] for _, message in result.messages if message["msg_type"] not in ("status",)]
    assert types[1:] == ["stream", "display_data", "stream", "display_data", "update_display_data", "execute_result"]
    assert result.stdout == "one 5\n"
    assert result.stderr == "three\n"
    (value,) = result.contents("execute_result")
    assert value["data"] == {"text/plain": "6"}


def test_the_number_and_the_value_are_those_of_the_cell(isolate, kernel):
    result = isolate("7")
    (value,) = result.contents("execute_result")
    assert value["execution_count"] == kernel.value("len(In) - 1")
    kernel.run("8")
    isolate("9")
    assert kernel.value("_") == 8


@pytest.fixture
def watching_kernel(python, tmp_path, monkeypatch):
    """A kernel that looks at the descriptors 1 and 2, as all do that are not started by pytest."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with Kernel(python, tmp_path) as kernel:
        kernel.run("%load_ext memcell")
        yield kernel


def test_text_that_comes_by_the_descriptors(watching_kernel):
    result = watching_kernel.run(
        f"{_ISOLATE}\nimport ctypes, os, subprocess\nos.write(1, b'raw ')\nsubprocess.run(['echo', 'sub'])\n"
        "!echo shell\nctypes.CDLL(None).printf(b'from C');"
    )
    for text in ("raw ", "sub", "shell", "from C"):
        assert text in result.stdout
    code = "import os\nif os.fork() == 0:\n    print('fork')\n    os._exit(0)\nos.wait();"
    assert watching_kernel.run(f"{_ISOLATE}\n{code}").stdout == "fork\n"


def test_clear_output_and_carriage_returns(isolate):
    result = isolate(
        "from IPython.display import clear_output\nclear_output(wait=True)\nprint('\\r50%\\r100%', end='')"
    )
    assert result.contents("clear_output") == [{"wait": True}]
    assert result.stdout == "\r50%\r100%"


def test_a_plot_appears_at_the_end_of_the_cell(isolate):
    result = isolate("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('before');")
    assert [set(data) for data in result.data] == [{"image/png", "text/plain"}]


def test_widgets_reach_the_page(isolate):
    result = isolate("from ipywidgets import IntProgress\nbar = IntProgress()\ndisplay(bar)\nbar.value = 3")
    assert len(result.contents("comm_open")) == 3
    assert {"value": 3} in [content["data"]["state"] for content in result.contents("comm_msg")]


def test_a_capturing_magic_above(isolate, kernel):
    result = kernel.run(f"%%capture out\n{_ISOLATE}\nprint('hidden')\ndisplay('shown')\n7")
    assert not result.data
    assert not result.stdout
    assert kernel.value("(out.stdout, [o.data['text/plain'] for o in out.outputs])") == (
        "hidden\n",
        ["'shown'", "7"],
    )


def test_magics_and_await(isolate):
    assert "Wall time" in isolate("%%time\nprint(x)").stdout
    result = isolate("import asyncio\nawait asyncio.sleep(0.01)\nasyncio.get_running_loop().is_running()")
    assert result.data[0]["text/plain"] == "True"
    assert not isolate("x;").data


def test_a_log_handler_made_before(isolate, kernel):
    kernel.run("import logging\nlog = logging.Logger('mine')\nlog.addHandler(logging.StreamHandler())")
    assert isolate("log.warning('said')").stderr == "said\n"


def test_threads_of_the_cell_can_print(isolate):
    code = "import threading\nthread = threading.Thread(target=print, args=('thread',))\nthread.start(); thread.join()"
    assert isolate(code).stdout == "thread\n"


def test_an_error_is_shown_once_with_its_lines(isolate):
    result = isolate("def f():\n    return 1 / 0\nf()")
    assert result.status == "error"
    (error,) = result.contents("error")
    assert (error["ename"], error["evalue"]) == ("ZeroDivisionError", "division by zero")
    trace = "\n".join(error["traceback"])
    assert "return" in trace
    assert "memcell" not in trace


@pytest.mark.parametrize(
    ("code", "ename", "says"),
    [
        ("x = = 3", "IsolatedCellError", "SyntaxError: invalid syntax"),
        ("class Own(Exception): pass\nraise Own('mine')", None, "mine"),
        ("sys.exit(3)", "IsolatedCellError", "SystemExit: 3"),
        ("raise SystemExit", "IsolatedCellError", "SystemExit"),
        ("input('?')", "IsolationError", "nobody can be asked in an isolated cell"),
        ("from getpass import getpass\ngetpass()", "IsolationError", "nobody can be asked in an isolated cell"),
        ("np.ones(2**58)", None, "Unable to allocate"),
    ],
)
def test_errors_of_all_kinds(isolate, code, ename, says):
    result = isolate(code)
    assert result.status == "error"
    (error,) = result.contents("error")
    assert says in error["evalue"]
    assert not error["evalue"].endswith(": ")
    assert ename is None or error["ename"] == ename


_SHOW = "try: 1 / 0\nexcept Exception: get_ipython().showtraceback()\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("%run fails.py", ["stream: started\n", "error: division by zero"]),
        ("%run fails.py\nprint('on')", ["stream: started\n", "error: division by zero", "stream: on\n"]),
        ("get_ipython().run_cell('1 / 0');", ["error: division by zero"]),
        (f"{_SHOW}print('on', file=sys.stderr)", ["error: division by zero", "stream: on\n"]),
        (f"{_SHOW}display('on')", ["error: division by zero", "display_data: "]),
        ("class Bad:\n    def __repr__(self): raise ValueError('bad')\nBad()", ["error: bad"]),
        ("%%capture out\n1 / 0", ["error: division by zero"]),
    ],
)
def test_tracebacks_that_do_not_end_the_cell(isolate, kernel, code, shown):
    kernel.run("with open('fails.py', 'w') as file: file.write('print(\"started\")\\n1 / 0')")
    result = isolate(code)
    assert result.status == "ok"
    assert _shown(result) == shown


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (
            f"{_SHOW}print('on')\nraise KeyError(3)",
            ["error: division by zero", "stream: on\n", "error: 3"],
        ),
        ("import matplotlib.pyplot as plt\nplt.plot([1])\n1 / 0", ["display_data: ", "error: division by zero"]),
        (
            "class Mute(Exception):\n    def __str__(self): raise ValueError('bad')\nraise Mute()",
            ["error: Mute: <exception str() failed>"],
        ),
    ],
)
def test_the_error_of_the_cell_is_shown_once_and_last(isolate, code, shown):
    result = isolate(code)
    assert result.status == "error"
    assert _shown(result) == shown
    assert "memcell" not in "".join(result.contents("error")[-1]["traceback"])


def test_a_group_of_errors_is_shown_once(isolate, kernel):
    if not kernel.value("hasattr(__builtins__, 'ExceptionGroup')"):
        return  # before Python 3.11
    result = isolate("raise ExceptionGroup('both', [ValueError(1), TypeError(2)])")
    assert result.status == "error"
    assert result.stderr.count("ValueError: 1") <= 1  # some shells write the whole tree, others show it as any error
    assert "raise_shown" not in result.stderr
    (error,) = result.contents("error")
    assert error["evalue"] == "ExceptionGroup: both (2 sub-exceptions)"


def _shown(result):
    """What a cell showed, in its order."""
    messages = [message for _, message in result.messages if message["msg_type"] not in ("status", "execute_input")]
    texts = [message["content"].get("text", message["content"].get("evalue", "")) for message in messages]
    return [f"{message['msg_type']}: {text}" for message, text in zip(messages, texts, strict=True)]


def test_an_unknown_magic_is_one_line(isolate):
    result = isolate("%nope")
    assert result.status == "error"
    assert "UsageError: Line magic function `%nope` not found." in result.stderr


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV (a crash in compiled code)"),
        ("os._exit(7)", "ended itself with exit code 7"),
        ("os._exit(0)", "ended itself with exit code 0"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("if os.fork() == 0: time.sleep(600)\nos.abort()", "was killed by SIGABRT (a crash in compiled code)"),
        ("class Bomb:\n    def __reduce__(self): os._exit(4)\nkept = Bomb()", "ended itself with exit code 4"),
    ],
)
def test_a_crash_is_one_line_and_the_kernel_goes_on(isolate, kernel, code, told):
    result = isolate(code, keep="kept")
    assert result.status == "error"
    assert result.error == (
        f"IsolatedCellDied: the isolated cell's process {told}; this kernel and its variables are intact"
    )
    assert kernel.run("x + 1").data[0]["text/plain"] == "6"


def test_named_results_come_back(isolate, kernel):
    result = isolate("a = np.arange(4_000_000)\np = Point()\np.a = a", keep="a,p")
    assert result.status == "ok", result.error
    kernel.run("a[0] = 7")
    assert kernel.value("(int(a[0]), p.a is a, type(p) is Point)") == (7, True, True)
    kernel.run("del a, p")


def test_objects_that_the_cell_left_alone_stay_the_kernels_own(isolate, kernel):
    kernel.run("a = b = [1]\nc = np.arange(5); view = c[:2]")
    assert isolate("a[0] + c[0]", keep="a, c").status == "ok"
    assert kernel.value("(a is b, view.base is c)") == (True, True)
    assert isolate("b.append(2)", keep="a,c").status == "ok"
    assert kernel.value("(a, b, view.base is c)") == ([1, 2], [1], False)
    assert isolate("a = list(a)", keep="a").status == "ok"
    assert kernel.value("(a, b)") == ([1, 2], [1])
    kernel.run("del a, b, c, view")


def test_what_cannot_come_back_is_named_and_the_rest_comes(isolate, kernel):
    result = isolate("import threading\ngood, bad = 3, threading.Lock()", keep="good,bad,gone")
    assert result.status == "error"
    assert result.error == (
        "IsolationError: --keep: did not come back: gone (the cell has no such variable); "
        "bad (TypeError: cannot pickle '_thread.lock' object); came back: good"
    )
    assert kernel.value("good") == 3


def test_what_cannot_be_read_here_is_named_and_the_rest_comes(isolate, kernel):
    module = "import types\nonly = sys.modules['only_there'] = types.ModuleType('only_there')\n"
    thing = "exec('class Thing: pass', vars(only))\nonly.Thing.__module__ = 'only_there'\nbad, fine = only.Thing(), 4"
    result = isolate(module + thing, keep="bad,fine")
    assert "bad (ModuleNotFoundError: No module named 'only_there')" in result.error
    assert kernel.value("fine") == 4


def test_nothing_comes_back_from_a_failed_cell(isolate, kernel):
    assert isolate("never = 1\n1 / 0", keep="never").status == "error"
    assert kernel.value("'never' in globals()") is False


def test_files_left_open_are_written(isolate, kernel):
    isolate("file = open('left-open.txt', 'w')\nfile.write('all of it');")
    assert kernel.value("open('left-open.txt').read()") == "all of it"


def test_processes_left_behind_end_with_the_cell(isolate):
    result = isolate("import subprocess\nprint(subprocess.Popen(['sleep', '600']).pid)")
    left = int(result.stdout)
    ends = time.monotonic() + 5
    while psutil.pid_exists(left) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("magic", ["%unload_ext memcell", "%reload_ext memcell"])
def test_a_cell_that_unloads_memcell_in_its_process(isolate, kernel, magic):
    result = kernel.run(f"%%memwatch --isolate\n{magic}\nprint('on')")
    assert result.status == "ok"
    assert len(result.lines) == 1
    assert len([data for data in result.data if "image/png" in data]) <= 1
    assert kernel.run("%%memwatch\n1").lines


@pytest.mark.parametrize("hazard", [_NO_HAZARD, _HAZARD], ids=["fork", "interpreter"])
def test_processes_that_were_detached_stay(isolate, kernel, hazard):
    if not kernel.value("bool(__import__('importlib').util.find_spec('cloudpickle'))"):
        hazard = _NO_HAZARD
    start = (
        "import os, subprocess, time\nnull = subprocess.DEVNULL\n"
        "one = subprocess.Popen(['nohup', 'sleep', '600'], stdin=null, stdout=null, stderr=null)\n"
        "other = subprocess.Popen(['setsid', 'sleep', '600'])\ntime.sleep(0.3)\nprint(one.pid, other.pid)"
    )
    kernel.run(hazard)
    try:
        result = isolate(start)
    finally:
        kernel.run(_NO_HAZARD)
    assert not result.stderr  # a kernel tells at its end what it leaves; an isolated cell is none
    left = [psutil.Process(int(pid)) for pid in result.stdout.split()]
    assert [process.name() for process in left] == ["sleep", "sleep"]
    listed = kernel.value("[child.pid for child in __import__('memcell').children() if child.detached]")
    assert listed == [process.pid for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)


@pytest.mark.parametrize(
    "inner", ["%%memwatch --isolate\n1", "get_ipython().run_cell_magic('memwatch', '--isolate', '1')"]
)
def test_one_inside_another_is_refused(isolate, inner):
    result = isolate(inner)
    assert result.status == "error"
    assert "UsageError: %%memwatch: this cell is isolated already; take --isolate off the inner one" in result.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%%memwatch --keep a", "--keep goes with --isolate"),
        ("%%memwatch --isolate --keep 1a", "'1a' is not a variable name"),
        ("%%memwatch --isolate --keep", "expected at least one argument"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(kernel, line, says):
    result = kernel.run(f"{line}\nmistake = 1")
    assert result.status == "error"
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert kernel.value("'mistake' in globals()") is False


@pytest.mark.parametrize(
    "code",
    [
        "print('here')\ntime.sleep(30)",
        "import asyncio\nprint('here')\nawait asyncio.sleep(30)",
        "while True: print('here')",
        "import subprocess\nprint('here')\nsubprocess.run(['sleep', '30'])",
    ],
    ids=["sleep", "await", "flood", "subprocess"],
)
def test_ctrl_c_interrupts_the_cell(isolate, kernel, code):
    sent = kernel.send(f"{_ISOLATE}\n{code}")
    kernel.wait_for_output(sent, "here")
    time.sleep(0.3)
    kernel.manager.interrupt_kernel()
    result = kernel.collect(sent, 20)
    assert result.status == "error"
    assert result.error.startswith("KeyboardInterrupt")
    assert kernel.last_run()["outcome"] == "interrupted"


def test_a_second_ctrl_c_ends_a_stubborn_cell(isolate, kernel):
    code = "print('here')\nwhile True:\n    try: time.sleep(30)\n    except KeyboardInterrupt: print('no')"
    sent = kernel.send(f"{_ISOLATE}\n{code}")
    kernel.wait_for_output(sent, "here")
    time.sleep(0.3)
    kernel.manager.interrupt_kernel()
    kernel.wait_for_output(sent, "no")
    kernel.manager.interrupt_kernel()
    result = kernel.collect(sent, 20)
    assert result.contents("error")[0]["traceback"] == ["KeyboardInterrupt: the isolated cell was ended"]


def test_a_cell_that_handles_ctrl_c_goes_on(isolate, kernel):
    sent = kernel.send(f"{_ISOLATE}\nprint('here')\ntry: time.sleep(30)\nexcept KeyboardInterrupt: print('went on')")
    kernel.wait_for_output(sent, "here")
    time.sleep(0.3)
    kernel.manager.interrupt_kernel()
    result = kernel.collect(sent, 20)
    assert result.status == "ok"
    assert result.stdout == "went on\n"


def test_the_record_has_what_the_process_grew_by(isolate, kernel):
    kernel.run("shared = bytearray(b'x') * (128 << 20)")
    try:
        line = kernel.run("%%memwatch --isolate -o record\nblock = bytearray(b'x') * (96 << 20)\ndel block").lines[0]
        assert "children peak +9" in line or "children peak +10" in line
        assert 94 * MIB < kernel.value("record.children_peak_bytes - record.children_before_bytes") < 104 * MIB
        assert kernel.value("record.retained_bytes") < 8 * MIB
        # Half of what a fork shares with its parent is its own by the kernel's count: that is no growth.
        kernel.run("%%memwatch --isolate -q -o record\ntime.sleep(0.4)")
        assert kernel.value("record.children_peak_bytes - record.children_before_bytes") < 16 * MIB
    finally:
        kernel.run("del shared")


def test_it_goes_with_clean_and_other_magics_above(isolate, kernel):
    assert "freed" in kernel.run("%%memwatch --isolate --clean\n1").lines[-1]
    result = kernel.run("%%time\n%%memwatch --isolate\nprint(x)")
    assert result.stdout.startswith("5\n")


def test_a_kernel_that_is_killed_takes_the_cell_with_it(python, tmp_path):
    with Kernel(python, tmp_path) as kernel:
        kernel.run("%load_ext memcell")
        sent = kernel.send(f"{_ISOLATE}\nimport os, time\nprint('pid', os.getpid())\ntime.sleep(60)")
        kernel.wait_for_output(sent, "pid")
        (child,) = [p for p in psutil.Process(kernel.manager.provisioner.pid).children() if p.name() != "sh"][-1:]
        kernel.manager.signal_kernel(9)
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


# In a new interpreter


@pytest.fixture
def spawned(isolate, kernel):
    kernel.run(_HAZARD)
    yield isolate
    kernel.run(_NO_HAZARD)


def test_without_cloudpickle_it_says_what_to_install(spawned, kernel):
    kernel.run("import sys; sys.modules['cloudpickle'] = None")
    try:
        result = spawned("1")
        assert result.error == (
            "MissingLibraryError: --isolate: the cell runs in a new interpreter, since polars is loaded, and that needs"
            " cloudpickle; pip install 'memcell[isolate]'"
        )
    finally:
        kernel.run("del sys.modules['cloudpickle']")


def test_in_a_new_interpreter(spawned, kernel):
    if not kernel.value("bool(__import__('importlib').util.find_spec('cloudpickle'))"):
        assert "pip install" in spawned("1").error  # the oldest environment is a bare one
        return
    kernel.run(
        "import threading\nlock = threading.Lock()\nfactor = 3\ndef triple(p): return factor * p.v\n"
        "point = Point(); point.v = 2; unread = np.ones(10)"
    )
    result = spawned(
        "print(triple(point), 'un' + 'read' in globals())\nmade = Point()\nmade.v = base * 2\n"
        "import matplotlib.pyplot as plt\nplt.plot([1])\nawait __import__('asyncio').sleep(0)\n"
        "%timeit -n1 -r1 triple(point)\n7",
        keep="made",
    )
    assert result.status == "ok", result.error
    assert result.stdout.startswith("6 False\n")
    assert [set(data) for data in result.data] == [{"text/plain"}, {"image/png", "text/plain"}]
    assert kernel.value("(type(made) is Point, made.v.flags.writeable, float(made.v[0]))") == (True, True, 2.0)

    result = spawned("lock")
    assert result.stderr.startswith("memcell: not in the isolated cell: lock (TypeError: cannot pickle")
    assert result.error == "NameError: name 'lock' is not defined"

    assert "SIGSEGV" in spawned("os.kill(os.getpid(), 11)").error
    assert spawned("def f(): return 1 / 0\nf()").error == "ZeroDivisionError: division by zero"
    assert "nobody can be asked" in spawned("input()").error
    assert "isolated already" in spawned("%%memwatch --isolate\n1").stderr
    kernel.run("del lock, made")
