"""What the watcher remembers for the case that the kernel dies: its last minute, and how many OOM kills there were.

Loaded by the watcher by its path, so it imports the standard library only. What is made of it after a death stands in
``protect/aftermath.py``.
"""

from __future__ import annotations

import os
import struct
import time

_MINUTE = struct.Struct("=Qdqq")  # number of the slice since the boot (0: none), time, RSS and children's PSS
#: The samples of the last minute: the highest in each slice, whatever the sampling interval is.
_MINUTE_SLICE_S = 0.05
_MINUTE_SLICES = 1200
#: A count of OOM kills is compared with one that is older than this: the kill itself may be in the latest.
_COUNT_EVERY_S = 10.0


class Recorder:
    """What is remembered for the case that the kernel dies: its last minute, and how many OOM kills there were.

    Args:
        pid: The process that is watched.
        pidfd: A descriptor that tells when it ends, or -1: then reading its memory tells.
    """

    def __init__(self, pid: int, pidfd: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._ring = bytearray(_MINUTE_SLICES * _MINUTE.size)
        self._counters = _oom_counters(pid)
        self.begin()

    def begin(self) -> None:
        """The kernel has just woken the watcher: what is counted now was before the run."""
        self.oom_kills_before = self._latest_count = self.count_oom_kills()
        self._next_count = time.monotonic() + _COUNT_EVERY_S

    def add(self, now: float, rss_bytes: int, children_bytes: int) -> None:
        """Add one sample of a run."""
        slot = int(now / _MINUTE_SLICE_S)
        at = slot % _MINUTE_SLICES * _MINUTE.size
        before = _MINUTE.unpack_from(self._ring, at)
        if before[0] == slot:
            rss_bytes, children_bytes = max(rss_bytes, before[2]), max(children_bytes, before[3])
        _MINUTE.pack_into(self._ring, at, slot, now, rss_bytes, children_bytes)
        if now >= self._next_count:
            self.oom_kills_before, self._latest_count = self._latest_count, self.count_oom_kills()
            self._next_count = now + _COUNT_EVERY_S

    def samples(self) -> list[tuple[float, int, int]]:
        """Time (monotonic, s), RSS and children's PSS of the minute before now, oldest first."""
        oldest = time.monotonic() / _MINUTE_SLICE_S - _MINUTE_SLICES
        found = sorted(sample for sample in _MINUTE.iter_unpack(self._ring) if sample[0] > max(oldest, 0))
        return [sample[1:] for sample in found]

    def count_oom_kills(self) -> tuple[int | None, int | None]:
        """How many processes the OOM killer has ended, in the control group and on the host; None where untold."""
        group, host = (None if name is None else _counted(name) for name in self._counters)
        return group, host


def _oom_counters(pid: int) -> tuple[str | None, str]:
    """The files that count OOM kills: of the control group that the process is in, if it has one, and of the host."""
    names = []
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file.read().splitlines():
                _, controllers, path = line.split(":", 2)
                if "memory" in controllers.split(","):
                    names += [f"/sys/fs/cgroup/memory{part}/memory.oom_control" for part in (path, "")]
                elif not controllers:
                    names += [f"/sys/fs/cgroup{part}/memory.events" for part in (path, "")]
    except (OSError, ValueError):
        pass  # no control groups here
    # A container may see only its own part of the hierarchy, at the top; the path is told from outside then.
    return next((name for name in names if os.access(name, os.R_OK)), None), "/proc/vmstat"


def _counted(name: str) -> int | None:
    try:
        with open(name, "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass  # the group is gone, or a Linux before 4.13
    return None
