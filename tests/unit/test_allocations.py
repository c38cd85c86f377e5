"""Which lines of code are told to retain memory: real tracers, and cells that are files of this test."""

from __future__ import annotations

import gc
import sys
import tempfile
import tracemalloc

import pytest

from memcell.measure import allocations
from memcell.measure.allocations import Tracing

MIB = 1 << 20
CELL = """def keep(size):
    return bytearray(b"x") * size

kept = [keep(32 << 20), keep(16 << 20)]
gone = keep(64 << 20)
del gone
"""


@pytest.fixture(params=["memray", "tracemalloc"])
def tracer(request, monkeypatch):
    if request.param == "tracemalloc":
        monkeypatch.setattr(allocations.importlib.util, "find_spec", lambda name: None)
    return request.param


def name_line(file: str, line: int) -> str:
    return f"[cell] line {line}" if file == "a cell" else ""


def run_cell(source: str = CELL) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(source, "a cell", "exec"), names)
    return names


def test_what_is_still_held_is_told_with_its_line(tracer):
    tracing = Tracing(name_line)
    names = run_cell()
    sites = tracing.stop(3)
    assert sites.tracer == tracer
    first = sites.sites[0]
    assert (first.where, first.called_from) == ("[cell] line 2", "[cell] line 4")
    assert first.size_bytes == pytest.approx(48 * MIB, rel=0.01)
    assert sites.total_bytes == pytest.approx(48 * MIB, rel=0.05)
    assert "memcell" not in "".join(site.where for site in sites.sites)
    assert names["kept"]


def test_a_module_is_told_by_its_path_and_the_line_that_led_there(tracer, tmp_path, monkeypatch):
    (tmp_path / "makers.py").write_text("def make():\n    return bytearray(b'x') * (32 << 20)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    tracing = Tracing(name_line)
    run_cell("import makers\nkept = makers.make()\nmakers.kept = kept\n")
    first = tracing.stop(3).sites[0]
    assert (first.where, first.called_from) == ("makers.py:2", "[cell] line 2")
    sys.modules.pop("makers")


def test_only_so_many_are_told_and_the_rest_is_counted(tracer):
    source = "".join(f"a{index} = bytearray({index + 1} << 20)\n" for index in range(8))
    tracing = Tracing(name_line)
    names = run_cell(source)
    sites = tracing.stop(3)
    assert [site.where for site in sites.sites] == ["[cell] line 8", "[cell] line 7", "[cell] line 6"]
    assert sites.count >= 8
    assert len(names) > 8


def test_nothing_is_left_of_it(tracer, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # in the machine's own other programs come and go
    Tracing(name_line).stop(3)
    tracing = Tracing(name_line)
    assert bool(list(tmp_path.iterdir())) == (tracer == "memray")
    tracing.cancel()
    tracing.cancel()
    Tracing(name_line).stop(1)
    assert not list(tmp_path.iterdir())
    assert not tracemalloc.is_tracing()


def test_tracing_that_somebody_else_began_goes_on(monkeypatch):
    monkeypatch.setattr(allocations.importlib.util, "find_spec", lambda name: None)
    tracemalloc.start(4)
    try:
        before = run_cell()
        tracing = Tracing(name_line)
        during = run_cell("kept = bytearray(b'x') * (8 << 20)\n")
        sites = tracing.stop(3)
        assert tracemalloc.is_tracing()
        assert sites.total_bytes == pytest.approx(8 * MIB, rel=0.05), "what was allocated before is not this cell's"
        assert before
        assert during
    finally:
        tracemalloc.stop()
        gc.collect()


def test_why_memray_is_not_used_is_said(monkeypatch):
    import memray

    tracing = Tracing(name_line)
    second = Tracing(name_line)  # memray cannot trace twice at a time
    assert second.stop(1).note.startswith("memory of C code is not seen, memray did not start")
    assert tracing.stop(1).note == ""
    profiler = lambda *_: None  # noqa: E731
    monkeypatch.setattr(sys, "getprofile", lambda: profiler)
    assert "profiler" in Tracing(name_line).stop(1).note
    assert memray


def test_stopping_tracemalloc_in_the_cell_does_no_harm(monkeypatch):
    monkeypatch.setattr(allocations.importlib.util, "find_spec", lambda name: None)
    tracing = Tracing(name_line)
    tracemalloc.stop()
    assert tracing.stop(3).sites == ()
