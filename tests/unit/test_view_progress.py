"""The bar in the last line of a terminal."""

from __future__ import annotations

import io

from memcell.view.progress import ProgressBar, bar_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_fills_from_left_to_right():
    assert bar_line(0, 4, "x") == f"[{'.' * 30}] 0/4 x"
    assert bar_line(2, 4, "x") == f"[{'#' * 15}{'.' * 15}] 2/4 x"
    assert bar_line(5, 4, "x").startswith(f"[{'#' * 30}]")
    assert bar_line(0, 0, "x").startswith(f"[{'.' * 30}]")


def test_it_stays_in_one_line_of_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    bar = ProgressBar(stream, 4)
    bar.draw("a long label\nof two lines " * 5)
    assert "\n" not in stream.getvalue()
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) <= 49
    bar.clear()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_elsewhere_it_draws_nothing():
    stream = io.StringIO()
    bar = ProgressBar(stream, 4)
    bar.draw("x")
    bar.clear()
    assert stream.getvalue() == ""
