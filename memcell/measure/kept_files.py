"""Small files of /proc and control groups that stay open, for the watcher, which reads them again and again.

To open a file takes memory of the control group, if little. Where the group is full that calls the OOM killer, and
while the kernel is dying, the watcher is all that the killer finds. Reading an open one takes none, and a third of the
time.

Loaded by the watcher by its path, so it imports the standard library only.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as in typing, which takes 5 ms to import
if TYPE_CHECKING:
    from collections.abc import Collection

#: More are opened and closed at each reading: a process has a thousand descriptors, and each takes a page.
_MOST = 64
_READ_BYTES = 1 << 16


class KeptFiles:
    """Reads files by name and keeps their descriptors."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def read(self, path: str) -> bytes:
        """All of a file.

        Raises:
            OSError: It cannot be read, for example because what it tells of is gone.
        """
        file = self._open.get(path)
        if file is not None:
            try:
                return _all_of(file)
            except OSError:  # what it told of is gone, and another thing may have its name by now
                self._close(path)
        file = os.open(path, os.O_RDONLY)
        self._open[path] = file
        try:
            return _all_of(file)
        except OSError:
            self._close(path)
            raise
        finally:
            if len(self._open) > _MOST:
                self._close(path)

    def text(self, path: str) -> str:
        """All of a file as text; empty where it cannot be read."""
        try:
            return self.read(path).decode("utf-8", "replace")
        except OSError:
            return ""

    def close_others(self, paths: Collection[str]) -> None:
        """Close all but these."""
        for path in self._open.keys() - set(paths):
            self._close(path)

    def _close(self, path: str) -> None:
        file = self._open.pop(path, None)
        if file is not None:
            os.close(file)


class DirectChildren:
    """The direct child processes of one process, of all its threads. Linux with CONFIG_PROC_CHILDREN.

    Args:
        pid: The process.

    Raises:
        OSError: It has ended.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tasks = os.open(f"/proc/{pid}/task", os.O_RDONLY | os.O_DIRECTORY)
        self._files = KeptFiles()

    def read(self) -> list[int]:
        """Their pids; none of a process that has ended."""
        found: list[int] = []
        try:
            tasks = os.listdir(self._tasks)  # noqa: PTH208 - pathlib takes 5 ms to import, and reads no descriptors
        except OSError:
            return found
        paths = [f"/proc/{self._pid}/task/{task}/children" for task in tasks]
        self._files.close_others(paths)
        for path in paths:
            try:
                found += map(int, self._files.read(path).split())
            except OSError:  # this thread has just ended
                continue
        return found


def _all_of(file: int) -> bytes:
    content = os.pread(file, _READ_BYTES, 0)
    while content and (more := os.pread(file, _READ_BYTES, len(content))):
        content += more
    return content
