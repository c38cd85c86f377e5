"""``%memtop`` as a user types it."""

from __future__ import annotations

import gc
import sys
import types
import weakref

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from memcell.clean.namespace import Namespace
from memcell.ipython.memtop import Memtop


def run(shell, *cells):
    for cell in cells:
        shell.run_cell(cell, store_history=True)


@pytest.fixture
def look(shell: InteractiveShell, session):
    """The rows of the namespace by name."""
    memtop = Memtop(shell, session, Namespace(shell.user_ns, shell.user_ns_hidden))

    def look(count=50):
        return {entry.name: entry for entry in memtop.look(count).entries}

    return look


@pytest.fixture
def module(monkeypatch):
    module = types.ModuleType("pkg.mod")
    monkeypatch.setitem(sys.modules, "pkg.mod", module)
    return module


def test_the_table_a_user_sees(shell, capsys):
    run(shell, "text = 'x' * 200_000_000; alias = text; half = 'y' * 100_000_000")
    capsys.readouterr()
    run(shell, "%memtop 3")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "variable"
    assert lines[2].split() == ["text", "str", "190.7", "MiB", "alias", "no"]
    assert lines[3].split() == ["half", "str", "95.4", "MiB", "yes"]
    assert lines[4].split() == ["alias", "str", "0.0", "MiB", "text", "no"]
    assert lines[5].startswith("286.1 MiB in 3 variables and what the shell keeps; ")
    assert "of the kernel's " in lines[5]


def test_what_is_displayed_is_held_by_out(shell, look):
    run(shell, "text = 'x' * 10_000_000", "text;", "text", "'y' * 20_000_000")
    rows = look()
    assert rows["text"].also_held_by == ("Out[3]",)
    assert rows["text"].freed_by_del == "nothing"
    number = next(name for name in rows if name.startswith("Out[4"))
    assert rows[number].size_bytes > 20_000_000
    assert rows[number].freed_by_del is None
    assert rows[number].freed_by == "%memclean out"
    assert rows[number].also_held_by == ()


def test_what_del_leaves_is_named_by_its_holder(shell, look, module):
    run(
        shell,
        "one = ['x' * 10_000_000]; two = ['x' * 20_000_000]; three = ['x' * 30_000_000]; four = ['x' * 40_000_000]",
        "import sys; sys.modules['pkg.mod'].CACHE = {'key': one}",
        "def function(argument=two): pass\ndef outer(inside):\n    return lambda: inside\n_closure = outer(three)",
    )
    rows = look()
    assert rows["one"].also_held_by == ("pkg.mod.CACHE['key']",)
    assert rows["one"].freed_by_del == "nothing"
    assert rows["two"].shared_with == ("function",)
    assert rows["three"].shared_with == ("_closure",)
    assert rows["four"].also_held_by == rows["four"].shared_with == ()
    assert rows["four"].freed_by_del == "all"


def test_what_the_last_error_holds(shell, look):
    run(shell, "text = ['x' * 10_000_000]", "def fail(inside):\n    own = 'y' * 20_000_000\n    1 / 0", "fail(text)")
    rows = look()
    assert rows["text"].also_held_by == ("sys.last_traceback",)
    assert rows["sys.last_traceback"].freed_by == "%memclean traceback"
    assert 20_000_000 < rows["sys.last_traceback"].size_bytes < 30_000_000


def test_what_leads_to_the_stream_of_errors_shares_nothing_by_it(shell, look, monkeypatch):
    stream = types.SimpleNamespace(write=len, flush=dict, session="x" * 2_000_000)
    monkeypatch.setattr(sys, "stderr", stream)
    run(shell, "import sys\none = [sys.stderr, 'y' * 300_000]; two = [sys.stderr, 'z' * 300_000]\nlog = sys.stderr")
    assert look()["one"].freed_by_del == "part"  # a variable of the user's
    run(shell, "del log")
    rows = look()
    assert rows["one"].freed_by_del == rows["two"].freed_by_del == "all"
    assert rows["one"].size_bytes < 400_000


def test_variables_from_before_memcell_was_loaded_are_there(bare_shell, session):
    run(bare_shell, "early = 'x' * 10_000_000", "%load_ext memcell")
    try:
        namespace = Namespace(bare_shell.user_ns, bare_shell.user_ns_hidden)
        assert "early" in {entry.name for entry in Memtop(bare_shell, session, namespace).look(3).entries}
    finally:
        bare_shell.run_line_magic("unload_ext", "memcell")


@pytest.mark.parametrize("line", ["x", "-3", "0", "1.5", "3 4", "'"])
def test_a_mistake_is_one_line(shell, line):
    with pytest.raises(UsageError) as caught:
        shell.run_line_magic("memtop", line)
    assert str(caught.value).startswith("%memtop: ")
    assert "\n" not in str(caught.value)


def test_an_empty_namespace(shell, capsys):
    shell.run_line_magic("memtop", "")
    assert "in 0 variables" in capsys.readouterr().out


def test_no_reference_is_left_behind(shell, capsys):
    run(shell, "class Thing: pass\nthing = Thing(); thing.data = ['x' * 10_000_000]; again = [thing]")
    reference = weakref.ref(shell.user_ns["thing"])
    shell.run_line_magic("memtop", "")
    assert "thing" in capsys.readouterr().out
    del shell.user_ns["thing"], shell.user_ns["again"]
    assert reference() is None, gc.get_referrers(reference())


def test_what_it_takes_is_not_the_cells(shell, runs):
    run(shell, "numbers = [[number] for number in range(300_000)]", "%memtop")
    assert abs(runs[-1].retained_bytes) < 8 << 20
