"""Real control groups for kernels, where a test may make one."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_numbers = itertools.count()


def own_group() -> Path | None:
    """A control group of version 1 beside which a smaller one can be made, if there is such a right here."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        folder = Path(f"/sys/fs/cgroup/memory{path}")
        if "memory" in controllers.split(",") and os.access(folder, os.W_OK):
            return folder
    return None


@contextmanager
def small_group(limit_bytes: int) -> Iterator[Path]:
    """A control group with this memory limit, for processes that end before the block does."""
    above = own_group()
    assert above is not None
    group = above / f"memcell-test-{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        yield group
    finally:
        processes, until = group / "cgroup.procs", time.monotonic() + 5
        while processes.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        for pid in processes.read_text().split():  # a test that failed leaves its kernel to its fixture
            (above / "cgroup.procs").write_text(pid)
        group.rmdir()
