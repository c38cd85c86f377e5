"""The live view: one ``ipywidgets.HTML`` per session whose value is a picture, drawn anew five times a second.

The picture is the widget's state, so a view that is opened later, or a page that is loaded again, shows it without
any code in the browser. It is drawn in a daemon thread, because in ipykernel 7 nothing else runs beside a cell.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import ipywidgets

logger = logging.getLogger("memcell")


class LiveView:
    """Draws ``picture()`` into a widget: at intervals between ``begin`` and ``end``, and once at the end.

    Args:
        picture: Returns the HTML or SVG to show.
        interval_s: Seconds between two pictures.
    """

    def __init__(self, picture: Callable[[], str], interval_s: float = 0.2) -> None:
        self._picture = picture
        self._interval_s = interval_s
        self._running = threading.Event()
        self._closed = threading.Event()
        self._drawing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="memcell-live", daemon=True)
        self.widget = ipywidgets.HTML(picture())
        self.widget.memcell_keep = True  # the cleaner of widgets leaves it open
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether the widget still shows: ``Widget.close_all()`` in a cell closes it, and so does a failed drawing."""
        return not self._closed.is_set() and self.widget.comm is not None

    def begin(self) -> None:
        """Draw at intervals from now on."""
        self._running.set()

    def end(self) -> None:
        """Stop drawing at intervals, and draw once more."""
        self._running.clear()
        self.draw()

    def draw(self) -> None:
        """Draw now. A picture that cannot be drawn or sent ends the view, with one line in the log."""
        with self._drawing:
            if self._closed.is_set():
                return
            try:
                self.widget.value = self._picture()
            except Exception as error:
                self._closed.set()
                logger.warning("memcell: the live view stopped: %s: %s", type(error).__name__, error)

    def close(self) -> None:
        """Close the widget with its layout and style, which a widget's own ``close`` leaves. May be called twice."""
        self._closed.set()
        self._running.set()
        self._thread.join()
        # Not under the lock: closing sends messages, and the thread is gone.
        for part in (self.widget.layout, self.widget.style, self.widget):
            if part is not None:
                part.close()

    def _run(self) -> None:
        while self._running.wait() and not self._closed.wait(self._interval_s):
            if self._running.is_set():
                self.draw()
