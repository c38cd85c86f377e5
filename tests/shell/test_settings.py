"""The settings: listed, set, checked, and obeyed."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from memcell.units import GIB, MIB


def config(shell, line: str) -> None:
    shell.run_line_magic("config", line)


def test_config_lists_them_with_their_help(shell, capsys):
    config(shell, "Memcell")
    out = capsys.readouterr().out
    for name in ("show", "limit", "exact_peak", "history_size", "sample_interval_s"):
        assert f"Memcell.{name}=" in out
    assert "32" in out
    assert "in seconds" in out


def test_they_reach_the_session(shell, session):
    config(shell, "Memcell.limit = '2GiB'")
    config(shell, "Memcell.exact_peak = False")
    config(shell, "Memcell.history_size = 3")
    config(shell, "Memcell.sample_interval_s = 0.5")
    settings = session.settings
    assert (settings.limit, settings.exact_peak) == (2 * GIB, False)
    assert (settings.history_size, settings.sample_interval_s) == (3, 0.5)
    assert session.limits.read().limit_bytes == 2 * GIB
    for number in range(5):
        shell.run_cell(f"x = {number}")
    assert [run.source_line for run in session.history] == ["x = 2", "x = 3", "x = 4"]


@pytest.mark.parametrize(
    ("value", "limit"), [("'off'", "off"), ("'auto'", "auto"), ("500 * 2**20", 500 * MIB), ("'1GB'", 10**9)]
)
def test_limits(shell, session, value, limit):
    config(shell, f"Memcell.limit = {value}")
    assert session.settings.limit == limit


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("limit = '12XB'", "12XB"),
        ("limit = -5", "-5"),
        ("limit = 0", "0"),
        ("limit = None", "limit"),
        ("show = 'loud'", "loud"),
        ("exact_peak = 'perhaps'", "perhaps"),
        ("history_size = 0", "history_size"),
        ("history_size = 'many'", "many"),
        ("sample_interval_s = 0", "sample_interval_s"),
        ("sample_interval_s = -1", "sample_interval_s"),
        ("sample_interval_s = float('nan')", "sample_interval_s"),
        ("sample_interval_s = float('inf')", "sample_interval_s"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_and_changes_nothing(shell, session, capsys, caplog, setting, says):
    before = session.settings
    config(shell, f"Memcell.{setting}")
    told = capsys.readouterr().err + "\n".join(caplog.messages)
    assert says in told
    assert len(told.strip().splitlines()) == 1
    assert session.settings == before
    config(shell, "Memcell.history_size = 7")  # and the next one is not spoilt by it
    assert session.settings.history_size == 7


@pytest.mark.parametrize(
    ("show", "light", "heavy"),
    [("always", 1, 1), ("notable", 0, 1), ("never", 0, 0)],
    ids=["always", "notable", "never"],
)
def test_show(shell, runs, capsys, show, light, heavy):
    config(shell, f"Memcell.show = {show!r}")
    capsys.readouterr()
    shell.run_cell("x = 1")
    assert capsys.readouterr().out.count(" kept · peak ") == light
    shell.run_cell(f"block = bytearray(b'x') * {64 * MIB}")
    assert capsys.readouterr().out.count(" kept · peak ") == heavy
    shell.run_cell("del block")
    assert capsys.readouterr().out.count(" freed · peak ") == heavy
    shell.run_cell("%%memwatch\nx = 1")  # asked for, so it is said whatever the setting is
    assert capsys.readouterr().out.count(" kept · peak ") == 1


def test_they_can_be_set_before_loading(make_shell, session, capsys):
    given = Config()
    given.Memcell.show = "always"
    given.Memcell.limit = "3GB"
    given.Memcell.history_size = 2
    shell = make_shell(given)
    shell.run_line_magic("load_ext", "memcell")
    assert session.settings.limit == 3 * 10**9
    assert session.settings.history_size == 2
    shell.run_cell("x = 1")
    assert " kept · peak " in capsys.readouterr().out
    shell.run_line_magic("unload_ext", "memcell")


def test_a_bad_value_in_a_file_is_said_and_nothing_is_half_loaded(make_shell, session, capsys):
    given = Config()
    given.Memcell.limit = "12XB"
    shell = make_shell(given)
    shell.run_cell("%load_ext memcell")
    assert "12XB" in capsys.readouterr().out
    assert "memclean" not in shell.magics_manager.magics["line"]
    assert session.settings.limit == "auto"
    assert not [item for item in shell.configurables if type(item).__module__.startswith("memcell")]


def test_reloading_does_not_shorten_the_history(shell, session):
    config(shell, "Memcell.history_size = 1500")
    for number in range(1200):
        session.meter.close(session.meter.open("pass", number=number))
    shell.run_line_magic("reload_ext", "memcell")
    assert len(session.history) == 1200


def test_a_limit_below_what_is_used_is_set_and_said_in_one_line(shell, session, caplog):
    config(shell, "Memcell.limit = '1MiB'")
    assert session.settings.limit == MIB
    (told,) = caplog.messages
    assert "\n" not in told
    assert "a limit of 1.0 MiB is below the " in told


def test_what_was_set_survives_a_reload(shell, session):
    shell.run_line_magic("memlimit", "64GiB")
    config(shell, "Memcell.show = 'always'")
    config(shell, "Memcell.warn_fraction = 0.5")
    for again in ("reload_ext", "unload_ext", "load_ext"):
        shell.run_line_magic(again, "memcell")
    assert (session.settings.limit, session.settings.thresholds.warn_fraction) == (64 * GIB, 0.5)
    settings = next(each for each in shell.configurables if type(each).__name__ == "Memcell")
    assert (settings.limit, settings.show) == (64 * GIB, "always")
    shell.run_line_magic("memlimit", "auto")
    shell.run_line_magic("reload_ext", "memcell")
    assert session.settings.limit == "auto"


def test_what_was_set_survives_a_reload_where_a_file_says_otherwise(make_shell, session):
    given = Config()
    given.Memcell.history_size = 2
    shell = make_shell(given)
    shell.run_line_magic("load_ext", "memcell")
    config(shell, "Memcell.history_size = 9")
    shell.run_line_magic("reload_ext", "memcell")
    assert session.settings.history_size == 9
    shell.run_line_magic("unload_ext", "memcell")


def test_exact_peak_off_says_where_the_figure_comes_from(shell, runs):
    config(shell, "Memcell.exact_peak = False")
    shell.run_cell(f"block = bytearray(b'x') * {64 * MIB}; del block")
    shell.run_cell("x = 1")  # below the lifetime mark
    assert runs[-1].peak_method == "ends"
    assert runs[-1].peak_error_bytes is None
    config(shell, "Memcell.exact_peak = True")
    shell.run_cell("x = 1")
    assert runs[-1].peak_method == "high-water"
