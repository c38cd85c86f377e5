"""Names a cleaner that takes long, while it runs: who waits wants to know for what, and how to go on."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("memcell")

#: A cleaner that runs this long is named.
PATIENCE_S = 5.0


class Hourglass:
    """Watches the cleaners of one clean-up, each once.

    Args:
        patience_s: How long a cleaner may run before it is named.
        tell: Takes the line; the log by default.
    """

    def __init__(self, patience_s: float = PATIENCE_S, tell: Callable[[str], object] = logger.warning) -> None:
        self._patience_s = patience_s
        self._tell = tell
        self._running: tuple[str, float] | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memcell-hourglass", daemon=True)

    def __enter__(self) -> Hourglass:
        with contextlib.suppress(RuntimeError):  # no memory for a thread: that is when cleaning matters most
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def turn(self, name: str) -> None:
        """A cleaner begins; the one before it has ended."""
        self._running = (name, time.monotonic())

    def _watch(self) -> None:
        told = None
        wait_s = self._patience_s
        while not self._done.wait(wait_s):
            running = self._running
            wait_s = self._patience_s
            if running is None or running is told:
                continue
            name, since = running
            left_s = self._patience_s - (time.monotonic() - since)
            if left_s > 0:
                wait_s = left_s
            else:
                told = running
                self._tell(f"the cleaner {name!r} has been running for {self._patience_s:g} s; Ctrl-C skips it")
