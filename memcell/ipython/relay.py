"""What an isolated cell shows, on its way to the kernel: streams, tracebacks, messages of all kinds."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from memcell.errors import error_words
from memcell.protect.parcel import send


class Relay:
    """Sends what happens in the cell to the kernel. A Ctrl-C never tears a message."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._was_interrupted = False

    @property
    def is_of_cell(self) -> bool:
        """Whether this is the cell's process: one that it forks has nobody to send to."""
        return os.getpid() == self._pid

    def __call__(self, kind: str, *content: object) -> None:
        if not self.is_of_cell:
            return
        with self._lock, self._without_interrupt():
            send(self.connection, (kind, *content))
        if self._was_interrupted:
            self._was_interrupted = False
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def _without_interrupt(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # no Ctrl-C arrives here
            return
        previous = signal.signal(signal.SIGINT, self._note_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _note_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._was_interrupted = True


class RelayedStream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of an isolated cell."""

    def __init__(self, relay: Relay, tell: Callable[..., None], name: str, descriptor: int, original: Any) -> None:
        self.name = name
        self._relay = relay
        self._tell = tell
        self._descriptor = descriptor
        self._original = original

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._original, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._original.isatty())

    def fileno(self) -> int:
        return int(self._original.fileno())

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._relay.is_of_cell:
            self._tell("write", self.name, text)
        else:
            os.write(self._descriptor, text.encode("utf-8", "replace"))
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""


class Tracebacks:
    """The tracebacks that the shell shows. That of the cell's own error is the kernel's to show.

    Which one that is turns out only later: it is the last that is shown while the cell runs, if the cell fails. So the
    last one waits until something else is shown, or the cell has ended without an error.
    """

    def __init__(self, shell: InteractiveShell, relay: Relay) -> None:
        self._shell = shell
        self._relay = relay
        self._last: tuple[object, str, str, list[str]] | None = None
        self._depth = 0  # of cells that a cell runs
        self._is_over = False
        for event, callback in (("pre_execute", self._begin), ("post_execute", self._end)):
            shell.events.callbacks[event].insert(0, callback)  # before what shows plots

    def show(self, kind: type[BaseException], error: object, lines: list[str]) -> None:
        shown = (error, kind.__name__, text_of(error), list(lines))
        if self._is_over:
            self._relay("traceback", *shown[1:])
            return
        self.flush()
        self._last = shown

    def make_way(self) -> None:
        """Something else is about to be shown."""
        # After a SystemExit the shell itself writes a line on how to exit.
        if not self._is_over and not (self._last and isinstance(self._last[0], SystemExit)):
            self.flush()

    def flush(self) -> None:
        if self._last is not None:
            (_, *shown), self._last = self._last, None
            self._relay("traceback", *shown)

    def take(self, error: BaseException) -> list[str]:
        """The lines for the error that ended the cell."""
        text = text_of(error)
        if self._last is not None and (self._last[0] is error or self._last[0] == text):
            return self._last[3]
        self.flush()
        return [error_words(error)]

    def _begin(self) -> None:
        self._depth += 1

    def _end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            if self._shell.last_execution_succeeded:
                self.flush()
            self._is_over = True


def text_of(error: object) -> str:
    """An error in words, also one that fails to tell them."""
    try:
        return str(error)
    except Exception:
        return "<exception str() failed>"  # as Python's own tracebacks say it
