"""What the watcher does once the kernel has died: it finds out how, and leaves a file.

This is the half of the black box that outlives the kernel. The watcher loads it by path, and only then, so it imports
the standard library only. The other half, which writes down what runs while the kernel lives, is ``blackbox.py``; the
layout of what the two share (``Notes``) and the rules of the folder stand here for both.
"""

from __future__ import annotations

import marshal
import os
import stat
import struct
import time
from contextlib import suppress
from typing import Any

#: How many files stay: of one working folder, and in all. A month later nobody asks any more.
MOST_PER_FOLDER = 5
MOST = 50
MOST_DAYS = 30
#: What of a cell's source is kept.
SOURCE_CHARACTERS = 8_000
#: A process that gives gigabytes back needs seconds from its last sample to its end.
_DYING_S = 30.0
_MOST_CHARACTERS = 40_000
#: The most points of the last minute that are kept.
_POINTS = 600
#: Ends that somebody asked for: nothing to explain. A Jupyter server ends a busy kernel with SIGTERM.
_ASKED_FOR = {"SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"}

_HEADER = struct.Struct("=BBBxxxxxd")  # valid slot (0: none), running, introduced, end of the latest run (s)
_LENGTH = struct.Struct("=Q")

# From linux/pidfd.h: PIDFD_GET_INFO is _IOWR(0xFF, 11, 64 bytes); the exit code is the last four of them.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_BYTES = 64


class Notes:
    """What the kernel wants to leave behind, in memory that it shares with the watcher.

    It may die at any instruction, also between two bytes of a note. So there are two slots: a note is written into the
    one that is not valid, and becomes the valid one by a single byte. What is read after a death is whole. They are
    written by ``marshal``: the watcher runs the same Python, and nothing else is as fast in a hook.

    Args:
        buffer: The shared memory, zeroed at first.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer
        self._room = (len(buffer) - _HEADER.size) // 3

    def introduce(self, identity: bytes) -> None:
        """Say who writes: from now on a death is worth a file."""
        self._put(0, identity)
        self._buffer[2] = 1

    def write(self, note: bytes) -> None:
        """A run begins."""
        slot = 2 if self._buffer[0] == 1 else 1
        self._put(slot, note)
        self._buffer[1] = 1
        self._buffer[0] = slot

    def end(self, ended: float) -> None:
        """The run has ended."""
        self._buffer[1] = 0
        struct.pack_into("=d", self._buffer, _HEADER.size - 8, ended)

    def wipe(self) -> None:
        """Say goodbye: what happens from now on is nobody's death."""
        self._buffer[2] = 0

    def read(self) -> tuple[bytes, bytes, bool, float] | None:
        """The identity, the latest note or nothing, whether its run is on, and when one ended; None after a goodbye."""
        slot, running, introduced, ended = _HEADER.unpack_from(self._buffer, 0)
        if not introduced:
            return None
        return self._get(0), self._get(slot) if slot else b"", bool(running), ended

    def _put(self, slot: int, content: bytes) -> None:
        if len(content) > self._room - _LENGTH.size:
            raise ValueError(f"a note of {len(content)} bytes is too long")
        at = _HEADER.size + slot * self._room
        _LENGTH.pack_into(self._buffer, at, len(content))
        self._buffer[at + _LENGTH.size : at + _LENGTH.size + len(content)] = content

    def _get(self, slot: int) -> bytes:
        at = _HEADER.size + slot * self._room
        (length,) = _LENGTH.unpack_from(self._buffer, at)
        return bytes(self._buffer[at + _LENGTH.size : at + _LENGTH.size + min(length, self._room)])


def write(recorder: Any, memory: Any) -> None:
    """Leave a file if the kernel has died without having said goodbye.

    Args:
        recorder: What the watcher remembers: the pid, its pidfd or -1, samples, and counts of OOM kills.
        memory: The memory in which the kernel has kept its notes.
    """
    told = Notes(memory).read()
    if told is None:
        return
    noticed, noticed_monotonic = time.time(), time.monotonic()
    import json  # the watcher has no use for it while the kernel lives

    identity_text, note_text, is_running, ended = told
    identity = marshal.loads(identity_text)  # noqa: S302 - the same Python has just written it
    exit_code = wait_for_end(recorder.pid, identity["start"], recorder.pidfd)
    if exit_code == ALIVE:
        return  # something else has closed the pipe, such as exec
    signal_name, status = read_exit_code(exit_code)
    if signal_name in _ASKED_FOR or (status == 0 and not is_running):
        return  # status 0 without a goodbye: a worker that multiprocessing has forked ends so
    kills_after = recorder.count_oom_kills()
    samples = recorder.samples()[-_POINTS * 2 :]
    width = -(-len(samples) // _POINTS) or 1
    points = [_highest(samples[at : at + width]) for at in range(0, len(samples), width)]
    content = {
        "format": 1,
        **{name: identity[name] for name in ("memcell", "python", "pid", "folder", "notebook")},
        "died": noticed,
        "signal": signal_name,
        "exit_status": status,
        "oom": judge_oom(signal_name, status, recorder.oom_kills_before, kills_after),
        "run": marshal.loads(note_text) if note_text else None,  # noqa: S302 - as above
        "running": is_running,
        "ended": None if is_running or not ended else ended,
        "times_s": [round(at - noticed_monotonic, 2) for at, _, _ in points],
        "rss_bytes": [rss for _, rss, _ in points],
        "children_bytes": [children for _, _, children in points] if any(point[2] for point in points) else [],
    }
    folder = open_folder(identity["state"], make=True)
    try:
        name = f"{identity['key']}-{int(noticed):010d}-{recorder.pid}-{identity['start']}.new.json"
        text = json.dumps(content, ensure_ascii=False)
        if len(text) > _MOST_CHARACTERS and content["run"]:  # JSON takes six for a control character
            content["run"]["source"] = content["run"]["source"][:1000]
            text = json.dumps(content, ensure_ascii=False)
        keep(folder, name, text.encode("utf-8", "surrogatepass"))
        for old in surplus(names_in(folder), noticed):
            os.unlink(old, dir_fd=folder)
    finally:
        os.close(folder)


def _highest(part: list[tuple[float, int, int]]) -> tuple[float, int, int]:
    return part[-1][0], max(rss for _, rss, _ in part), max(children for _, _, children in part)


# How it died

#: What ``wait_for_end`` tells of a process that has not died after all.
ALIVE = -1


def wait_for_end(pid: int, start: int, pidfd: int, within_s: float = _DYING_S) -> int | None:
    """Wait until a process has ended, and tell its exit code as the operating system keeps it.

    Args:
        pid: The process.
        start: When it started, in clock ticks since the boot: another process may have its pid by now.
        pidfd: A descriptor of it, or -1.
        within_s: How long it may take; a process that still lives tells -1.

    Returns:
        The exit code (the signal in the low seven bits, the status in the next byte), None where nobody tells it.
    """
    ends = time.monotonic() + within_s
    while True:
        state, started, exit_code = read_stat(pid)
        if not state or started != start:  # its parent has asked for its exit code already: it is gone
            return _exit_code_from_pidfd(pidfd)
        if state == "Z":
            return exit_code
        if _has_memory(pid) or time.monotonic() > ends:
            return ALIVE
        time.sleep(0.005)


def _has_memory(pid: int) -> bool:
    """Whether a process lives: one that dies gives its memory back before it closes its files."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return not file.read().startswith(b"0 ")
    except OSError:
        return False


def read_stat(pid: int) -> tuple[str, int, int]:
    """The state of a process, its start in clock ticks and its exit code; an empty state if there is no such one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # Fields 3, 22 and 52 of proc(5). A thread group leader that is dead may still have living threads; they are
        # counted in field 20.
        state = fields[0].decode()
        if state == "X":
            return "", 0, 0
        return "S" if state == "Z" and int(fields[17]) > 1 else state, int(fields[19]), int(fields[49])
    except (OSError, IndexError, ValueError):
        return "", 0, 0


def _exit_code_from_pidfd(pidfd: int) -> int | None:
    """The exit code of a process that is gone; Linux 6.15 and newer keep it for who holds a pidfd."""
    if pidfd < 0:
        return None
    import fcntl

    information = bytearray(_PIDFD_INFO_BYTES)
    struct.pack_into("=Q", information, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, information)
    except OSError:
        return None
    told, exit_code = struct.unpack_from("=Q", information)[0], struct.unpack_from("=i", information, 60)[0]
    return exit_code if told & _PIDFD_INFO_EXIT else None


def read_exit_code(exit_code: int | None) -> tuple[str | None, int | None]:
    """The name of the signal that ended a process, or its exit status; neither where nothing is known."""
    if exit_code is None:
        return None, None
    number = exit_code & 0x7F
    if not number:
        return None, exit_code >> 8 & 0xFF
    import signal

    try:
        return signal.Signals(number).name, None
    except ValueError:  # a real-time signal has no name
        return f"signal {number}", None


def judge_oom(
    signal_name: str | None,
    status: int | None,
    before: tuple[int | None, int | None],
    after: tuple[int | None, int | None],
) -> str:
    """Whether it was the OOM killer: ``yes``, ``likely``, ``no`` or ``unknown``.

    Args:
        signal_name: The signal that ended the process, if one is known.
        status: Its exit status, if that is known.
        before: How many OOM kills the control group and the host had counted a little earlier; None: not told.
        after: The same after the death.
    """
    if status is not None or signal_name not in (None, "SIGKILL"):
        return "no"  # it kills with SIGKILL
    group, host = (_rise(*pair) for pair in zip(before, after, strict=True))
    if group:
        return "yes"
    if host:
        return "likely"  # somewhere on this host, within the seconds around the death
    return "unknown" if group is None and host is None else "no"


def _rise(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


# The folder


def open_folder(base: str, *, make: bool = False) -> int:
    """A descriptor of the private folder in a user's state folder.

    The way to the state folder is the user's own affair. The folder in it is memcell's: no link, nobody else's, and
    closed to others.

    Args:
        base: The state folder.
        make: Make what is missing.

    Raises:
        OSError: It is missing or cannot be made, is a link, or belongs to somebody else.
    """
    if make:
        os.makedirs(base, 0o700, exist_ok=True)  # noqa: PTH103 - pathlib takes 5 ms to import
    parent = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir("memcell", 0o700, dir_fd=parent)
        folder = os.open("memcell", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        about = os.fstat(folder)
        if about.st_uid != os.geteuid():
            raise PermissionError(f"{base}/memcell belongs to user {about.st_uid}")
        if stat.S_IMODE(about.st_mode) & 0o077:
            os.fchmod(folder, 0o700)
    except BaseException:
        os.close(folder)
        raise
    return folder


def names_in(folder: int) -> list[str]:
    """The names of the files in a folder."""
    return os.listdir(folder)


def keep(folder: int, name: str, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, for nobody else to read."""
    unfinished = f".{name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(unfinished, flags, 0o600, dir_fd=folder)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(unfinished, dir_fd=folder)
        raise


def parse_name(name: str) -> tuple[str, int, bool] | None:
    """The key of the working folder, the time of the death and whether it was never told of; None for other files."""
    stem = name.lstrip(".")
    if not stem.endswith(".json"):
        return None
    stem = stem[: -len(".json")]
    is_new = stem.endswith(".new")
    parts = (stem[: -len(".new")] if is_new else stem).split("-")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        return None
    return parts[0], int(parts[1]), is_new


def surplus(names: list[str], now: float) -> list[str]:
    """The files that go: too old, or too many of one working folder or in all. Others than ours stay."""
    found = [(parsed[1], name, parsed[0]) for name in names if (parsed := parse_name(name)) is not None]
    per_folder: dict[str, int] = {}
    kept, gone = 0, []
    for died, name, key in sorted(found, reverse=True):
        is_unfinished = name.startswith(".")
        if is_unfinished:  # another death may be being written down just now
            if now - died > 3600:
                gone.append(name)
            continue
        per_folder[key] = per_folder.get(key, 0) + 1
        if per_folder[key] > MOST_PER_FOLDER or kept >= MOST or now - died > MOST_DAYS * 86400:
            gone.append(name)
        else:
            kept += 1
    return gone
