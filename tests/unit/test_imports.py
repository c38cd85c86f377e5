"""Modules imported since a moment: which can be dropped, and why others cannot."""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from memcell.clean.imports import Imports


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules that can be imported; none is left in ``sys.modules``."""
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(sys.modules)

    def write(sources):
        for name, source in sources.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def outcomes(found):
    return {outcome.name: outcome.note if not outcome.dropped else "" for outcome in found}


def make_module(name, origin=None, **attributes):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin=origin)
    vars(module).update(attributes)
    return module


def test_an_imported_module_is_dropped_and_its_next_import_is_fresh(write):
    write({"alone": "value = []"})
    imports = Imports()
    first = importlib.import_module("alone")
    assert outcomes(imports.plan({})) == {"alone": ""}
    assert "alone" in sys.modules, "planning drops nothing"
    assert outcomes(imports.drop({})) == {"alone": ""}
    assert "alone" not in sys.modules
    assert importlib.import_module("alone") is not first


def test_a_package_goes_with_its_submodules(write):
    write({"pkg/__init__": "", "pkg/part": "from pkg import other", "pkg/other": ""})
    imports = Imports()
    importlib.import_module("pkg.part")
    (outcome,) = imports.drop({})
    assert (outcome.name, outcome.dropped, outcome.count) == ("pkg", True, 3)
    assert not [name for name in sys.modules if name.partition(".")[0] == "pkg"]


def test_what_was_there_before_stays(write):
    write({"early": "", "late": "import early"})
    importlib.import_module("early")
    imports = Imports()
    importlib.import_module("late")
    assert outcomes(imports.drop({})) == {"late": ""}
    assert "early" in sys.modules


def test_a_submodule_of_the_users_package_leaves_its_parent_too(write):
    write({"mine/__init__": "", "mine/heavy": ""})
    package = importlib.import_module("mine")
    imports = Imports()
    importlib.import_module("mine.heavy")
    assert outcomes(imports.drop({})) == {"mine.heavy": ""}
    assert "mine" in sys.modules
    assert not hasattr(package, "heavy")
    assert importlib.import_module("mine.heavy") is package.heavy


def test_a_later_submodule_of_an_installed_package_is_that_packages_own_affair():
    modules = {"lib": make_module("lib")}
    modules["lib"].__file__ = "/usr/lib/python3/site-packages/lib/__init__.py"
    modules["xml"] = make_module("xml")
    imports = Imports(modules)
    for name in ("lib.lazy", "xml.dom", "memcell.view.text"):
        modules[name] = make_module(name)
    assert imports.plan({}) == []


@pytest.mark.parametrize(
    ("name", "module", "reason"),
    [
        ("fast", make_module("fast", origin="/lib/fast.cpython-311-x86_64-linux-gnu.so"), "fast is compiled"),
        ("fast._core", make_module("fast._core", origin="C:\\lib\\_core.pyd"), "fast._core is compiled"),
        ("odd", ModuleType("odd"), "odd was made at run time"),
        ("odd", object(), "odd was made at run time"),
        ("multiprocessing", make_module("multiprocessing"), "the interpreter ends what it started"),
        ("ext", make_module("ext"), "extension of the shell"),
    ],
)
def test_modules_that_cannot_be_imported_again_are_refused(name, module, reason):
    modules = {}
    imports = Imports(modules, stays=lambda: {"ext"})
    modules[name] = module
    if "." in name:
        modules["fast"] = make_module("fast", origin="/lib/fast/__init__.py")
    (outcome,) = imports.drop({})
    assert not outcome.dropped
    assert reason in outcome.note
    assert name in modules


def test_a_module_that_is_being_imported_is_refused():
    modules = {}
    imports = Imports(modules)
    modules["new"] = make_module("new")
    modules["new"].__spec__._initializing = True
    assert outcomes(imports.plan({})) == {"new": "new is being imported"}


@pytest.mark.parametrize(
    "use", ["import used", "from used import function", "from used import Class", "from used import thing"]
)
def test_what_a_kept_module_refers_to_is_refused(write, use):
    used = "import deeper\ndef function(): pass\nclass Class: pass\nthing = Class()"
    write({"keeper": "", "used": used, "deeper": "import deepest", "deepest": "", "free": "import deeper, used"})
    keeper = importlib.import_module("keeper")
    imports = Imports()
    importlib.import_module("free")
    exec(use, vars(keeper))
    found = outcomes(imports.drop({}))
    assert found["free"] == ""
    assert found["used"].startswith("keeper.")
    assert found["used"].endswith(" refers to it")
    assert found["deeper"] == "used.deeper refers to it"
    assert found["deepest"] == "deeper.deepest refers to it"
    assert {"used", "deeper"} <= set(sys.modules)


def test_the_users_own_namespace_is_no_keeper_and_its_variables_are_named(write, monkeypatch):
    write({"held": "def function(): pass", "free": ""})
    imports = Imports()
    held, free = importlib.import_module("held"), importlib.import_module("free")
    monkeypatch.setattr(sys.modules["__main__"], "function", held.function, raising=False)
    found = {outcome.name: outcome for outcome in imports.drop({"function": held.function, "number": 5})}
    assert found["held"].dropped
    assert found["held"].note == "the variable function keeps it in memory"
    assert found["free"].note == ""
    assert free.__name__ not in sys.modules


def test_a_module_whose_code_a_thread_runs_is_refused(write):
    write({"server": "def serve(started, end):\n    started.set()\n    end.wait()"})
    imports = Imports()
    server = importlib.import_module("server")
    started, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve, args=(started, end))
    thread.start()
    try:
        assert started.wait(10)
        assert outcomes(imports.plan({})) == {"server": "its code is running, in this or another thread"}
    finally:
        end.set()
        thread.join()
    assert outcomes(imports.drop({})) == {"server": ""}


def test_an_installed_package_on_a_compiled_one_is_refused_and_the_users_is_not():
    modules = {"fast": make_module("fast", origin="/lib/fast.so")}
    imports = Imports(modules)
    modules["styles"] = make_module("styles", fast=modules["fast"])
    modules["styles"].__file__ = "/lib/site-packages/styles.py"
    modules["mine"] = make_module("mine", fast=modules["fast"])
    modules["mine"].__file__ = "/home/user/mine.py"
    found = outcomes(imports.drop({}))
    assert found == {"mine": "", "styles": "it is built on fast, which is compiled and may know it"}


def test_no_module_is_asked_for_attributes_that_it_makes_up():
    class Lazy(ModuleType):
        def __getattr__(self, name):
            raise AssertionError(f"the module was asked for {name}")

    modules = {"lazy": Lazy("lazy")}
    imports = Imports(modules)
    modules["later"] = Lazy("later")
    assert set(outcomes(imports.plan({"later": modules["later"]}))) == {"later"}
