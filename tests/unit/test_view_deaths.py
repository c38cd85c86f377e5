"""Deaths in words and pictures: what is known is said, what is not is said to be unknown, and nothing breaks a page."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from memcell.records.deaths import Death, LastRun
from memcell.units import GIB, MIB, parse_size
from memcell.view import html, text
from memcell.view.deaths import advice, cause, death_line, deaths_table, where
from memcell.view.last_minute import last_minute_svg, last_minute_text
from tests.unit.view_records import WEIRD

_DIED = 1_800_000_000.0
_SOURCE = "import numpy as np\ntable = np.ones((4, 1000, 1000, 64))"
_RUN = LastRun(
    cell="c1",
    number=12,
    is_block=False,
    source=_SOURCE,
    source_characters=len(_SOURCE),
    started=_DIED - 42,
    before_bytes=2 * GIB,
    kept_bytes=(300 * MIB, 310 * MIB),
    peak_growth_bytes=(900 * MIB, 1200 * MIB),
    limit_bytes=8 * GIB,
    limit_source="cgroup v2",
)
_TIMES = tuple(-60 + index * 0.1 for index in range(600))
DEATH = Death(
    name="a.json",
    folder="/notebooks",
    notebook="/notebooks/a.ipynb",
    pid=1234,
    died=_DIED,
    signal="SIGKILL",
    exit_status=None,
    oom="yes",
    run=_RUN,
    is_running=True,
    ended=None,
    times_s=_TIMES,
    rss_bytes=tuple(2 * GIB + index * 10 * MIB for index in range(600)),
    memcell="0.1.0",
    python="3.12.1",
)


def test_the_line_names_cell_level_limit_and_cause():
    assert death_line(DEATH, _DIED + 130) == (
        "the last kernel here died in cell [12] at 7.8 GiB of 8 GiB, 2 min 10 s ago; "
        "it was killed by the out-of-memory killer"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"oom": "likely"}, "probably killed by the out-of-memory killer"),
        ({"oom": "no"}, "a watchdog such as systemd-oomd or a scheduler may have sent SIGKILL"),
        ({"oom": "no", "rss_bytes": (GIB,) * 600}, "somebody has sent SIGKILL"),
        ({"oom": "unknown"}, "cannot be read here"),
        ({"oom": "no", "signal": "SIGSEGV"}, "crashed with SIGSEGV"),
        ({"oom": "no", "signal": "SIGXCPU"}, "was ended by SIGXCPU"),
        ({"oom": "no", "signal": None, "exit_status": 3}, "ended itself with status 3"),
        ({"oom": "no", "signal": None}, "nobody tells how"),
        ({"oom": "unknown", "signal": None}, "cannot be read here"),
    ],
)
def test_the_cause_is_said_as_far_as_it_is_known(changes, words):
    assert words in cause(replace(DEATH, **changes))


def test_where_it_died():
    assert where(DEATH) == "in cell [12]"
    between = replace(DEATH, is_running=False, ended=_DIED - 90)
    assert where(between) == "between runs, 1 min 30 s after cell [12] had ended"
    assert where(replace(DEATH, run=None)) == "before its first run"
    block = replace(DEATH, run=replace(_RUN, is_block=True, cell="load", number=3))
    assert where(block) == "in the block 'load' (run 3)"
    assert text.death_report(block).startswith("The process died in the block 'load'")


def test_the_report_tells_all():
    report = text.death_report(DEATH, _DIED + 5)
    for words in (
        "The kernel died in cell [12], 5 s ago.",
        "    table = np.ones((4, 1000, 1000, 64))",
        "running for   42.00 s",
        "7.85 GiB 100.0 ms before the end",
        "+5.85 GiB since the run began",
        "8.00 GiB (cgroup v2)",
        "kept +300.0 MiB, +310.0 MiB; their highest peak was +1.17 GiB",
        "/notebooks/a.ipynb",
        "8 GiB limit │",
        "−60 s",
        "%%memwatch --limit 7585MB",
        "%%memwatch --isolate",
        "%memleaks",
    ):
        assert words in report
    assert "characters)" not in report


def test_the_verdict_is_told():
    known = replace(_RUN, bytes_per_run=305 * MIB, culprit="pkg.cache")
    assert "growing, +305.0 MiB per run, held by pkg.cache" in text.death_report(replace(DEATH, run=known))


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        ({"oom": "no", "signal": "SIGSEGV", "rss_bytes": (GIB,) * 600}, ["%%memwatch --isolate", "%memleaks"]),
        ({"oom": "no", "rss_bytes": (GIB,) * 600}, ["%memleaks"]),
        ({"run": None}, []),
        ({"is_running": False, "ended": _DIED - 1}, ["%memleaks", "%memtop", "%memclean"]),
    ],
)
def test_the_advice_goes_with_the_cause(changes, commands):
    assert [command for command, _ in advice(replace(DEATH, **changes))] == commands


@pytest.mark.parametrize(
    ("limit_bytes", "levels", "advised_mb"),
    [(None, (4 * GIB,), 3865), (8 * GIB, (), 7730), (2 * GIB, (3 * GIB,), 1932), (None, (), 1932), (1, (1,), 1)],
)
def test_a_limit_is_advised_below_what_killed(limit_bytes, levels, advised_mb):
    run = replace(_RUN, limit_bytes=limit_bytes)
    found = advice(replace(DEATH, run=run, rss_bytes=levels, times_s=_TIMES[: len(levels)]))
    assert found[0][0] == f"%%memwatch --limit {advised_mb}MB"
    assert parse_size(found[0][0].split()[-1]) == advised_mb * 10**6


def test_the_picture_rises_to_the_limit():
    picture = last_minute_text(DEATH).splitlines()
    assert picture[0].startswith("8 GiB limit │")
    assert picture[-2].strip().startswith("0 └")
    rows = [line.partition("│")[2] for line in picture[:-2]]
    assert len(rows) == 8
    heights = [sum(len(row) > column and row[column] != " " for row in rows) for column in range(60)]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (3, 8)  # 2 and 7.8 of 8 GiB


def test_a_time_in_which_nothing_ran_is_left_empty():
    half = replace(DEATH, times_s=(*_TIMES[:100], *_TIMES[-100:]), rss_bytes=DEATH.rss_bytes[:200])
    base = last_minute_text(half).splitlines()[-3].partition("│")[2]
    assert base[:10].strip() == base[:10]
    assert base[15:45].strip() == ""
    assert base[-5:].strip()
    assert last_minute_svg(half).count("<polyline") == 2


def test_a_slow_sampling_interval_leaves_no_gaps():
    slow = replace(DEATH, times_s=_TIMES[::100], rss_bytes=DEATH.rss_bytes[::100])
    base = last_minute_text(slow).splitlines()[-3].partition("│")[2]
    assert " " not in base
    assert last_minute_svg(slow).count("<polyline") == 1


@pytest.mark.parametrize("begin", [-0.02, -0.2, -0.4, -0.6, -12.0])
def test_the_marks_of_the_axis_stand_apart_where_there_are_few_columns(begin):
    death = replace(DEATH, times_s=(begin, begin / 2, 0.0), rss_bytes=DEATH.rss_bytes[:3])
    assert re.fullmatch(r" +−[\d.]+ s +death", last_minute_text(death).splitlines()[-1])


@pytest.mark.parametrize("count", [0, 1])
def test_without_samples_there_is_no_picture_and_it_is_said(count):
    death = replace(DEATH, times_s=_TIMES[:count], rss_bytes=DEATH.rss_bytes[:count])
    assert last_minute_text(death) == last_minute_svg(death) == ""
    assert ("too short for a sample" in text.death_report(death)) is (count == 0)
    html.death_html(death)


@pytest.mark.parametrize(
    ("times", "levels"),
    [
        ((-0.01, 0.0), (0, 0)),
        ((-1e4, -9e3, 0.0), (1, 1 << 60, 5)),
        ((-1.0, -1.0, -1.0), (5, 6, 7)),
        ((0.0, 0.0), (MIB, MIB)),
    ],
)
def test_odd_samples_draw_something(times, levels):
    for limit_bytes in (None, 0, 1, 5, 1 << 60):
        death = replace(DEATH, times_s=times, rss_bytes=levels, run=replace(_RUN, limit_bytes=limit_bytes))
        assert last_minute_text(death)
        svg = last_minute_svg(death)
        ElementTree.fromstring(svg)
        assert "nan" not in svg
        assert "inf" not in svg


def test_nothing_of_a_user_breaks_a_terminal_or_a_page():
    weird = "\x1b[31mred\x1b[0m \u202e turned\r\n\tindented\ud800</pre><script>"
    run = replace(_RUN, source=weird, cell=WEIRD, culprit=WEIRD, bytes_per_run=5, limit_source=WEIRD)
    for is_block in (False, True):
        death = replace(
            DEATH, run=replace(run, is_block=is_block), folder=WEIRD, notebook=WEIRD, signal=WEIRD, oom="no"
        )
        report = text.death_report(death) + text.table_text(deaths_table([death])) + death_line(death)
        assert not any(ord(letter) < 32 and letter != "\n" for letter in report)
        assert "\u202e" not in report
        report.encode()
        page = html.deaths_page([death, death])
        page.encode()
        assert "<script" not in page


def test_a_long_source_is_cut():
    run = replace(_RUN, source="\n".join(f"line {index}" + "x" * 300 for index in range(200)), source_characters=99_999)
    report = text.death_report(replace(DEATH, run=run))
    assert "line 39" in report
    assert "line 41" not in report
    assert "… (the cell has 99,999 characters)" in report
    assert max(map(len, report.splitlines())) < 190


def test_the_table_has_a_line_for_each():
    assert text.table_text(deaths_table([])) == "no kernel has died"
    table = text.table_text(
        deaths_table([DEATH, replace(DEATH, oom="no", signal=None, run=None)], _DIED + 3 * 86400)
    ).splitlines()
    assert len(table) == 4
    assert "3 days ago" in table[2]
    assert "out-of-memory killer" in table[2]
    assert "unknown" in table[3]


def test_the_page_stands_alone():
    page = html.deaths_page([DEATH, replace(DEATH, run=None)])
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "no kernel has died" in html.deaths_page([])
