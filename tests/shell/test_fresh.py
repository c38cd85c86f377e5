"""``%%memwatch --fresh``: the peak of a re-run is that of the first run, and nothing else is different."""

from __future__ import annotations

import atexit
import threading
import weakref

import pytest

MIB = 1 << 20
MAKE = "def make(size=256):\n    return bytearray(b'x') * (size << 20)"


@pytest.fixture
def maker(shell):
    shell.run_cell(MAKE).raise_error()
    return shell


def fresh(shell, cell, capsys):
    """Run a cell with --fresh; what it says of it."""
    capsys.readouterr()
    shell.run_cell(f"%%memwatch --fresh\n{cell}")
    out = capsys.readouterr().out
    return "\n".join(line for line in out.splitlines() if line.startswith("memcell --fresh"))


def test_the_peak_of_a_re_run_is_that_of_the_first(maker, runs, capsys):
    maker.run_cell("x = make()")
    first = runs[-1].peak_bytes
    maker.run_cell("x = make()")
    doubled = runs[-1].peak_bytes
    said = fresh(maker, "x = make()", capsys)
    assert said == "memcell --fresh: dropped just before rebinding: x (256.0 MiB)"
    assert runs[-1].peak_method == "high-water"
    assert runs[-1].peak_bytes - first < 8 * MIB
    assert doubled - first > 248 * MIB
    assert len(maker.user_ns["x"]) == 256 * MIB


def test_with_repeat_too(maker, runs, capsys):
    capsys.readouterr()
    maker.run_cell("%%memwatch --fresh --repeat 3\nx = make()").raise_error()
    assert max(run.peak_bytes - run.before_bytes for run in runs[-2:]) < 8 * MIB
    assert "dropped just before rebinding: x (256.0 MiB)" in capsys.readouterr().out


def test_it_is_for_that_cell_only(maker, runs, capsys):
    maker.run_cell("x = make(64)")
    fresh(maker, "x = make(64)", capsys)
    assert not maker.ast_transformers
    maker.run_cell("x = make(64)")
    assert runs[-1].peak_growth_bytes > 56 * MIB
    maker.run_cell("%%memwatch -q --fresh\n1/0")
    maker.run_cell("%%memwatch -q --fresh\nx = = 1")
    assert not maker.ast_transformers


def test_a_cell_that_the_cell_runs_is_left_alone(maker, capsys):
    maker.run_cell("x = make(64)\ny = make(64)")
    maker.user_ns["shell"] = maker
    said = fresh(maker, "shell.run_cell('y = make(64)')\nw = 1", capsys)
    assert said == "memcell --fresh: nothing of 1 MiB or more was about to be rebound"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("def show():\n    return len(x)", "show() reads it"),
        ("class Plot:\n    def draw(self):\n        return [len(x) for _ in range(3)]", "draw() reads it"),
        ("show = lambda: len(x)", "a lambda reads it"),
        ("import atexit\natexit.register(lambda: x) and None", "a lambda reads it"),
        ("later = (x for _ in range(3))", "a generator reads it"),
        ("def outer():\n    def inner():\n        return x\n    return inner", "outer() reads it"),
        ("def drop():\n    global x\n    del x", "drop() reads it"),
        ("def run(code):\n    return eval(code)", "run() uses eval"),
        ("def run():\n    return globals()['x']", "run() uses globals"),
        ("def ask(db):\n    return db.sql('select * from x')", "a text in ask() names it"),
        ("def ask(db, text):\n    return db.sql(text)", "ask() calls sql()"),
        ("import __main__ as me\ndef run():\n    return me.x", "run() uses me"),
        ("import functools\npart = functools.partial(lambda a: x, 1)", "a lambda reads it"),
        ("class P:\n    value = property(lambda self: x)", "a lambda reads it"),
    ],
)
def test_what_others_may_read_is_left(maker, capsys, monkeypatch, before, reason):
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)  # nothing is to be called when the tests end
    maker.run_cell("x = make(8)")
    maker.run_cell(before).raise_error()
    said = fresh(maker, "x = make(8)", capsys)
    assert said.startswith("memcell --fresh: left x (8.0 MiB): ")
    assert reason in said


@pytest.mark.parametrize(
    "before",
    [
        "def other():\n    x = 3\n    return x",
        "def other(x):\n    return x",
        "def other(model):\n    return model.x",
        "def other():\n    '''Load x from disk.'''",
        "def other(model):\n    return model.eval()",
        "def other():\n    return {'x': 1}",
        "class Plot:\n    x = 3",
    ],
)
def test_functions_that_have_nothing_to_do_with_it_do_no_harm(maker, capsys, before):
    maker.run_cell("x = make(8)")
    maker.run_cell(before).raise_error()
    assert "dropped just before rebinding: x" in fresh(maker, "x = make(8)", capsys)


def test_a_thread_that_reads_it_goes_on(maker, capsys):
    maker.run_cell("x = make(8)\nseen = []")
    maker.run_cell("def look(stop):\n    while not stop.wait(0.001):\n        seen.append(len(x))")
    stop = threading.Event()
    thread = threading.Thread(target=maker.user_ns["look"], args=(stop,))
    thread.start()
    try:
        assert "look() reads it" in fresh(maker, "import time\nx = make(8)", capsys)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("y = x", "nothing would be gained, y holds it too"),
        ("store = {'k': [x]}", "nothing would be gained, store holds it too"),
        ("view = memoryview(x)", "nothing would be gained, view holds it too"),
    ],
)
def test_what_another_variable_holds_is_left(maker, capsys, before, reason):
    maker.run_cell("x = make(8)")
    maker.run_cell(before)
    assert reason in fresh(maker, "x = make(8)", capsys)


def test_what_out_holds_is_left_with_a_hint(maker, capsys):
    maker.run_cell("import collections\nclass Data(list): __repr__ = lambda self: 'data'", store_history=True)
    maker.run_cell("x = Data([make(8)])\nx", store_history=True)
    said = fresh(maker, "x = Data([make(8)])", capsys)
    assert "Out[2] holds it too; %memclean --deep" in said


def test_a_value_with_a_finalizer_or_a_weak_reference_is_left(maker, capsys):
    maker.run_cell("class Data:\n    def __init__(self): self.data = make(8)")
    maker.run_cell("x = Data()")
    assert "dropped" in fresh(maker, "x = Data()", capsys)
    reference = weakref.ref(maker.user_ns["x"])
    assert "refers to it weakly" in fresh(maker, "x = Data()", capsys)
    del reference
    maker.run_cell("Data.__del__ = lambda self: None")
    maker.run_cell("x = Data()")
    assert "finalizer" in fresh(maker, "x = Data()", capsys)


def test_if_making_the_new_value_fails_the_old_one_is_gone_and_that_is_said(maker, capsys):
    maker.run_cell("x = make(8)")
    said = fresh(maker, "y = 1\nx = make('a')", capsys)
    assert "x has no value now" in said
    assert "x" not in maker.user_ns


def test_a_cell_that_deletes_the_new_value_has_lost_none(maker, capsys):
    maker.run_cell("x = make(8)")
    said = fresh(maker, "x = make(8)\ndel x", capsys)
    assert said == "memcell --fresh: dropped just before rebinding: x (8.0 MiB)"


@pytest.mark.parametrize("magic", ["%config Application.log_level = 30", "%precision 8"])
def test_magics_that_read_nothing_do_no_harm(maker, capsys, magic):
    maker.run_cell("x = make(8)")
    assert "dropped just before rebinding: x" in fresh(maker, f"{magic}\nx = make(8)", capsys)


def test_why_a_large_value_stays_is_told_wherever_it_is_bound(maker, capsys):
    maker.run_cell("x = make(8)")
    assert "left x (8.0 MiB): line 1 binds it inside an if" in fresh(maker, "if True:\n    x = make(8)", capsys)
    assert "left x (8.0 MiB): its new value is made from it" in fresh(maker, "x += b'x'", capsys)


def test_if_the_cell_fails_before_nothing_is_dropped(maker, capsys):
    maker.run_cell("x = make(8)")
    said = fresh(maker, "1/0\nx = make(8)", capsys)
    assert "dropped" not in said
    assert len(maker.user_ns["x"]) == 8 * MIB


def test_the_traceback_is_the_one_without_it(maker, capsys):
    told = []
    for line in ("%%memwatch -q", "%%memwatch -q --fresh"):
        maker.run_cell("x = make(8)")
        capsys.readouterr()
        maker.run_cell(f"{line}\ny = 1\nx = make(\n    1 / 0\n)")
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "1 / 0" in told[0]


def test_small_values_and_names_of_the_shell_are_not_spoken_of(maker, capsys):
    maker.run_cell("small = [1, 2]")
    said = fresh(maker, "small = [3]\n_ = make(2)\nIn = In[:]", capsys)
    assert said == "memcell --fresh: nothing of 1 MiB or more was about to be rebound"


def test_a_failure_of_its_own_leaves_the_cell_as_it_is(maker, monkeypatch, capsys, caplog):
    maker.run_cell("x = make(8)")
    monkeypatch.setattr("memcell.ipython.fresh.rebindings", lambda tree: 1 / 0)
    fresh(maker, "x = make(16)", capsys)
    assert len(maker.user_ns["x"]) == 16 * MIB
    assert "--fresh failed: ZeroDivisionError" in caplog.text
