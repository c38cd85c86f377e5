"""Which variables may be dropped before they are rebound: from the syntax tree, over sources that try to read them."""

from __future__ import annotations

import ast

import pytest

from memcell.ipython.rebinding import rebindings, with_drops

#: Cells that bind ``x`` anew, in a namespace with x, y, z, make and double, and whether the old x may go before.
SOURCES: list[tuple[str, bool]] = [
    ("x = make()", True),
    ("x: list = make()", True),
    ("x = w = make()", True),
    ("x, w = make(), make()", True),
    ("[x, w] = make(), make()", True),
    ("w = y\nx = make()", True),
    ("x = [double(v) for v in y]", True),
    ("x = make(\n    3,\n)", True),
    ("x = double(y)\nprint(len(x))", True),
    ("import math\nx = make()", True),
    ("if y:\n    w = 1\nx = make()", True),
    ("for w in y:\n    pass\nx = make()", True),
    ("x = make('x')", True),
    ("x = {'x': make()}['x']", True),
    ("x = make()\nx = double(x)", True),
    ("w = f'{len(y)}'\nx = make()", True),
    ("x = make()\nexec('w = 1')", True),
    ("x = make() if y else double(y)", True),
    ("x = x", False),
    ("x = double(x)", False),
    ("x = make(len(x))", False),
    ("x = [v for v in x]", False),
    ("x = (lambda: x)()", False),
    ("x = list(v for v in x)", False),
    ("x = f'{x}'", False),
    ("x, w = make(), x", False),
    ("w = x\nx = make()", False),
    ("w = lambda: x\nx = w()", False),
    ("def f():\n    return x\nx = f()", False),
    ("def f(a=None):\n    global x\n    return x\nx = f()", False),
    ("class C:\n    v = x\nx = C.v", False),
    ("class C:\n    def m(self):\n        return x\nx = C().m()", False),
    ("g = (v for v in x)\nx = list(g)", False),
    ("g = (v + len(x) for v in y)\nx = list(g)", False),
    ("x += make()", False),
    ("x[0] = make()", False),
    ("x.append(make())", False),
    ("x[:], w = make(), 1", False),
    ("x, *w = make()", False),
    ("if y:\n    x = make()", False),
    ("for v in y:\n    x = make()", False),
    ("while True:\n    x = make()\n    break", False),
    ("try:\n    x = make()\nfinally:\n    pass", False),
    ("with open('/dev/null') as f:\n    x = make()", False),
    ("del x\nx = make()", False),
    ("import os as x\nx = make()", False),
    ("from os import path as x\nx = make()", False),
    ("from math import *\nx = make()", False),
    ("for x in y:\n    pass\nx = make()", False),
    ("x = eval('x')", False),
    ("x = eval('x' * 1)", False),
    ("exec('w = x')\nx = make()", False),
    ("exec('def f(): return x')\nx = f()", False),
    ("x = globals()['x']", False),
    ("w = globals()\nx = w['x']", False),
    ("x = locals()['x']", False),
    ("x = vars()['x']", False),
    ("x = [n for n in dir()]", False),
    ("import __main__\nx = __main__.x", False),
    ("import sys\nx = sys.modules['__main__'].x", False),
    ("import sys\nx = sys._getframe().f_globals['x']", False),
    ("import inspect\nx = inspect.currentframe().f_globals['x']", False),
    ("import builtins\nx = builtins.eval('x')", False),
    ("import builtins as b\nx = b.globals()['x']", False),
    ("x = (x := make())", False),
    ("x = (w := make())", False),
    ("x = [(x := v) for v in y][-1]", False),
    ("x = get_ipython().user_ns['x']", False),
    ("w = get_ipython()\nx = w.ev('x')", False),
    ("import asyncio\nx = await asyncio.sleep(0, y)", False),
    ("async def f():\n    return x\nx = await f()", False),
    ("x = library.sql('select * from x')", False),
    ("x = library.sql(text)", False),
    ("x = frame.query('a > @x')", False),
    ("w = library.lazy('select * from x')\nx = w.result()", False),
    ("x = ols('y ~ x', frame)", False),
    ("x = frame.eval(text)", False),
    ("x = make.__globals__['x']", False),
    ("def x(): pass\nx = make()", False),
    ("class x: pass\nx = make()", False),
    ("try:\n    pass\nexcept ValueError as x:\n    pass\nx = make()", False),
    ("match y:\n    case [x, *_]:\n        pass\nx = make()", False),
    ("match y:\n    case {'a': 1, **x}:\n        pass\nx = make()", False),
    ("f = lambda x=x: x\nx = f()", False),
    ("x: type(x) = make()", False),
]


def planned(source: str):
    tree = ast.parse(source, mode="exec")
    return [rebinding for rebinding in rebindings(tree) if rebinding.name == "x" and not rebinding.why_not]


@pytest.mark.parametrize(("source", "may_go"), SOURCES, ids=[source for source, _ in SOURCES])
def test_the_old_value_goes_only_where_nobody_reads_it(source, may_go):
    assert bool(planned(source)) == may_go


@pytest.mark.parametrize("source", [source for source, _ in SOURCES if "await" not in source])
def test_the_cell_ends_as_without_the_drop(source):
    """Whatever the analysis drops, what the cell leaves behind, raises included, is the same."""
    assert outcome(source, drop=True) == outcome(source, drop=False)


def outcome(source: str, *, drop: bool) -> tuple[str, dict[str, str]]:
    names = {"x": [1, 2, 3], "y": [4, 5], "z": 6, "make": lambda *_: [7, 8], "double": lambda value: [value] * 2}
    tree = ast.parse(source)
    if drop:
        tree = with_drops(tree, [one for one in rebindings(tree) if not one.why_not and one.name in names])
    try:
        exec(compile(tree, "cell", "exec"), names)
        raised = ""
    except Exception as error:
        raised = type(error).__name__
    shown = {name: repr(value) for name, value in names.items() if isinstance(value, (list, int, str))}
    return raised, shown


def why(source: str) -> str:
    return next(one.why_not for one in rebindings(ast.parse(source)) if one.name == "x")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x += 1", "its new value is made from it"),
        ("\nif y:\n    x = make()", "line 2 binds it inside an if"),
        ("if y:\n    pass\nelse:\n    x = make()", "line 1 binds it inside an if"),
        ("for v in y:\n    x = make()", "line 1 binds it inside a for loop"),
        ("for x in y:\n    pass", "line 1 binds it inside a for loop"),
        ("while y:\n    x = make()", "line 1 binds it inside a while loop"),
        ("with make() as x:\n    pass", "line 1 binds it inside a with block"),
        ("try:\n    x = make()\nfinally:\n    pass", "line 1 binds it inside a try block"),
        ("match y:\n    case [x, *_]:\n        pass", "line 1 binds it inside a match block"),
        ("(x, y), z = make(), 1", "line 1 binds more than plain names"),
        ("*x, y = make()", "line 1 binds more than plain names"),
        ("import math as x", "line 1 binds it in another way than by ="),
        ("def x(): pass", "line 1 binds it in another way than by ="),
        ("exec(y)\nif y:\n    x = make()", "line 1 uses exec, which may read any variable"),
    ],
)
def test_other_ways_to_bind_it_are_told(source, reason):
    assert why(source) == reason


@pytest.mark.parametrize(
    "source", ["x[0] = 1", "x.a = 1", "del x", "[x for x in y]", "f = lambda x: 1", "def f():\n    x = 1", "print(x)"]
)
def test_what_binds_it_not_at_all_is_not_spoken_of(source):
    assert "x" not in [one.name for one in rebindings(ast.parse(source))]


def test_the_reason_names_the_line_or_the_reader():
    assert why("x = double(x)") == "its new value is made from it"
    assert why("y\nprint(x)\nx = make()") == "line 2 mentions it before"
    assert why("def show():\n    print(x)\nx = make()") == "show in this cell mentions it"
    assert why("g = globals()\nx = make()") == "line 1 uses globals, which may read any variable"
    assert "sql" in why("x = library.sql(text)")


def test_lines_in_tracebacks_stay_right():
    source = "w = 1\n\nx = make(\n    1 / 0,\n)"
    tree = ast.parse(source)
    names = {"x": 1, "make": lambda *_: 2}
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(with_drops(tree, rebindings(tree)), "cell", "exec"), names)
    assert "x" not in names
    assert caught.traceback[-1].lineno + 1 == 4


def test_a_name_that_is_gone_by_then_does_no_harm():
    names = {"make": lambda: 2}
    tree = ast.parse("x = make()")
    exec(compile(with_drops(tree, rebindings(tree)), "cell", "exec"), names)
    assert names["x"] == 2


@pytest.mark.parametrize(
    "magic", ["get_ipython().run_line_magic('matplotlib', 'inline')", "get_ipython().run_line_magic('precision', '3')"]
)
def test_magics_that_read_nothing_do_no_harm(magic):
    (rebinding,) = planned(f"{magic}\nx = make()")
    assert "get_ipython" not in rebinding.reads
    assert not planned("get_ipython().run_line_magic('run', '-i script.py')\nx = make()")
