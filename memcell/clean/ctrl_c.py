"""Ctrl-C while cleaners run: once skips the cleaner that is running, twice stops the clean-up and keeps its report.

Python delivers SIGINT to the main thread between two bytecodes of whatever runs there. For the time of a clean-up the
handler here takes the place of the usual one. It looks at the interrupted stack: with ``CtrlC.call`` on it a cleaner is
running, and ``KeyboardInterrupt`` is raised into that cleaner; otherwise the signal fell into the bookkeeping between
two cleaners and is only counted. So it cannot escape, and it is told apart from a ``KeyboardInterrupt`` that a cleaner
raises by itself. A cleaner inside one long call of C code is skipped when that call returns.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")

#: A second Ctrl-C within this many seconds stops the clean-up.
STOP_WITHIN_S = 2.0


class CtrlC:
    """Takes over SIGINT while entered. Does so in the main thread only, and not where SIGINT is ignored or deadly.

    Args:
        clock: Seconds, monotonic.

    Attributes:
        has_skipped: Whether Ctrl-C was pressed during the last ``call``.
        is_stopped: Whether it was pressed twice in a row.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.has_skipped = False
        self.is_stopped = False
        self._clock = clock
        self._pressed_at: float | None = None
        self._previous: Any = None

    def __enter__(self) -> CtrlC:
        # SIG_IGN and SIG_DFL are not callable, and neither is the None that stands for a handler set outside Python.
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        previous, self._previous = self._previous, None
        if previous is not None:
            signal.signal(signal.SIGINT, previous)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call the function, which Ctrl-C may break off with a ``KeyboardInterrupt``."""
        self.has_skipped = False
        return function()

    def _pressed(self, _signal: int, frame: FrameType | None) -> None:
        now = self._clock()
        if self._pressed_at is not None and now - self._pressed_at <= STOP_WITHIN_S:
            self.is_stopped = True
        self._pressed_at = now
        while frame is not None:
            if frame.f_code is CtrlC.call.__code__:
                self.has_skipped = True
                raise KeyboardInterrupt
            frame = frame.f_back
