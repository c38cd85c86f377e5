"""The live view in real kernels: it moves while the cell runs, and no cell leaves a widget behind."""

from __future__ import annotations

from itertools import pairwise

import pytest

_WIDGETS = "len(__import__('ipywidgets').widgets.widget._instances)"
_VIEW = "application/vnd.jupyter.widget-view+json"
_BUSY = "import time\nends = time.monotonic() + 2\nwhile time.monotonic() < ends: pass"


@pytest.fixture(autouse=True)
def _closed_afterwards(live_kernel):
    yield
    live_kernel.run("%memwatch off")


@pytest.mark.parametrize("cell", ["import time\ntime.sleep(2)", _BUSY], ids=["sleep", "busy"])
def test_the_view_moves_while_the_cell_runs(live_kernel, cell):
    result = live_kernel.run(f"%%memwatch\n{cell}")
    view, line, picture = result.data
    assert _VIEW in view
    assert "kept · peak" in line["text/plain"]
    assert set(picture) == {"image/png", "text/plain"}
    during = [at for at in result.times("comm_msg") if 0.2 < at < 1.9]
    assert len(during) >= 5
    assert max(after - before for before, after in pairwise(during)) < 0.8


def test_the_view_moves_while_a_cell_awaits(live_kernel):
    result = live_kernel.run("%%memwatch\nimport asyncio\nawait asyncio.sleep(2)")
    assert len([at for at in result.times("comm_msg") if 0.2 < at < 1.9]) >= 5


def test_the_session_view_follows_plain_cells_without_new_views(live_kernel):
    assert _VIEW in live_kernel.run("%memwatch").data[0]
    result = live_kernel.run("import time; time.sleep(1)")
    assert not result.data
    assert len(result.times("comm_msg")) >= 3


def test_watched_cells_leave_no_further_widgets(live_kernel):
    live_kernel.run("%%memwatch\npass")
    before = live_kernel.value(_WIDGETS)
    for _ in range(20):
        live_kernel.run("%%memwatch\npass")
    assert live_kernel.value(_WIDGETS) == before


def test_off_closes_the_view_and_leaves_a_picture(live_kernel):
    live_kernel.run("x = 1")
    before = live_kernel.value("__import__('memcell').ipython and len(__import__('threading').enumerate())")
    live_kernel.run("%memwatch")
    assert live_kernel.value(_WIDGETS) == 3  # with its layout and style
    result = live_kernel.run("%memwatch off")
    assert [set(data) for data in result.data] == [{"image/png", "text/plain"}]
    assert live_kernel.value(_WIDGETS) == 0
    assert live_kernel.value("len(__import__('threading').enumerate())") == before
    assert not live_kernel.run("import time; time.sleep(0.5)").times("comm_msg")
    assert "no live view" in live_kernel.run("%memwatch off").stdout


def test_a_nested_empty_run_does_not_stop_the_view(live_kernel):
    result = live_kernel.run("%%memwatch\nimport time\nget_ipython().run_cell('')\ntime.sleep(1.5)")
    assert len([at for at in result.times("comm_msg") if 0.4 < at < 1.4]) >= 3


def test_a_view_whose_widget_somebody_closed_can_be_opened_again(live_kernel):
    live_kernel.run("%memwatch")
    live_kernel.run("import ipywidgets; ipywidgets.Widget.close_all()")
    result = live_kernel.run("%memwatch")
    assert _VIEW in result.data[0]
    assert live_kernel.run("import time; time.sleep(1)").times("comm_msg")


def test_unloading_closes_the_view(live_kernel):
    live_kernel.run("%memwatch")
    assert live_kernel.run("%unload_ext memcell").status == "ok"
    assert live_kernel.value(_WIDGETS) == 0
    assert live_kernel.run("%load_ext memcell").status == "ok"
