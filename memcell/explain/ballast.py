"""Keeps the memory that a census needs out of the way of the cells that are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: A piece is small enough to come from the interpreter's own arenas, as the objects of a census do, with its header.
_PIECE_BYTES = 480
_HEADER_BYTES = b"".__sizeof__()
#: Whatever another thread adds meanwhile, no more than this is held.
_MOST_BYTES = 16 << 20


class Ballast:
    """Small objects that stand where those of a census were, until the next one.

    A census makes tens of thousands of objects and lets go of them, and the interpreter keeps that memory, some MiB.
    What a cell keeps in its next runs would go into it, and not be seen in the level.

    Args:
        level: Reads resident memory.
    """

    def __init__(self, level: Callable[[], int]) -> None:
        self._level = level
        self._pieces = 0
        self._held: list[bytes] = []

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Make room for what the body allocates, and take that room again afterwards."""
        self._held = []
        before_bytes = self._level()
        try:
            yield
        finally:
            grown_bytes = min(self._level() - before_bytes, _MOST_BYTES)
            self._pieces = max(self._pieces, grown_bytes // _PIECE_BYTES)
            self._held = [bytes(_PIECE_BYTES - _HEADER_BYTES) for _ in range(self._pieces)]
