"""The summary line, the tables and the log line."""

from __future__ import annotations

import pytest

from memcell.records.cleaned import CleanReport
from memcell.records.measured import Limit
from memcell.units import GIB, MIB
from memcell.view import tables, text
from memcell.view.phrases import one_line, sparkline
from memcell.view.text import table_text
from tests.unit.view_records import INFOS, LIMIT, WEIRD, make_report, make_run


def test_sparkline_spans_from_the_lowest_to_the_highest_block() -> None:
    assert sparkline(range(8)) == "▁▂▃▄▅▆▇█"


def test_sparkline_keeps_a_spike_that_lasts_one_sample() -> None:
    values = [0] * 1000
    values[503] = 7
    assert sparkline(values, 10) == "▁▁▁▁▁█▁▁▁▁"


@pytest.mark.parametrize("values", [[], [3]])
def test_sparkline_of_less_than_two_values_is_empty(values: list[float]) -> None:
    assert sparkline(values) == ""


def test_sparkline_of_a_flat_line_is_flat_and_low() -> None:
    assert sparkline([9, 9, 9, 9]) == "▁▁▁▁"


def test_noise_does_not_look_like_a_mountain_in_the_summary_line() -> None:
    before = make_run().before_bytes
    noisy = make_run(curve_bytes=(before, before + MIB // 4) * 8)
    assert text.summary_line(noisy).endswith("▁" * 16)


def test_summary_line_in_full() -> None:
    levels = (507, 560, 620, 700, 760, 817, 612)
    run = make_run(curve_bytes=tuple(level * MIB for level in levels))
    assert text.summary_line(run, LIMIT) == (
        "[3] +105.2 MiB kept · peak +310.0 MiB · 1.24 s · kernel 612 MiB of 24 GiB  ▁▁▂▄▅▇█▃"
    )


@pytest.mark.parametrize("limit", [None, Limit(None, None, "none")])
def test_summary_line_without_limit_and_samples(limit: Limit | None) -> None:
    assert text.summary_line(make_run(), limit) == "[3] +105.2 MiB kept · peak +310.0 MiB · 1.24 s · kernel 612 MiB"


def test_a_fall_of_the_level_reads_naturally() -> None:
    assert text.summary_line(make_run(kept=-50, peak=0)).startswith("[3] 50.0 MiB freed · peak +0.0 MiB · ")


def test_a_fall_that_rounds_to_nothing_is_not_called_freed() -> None:
    assert text.summary_line(make_run(kept=-0.01)).startswith("[3] +0.0 MiB kept")


def test_a_lower_bound_of_the_peak_is_said() -> None:
    assert "· peak ≥ +310.0 MiB ·" in text.summary_line(make_run(peak_error_bytes=None))


@pytest.mark.parametrize(
    ("after", "highest", "words"),
    [
        (300, 300, "children +300.0 MiB"),
        (300, 900, "children +300.0 MiB (peak +900.0 MiB)"),
        (0, 300, "children peak +300.0 MiB"),
        (300, 310, "children +300.0 MiB"),
        (0.9, 0.9, ""),
    ],
)
def test_children_are_said_from_one_mib_on(after: float, highest: float, words: str) -> None:
    line = text.summary_line(
        make_run(
            children_before_bytes=50 * MIB,
            children_after_bytes=50 * MIB + round(after * MIB),
            children_peak_bytes=50 * MIB + round(highest * MIB),
        )
    )
    parts = [part for part in line.split(" · ") if part.startswith("children")]
    assert parts == ([words] if words else [])


def test_cleaners_gpu_and_outcome_are_said_where_there_are_any() -> None:
    run = make_run(cleaned_bytes=80 * MIB, device_bytes=round(1.2 * GIB), outcome="interrupted")
    assert " · cleaned 80.0 MiB · GPU 1.2 GiB · 1.24 s · interrupted · kernel " in text.summary_line(run)
    assert " · error · " in text.summary_line(make_run(outcome="error"))


def test_one_line_cannot_break_a_terminal() -> None:
    line = one_line(WEIRD, 60)
    assert len(line) <= 60
    assert line.endswith("…")
    assert not set(line) & {"\n", "\x1b", "\x00", "\ud800"}
    line.encode()


def test_clean_table_aligns_figures_and_says_what_could_not_be_told() -> None:
    lines = table_text(tables.clean_report(make_report(duration_s=0.06))).splitlines()
    assert lines == [
        "cleaner          freed  objects     time  error",
        "───────  ─────────────  ───────  ───────  ───────────────────────────",
        "graphs        80.0 MiB           12.0 ms",
        "sympy    below 0.3 MiB            2.0 ms",
        "torch          not run                    RuntimeError: <device> busy",
        "gc       +3.0 MiB more    1,247  46.0 ms",
        "612.0 MiB → 535.0 MiB: 77.0 MiB freed, 1,247 objects collected, 60.0 ms",
    ]


def test_clean_table_says_that_memory_rose_and_that_it_was_interrupted() -> None:
    table = table_text(
        tables.clean_report(CleanReport(100 * MIB, 102 * MIB, interrupted=True, note="gc skipped:\nover budget"))
    )
    assert table.splitlines() == [
        "no cleaner ran",
        "100.0 MiB → 102.0 MiB: 2.0 MiB more than before, 0.0 ms",
        "interrupted: the cleaners that had not begun did not run",
        "gc skipped: over budget",
    ]


def test_cleaners_table_says_what_is_ready_and_how_to_register() -> None:
    _, _, gc, sympy, graphs, phasic = table_text(tables.cleaners(INFOS)).splitlines()
    assert gc.split() == ["gc", "none", "built-in,", "memcell", "collects", "cycles"]
    assert sympy.endswith("sympy is not imported")
    assert "160.0 MiB" in graphs
    assert phasic.endswith('memcell.register("phasic", phasic.clear_caches)')


def test_dry_run_counts_what_would_run() -> None:
    *_, gc, sympy, _, phasic, total = table_text(tables.cleaners(INFOS, dry_run=True)).splitlines()
    assert gc.endswith("yes")
    assert sympy.endswith("no: sympy is not imported")
    assert "no: not registered" in phasic
    assert total == "2 cleaners would run; known to free: 160.0 MiB; nothing was cleaned"


def test_log_line_is_what_the_design_says() -> None:
    report = CleanReport(round(120.5 * MIB), round(118.2 * MIB), make_report().outcomes)
    assert text.log_line(report) == "Memory cleanup: Before=120.5MiB, After=118.2MiB, Freed=2.3MiB, Objects=1247"


def test_log_line_stays_in_mib() -> None:
    assert "Before=3072.0MiB" in text.log_line(CleanReport(3 * GIB, 3 * GIB + 1))
    assert "Freed=0.0MiB" in text.log_line(CleanReport(3 * GIB, 3 * GIB + 1))


def test_runs_table_leaves_out_columns_in_which_nothing_stands() -> None:
    head, _rule, first, second = table_text(tables.runs([make_run(9), make_run(10, kept=-20)])).splitlines()
    assert head.split() == ["run", "kept", "peak", "time", "kernel", "cell"]
    assert first.startswith(" [9]  +105.2 MiB")
    assert second.startswith("[10]   -20.0 MiB")
    assert "outcome" in table_text(tables.runs([make_run(outcome="error")]))


def test_tables_without_rows_say_so() -> None:
    assert table_text(tables.runs([])) == "no runs yet"
    assert table_text(tables.cleaners([])) == "no cleaners"
    assert table_text(tables.cleaners([], dry_run=True)) == "no cleaner to run"
