"""What the shell keeps of displayed values and errors, and letting go of it."""

from __future__ import annotations

import builtins
import gc
import sys
import weakref

import pytest

from memcell.ipython.outputs import forget_outputs, forget_tracebacks, shell_cleaners


class Thing:
    """Something large that a cell made."""


@pytest.fixture
def made(bare_shell):
    """The things that cells made with ``make()``, weakly."""
    things = weakref.WeakSet()

    def make():
        thing = Thing()
        things.add(thing)
        return thing

    bare_shell.user_ns["make"] = make
    yield things
    # A shell that is dropped leaves these to the next test.
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)


def run(shell, *cells):
    for cell in cells:
        shell.run_cell(cell, store_history=True)


def alive(things):
    gc.collect()
    return len(things)


@pytest.mark.parametrize("later", [0, 1, 2, 5])
def test_a_displayed_value_is_held_by_nobody_any_more(bare_shell, made, later):
    run(bare_shell, "make()", *["'next'"] * later)
    assert alive(made) == 1
    forget_outputs(bare_shell)
    assert alive(made) == 0


def test_the_next_displayed_value_is_in_the_underscore_again(bare_shell, made):
    run(bare_shell, "make()", "make()", "make()")
    forget_outputs(bare_shell)
    run(bare_shell, "40 + 1", "40 + 2", "kept = (_, __)", "Out[_ - 42 + 5]")
    assert bare_shell.user_ns["kept"] == (42, 41)
    assert bare_shell.user_ns["_"] == 42
    assert bare_shell.user_ns["_5"] == 42
    assert bare_shell.user_ns["Out"] is bare_shell.user_ns["_oh"] is bare_shell.history_manager.output_hist


def test_names_that_the_user_bound_stay(bare_shell, made):
    run(bare_shell, "make()", "'two'", "'three'", "_ = mine = make()", "_2 = 'of the user'", "__ = [1]")
    forget_outputs(bare_shell)
    user = bare_shell.user_ns
    assert user["_"] is user["mine"]
    assert user["_2"] == "of the user"
    assert user["__"] == [1]
    assert "_1" not in user
    assert "_3" not in user
    assert alive(made) == 1
    run(bare_shell, "'four'")
    assert user["_"] is user["mine"], "the shell took the user's underscore"


def test_a_variable_that_was_displayed_stays(bare_shell, made):
    run(bare_shell, "thing = make()\nthing")
    forget_outputs(bare_shell)
    assert isinstance(bare_shell.user_ns["thing"], Thing)


def test_what_a_full_output_cache_left_in_the_hidden_namespace_goes(bare_shell, made):
    run(bare_shell, "make()", *["0"] * 9)
    with pytest.warns(UserWarning, match="Output cache limit"):
        bare_shell.displayhook.cull_cache()
    forget_outputs(bare_shell)
    assert alive(made) == 0


def test_the_globals_of_a_script_go_with_the_variables(bare_shell, made, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("thing = make()\ndef answer():\n    return number\nnumber = 42\n")
    run(bare_shell, f"%run -i {script}", f"%run {script}")
    bare_shell.user_ns["__builtins__"] = builtins
    (tmp_path / "plain.py").write_text("class Thing: pass\nthing = Thing()\ndef answer():\n    return type(thing)\n")
    run(bare_shell, f"%run {tmp_path / 'plain.py'}")
    thing = weakref.ref(bare_shell.user_ns["thing"])
    run(bare_shell, "del thing")
    forget_outputs(bare_shell)
    assert bare_shell.user_ns["answer"]().__name__ == "Thing", "its functions still have their globals"
    run(bare_shell, "del answer, Thing")
    gc.collect()
    assert thing() is None


def test_the_result_in_the_hands_of_the_caller_is_left_alone(bare_shell, made):
    result = bare_shell.run_cell("make()", store_history=True)
    forget_outputs(bare_shell)
    forget_tracebacks(bare_shell)
    assert isinstance(result.result, Thing)
    assert bare_shell.last_execution_result.result is None
    run(bare_shell, "x = 1", "%xdel x")
    assert "x" not in bare_shell.user_ns


def test_the_history_of_outputs_is_emptied_in_place(bare_shell, made):
    run(bare_shell, "'x' * 50", "1 / 0")
    manager = bare_shell.history_manager
    kept = {name: getattr(manager, name, {}) for name in ("outputs", "exceptions", "output_hist_reprs")}
    assert kept["output_hist_reprs"]
    forget_outputs(bare_shell)
    forget_tracebacks(bare_shell)
    assert not any(kept.values())
    assert all(getattr(manager, name, {}) == {} for name in kept)
    run(bare_shell, "'y'")
    assert list(kept["output_hist_reprs"].values()) == ["'y'"]


FAILING = """
def inner():
    deep = make()
    raise ValueError("inner")
def middle():
    local = make()
    try:
        inner()
    except ValueError as error:
        raise KeyError("middle") from error
def outer():
    local = make()
    try:
        middle()
    except KeyError:
        raise OSError("outer")
outer()
"""


def test_what_the_frames_of_a_chain_of_errors_hold_goes(bare_shell, made):
    run(bare_shell, FAILING)
    assert alive(made) == 3
    forget_tracebacks(bare_shell)
    assert alive(made) == 0


def test_it_goes_although_the_user_keeps_the_error(bare_shell, made):
    run(bare_shell, FAILING.replace("\nouter()", "\ntry:\n    outer()\nexcept OSError as e:\n    kept = e\n    raise"))
    assert alive(made) == 3
    forget_tracebacks(bare_shell)
    assert alive(made) == 0
    assert str(bare_shell.user_ns["kept"]) == "outer"
    assert bare_shell.user_ns["kept"].__traceback__ is not None, "its lines can still be shown"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are built in from Python 3.11 on")
def test_the_members_of_an_exception_group_are_followed(bare_shell, made):
    cell = FAILING.replace(
        "\nouter()",
        "\ntry:\n    outer()\nexcept OSError as e:\n    kept = ExceptionGroup('all', [e])\nraise kept",
    )
    run(bare_shell, cell)
    forget_tracebacks(bare_shell)
    assert alive(made) == 0


def test_a_syntax_error_in_a_function_does_not_keep_its_frame(bare_shell, made):
    run(bare_shell, "def parse():\n    local = make()\n    eval('1 +')\nparse()")
    assert alive(made) == 1
    forget_tracebacks(bare_shell)
    assert alive(made) == 0


ASYNC_FAILING = """
async def fail():
    local = make()
    {statement}
await fail()
"""


@pytest.mark.parametrize("statement", ["1 / 0", "eval('1 +')"])
def test_frames_that_are_not_emptied_are_let_go_of(bare_shell, made, statement):
    run(bare_shell, ASYNC_FAILING.format(statement=statement))
    assert alive(made) == 1
    forget_tracebacks(bare_shell)
    assert alive(made) == 0


def test_each_of_the_holders_lets_go(bare_shell, made):
    # The errors of other cells, so that each is held in one place only.
    run(bare_shell, ASYNC_FAILING.format(statement="eval('1 +')"), ASYNC_FAILING.format(statement="1 / 0"), "1 / 0")
    forget_tracebacks(bare_shell)
    assert alive(made) == 0


def test_a_generator_that_caught_the_error_goes_on(bare_shell, made):
    run(
        bare_shell,
        "def steps():\n    try:\n        1 / 0\n    except Exception as error:\n        yield error\n    yield 'on'",
        "generator = steps()",
        "raise next(generator)",
    )
    forget_tracebacks(bare_shell)
    assert next(bare_shell.user_ns["generator"]) == "on"


def answer_debugger(monkeypatch, *lines):
    answers = iter([*lines, "q"])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(answers))


@pytest.mark.parametrize(("define", "call"), [("def", ""), ("async def", "await ")])
def test_debug_right_after_a_failed_cell_works_and_holds_nothing_afterwards(
    shell, made, monkeypatch, capsys, define, call
):
    run(shell, f"{define} fail():\n    local, number = make(), 1234\n    1 / 0\n{call}fail()")
    answer_debugger(monkeypatch, "p number + 1")
    run(shell, "%debug")
    assert "1235" in capsys.readouterr().out
    forget_tracebacks(shell)
    assert alive(made) == 0


def test_without_a_traceback_the_shell_says_so_and_keeps_working(bare_shell, made, monkeypatch, capsys, caplog):
    run(bare_shell, "1 / 0")
    forget_tracebacks(bare_shell)
    forget_tracebacks(bare_shell)
    capsys.readouterr()
    run(bare_shell, "%debug")
    assert "No traceback has been produced" in caplog.text
    run(bare_shell, "%tb")
    assert "No traceback available to show" in "".join(capsys.readouterr())
    run(bare_shell, "def fail():\n    number = 1234\n    1 / 0\nfail()")
    answer_debugger(monkeypatch, "p number + 1")
    run(bare_shell, "%debug")
    assert "1235" in capsys.readouterr().out


def test_nothing_is_lost_where_there_is_nothing_yet(bare_shell):
    before = set(bare_shell.user_ns)
    forget_outputs(bare_shell)
    forget_tracebacks(bare_shell)
    assert set(bare_shell.user_ns) == before


def test_the_cleaners_are_of_effect_state_and_for_deep_clean_ups(bare_shell, made):
    cleaners = shell_cleaners(bare_shell)
    rows = [(cleaner.name, cleaner.effect, cleaner.deep, cleaner.source) for cleaner in cleaners]
    assert rows == [("out", "state", True, "built-in"), ("traceback", "state", True, "built-in")]
    run(bare_shell, "make()", FAILING)
    for cleaner in cleaners:
        cleaner.find()()
    assert alive(made) == 0


def test_the_cleaners_keep_no_shell_alive():
    shell = Thing()
    cleaners = shell_cleaners(shell)
    clear = cleaners[0].find()
    del shell
    assert [cleaner.find() for cleaner in cleaners] == [None, None]
    clear()
