"""The live picture, the tables in HTML and the page: well formed, escaped, and they show what was measured."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from memcell.records.measured import Curve, Limit, Run, Snapshot
from memcell.units import GIB, MIB
from memcell.view import colours, html, tables
from memcell.view.bars import cells
from memcell.view.drawing import spread
from memcell.view.html import table_html
from memcell.view.svg import level_svg, live_svg, runs_svg
from memcell.view.ticks import size_ticks, time_ticks
from memcell.view.timeline import timeline
from tests.unit.view_records import INFOS, LIMIT, WEIRD, make_report, make_run, make_running, make_snapshot

_SVG = "{http://www.w3.org/2000/svg}"


def _parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root[0].tag == f"{_SVG}title"
    assert "nan" not in svg
    assert "inf" not in svg
    return root


def _words(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{_SVG}text")]


def _curve(root: ElementTree.Element) -> list[tuple[float, float]]:
    line = list(root.iter(f"{_SVG}polyline"))[-1]
    return [(float(x), float(y)) for x, y in (point.split(",") for point in line.get("points", "").split())]


def _rectangles(group: ElementTree.Element) -> list[tuple[float, float]]:
    """Top and height of what was kept and of the peak growth; the first rectangle only catches the pointer."""
    _, *drawn = group.iter(f"{_SVG}rect")
    return [(float(rect.get("y", "")), float(rect.get("height", ""))) for rect in drawn]


@pytest.mark.parametrize(
    "snapshot",
    [
        make_snapshot(),
        make_snapshot(make_run()),
        make_snapshot(make_run(kept=0, peak=0)),
        make_snapshot(make_run(kept=-300, peak=-1)),
        make_snapshot(make_run(123456, kept=3e9, peak=9e9)),
        make_snapshot(*(make_run(n, cell=f"cell {n}", source_line=WEIRD, outcome="error") for n in range(100))),
        make_snapshot(make_run(), limit=Limit(None, None, "none")),
        make_running(),
        make_running(507),
        make_running(507, elapsed_s=0.0),
        make_running(*range(500, 900), source_line=WEIRD),
        make_running(500, 1e9, limit=Limit(1 << 60, 1 << 50, "the machine")),
        make_running(*[500] * 20, limit=Limit(None, None, "none"), peak_bytes=500 * MIB),
        make_running(400, 300, level_bytes=300 * MIB, peak_bytes=500 * MIB),
    ],
)
def test_live_picture_is_well_formed_whatever_it_shows(snapshot: Snapshot) -> None:
    svg = live_svg(snapshot)
    root = _parsed(svg)
    assert svg == live_svg(snapshot)
    svg.encode()
    assert not [element for element in root.iter() if element.tag == f"{_SVG}script" or element.get("id")]
    assert "aria-live" not in svg
    width, height = (float(number) for number in root.get("viewBox", "").split()[2:])
    for x, y in _curve(root) if snapshot.number is not None else []:
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_running_picture_says_what_is_going_on() -> None:
    root = _parsed(live_svg(make_running(500, 700, 612, elapsed_s=12.4)))
    words = _words(root)
    assert "[7]" in words
    assert "12.40 s" in words
    assert "612 MiB+112.0 MiB so far · peak +400.0 MiB" in words
    assert "peak 900 MiB" in words
    assert "limit 24 GiB, 25% used" in words
    assert "before" in words


def test_curve_goes_from_the_level_before_to_the_level_now() -> None:
    points = _curve(_parsed(live_svg(make_running(500, 700, 612))))
    assert len(points) == 5
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs)
    assert ys[2] == min(ys)  # the highest level is the smallest pixel
    assert ys[0] == max(ys)
    assert ys[-1] == ys[3]


def test_a_long_curve_is_thinned_and_keeps_its_spike() -> None:
    levels = [500.0] * 5000
    levels[3333] = 900
    points = _curve(_parsed(live_svg(make_running(*levels))))
    assert len(points) <= 302
    assert len([y for _, y in points if y < 100]) == 1


def test_limit_is_a_line_where_it_is_in_sight() -> None:
    near = _parsed(live_svg(make_running(500, 700, limit=Limit(1 * GIB, 700 * MIB, "cgroup"))))
    far = _parsed(live_svg(make_running(500, 700)))

    def lines(root: ElementTree.Element) -> int:
        return sum(colours.LIMIT in line.get("style", "") for line in root.iter(f"{_SVG}line"))

    assert (lines(near), lines(far)) == (1, 0)
    assert "limit 1 GiB" in _words(near)


def test_children_are_a_second_line_above_the_kernel() -> None:
    curve = Curve(0.1, (500 * MIB, 600 * MIB), (0, 100 * MIB))
    root = _parsed(live_svg(make_running(curve=curve)))
    assert len(list(root.iter(f"{_SVG}polyline"))) == 2
    assert "with children" in _words(root)
    without = _parsed(live_svg(make_running(curve=replace(curve, children_bytes=(0, 0)))))
    assert "with children" not in _words(without)


def test_bars_are_to_scale_and_have_tooltips() -> None:
    root = _parsed(live_svg(make_snapshot(make_run(1, kept=100, peak=300), make_run(2, kept=-50, peak=0))))
    first, second = root.iter(f"{_SVG}g")
    (peak_top, peak_height), (kept_top, kept_height) = _rectangles(first)
    assert peak_height == pytest.approx(3 * kept_height, abs=0.3)
    assert peak_top + peak_height == pytest.approx(kept_top + kept_height, abs=0.2)  # both stand on zero
    fallen_top, fallen_height = _rectangles(second)[1]
    assert fallen_top == pytest.approx(kept_top + kept_height, abs=0.2)  # hangs from zero
    assert fallen_height == pytest.approx(kept_height / 2, abs=0.2)
    assert first[0].text == (
        "graphs[key] = make_graph(200_000)\n[1] +100.0 MiB kept · peak +300.0 MiB · 1.24 s · kernel 607 MiB of 24 GiB"
    )


def test_summary_of_the_last_run_stands_below_the_bars() -> None:
    words = _words(_parsed(live_svg(make_snapshot(make_run(1), make_run(2, kept=3)))))
    assert words[-1] == "[2] +3.0 MiB kept · peak +310.0 MiB · 1.24 s · kernel 510 MiB of 24 GiB"


def test_only_the_latest_runs_are_drawn() -> None:
    root = _parsed(live_svg(make_snapshot(*(make_run(number) for number in range(100)))))
    assert len(list(root.iter(f"{_SVG}g"))) == 40
    assert "Memory per run (last 40 of 100)" in _words(root)
    assert "[99]" in _words(root)


def test_numbers_of_runs_do_not_overlap() -> None:
    runs = [make_run(1000 + number, cell=f"cell {number % 7}") for number in range(40)]
    root = _parsed(live_svg(make_snapshot(*runs)))
    middles = sorted(
        float(label.get("x", "")) for label in root.iter(f"{_SVG}text") if re.fullmatch(r"\[\d+\]", label.text or "")
    )
    assert len(middles) >= 7
    assert min(b - a for a, b in itertools.pairwise(middles)) >= 30


def test_runs_of_a_cell_stand_together_and_the_latest_cell_last() -> None:
    runs = [make_run(number, cell=cell) for number, cell in enumerate("abacb")]
    assert [[run.number for run in group] for group in cells(runs)] == [[0, 2], [3], [1, 4]]


def test_labels_are_moved_apart_within_the_plot() -> None:
    assert spread([50, 52, 90], 14, 0, 100) == [50, 64, 90]
    assert spread([98, 99], 14, 0, 100) == [86, 100]


@pytest.mark.parametrize(
    ("low", "high", "labels", "unit"),
    [
        (0, 430, ("0", "100", "200", "300", "400"), "MiB"),
        (-180, 330, ("-100", "0", "100", "200", "300"), "MiB"),
        (0, 3 * 1024, ("0", "1", "2", "3"), "GiB"),
        (506, 522, ("510", "515", "520"), "MiB"),
        (0, 0.9, ("0", "0.2", "0.4", "0.6", "0.8"), "MiB"),
    ],
)
def test_size_ticks_are_round(low: float, high: float, labels: tuple[str, ...], unit: str) -> None:
    ticks = size_ticks(low * MIB, high * MIB)
    assert (ticks.labels, ticks.unit) == (labels, unit)
    assert all(low * MIB <= value <= high * MIB for value in ticks.values)


@pytest.mark.parametrize(("seconds", "unit"), [(0.2, "s"), (90, "s"), (300, "min"), (7000, "min"), (90_000, "h")])
def test_time_ticks_take_the_unit_that_suits(seconds: float, unit: str) -> None:
    ticks = time_ticks(seconds)
    assert ticks.unit == unit
    assert 3 <= len(ticks.values) <= 9
    assert ticks.values[-1] <= seconds


def test_timeline_joins_runs_in_time_and_keeps_exact_peaks() -> None:
    first = make_run(1, started=50.0, duration_s=2.0, before=100, kept=10, peak=90, curve_bytes=(120 * MIB, 110 * MIB))
    second = make_run(2, started=60.0, duration_s=1.0, before=110, kept=0, peak=0)
    line = timeline([second, first])
    assert line.times_s == (0.0, 0.5, 1.5, 2.0, 10.0, 11.0)
    assert line.level_bytes == tuple(level * MIB for level in (100, 120, 110, 110, 110, 110))
    assert line.peak_times_s == (1.0, 10.5)
    assert line.highest_bytes == 190 * MIB
    assert len(timeline([make_run(number) for number in range(5000)]).times_s) == 600


@pytest.mark.parametrize("colour", [colours.KERNEL, colours.CHILDREN, colours.LIMIT])
@pytest.mark.parametrize("background", ["#FFFFFF", "#111111"])
def test_colours_stand_out_from_light_and_dark(colour: str, background: str) -> None:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(code: str) -> float:
        channels = [int(code[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(colour), luminance(background)))
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_summary_html_has_the_words_of_the_line() -> None:
    root = ElementTree.fromstring(html.summary_html(make_run(curve_bytes=(517 * MIB, 600 * MIB)), LIMIT))
    assert "".join(root.itertext()) == ("[3] +105.2 MiB kept · peak +310.0 MiB · 1.24 s · kernel 612 MiB of 24 GiB▁▂█")


def test_tables_in_html_are_escaped_and_align_figures() -> None:
    table = table_html(tables.clean_report(make_report(note="<b>note</b>")))
    root = ElementTree.fromstring(table)
    assert "<device>" not in table
    assert "<b>" not in table
    cells_of_gc = [cell for cell in root.iter("td") if cell.text == "+3.0 MiB more"]
    assert "text-align:right" in cells_of_gc[0].get("style", "")
    assert "612.0 MiB → 535.0 MiB" in "".join(root.itertext())


def test_cleaners_table_in_html() -> None:
    words = "".join(ElementTree.fromstring(table_html(tables.cleaners(INFOS))).itertext())
    assert 'memcell.register("phasic", phasic.clear_caches)' in words
    assert "registered, <lambda>" in words
    assert "2 cleaners would run" in table_html(tables.cleaners(INFOS, dry_run=True))
    assert "no cleaners" in table_html(tables.cleaners([]))


def _runs() -> list[Run]:
    return [make_run(number, source_line=WEIRD, curve_bytes=(500 * MIB, 800 * MIB)) for number in range(1, 21)]


def test_page_stands_alone_and_escapes_what_users_wrote() -> None:
    page = html.page(
        _runs(),
        title="<demo>",
        limit=LIMIT,
        intro_html="<p>intro</p>",
        sections=[("A & B", table_html(tables.clean_report(make_report())))],
    )
    page.encode()
    assert "<script" not in page
    assert "<title>&lt;demo&gt;</title>" in page
    assert "<p>intro</p>" in page
    assert "<h2>A &amp; B</h2>" in page
    assert page.count("<svg xmlns") == 2
    assert page.count("<tr>") == 1 + 20 + 1 + 4
    assert "prefers-color-scheme: dark" in page
    assert not re.findall(r"(?:src|href)=|url\(|@import", page)


def test_page_without_runs_says_so() -> None:
    page = html.page([], title="empty")
    assert "<svg" not in page
    assert "no runs yet" in page


def test_charts_of_a_page_are_well_formed() -> None:
    near = Limit(1 * GIB, None, "cgroup")
    for chart in (runs_svg(_runs(), LIMIT), level_svg(_runs(), LIMIT), level_svg(_runs(), near), level_svg(_runs())):
        _parsed(chart)
    assert "limit 1 GiB" in _words(_parsed(level_svg(_runs(), near)))
    assert runs_svg([]) == level_svg([]) == ""
