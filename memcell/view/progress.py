"""A bar in the last line of a terminal, drawn over itself."""

from __future__ import annotations

import shutil
from typing import TextIO

from memcell.view.phrases import one_line

_WIDTH = 30
_CLEAR = "\r\x1b[K"


class ProgressBar:
    """Shows how much is done, where there is a terminal; elsewhere nothing.

    Args:
        stream: Where to draw, such as ``sys.stderr``.
        total: How many steps there are.
    """

    def __init__(self, stream: TextIO, total: int = 0) -> None:
        self._stream = stream
        self._shows = stream.isatty()
        self.total = total
        self.done = 0

    def draw(self, label: str) -> None:
        """Draw the bar with what is being done."""
        if self._shows:
            columns = shutil.get_terminal_size().columns
            line = bar_line(self.done, self.total, label)
            self._stream.write(f"{_CLEAR}{one_line(line, max(1, columns - 1))}")
            self._stream.flush()

    def clear(self) -> None:
        """Take the bar away, so that other text can be printed in its line."""
        if self._shows:
            self._stream.write(_CLEAR)
            self._stream.flush()


def bar_line(done: int, total: int, label: str) -> str:
    """The bar: ``[##########....................] 4/12 label``."""
    filled = _WIDTH * min(done, total) // max(1, total)
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total} {label}"
