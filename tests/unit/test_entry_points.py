"""Cleaners that libraries declare, and modules that merely have a ``clear_caches()``."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from memcell.clean.available import available_cleaners
from memcell.clean.catalogue import Catalogue
from memcell.clean.cleaner import built_in_cleaner
from memcell.clean.entry_points import GROUP, EntryPointCleaners
from memcell.clean.heap import Collector
from memcell.clean.registry import Registry
from memcell.clean.runner import Gauges, Runner
from memcell.errors import UnknownCleanerError

LIBRARY = "memcell_test_library"


def nothing() -> None:
    pass


def declared(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that declares a cleaner in a submodule."""
    package = tmp_path / LIBRARY
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "caches.py").write_text("cleared = []\ndef clear():\n    cleared.append(True)\nclear.effect = 'state'\n")
    information = tmp_path / f"{LIBRARY}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {LIBRARY}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\ngraphs = {LIBRARY}.caches:clear\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARY]:
        del sys.modules[name]


def test_a_declared_cleaner_is_loaded_only_once_its_library_is_imported(library):
    cleaners = EntryPointCleaners()
    (cleaner,) = cleaners.cleaners(taken=())
    assert (cleaner.name, cleaner.source, cleaner.owner) == ("graphs", "entry point", LIBRARY)
    assert not cleaner.info().ready
    assert cleaner.find() is None
    assert LIBRARY not in sys.modules

    importlib.import_module(LIBRARY)
    (cleaner,) = cleaners.cleaners(taken=())
    assert cleaner.info().ready
    assert cleaner.effect == "state", "the callable says so"
    cleaner.find()()
    assert sys.modules[f"{LIBRARY}.caches"].cleared == [True]


def test_the_installed_packages_are_scanned_again_only_after_a_change(tmp_path, monkeypatch):
    scans = []
    cleaners = EntryPointCleaners(lambda: scans.append(1) or [])
    cleaners.cleaners(taken=())
    cleaners.cleaners(taken=())
    assert len(scans) == 1
    monkeypatch.syspath_prepend(tmp_path)
    cleaners.cleaners(taken=())
    assert len(scans) == 2
    (tmp_path / "new-1.0.dist-info").mkdir()
    cleaners.cleaners(taken=())
    assert len(scans) == 3


def test_a_taken_name_is_left_out_and_said_once(caplog):
    cleaners = EntryPointCleaners(lambda: [declared("gc", "a:clear"), declared("x", "a:x"), declared("x", "b:x")])
    with caplog.at_level(logging.WARNING, logger="memcell"):
        for _ in range(2):
            assert [cleaner.about for cleaner in cleaners.cleaners(taken={"gc"})] == ["a:x"]
    assert [record.getMessage() for record in caplog.records] == [
        "the cleaner 'gc' that a:clear declares is left out: the name is taken",
        "the cleaner 'x' that b:x declares is left out: the name is taken",
    ]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("", f"AttributeError: module '{LIBRARY}.caches' has no attribute 'clear'"),
        ("clear = 3", f"the entry point {LIBRARY}.caches:clear is not callable; it must name a function"),
        ("def clear(): pass\nclear.effect = 'sometimes'", None),
    ],
)
def test_an_error_while_loading_is_the_outcome_of_that_cleaner(library, source, error):
    (library / "caches.py").write_text(source)
    importlib.import_module(LIBRARY)
    catalogue = Catalogue(lambda: [built_in_cleaner("after", nothing, effect="none", about="")], Registry())
    assert [info.effect for info in catalogue.infos() if info.name == "graphs"] == ["recompute"]
    gauges = Gauges(rss_bytes=lambda: 0, heap_bytes=lambda: None, trim=nothing, noise_bytes=0)
    outcomes = Runner(catalogue, gauges, Collector()).clean(["graphs", "after"]).outcomes
    assert [outcome.name for outcome in outcomes] == ["graphs", "after"]
    assert outcomes[1].error is None
    assert (outcomes[0].error or "").endswith(error or "")
    assert (outcomes[0].error is None) == (error is None)


@pytest.fixture
def modules() -> dict[str, types.ModuleType]:
    """A module with the function, one that makes up attributes, and one whose loading waits for a look at it."""

    class Greedy(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"asked for {name}")

    plain = types.ModuleType("phasic")
    plain.clear_caches = nothing
    spec = importlib.util.spec_from_loader("lazy", loader=None)
    lazy = types.ModuleType("lazy")
    lazy.__spec__ = spec
    lazy.__class__ = importlib.util._LazyModule
    inner, data = types.ModuleType("phasic.inner"), types.ModuleType("data")
    inner.clear_caches = nothing
    data.clear_caches = {}
    stdlib, own = types.ModuleType("re"), types.ModuleType("memcell")
    stdlib.clear_caches = own.clear_caches = nothing
    found = [plain, Greedy("greedy"), inner, data, stdlib, own]
    return {**{module.__name__: module for module in found}, "lazy": lazy, "none": None}


def test_a_module_that_has_clear_caches_is_listed_and_others_are_not_even_looked_at(modules):
    (info,) = available_cleaners(known=(), modules=modules)
    assert (info.name, info.source, info.effect) == ("phasic", "available", "state")
    assert "memcell.register('phasic', phasic.clear_caches)" in info.about
    assert available_cleaners(known={"phasic"}, modules=modules) == []


def test_an_available_module_is_never_called_unasked(monkeypatch):
    calls = []
    module = types.ModuleType("phasic")
    module.clear_caches = lambda: calls.append(1)
    monkeypatch.setitem(sys.modules, "phasic", module)
    registry = Registry()
    catalogue = Catalogue(tuple, registry, EntryPointCleaners(list))
    assert [info.source for info in catalogue.infos() if info.name == "phasic"] == ["available"]
    assert catalogue.select() == []
    with pytest.raises(UnknownCleanerError, match=r"write memcell.register\('phasic', phasic.clear_caches\)"):
        catalogue.select(["phasic"])
    assert calls == []

    registry.register("phasic", module.clear_caches, owner="__main__")
    assert [info.source for info in catalogue.infos() if info.name == "phasic"] == ["registered"]
    assert [cleaner.name for cleaner in catalogue.select(["phasic"])] == ["phasic"]
