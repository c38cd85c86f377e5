"""The black box, while the process lives: it writes down what runs, where the watcher finds it after a death.

Nothing of it reaches the disk unless the process dies without a goodbye; ``aftermath.py`` is what writes it then. An
orderly end says goodbye first, and leaves nothing.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import marshal
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from memcell.protect.aftermath import SOURCE_CHARACTERS, Notes, names_in, open_folder, parse_name, read_stat

if TYPE_CHECKING:
    from memcell.records.explained import Verdict
    from memcell.records.measured import Limit, Sample

logger = logging.getLogger("memcell")

#: Kept of names that have no bound of their own: of a block, a culprit, a control group.
_NAME_CHARACTERS = 200


class Noted(Protocol):
    """What a run tells of itself when it begins."""

    cell: str
    number: int
    source: str
    started: float
    before: Sample


class BlackBox:
    """Notes each run of this process.

    Args:
        memory: The memory that outlives this process, or None while there is none.
        environ: Where the state folder and the notebook are looked up.
        clock: Seconds since the epoch; for tests.

    Attributes:
        folder: The folder in which the process works when this is made: its boxes are kept under this name, also if
            a cell goes elsewhere. None if it is gone.
    """

    def __init__(
        self,
        memory: Callable[[], Any | None],
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self.folder = _working_folder()
        self._noted_in: Any | None = None
        self._notes: Notes | None = None
        self._is_off = False

    def note(
        self, run: Noted, earlier: Sequence[tuple[int, int]], verdict: Verdict | None, limit: Limit | None
    ) -> None:
        """A run begins.

        Args:
            run: The run.
            earlier: What a few earlier runs of the same cell kept and their peak growth, oldest first.
            verdict: What was last said of the cell, if anything.
            limit: The limit that applies, as far as it is known.
        """
        memory = self._memory()
        if self._is_off or memory is None:
            return
        try:
            if memory is not self._noted_in:
                self._introduce(memory)
            assert self._notes is not None
            content = {
                "cell": run.cell[:_NAME_CHARACTERS],
                "number": run.number,
                "is_block": run.cell == run.source,  # a block's label stands for both
                "source": run.source[:SOURCE_CHARACTERS],
                "source_characters": len(run.source),
                "started": run.started,
                "before_bytes": run.before.rss_bytes,
                "earlier": earlier,
                "limit_bytes": limit.limit_bytes if limit else None,
                "limit_source": limit.source[:_NAME_CHARACTERS] if limit else "",
            }
            if verdict is not None and verdict.kind == "growing":
                content["bytes_per_run"] = verdict.bytes_per_run
                content["culprit"] = verdict.culprits[0].name[:_NAME_CHARACTERS] if verdict.culprits else ""
            self._notes.write(marshal.dumps(content))
        except Exception as error:
            self._is_off = True
            logger.info("memcell: if this process dies, nothing will tell why: no black box: %s", error)

    def end(self) -> None:
        """The run that was noted has ended."""
        if self._notes is not None and self._memory() is self._noted_in:
            self._notes.end(self._clock())

    def goodbye(self) -> None:
        """This process ends in order, or measures no more. The next run that is noted takes it back."""
        if self._notes is not None:
            atexit.unregister(self.goodbye)
            if self._memory() is self._noted_in:
                self._notes.wipe()
        self._notes = self._noted_in = None

    def forget_parent(self) -> None:
        """In a forked child: it leaves nothing, its parent is told of its end."""
        atexit.unregister(self.goodbye)
        self._notes = self._noted_in = None
        self._is_off = True

    def _introduce(self, memory: Any) -> None:
        base = state_folder(self._environ)
        if base is None:
            raise OSError("there is no home folder; set XDG_STATE_HOME to a folder that can be written")
        if self.folder is None:
            raise OSError("the working folder is gone")
        os.close(open_folder(base, make=True))  # better known now than in the moment of the death
        identity = {
            "memcell": getattr(sys.modules.get("memcell"), "__version__", ""),
            "python": sys.version.split()[0],
            "pid": os.getpid(),
            "start": read_stat(os.getpid())[1],
            "state": base,
            "key": folder_key(self.folder),
            "folder": self.folder,
            "notebook": self._environ.get("JPY_SESSION_NAME", ""),
        }
        notes = Notes(memory)
        notes.introduce(marshal.dumps(identity))
        self._notes, self._noted_in = notes, memory
        atexit.register(self.goodbye)


def state_folder(environ: Mapping[str, str] | None = None) -> str | None:
    """The user's state folder, as the XDG base directories have it; None where there is no home."""
    environ = os.environ if environ is None else environ
    told = environ.get("XDG_STATE_HOME", "")
    if told.startswith("/"):  # a relative one is to be ignored
        return told
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    return f"{home}/.local/state" if home.startswith("/") else None


def folder_key(folder: str) -> str:
    """What stands for a working folder in the name of a file."""
    return hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()


def untold_death(folder: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The name of the latest file of a working folder that nobody was told of; from now on it counts as told.

    A few system calls, because every kernel asks when it has loaded memcell.
    """
    base = state_folder(environ)
    if base is None or folder is None:
        return None
    try:
        descriptor = open_folder(base)
    except OSError:
        return None  # no kernel has died so far
    try:
        key, told = folder_key(folder), None
        for name in sorted(names_in(descriptor)):
            parsed = None if name.startswith(".") else parse_name(name)
            if parsed is not None and parsed[0] == key and parsed[2]:
                told = name.replace(".new.json", ".json")
                os.rename(name, told, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        return told
    except OSError:
        return None  # another kernel tells it, or the folder cannot be written: better never than at every start
    finally:
        os.close(descriptor)


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd() makes a Path for a string
    except OSError:
        return None  # it was removed
