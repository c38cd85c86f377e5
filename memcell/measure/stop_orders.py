"""What the kernel and the watcher tell each other about stopping a run: a part of their shared buffer.

Every word has one writer, so nothing is locked. ``run`` is the word that allows the watcher to act at all. Loaded by
the watcher by its path, so it imports the standard library only.
"""

from __future__ import annotations

import mmap
import os
import struct

#: What a limit is compared with: the memory of this process and its children that cannot be dropped; its address
#: space; its private writable memory; the working set of a control group; the host's memory.
KINDS = ("own", "address", "data", "group", "host")
#: A run has a limit of the session, and may have one of its own.
SLOTS = 2

_RUN = struct.Struct("=QQ")  # the run that may be stopped (0: none), and the number of the signal for words
_SLOT = struct.Struct("=qqqqqq")  # kind (-1: none), then the fields of a slot
_FILES = struct.Struct("=512s512s64s")  # of a control group: usage, statistics, and the key of what can be dropped
_KERNELS = struct.Struct("=QQ")  # how many firings its handler has seen, which words it has taken
_STATE = struct.Struct("=QQQQQ")  # firing now, firings, their force, SIGINTs, words said
_FOUND = struct.Struct("=qqqq")  # at the last signal: slot, used, own memory, children's
_BOUND = struct.Struct("=qqq")  # whether RLIMIT_DATA is set by us, what it was, what it is

_SLOTS_AT = _RUN.size
_FILES_AT = _SLOTS_AT + SLOTS * _SLOT.size
_KERNELS_AT = _FILES_AT + _FILES.size
_STATE_AT = _KERNELS_AT + _KERNELS.size
_FOUND_AT = _STATE_AT + _STATE.size
_BOUND_AT = _FOUND_AT + _FOUND.size
SIZE = mmap.PAGESIZE * -(-(_BOUND_AT + _BOUND.size) // mmap.PAGESIZE)


Levels = tuple[str, int, int, int, int, int]
_NO_LIMIT: Levels = ("", 0, 0, 0, 0, 0)


class Slot:
    """One limit of a run, in bytes.

    Attributes:
        kind: What it is compared with; one of ``KINDS``.
        stop: From this level on the run is stopped,
        clean: from this one on cleaners run,
        warn: and from this one on is warned.
        grown_from: Nothing happens unless this process's own memory has reached this level: a run that did not grow
            itself cannot relieve what others fill.
        limit: The limit.
    """

    __slots__ = ("clean", "grown_from", "kind", "limit", "stop", "warn")

    def __init__(self, kind: str, stop: int, clean: int, warn: int, grown_from: int, limit: int) -> None:
        self.kind = kind
        self.stop = stop
        self.clean = clean
        self.warn = warn
        self.grown_from = grown_from
        self.limit = limit


class StopOrders:
    """The part of the buffer in which the kernel says what may be used and the watcher what it did.

    Args:
        buffer: A writable buffer that both share, zeroed.
        at: Where this part begins; it takes ``SIZE`` bytes.
    """

    #: The words that the kernel is told before a run is stopped, as bits.
    WARN, CLEAN = 1, 2

    def __init__(self, buffer: mmap.mmap | bytearray, at: int = 0) -> None:
        self._buffer = buffer
        self._at = at

    # The kernel's side

    def allow(self, run: int, signal: int, limits: tuple[Levels | None, Levels | None]) -> None:
        """Let the watcher stop a run that passes one of these limits; their fields are those of ``Slot``."""
        self._put(_RUN, 0, 0, signal)  # not while half of it is written
        for number, limit in enumerate(limits):
            kind, *levels = limit or _NO_LIMIT
            self._put(_SLOT, _SLOTS_AT + number * _SLOT.size, KINDS.index(kind) if kind else -1, *levels)
        self._put(_RUN, 0, run, signal)

    def forbid(self) -> None:
        """From now on nothing is begun. What ``is_firing`` says has to be waited for."""
        self._put(_RUN, 0, 0, self._get(_RUN, 0)[1])

    def read_from(self, usage: str, statistics: str, key: str) -> None:
        """Where the use of a control group is read."""
        self._put(_FILES, _FILES_AT, os.fsencode(usage), os.fsencode(statistics), key.encode())

    def is_firing(self) -> bool:
        """Whether the watcher is about to send a signal or to set a limit."""
        return bool(self._get(_STATE, _STATE_AT)[0])

    def firings(self) -> tuple[int, int]:
        """How often the run was told to stop since the watcher began, and how many of these were SIGINT."""
        _, fired, _, interrupts, _ = self._get(_STATE, _STATE_AT)
        return fired, interrupts

    def take(self) -> tuple[int, int, tuple[int, int, int, int]]:
        """What is new, and counts as taken from now on.

        Returns:
            The words; the force with which the run is to be stopped (0: it is not); and what was found: the number
            of the limit, what is used of it, the memory of this process and its children, and of the children alone.
        """
        handled, taken = self._get(_KERNELS, _KERNELS_AT)
        _, fired, force, _, said = self._get(_STATE, _STATE_AT)
        self._put(_KERNELS, _KERNELS_AT, fired, said)
        slot, used, own, children = self._get(_FOUND, _FOUND_AT)
        return said & ~taken, force if fired > handled else 0, (slot, used, own, children)

    def bound(self) -> tuple[int, int] | None:
        """What RLIMIT_DATA was before the watcher lowered it, and to what; None if it did not."""
        is_set, before, value = self._get(_BOUND, _BOUND_AT)
        return (before, value) if is_set else None

    def note_bound(self, before: int, value: int) -> None:
        """RLIMIT_DATA is lowered."""
        self._put(_BOUND, _BOUND_AT, 1, before, value)

    def note_unbound(self) -> None:
        """RLIMIT_DATA is what it was."""
        self._put(_BOUND, _BOUND_AT, 0, 0, 0)

    # The watcher's side

    def run(self) -> int:
        """The run that may be stopped; 0 for none."""
        return self._get(_RUN, 0)[0]

    def signal(self) -> int:
        """The signal for words."""
        return self._get(_RUN, 0)[1]

    def slots(self) -> list[tuple[int, Slot]]:
        """What limits the run, with the numbers of the slots."""
        found = [(number, self._get(_SLOT, _SLOTS_AT + number * _SLOT.size)) for number in range(SLOTS)]
        return [(number, Slot(KINDS[kind], *sizes)) for number, (kind, *sizes) in found if kind >= 0]

    def files(self) -> tuple[str, str, str]:
        """What ``read_from`` said."""
        fields = _FILES.unpack_from(self._buffer, self._at + _FILES_AT)
        usage, statistics, key = (field.rstrip(b"\0") for field in fields)
        return os.fsdecode(usage), os.fsdecode(statistics), key.decode()

    def handled(self) -> int:
        """How many firings the kernel's handler has seen."""
        return self._get(_KERNELS, _KERNELS_AT)[0]

    def begin_firing(self, *, stop: bool = False, force: int = 0, interrupt: bool = False, words: int = 0) -> None:
        """Say that something is about to be sent, and what."""
        _, fired, old_force, interrupts, said = self._get(_STATE, _STATE_AT)
        self._put(
            _STATE, _STATE_AT, 1, fired + stop, force if stop else old_force, interrupts + interrupt, said | words
        )

    def end_firing(self) -> None:
        """It is sent."""
        self._put(_STATE, _STATE_AT, 0, *self._get(_STATE, _STATE_AT)[1:])

    def note_found(self, slot: int, used_bytes: int, own_bytes: int, children_bytes: int) -> None:
        """What the next signal is about."""
        self._put(_FOUND, _FOUND_AT, slot, used_bytes, own_bytes, children_bytes)

    def forget_words(self) -> None:
        """A new run: nothing has been said yet."""
        self._put(_STATE, _STATE_AT, *self._get(_STATE, _STATE_AT)[:4], 0)

    def _get(self, layout: struct.Struct, at: int) -> tuple[int, ...]:
        return layout.unpack_from(self._buffer, self._at + at)

    def _put(self, layout: struct.Struct, at: int, *values: object) -> None:
        layout.pack_into(self._buffer, self._at + at, *values)
