"""What the kernel and the watcher tell each other about stopping a run: a part of their shared buffer.

Every word has one writer, so nothing is locked. ``run`` is the word that allows the watcher to act at all. Loaded by
the watcher by its path, so it imports the standard library only.
"""

from __future__ import annotations

import mmap
import os
import struct

#: A run has a limit of the session, and may have one of its own.
SLOTS = 2

_WORD_BITS = 2
_ALL_WORDS = (1 << _WORD_BITS) - 1

_RUN = struct.Struct("=QQ")  # the run that may be stopped (0: none), and the number of the signal for words
_SLOT = struct.Struct("=qqqqqq")  # kind (-1: none), then the fields of a slot
_BOTH_SLOTS = struct.Struct("=12q")
_FILES = struct.Struct("=512s512s64s")  # of a control group: usage, statistics, and the key of what can be dropped
_KERNELS = struct.Struct("=Q")  # how many firings its handler has seen
_STATE = struct.Struct("=QQQQQ")  # firing now, firings, their force, SIGINTs, the run and the words said of it
_FOUND = struct.Struct("=qqqq")  # at the last signal: slot, used, own memory, children's
_BOUND = struct.Struct("=qqq")  # whether RLIMIT_DATA is set by us, what it was, what it is

_SLOTS_AT = _RUN.size
_FILES_AT = _SLOTS_AT + SLOTS * _SLOT.size
_KERNELS_AT = _FILES_AT + _FILES.size
_STATE_AT = _KERNELS_AT + _KERNELS.size
_FOUND_AT = _STATE_AT + _STATE.size
_BOUND_AT = _FOUND_AT + _FOUND.size
SIZE = mmap.PAGESIZE * -(-(_BOUND_AT + _BOUND.size) // mmap.PAGESIZE)


Levels = tuple[int, int, int, int, int, int]
_NO_LIMIT: Levels = (-1, 0, 0, 0, 0, 0)


class Slot:
    """One limit of a run, in bytes.

    Attributes:
        kind: What it is compared with; one of ``StopOrders.KINDS``.
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

    #: What a limit is compared with: the memory of this process and its children that cannot be dropped; its address
    #: space; its private writable memory; the working set of a control group; the host's memory.
    KINDS = ("own", "address", "data", "group", "host")
    #: The words that the kernel is told before a run is stopped, as bits.
    WARN, CLEAN = 1, 2

    def __init__(self, buffer: mmap.mmap | bytearray, at: int = 0) -> None:
        self._buffer = buffer
        self._at = at

    # The kernel's side

    def allow(self, run: int, signal: int, first: Levels | None, second: Levels | None) -> None:
        """Let the watcher stop a run that passes one of these limits: the index of its kind, and what a ``Slot`` has.

        It has to be forbidden when this is called.
        """
        _BOTH_SLOTS.pack_into(self._buffer, self._at + _SLOTS_AT, *(first or _NO_LIMIT), *(second or _NO_LIMIT))
        _RUN.pack_into(self._buffer, self._at, run, signal)

    def forbid(self) -> None:
        """From now on nothing is begun. What ``state`` says is going on has to be waited for."""
        _RUN.pack_into(self._buffer, self._at, 0, 0)

    def read_from(self, usage: str, statistics: str, key: str) -> None:
        """Where the use of a control group is read."""
        self._put(_FILES, _FILES_AT, os.fsencode(usage), os.fsencode(statistics), key.encode())

    def state(self) -> tuple[int, int, int]:
        """Whether something is being sent or set just now; how often a run was told to stop; how many SIGINTs."""
        firing, fired, _, interrupts, _ = _STATE.unpack_from(self._buffer, self._at + _STATE_AT)
        return firing, fired, interrupts

    def take(self, run: int) -> tuple[int, int, tuple[int, int, int, int]]:
        """What the watcher has to say to a run. That it is to stop counts as heard from now on.

        Returns:
            The words so far; the force with which the run is to be stopped (0: nothing new); and what was found: the
            number of the limit, what is used of it, the memory of this process and its children, and of the children.
        """
        (handled,) = self._get(_KERNELS, _KERNELS_AT)
        _, fired, force, _, said = self._get(_STATE, _STATE_AT)
        self._put(_KERNELS, _KERNELS_AT, fired)
        slot, used, own, children = self._get(_FOUND, _FOUND_AT)
        words = said & _ALL_WORDS if said >> _WORD_BITS == run else 0
        return words, force if fired > handled else 0, (slot, used, own, children)

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
        return [(number, Slot(self.KINDS[kind], *sizes)) for number, (kind, *sizes) in found if kind >= 0]

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
        if words:
            run = self.run()
            said = run << _WORD_BITS | words | (said & _ALL_WORDS if said >> _WORD_BITS == run else 0)
        self._put(_STATE, _STATE_AT, 1, fired + stop, force if stop else old_force, interrupts + interrupt, said)

    def end_firing(self) -> None:
        """It is sent."""
        self._put(_STATE, _STATE_AT, 0, *self._get(_STATE, _STATE_AT)[1:])

    def note_found(self, slot: int, used_bytes: int, own_bytes: int, children_bytes: int) -> None:
        """What the next signal is about."""
        self._put(_FOUND, _FOUND_AT, slot, used_bytes, own_bytes, children_bytes)

    def _get(self, layout: struct.Struct, at: int) -> tuple[int, ...]:
        return layout.unpack_from(self._buffer, self._at + at)

    def _put(self, layout: struct.Struct, at: int, *values: object) -> None:
        layout.pack_into(self._buffer, self._at + at, *values)
