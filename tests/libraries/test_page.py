"""The page on what the cleaners give back is complete."""

from __future__ import annotations

from benchmarks.libraries import PAGE, UNMEASURED, WORKLOADS
from memcell.clean.libraries import LIBRARIES


def test_each_cleaner_of_a_library_is_measured_or_says_why_not():
    measured = {name for name, workload in WORKLOADS.items() if not workload.hopeless}
    assert {cleaner.name for cleaner in LIBRARIES} == measured | UNMEASURED.keys()
    assert not measured & UNMEASURED.keys()


def test_the_page_has_a_row_for_each_workload():
    names = [line.split("|")[1].strip(" `") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert set(names) == {*WORKLOADS, "cleaner", "what"}
