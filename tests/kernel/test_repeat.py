"""``%%memwatch --repeat``, ``--top`` and ``--fresh`` in real kernels."""

from __future__ import annotations

import re
import time

import pytest

MIB = 1 << 20
_VIEW = "application/vnd.jupyter.widget-view+json"


def updates(result):
    return [content["data"]["text/plain"] for content in result.contents("update_display_data")]


def test_a_cell_that_leaks(kernel):
    kernel.run("kept = []")
    result = kernel.run("%%memwatch --repeat 5\nprint('said')\nkept.append(bytearray(b'x') * (32 << 20))\nlen(kept)")
    assert result.status == "ok"
    assert result.stdout == "said\n"
    assert [content["data"]["text/plain"] for content in result.contents("execute_result")] == ["1"]
    assert kernel.value("len(kept), [n for n in Out], len(In)") == (5, [3], 4)
    bar, table = result.lines
    assert bar.endswith("run 1 of 5")
    assert any(re.search(r"run 4 of 5 · \+9[67]\.\d MiB so far", line) for line in updates(result))
    assert updates(result)[-1].endswith("5 runs done")
    assert "growing" in table
    assert "kept.clear()" in table
    assert all(_VIEW not in data for data in result.data), "a widget would be dead when the notebook is opened again"


def test_a_live_front_end_gets_no_widget_either(live_kernel):
    result = live_kernel.run("%%memwatch --repeat 3\nx = 1")
    assert all(_VIEW not in data for data in result.data)
    assert "3 of 3 runs" in result.lines[-1]


def test_await_and_displays(kernel):
    kernel.run("import asyncio\nfrom IPython.display import display")
    cell = "import asyncio\nawait asyncio.sleep(0.05)\ndisplay('shown')\nrepeated = True"
    result = kernel.run(f"%%memwatch --repeat 3\n{cell}")
    assert result.status == "ok"
    assert [data["text/plain"] for data in result.data].count("'shown'") == 1
    assert "3 of 3 runs" in result.lines[-1]
    assert kernel.value("repeated")
    assert kernel.value("[run.source_line for run in __import__('memcell').history()][-3:]") == ["import asyncio"] * 3


@pytest.mark.parametrize("above", ["", "import asyncio\nawait asyncio.sleep(0)\n"], ids=["plain", "await"])
def test_a_semicolon_holds_the_value_back(kernel, above):
    result = kernel.run(f"%%memwatch --repeat 3\n{above}'a value';")
    assert result.status == "ok"
    assert list(result.contents("execute_result")) == []
    assert "3 of 3 runs" in result.lines[-1]
    assert kernel.value("'a value' in Out.values()") is False


def test_inline_figures_are_shown_once_and_closed(kernel):
    kernel.run("%matplotlib inline\nimport matplotlib.pyplot as plt")
    result = kernel.run("%%memwatch --repeat 3\nplt.plot([1, 2])")
    assert len([data for data in result.data if "image/png" in data]) == 1
    assert kernel.value("__import__('matplotlib.pyplot').pyplot.get_fignums()") == []


def test_a_run_that_fails(kernel):
    kernel.run("n = 0")
    result = kernel.run("%%memwatch --repeat 5\nn += 1\nif n == 3:\n    raise ValueError('the third')")
    assert result.status == "error"
    (error,) = result.contents("error")
    assert (error["ename"], error["evalue"]) == ("ValueError", "the third")
    assert "memcell" not in "".join(error["traceback"])
    assert "run 3 of 5 failed with ValueError: the third; this is about the 2 runs before" in result.lines[-1]
    number = kernel.value("len(In) - 1")
    assert f"In[{number}]" in "".join(error["traceback"])
    assert kernel.run("n").status == "ok"


@pytest.mark.parametrize("wait", ["time.sleep(0.3)", "await asyncio.sleep(0.3)"], ids=["plain", "await"])
def test_an_interrupt_keeps_what_is_known(kernel, wait):
    sent = kernel.send(f"%%memwatch --repeat 500\nimport asyncio, time\nprint('begun')\n{wait}")
    kernel.wait_for_output(sent, "begun")
    time.sleep(4)
    kernel.manager.interrupt_kernel()
    result = kernel.collect(sent)
    assert result.status == "error"
    assert len(result.contents("error")) == 1
    assert "of 500 interrupted; this is about the" in result.lines[-1]
    assert "runs before" in result.lines[-1]
    assert kernel.run("1 + 1").data[0]["text/plain"] == "2"


def test_the_same_series_as_by_hand(kernel):
    kernel.run("series = 1")
    kernel.run("%%memwatch -q --repeat 3\nseries = 1")
    kernel.run("series = 1")
    assert kernel.value("[leak.runs for leak in __import__('memcell').leaks() if leak.label == 'series = 1']") == [5]


def test_fresh_halves_the_peak(kernel):
    kernel.run("def make():\n    return bytearray(b'x') * (256 << 20)")
    growths = []
    for line in ("", "%%memwatch\n", "%%memwatch --fresh\n"):
        result = kernel.run(f"{line}big = make()")
        growths.append(kernel.last_run()["peak_bytes"] - kernel.last_run()["before_bytes"])
    first, doubled, again = growths
    assert abs(first - 256 * MIB) < 8 * MIB
    assert abs(doubled - 256 * MIB) < 8 * MIB  # on top of the old value
    assert again < 8 * MIB
    assert "dropped just before rebinding: big (256.0 MiB)" in "\n".join(result.lines)
    kernel.run("del big")


@pytest.mark.parametrize("line", ["%%memwatch --top", "%%memwatch --top 3 --repeat 3"])
def test_allocation_sites(kernel, line):
    kernel.run("blocks = []\ndef keep():\n    return bytearray(b'x') * (32 << 20)")
    number = kernel.value("len(In) - 1")
    result = kernel.run(f"{line}\nx = 1\nblocks.append(keep())")
    table = next(lines for lines in result.lines if "allocated at" in lines)
    runs = 3 if "repeat" in line else 1
    first = table.splitlines()[2]
    assert first.startswith(f"In[{number}] line 3")
    assert f"{32.0 * runs} MiB" in first
    assert "[cell] line 2" in first
    assert "traced by" in table
