"""The history: bounded, in order, and out of memcell as plain data, files, a data frame or a figure."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import io
import json

import pytest

from memcell.errors import InvalidSettingError, MemcellError, MissingLibraryError
from memcell.records.measured import Run
from memcell.run_history import History

RUN = Run(
    cell="abc",
    number=1,
    source_hash="0123",
    source_line='x = make("a, b")  # „ü“',
    started=1_700_000_000.25,
    duration_s=1.5,
    before_bytes=100,
    after_bytes=130,
    peak_bytes=400,
    peak_method="high-water",
    outcome="ok",
    own_bytes=10,
    curve_bytes=(100, 400, 130),
)


def a_history(count: int = 3, size: int = 10) -> History:
    history = History(size, plot=lambda runs: ("figure", len(runs)))
    for number in range(count):
        history.append(dataclasses.replace(RUN, number=number))
    return history


def test_it_is_a_sequence():
    history = a_history()
    assert len(history) == 3
    assert [run.number for run in history] == [0, 1, 2]
    assert history[-1].number == 2
    assert [run.number for run in history[1:]] == [1, 2]
    assert [run.number for run in reversed(history)] == [2, 1, 0]
    assert history[0] in history
    assert repr(history) == "<memcell history: 3 of at most 10 runs>"
    with pytest.raises(IndexError):
        history[3]


def test_the_oldest_goes():
    assert [run.number for run in a_history(count=5, size=2)] == [3, 4]


def test_resizing_keeps_the_newest():
    history = a_history(count=5)
    history.resize(2)
    assert [run.number for run in history] == [3, 4]
    history.resize(3)
    history.append(RUN)
    assert [run.number for run in history] == [3, 4, 1]


def test_a_run_may_end_while_the_history_is_walked():
    history = a_history()
    for run in history:
        history.append(run)
    assert len(history) == 6


def test_clear():
    history = a_history()
    history.clear()
    assert len(history) == 0
    assert history.to_dicts() == []
    assert json.loads(history.to_json()) == []


def test_dicts_have_the_derived_values_and_lead_back():
    (values,) = a_history(count=1).to_dicts()
    assert (values["retained_bytes"], values["peak_growth_bytes"]) == (20, 300)
    assert Run.from_dict(values) == dataclasses.replace(RUN, number=0)


def test_json_leads_back(tmp_path):
    text = a_history(count=1).to_json(tmp_path / "runs.json")
    assert (tmp_path / "runs.json").read_text(encoding="utf-8") == text
    assert Run.from_dict(json.loads(text)[0]) == dataclasses.replace(RUN, number=0)


def test_csv_has_one_line_per_run_and_no_curve(tmp_path):
    text = a_history().to_csv(str(tmp_path / "runs.csv"))
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8") == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["number"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["source_line"] == RUN.source_line
    assert rows[0]["retained_bytes"] == "20"
    assert rows[0]["device_bytes"] == ""
    assert "curve_bytes" not in rows[0]


def test_pandas():
    frame = a_history().to_pandas()
    assert list(frame["number"]) == [0, 1, 2]
    assert list(frame["retained_bytes"]) == [20, 20, 20]
    assert frame["started"][0].isoformat() == "2023-11-14T22:13:20.250000+00:00"
    assert len(a_history(count=0).to_pandas()) == 0
    assert "retained_bytes" in a_history(count=0).to_pandas().columns


def test_pandas_of_runs_of_another_day():
    history = a_history(count=1)
    history.append(dataclasses.replace(RUN, started=1_700_086_400.0, device_bytes=5))
    assert list(history.to_pandas()["started"].dt.day) == [14, 15]


def test_without_pandas_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingLibraryError, match=r"pip install 'memcell\[pandas\]', or use to_dicts\(\)"):
        a_history().to_pandas()


def test_plot_hands_over_the_runs():
    assert a_history().plot() == ("figure", 3)


def test_plot_of_nothing_says_what_to_do():
    with pytest.raises(InvalidSettingError, match="run a cell") as caught:
        a_history(count=0).plot()
    assert isinstance(caught.value, MemcellError)
