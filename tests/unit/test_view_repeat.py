"""What is said of repeated cells, allocation sites and variables that were dropped: text, and HTML of the same."""

from __future__ import annotations

import pytest

from memcell.records.explained import AllocationSite, AllocationSites, FreshReport, LeftName, RepeatReport, Verdict
from memcell.units import MIB
from memcell.view import html, tables
from memcell.view.html import lines_html, table_html
from memcell.view.phrases import fresh_words, repeat_progress
from memcell.view.text import table_text
from tests.unit.view_records import WEIRD, make_run

VERDICT = Verdict("a", "step()", "growing", "memory", 32 * MIB, 0.99, 4, 700, (0, MIB, 2 * MIB))


def report(runs=4, **values):
    fields = {"verdict": VERDICT, "duration_s": 2.0, "measuring_s": 0.5}
    return RepeatReport(**{"runs": tuple(map(make_run, range(runs))), "wanted": 4, **fields, **values})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (report(), "4 of 4 runs in 2.00 s, 0.50 s of it to measure what stays"),
        (report(measuring_s=0.0), "4 of 4 runs in 2.00 s"),
        (report(2, outcome="interrupted", error="KeyboardInterrupt: "), "run 3 of 4 interrupted; this is about the 2"),
        (
            report(1, outcome="error", error="ValueError: no"),
            "run 2 of 4 failed with ValueError: no; this is about the",
        ),
        (report(0, outcome="error", error="E: e", verdict=None), "run 1 of 4 failed with E: e; no run before it"),
        (report(1, verdict=None), "a verdict takes two runs at the least"),
    ],
)
def test_how_it_went(made, says):
    assert says in table_text(tables.repeat(made)).splitlines()[-1]
    assert says in table_html(tables.repeat(made))


def test_the_bar_and_its_words():
    assert repeat_progress(0, 4, 0) == "▱" * 20 + " run 1 of 4"
    assert repeat_progress(3, 4, 96 * MIB) == "▰" * 15 + "▱" * 5 + " run 4 of 4 · +96.0 MiB so far"
    assert repeat_progress(4, 4, MIB, ended=True) == "▰" * 20 + " 4 runs done"
    assert repeat_progress(2, 4, MIB, ended=True).endswith("stopped in run 3 of 4")
    assert "run 4 of 4" in html.progress_html(3, 4, 0)


def test_allocation_sites():
    sites = (AllocationSite("numpy/x.py:3", "ones", "[cell] line 2", 32 * MIB, 2),)
    table = table_text(tables.sites(AllocationSites(sites, 5, 40 * MIB, "memray", 3, "a note")))
    assert "numpy/x.py:3  ones  [cell] line 2  32.0 MiB       2" in table
    assert "40.0 MiB allocated in 3 runs and still held, in 5 places; traced by memray" in table
    assert table.endswith("a note")


def test_what_was_dropped_and_what_was_not():
    made = FreshReport((("x", 256 * MIB),), (LeftName("y", 8 * MIB, "show() reads it"), LeftName("z", 0, "w")), ("x",))
    assert fresh_words(made) == [
        "memcell --fresh: dropped just before rebinding: x (256.0 MiB)",
        "memcell --fresh: left y (8.0 MiB): show() reads it",
        "memcell --fresh: left z: w",
        "memcell --fresh: x has no value now: the old one was dropped, and the cell failed",
    ]
    assert fresh_words(FreshReport()) == ["memcell --fresh: nothing of 1 MiB or more was about to be rebound"]


def test_what_a_user_wrote_does_no_harm():
    weird = FreshReport((), (LeftName(WEIRD, MIB, WEIRD),), (WEIRD,))
    site = AllocationSite(WEIRD, WEIRD, WEIRD, MIB, 1)
    failed = report(1, outcome="error", error=WEIRD)
    for page in (
        lines_html(fresh_words(weird)),
        table_html(tables.sites(AllocationSites((site,), 1, MIB, "memray", note=WEIRD))),
        table_html(tables.repeat(failed)),
    ):
        assert "<script>" not in page
        page.encode()
    for plain in ("\n".join(fresh_words(weird)), table_text(tables.repeat(failed))):
        assert "\x1b" not in plain
        plain.encode()
