"""The high-water mark as getrusage(2) tells it: in 1 µs, where reading ``/proc/self/status`` takes 8."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

if sys.platform != "win32":  # which has no such call, and where nobody asks
    import resource


def _max_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class UsageMark:
    """Tells the mark where that is certain.

    Linux answers with the greater of two: the mark of this program, which a reset lowers, and that of whatever the
    process was before it started this program (kernel/sys.c: ``signal->maxrss``, set by exec), which never changes. The
    latter is at most the least answer that ever came; so an answer above that is the former.

    Args:
        ask: Returns ``ru_maxrss`` in bytes; for tests.
    """

    __slots__ = ("_ask", "_least")

    def __init__(self, ask: Callable[[], int] = _max_rss_bytes) -> None:
        self._ask = ask
        self._least: float = math.inf

    def read(self) -> int | None:
        """The mark since the last reset, in bytes; None where that cannot be told this way just now."""
        told = self._ask()
        if told > self._least:
            return told
        self._least = told
        return None
