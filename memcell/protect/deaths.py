"""Reads the files that processes left when they died, and takes them away."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from memcell.errors import BlackBoxFolderError, UnreadableBlackBoxError
from memcell.protect.aftermath import names_in, open_folder, parse_name
from memcell.protect.blackbox import folder_key, state_folder
from memcell.records.deaths import Death, LastRun

#: The largest that is ever written is 45 KB.
_MOST_BYTES = 256 * 1024
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: deaths, the latest first, and a line for each file that could not be read."""

    deaths: tuple[Death, ...]
    unreadable: tuple[str, ...] = ()


class Boxes:
    """The files of this user.

    Args:
        environ: Where the state folder is looked up.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._base = state_folder(environ)

    @property
    def place(self) -> str:
        """Where the files are."""
        return f"{self._base}/memcell"

    def read(self, folder: str | None = None) -> Found:
        """The deaths of the processes that worked in a folder, or of all.

        Raises:
            BlackBoxFolderError: Nobody can read there.
        """
        deaths, unreadable = [], []
        with self._opened() as descriptor:
            for name in _names(descriptor, folder):
                try:
                    deaths.append(_read(descriptor, name))
                except UnreadableBlackBoxError as error:
                    unreadable.append(str(error))
        return Found(tuple(deaths), tuple(unreadable))

    def get(self, name: str) -> Death:
        """One death by the name of its file.

        Raises:
            BlackBoxFolderError: Nobody can read there.
            UnreadableBlackBoxError: The file is torn or gone.
        """
        with self._opened() as descriptor:
            return _read(descriptor, name)

    def clear(self, folder: str | None = None) -> int:
        """Remove the files of a folder, or all of them, torn ones too; tells how many.

        Raises:
            BlackBoxFolderError: They cannot be removed.
        """
        removed = 0
        with self._opened() as descriptor:
            for name in _names(descriptor, folder):
                try:
                    os.unlink(name, dir_fd=descriptor)
                except OSError as error:
                    raise BlackBoxFolderError(f"cannot remove {self.place}/{name}: {error.strerror}") from None
                removed += 1
        return removed

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the folder, or -1 where there is none because no process has died so far."""
        if self._base is None:
            raise BlackBoxFolderError("there is no home folder; set XDG_STATE_HOME to the folder with the black boxes")
        descriptor = -1
        try:
            descriptor = open_folder(self._base)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise BlackBoxFolderError(
                f"{self.place} is no private folder of yours ({error.strerror or error}); black boxes are neither kept "
                "nor read there: move it away, or set XDG_STATE_HOME to another folder"
            ) from None
        try:
            yield descriptor
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _names(descriptor: int, folder: str | None) -> list[str]:
    """The names of the files of a working folder, or of all, the latest death first."""
    key = None if folder is None else folder_key(folder)
    found = []
    for name in names_in(descriptor) if descriptor >= 0 else ():
        parsed = None if name.startswith(".") else parse_name(name)
        if parsed is not None and key in (None, parsed[0]):
            found.append((parsed[1], name))
    return [name for _, name in sorted(found, reverse=True)]


def _read(descriptor: int, name: str) -> Death:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError("it is no plain file")
            content = os.read(file, _MOST_BYTES)
        finally:
            os.close(file)
        return _parse(name, json.loads(content))
    except OSError as error:
        why = error.strerror or str(error)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        why = "it is torn, or not memcell's"
    raise UnreadableBlackBoxError(f"the black box {name} cannot be read: {why}; --clear removes it")


def _parse(name: str, values: Any) -> Death:
    """The record, if every value is of its kind: what a person may have edited must not break a view."""
    if values["format"] != _FORMAT:
        raise ValueError(values["format"])
    times = tuple(float(at) for at in values["times_s"])
    rss, children = _sizes(values["rss_bytes"]), _sizes(values["children_bytes"])
    in_order = all(-1e5 < one <= other <= 0 for one, other in pairwise((*times, 0.0)))
    if len(rss) != len(times) or len(children) not in (0, len(times)) or not in_order:
        raise ValueError(name)
    if values["oom"] not in ("yes", "likely", "no", "unknown"):
        raise ValueError(values["oom"])
    return Death(
        name=name,
        folder=_text(values["folder"]),
        notebook=_text(values["notebook"]),
        pid=_size(values["pid"]),
        died=_time(values["died"]),
        signal=None if values["signal"] is None else _text(values["signal"]),
        exit_status=None if values["exit_status"] is None else _size(values["exit_status"]),
        oom=values["oom"],
        run=None if values["run"] is None else _last_run(values["run"]),
        is_running=bool(values["running"]),
        ended=None if values["ended"] is None else _time(values["ended"]),
        times_s=times,
        rss_bytes=rss,
        children_bytes=children,
        memcell=_text(values["memcell"]),
        python=_text(values["python"]),
    )


def _last_run(values: Any) -> LastRun:
    return LastRun(
        cell=_text(values["cell"]),
        number=_size(values["number"]),
        is_block=bool(values["is_block"]),
        source=_text(values["source"]),
        source_characters=_size(values["source_characters"]),
        started=_time(values["started"]),
        before_bytes=_size(values["before_bytes"]),
        kept_bytes=_sizes(kept for kept, _ in values["earlier"]),
        peak_growth_bytes=_sizes(peak for _, peak in values["earlier"]),
        limit_bytes=None if values["limit_bytes"] is None else _size(values["limit_bytes"]),
        limit_source=_text(values["limit_source"]),
        bytes_per_run=_size(values["bytes_per_run"]) if "bytes_per_run" in values else None,
        culprit=_text(values.get("culprit", "")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _sizes(values: Any) -> tuple[int, ...]:
    return tuple(map(_size, values))


def _size(value: Any) -> int:
    if not isinstance(value, int) or abs(value) > 1 << 60:
        raise ValueError(value)
    return value


def _time(value: Any) -> float:
    # What no calendar has would fail when it is shown.
    if not 0 <= float(value) < 1e11:
        raise ValueError(value)
    return float(value)
