"""How far a repeated cell has got: one output that is updated, or one line of a terminal.

No widget: what stays in the notebook is what was shown last, so that nothing is dead when it is opened again.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from IPython.display import display

if TYPE_CHECKING:
    from memcell.ipython.frontend import Kind

_INTERVAL_S = 0.2


class Progress:
    """Shows the progress, at most five times a second.

    Args:
        kind: What the front end can show.
        wanted: The number of runs.
    """

    def __init__(self, kind: Kind, wanted: int) -> None:
        self._wanted = wanted
        self._handle: Any = None
        # Read now: it is swallowed while the cell is run again.
        self._stream: TextIO = sys.stdout
        self._is_terminal = kind == "terminal"
        self._is_shown = not self._is_terminal or self._stream.isatty()
        self._width = 0
        self._not_before = float("-inf")

    def show(self, done: int, kept_bytes: int = 0, *, ended: bool = False) -> None:
        """Say how many runs are done and what they kept. The last word clears the line of a terminal."""
        if not self._is_shown or (not ended and time.monotonic() < self._not_before):
            return
        self._not_before = time.monotonic() + _INTERVAL_S
        from memcell.view.html import progress_html
        from memcell.view.phrases import repeat_progress

        line = repeat_progress(done, self._wanted, kept_bytes, ended=ended)
        if self._is_terminal:
            self._write("" if ended else line, is_first=not done)
            return
        bundle = {"text/plain": line, "text/html": progress_html(done, self._wanted, kept_bytes, ended=ended)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def _write(self, line: str, *, is_first: bool) -> None:
        if is_first and line:
            return  # what the first run prints would stand in the same line
        try:
            self._stream.write(f"\r{line.ljust(self._width)}{'' if line else chr(13)}")
            self._stream.flush()
        except UnicodeEncodeError:
            self._is_shown = False
        self._width = len(line)
