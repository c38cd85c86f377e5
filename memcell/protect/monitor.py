"""Thresholds without a notebook: a thread that warns, cleans, and tells whoever wants to know."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

from memcell.errors import InvalidSettingError
from memcell.records import CleanReport, Limit, Status
from memcell.units import format_bytes, format_duration, format_round, parse_size

logger = logging.getLogger("memcell")

#: A warning is given again only after the level has been below this part of its threshold.
_REARM_FRACTION = 0.9
#: Clean-ups may take this part of the time.
_CLEAN_SHARE = 0.05
#: A clean-up that frees less than this part of its threshold is of no use, and the next one waits.
_USELESS_FRACTION = 0.01
_WAIT_AFTER_USELESS_S = 600.0


class Monitor:
    """Watches resident memory every ``interval_s`` seconds. Made by ``memcell.Monitor``, which describes the arguments.

    Use it as a context manager, or call ``start`` and ``stop``, each of which may be called twice. A forked child has
    no monitor until it starts one.
    """

    def __init__(
        self,
        *,
        rss: Callable[[], int],
        limit: Callable[[], Limit],
        clean_now: Callable[[], CleanReport],
        status: Callable[[], Status],
        interval_s: float,
        warn: int | float | str | None,
        clean: int | float | str | None,
        every: float | None,
        on_warn: Callable[[Status], object] | None,
        on_clean: Callable[[CleanReport], object] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if interval_s <= 0:
            raise InvalidSettingError(f"Monitor: interval_s must be above 0 seconds, not {interval_s!r}")
        if every is not None and every <= 0:
            raise InvalidSettingError(f"Monitor: every must be above 0 seconds, not {every!r}")
        limit_bytes = limit().limit_bytes
        self.warn_bytes = _threshold("warn", warn, limit_bytes)
        self.clean_bytes = _threshold("clean", clean, limit_bytes)
        if self.warn_bytes is not None and self.clean_bytes is not None and self.warn_bytes >= self.clean_bytes:
            raise InvalidSettingError(
                f"Monitor: warn ({format_bytes(self.warn_bytes)}) must be below clean"
                f" ({format_bytes(self.clean_bytes)}): it warns first and cleans later"
            )
        self._rss = rss
        self._clean = clean_now
        self._status = status
        self._interval_s = interval_s
        self._every = every
        self._on_warn = on_warn
        self._on_clean = on_clean
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = -1
        self._is_armed = True
        self._next_clean = float("-inf")
        self._last_every = clock()

    @property
    def is_running(self) -> bool:
        """Whether the thread runs, in this process."""
        return self._thread is not None and self._pid == os.getpid() and self._thread.is_alive()

    def start(self) -> Monitor:
        """Start to watch."""
        if not self.is_running:
            self._pid = os.getpid()
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="memcell-monitor", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop, and wait until a clean-up that is going on has ended."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and self._pid == os.getpid() and thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> CleanReport | None:
        """Look once, as the thread does at each interval. Returns the report if it cleaned."""
        level, now = self._rss(), self._clock()
        if self._every is not None and now - self._last_every >= self._every:
            return self._clean_now(level, f"every {format_duration(self._every)}")
        if self.clean_bytes is not None and level >= self.clean_bytes and now >= self._next_clean:
            return self._clean_now(level, f"above {format_bytes(self.clean_bytes)}")
        if self.warn_bytes is not None:
            if level >= self.warn_bytes and self._is_armed:
                self._is_armed = False
                logger.warning("memory %s is above %s", format_bytes(level), format_bytes(self.warn_bytes))
                self._tell("on_warn", self._on_warn, self._status())
            elif level < self.warn_bytes * _REARM_FRACTION:
                self._is_armed = True
        return None

    def _clean_now(self, level: int, why: str) -> CleanReport:
        logger.warning("memory %s: cleaning, %s", format_round(level), why)
        began = self._clock()
        report = self._clean()
        ended = self._clock()
        self._last_every = ended
        wait_s = (ended - began) / _CLEAN_SHARE
        if report.freed_bytes < _USELESS_FRACTION * (self.clean_bytes or level):
            wait_s = max(wait_s, _WAIT_AFTER_USELESS_S)
        self._next_clean = ended + wait_s
        self._tell("on_clean", self._on_clean, report)
        return report

    def _tell(self, name: str, callback: Callable[..., object] | None, argument: Status | CleanReport) -> None:
        if callback is not None:
            try:
                callback(argument)
            except Exception as error:
                logger.warning("memcell: %s failed: %s: %s", name, type(error).__name__, error)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval_s):
            try:
                self.check()
            except Exception as error:  # the next look may succeed
                logger.warning("memcell: the monitor failed: %s: %s", type(error).__name__, error)


def _threshold(name: str, value: int | float | str | None, limit_bytes: int | None) -> int | None:
    """A size, or a fraction of the limit."""
    if isinstance(value, float) and 0 < value < 1:
        if limit_bytes is None:
            raise InvalidSettingError(
                f"Monitor: {name}={value} is a fraction, and no limit is known here; give a size such as '2GB'"
            )
        return round(value * limit_bytes)
    return None if value is None else parse_size(value)
