"""Which objects have been counted, and for whom."""

from __future__ import annotations

from array import array

_PAGE_BITS = 20
_OFFSET_MASK = (1 << _PAGE_BITS) - 1
#: CPython puts no two objects into the same 16 bytes.
_ALIGNMENT_BITS = 4


class Marks:
    """A number for each of many objects, by their identity; it refers to none of them.

    The numbers lie in arrays by address, one array per MiB in which there are objects: they take a tenth of the
    memory of those, where a dict would take several times as much again.
    """

    __slots__ = ("_empty", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._empty = array("I", [0]) * (1 << (_PAGE_BITS - _ALIGNMENT_BITS))

    def claim(self, identity: int, number: int) -> int:
        """Give an object a number, from 1 on, unless it has one; returns the one that it had, or 0."""
        page = self._pages.get(identity >> _PAGE_BITS)
        if page is None:
            page = self._pages[identity >> _PAGE_BITS] = self._empty[:]
        slot = (identity & _OFFSET_MASK) >> _ALIGNMENT_BITS
        before = page[slot]
        if not before:
            page[slot] = number
        return before

    def __getitem__(self, identity: int) -> int:
        """The number of an object; 0 if it has none."""
        page = self._pages.get(identity >> _PAGE_BITS)
        return 0 if page is None else page[(identity & _OFFSET_MASK) >> _ALIGNMENT_BITS]
