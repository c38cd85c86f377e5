"""At which levels of memory the watcher warns, cleans and stops: what it is told of a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from memcell.records.protected import Ceiling
from memcell.units import MIB

if TYPE_CHECKING:
    from memcell.protect.policy import Thresholds

#: The kind of memory that is compared, then bytes: the level to stop at, to clean at, to warn at, the level of the
#: run itself below which it is left alone, and the limit.
Levels = tuple[int, int, int, int, int, int]
#: A limit may change while the process runs; reading which one applies takes 0.2 ms.
_LOOK_EVERY_S = 30.0
#: A run that has grown by less than this, or than this part of the limit, has not filled the memory.
GROWN_BYTES, _GROWN_FRACTION = 8 * MIB, 0.01
#: What the first traceback of a kernel takes, with the libraries that it loads, and what is shown beside it.
_ROOM_TO_TELL_BYTES = 64 * MIB


class Listener(Protocol):
    """What is told of limits: which kinds it knows, and which files tell their use; see ``measure/stop_orders.py``."""

    @property
    def KINDS(self) -> tuple[str, ...]: ...  # noqa: N802
    def read_from(self, usage: str, statistics: str, key: str) -> None: ...


class StopLevels:
    """The levels of the session's limit, which are looked up now and then, and of a run's own.

    Args:
        read_ceiling: Reads the limit of the session.
        thresholds: The settings.

    Attributes:
        ceiling: The limit of the session, as it was read last.
    """

    def __init__(self, read_ceiling: Callable[[], Ceiling | None], thresholds: Callable[[], Thresholds]) -> None:
        self._read_ceiling = read_ceiling
        self._thresholds = thresholds
        self._of_session: Levels | None = None
        self._next_look = float("-inf")
        self.ceiling: Ceiling | None = None

    def reconsider(self) -> None:
        """The limit is another one, or somebody else is to be told of it."""
        self._next_look = float("-inf")
        self._of_session = None

    def of_session(self, watcher: Listener, own_bytes: int) -> Levels | None:
        """Those of the session's limit, for a run that begins at this level of its own."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_EVERY_S
            self._look(watcher)
        return None if self._of_session is None else _from(self._of_session, own_bytes)

    def of_run(self, watcher: Listener, limit_bytes: int, own_bytes: int) -> Levels:
        """Those of a limit of a run's own."""
        return _from(self._levels(watcher.KINDS.index("own"), limit_bytes, limit_bytes), own_bytes)

    def _look(self, watcher: Listener) -> None:
        ceiling = self.ceiling = self._read_ceiling()
        if ceiling is None:
            self._of_session = None
            return
        watcher.read_from(ceiling.usage_file, ceiling.statistics_file, ceiling.droppable_key)
        kind = watcher.KINDS.index(ceiling.kind)
        self._of_session = self._levels(kind, stop_bytes(ceiling, self._thresholds()), ceiling.limit_bytes)

    def _levels(self, kind: int, stop_bytes: int, limit_bytes: int) -> Levels:
        """The levels of a limit, but for the growth: that is still to be added to a run's level."""
        thresholds = self._thresholds()
        return (
            kind,
            stop_bytes,
            int(thresholds.clean_fraction * limit_bytes),
            int(thresholds.warn_fraction * limit_bytes),
            max(GROWN_BYTES, int(_GROWN_FRACTION * limit_bytes)),
            limit_bytes,
        )


def stop_bytes(ceiling: Ceiling, thresholds: Thresholds) -> int:
    """The use of the session's limit at which a run is stopped."""
    wanted = int(thresholds.limit_fraction * ceiling.limit_bytes)
    if ceiling.kind == "own":
        return wanted
    # Above it is death, and 5 % of a small limit are not enough to make and to show an error.
    cleaned = int(thresholds.clean_fraction * ceiling.limit_bytes)
    return min(wanted, max(ceiling.limit_bytes - _ROOM_TO_TELL_BYTES, cleaned))


def _from(levels: Levels, own_bytes: int) -> Levels:
    """The levels of a run that begins at this level of its own."""
    kind, stop, clean, warn, grown, limit = levels
    return kind, stop, clean, warn, own_bytes + grown, limit
