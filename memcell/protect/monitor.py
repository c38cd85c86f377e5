"""Thresholds without a notebook: a thread that warns, cleans, and tells whoever wants to know."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from memcell.errors import InvalidSettingError
from memcell.protect.policy import can_relieve
from memcell.units import MIB, format_bytes, format_duration, parse_size

if TYPE_CHECKING:
    from memcell.records.cleaned import CleanReport
    from memcell.records.measured import Limit
    from memcell.records.protected import Status

logger = logging.getLogger("memcell")

#: A warning is given again only after the level has been below this part of its threshold.
_REARM_FRACTION = 0.9
#: Clean-ups may take this part of the time.
_CLEAN_SHARE = 0.05
#: A clean-up that frees less than this part of its threshold is of no use, and the next one waits.
_USELESS_FRACTION = 0.01
_WAIT_AFTER_USELESS_S = 600.0
#: How long ``stop`` waits for a clean-up that is going on.
_STOP_WITHIN_S = 10.0
_LONGEST_S = 7 * 86_400.0


class _Threshold:
    """A level of resident memory, or a fraction of the limit that applies at the moment."""

    def __init__(self, name: str, value: int | float | str, limit: Callable[[], Limit]) -> None:
        self._limit = limit
        self.fraction: float | None = None
        self.size_bytes = 0
        if isinstance(value, float) and 0 < value < 1:
            if limit().limit_bytes is None:
                raise InvalidSettingError(
                    f"Monitor: {name}={value} is a fraction, and no limit is known here; give a size such as '2GB'"
                )
            self.fraction = value
            return
        self.size_bytes = parse_size(value)
        if self.size_bytes < MIB:
            raise InvalidSettingError(
                f"Monitor: {name}={value!r} is neither a fraction below 1 nor a size of 1 MiB or more"
            )

    def __str__(self) -> str:
        return format_bytes(self.size_bytes) if self.fraction is None else f"{self.fraction:.0%} of the limit"

    def bytes_now(self) -> int:
        """The threshold in bytes."""
        if self.fraction is None:
            return self.size_bytes
        return round(self.fraction * (self._limit().limit_bytes or 0))

    def is_passed(self, rss_bytes: int, factor: float = 1.0) -> bool:
        """Whether it is passed, by this process itself for a size; by all that shares the limit for a fraction.

        Args:
            rss_bytes: Resident memory of this process.
            factor: Ask for this part of the threshold.
        """
        if self.fraction is None:
            return rss_bytes >= factor * self.size_bytes
        limit = self._limit()
        if limit.limit_bytes is None or limit.used_bytes is None:
            return False
        over = limit.used_bytes - factor * self.fraction * limit.limit_bytes
        return over >= 0 and can_relieve(rss_bytes, over, limit.limit_bytes)


class Monitor:
    """Watches memory every ``interval_s`` seconds. Made by ``memcell.Monitor``, which describes the arguments.

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
        sweep: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = _seconds("interval_s", interval_s)
        self._every = None if every is None else _seconds("every", every)
        self._warn = None if warn is None else _Threshold("warn", warn, limit)
        self._clean = None if clean is None else _Threshold("clean", clean, limit)
        if self._warn and self._clean and self._warn.bytes_now() >= self._clean.bytes_now():
            raise InvalidSettingError(
                f"Monitor: warn ({self._warn}) must be below clean ({self._clean}): it warns first and cleans later"
            )
        for name, callback in (("on_warn", on_warn), ("on_clean", on_clean)):
            if callback is not None and not callable(callback):
                raise InvalidSettingError(f"Monitor: {name} must be callable, not {type(callback).__name__}")
        self._rss = rss
        self._clean_now = clean_now
        self._status = status
        self._on_warn = on_warn
        self._on_clean = on_clean
        self._sweep = sweep
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
            self._last_every = self._clock()
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="memcell-monitor", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop. A clean-up that is going on is waited for, at most ten seconds."""
        thread, self._thread = self._thread, None
        if self._pid != os.getpid():
            return  # forked: the thread is the parent's, and a lock of its event may be held for ever
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_WITHIN_S)
            if thread.is_alive():
                logger.warning("memcell: the monitor stops as soon as the clean-up that is going on has ended")

    def __enter__(self) -> Monitor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> CleanReport | None:
        """Look once, as the thread does at each interval. Returns the report if it cleaned."""
        self._sweep()
        level, now = self._rss(), self._clock()
        if self._every is not None and now - self._last_every >= self._every:
            return self._run_cleaners(level, f"every {format_duration(self._every)}")
        if self._clean is not None and now >= self._next_clean and self._clean.is_passed(level):
            return self._run_cleaners(level, f"above {self._clean}")
        if self._warn is not None:
            if self._is_armed and self._warn.is_passed(level):
                self._is_armed = False
                logger.warning("memory %s is above %s", format_bytes(level), self._warn)
                self._tell("on_warn", self._on_warn, self._status())
            elif not self._is_armed and not self._warn.is_passed(level, _REARM_FRACTION):
                self._is_armed = True
        return None

    def _run_cleaners(self, level: int, why: str) -> CleanReport | None:
        logger.warning("memory %s: cleaning, %s", format_bytes(level), why)
        began = self._clock()
        report = self._clean_now()
        ended = self._clock()
        if report.note:
            logger.info("memcell: %s", report.note)
            return None  # somebody else is cleaning
        self._last_every = ended
        wait_s = (ended - began) / _CLEAN_SHARE
        if report.freed_bytes < _USELESS_FRACTION * (self._clean.bytes_now() if self._clean else level):
            wait_s = max(wait_s, _WAIT_AFTER_USELESS_S)
        self._next_clean = ended + wait_s
        self._tell("on_clean", self._on_clean, report)
        return report

    @staticmethod
    def _tell(name: str, callback: Callable[..., object] | None, argument: Status | CleanReport) -> None:
        if callback is not None:
            try:
                callback(argument)
            except BaseException as error:  # also SystemExit, which would end the thread without a word
                logger.warning("memcell: %s failed: %s: %s", name, type(error).__name__, error)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval_s):
            try:
                self.check()
            except Exception as error:  # the next look may succeed
                logger.warning("memcell: the monitor failed: %s: %s", type(error).__name__, error)


def _seconds(name: str, value: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= _LONGEST_S:
        raise InvalidSettingError(f"Monitor: {name} must be a number of seconds above 0, up to a week, not {value!r}")
    return float(value)
