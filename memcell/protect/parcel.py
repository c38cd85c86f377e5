"""Values on their way between this process and an isolated one.

Large buffers (arrays, data frames) do not go through the pickle: they follow it piece by piece, straight out of the
object's own memory and straight into memory of the receiver's, which the object there then uses, writable as it was.
So a large array exists once on each side and nowhere in between.
"""

from __future__ import annotations

import io
import pickle
import sys
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import FunctionType
from typing import Any, TypeAlias

from memcell.errors import IsolationError

#: A packed value: the pickle and the buffers that belong to it.
Packed: TypeAlias = "tuple[pickle.PickleBuffer, list[pickle.PickleBuffer]]"

#: Measured: from 128 KiB on the receiver's copy of a piece is memory that is mapped anew each time, at half the speed.
_PIECE_BYTES = 1 << 16


class StandIn:
    """An object that stands where a function was defined, and goes by the name of that where it is known."""

    def by_value(self) -> tuple[Any, ...]:
        """What ``__reduce__`` returns for a side that does not know it."""
        raise NotImplementedError


def send(connection: Connection, message: object) -> None:
    """Send a message. What is packed in it is not pickled again."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    connection.send_bytes(pickle.dumps([part.nbytes for part in parts]))
    for part in parts:
        for start in range(0, part.nbytes, _PIECE_BYTES):
            connection.send_bytes(part[start : start + _PIECE_BYTES])


def receive(connection: Connection) -> Any:
    """The next message.

    Raises:
        EOFError: The other side is gone.
    """
    parts = [bytearray(size) for size in pickle.loads(connection.recv_bytes())]  # noqa: S301 - our own process
    for part in parts:
        filled = 0
        while filled < len(part):
            filled += connection.recv_bytes_into(part, filled)
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - our own process


def pack(value: object, is_known: Callable[[object], bool] = lambda _: False) -> Packed:
    """Pickle a value for the other side.

    Args:
        value: The value.
        is_known: Tells of a class or function of ``__main__`` whether the other side has it: it goes by its name
            then, and by value otherwise (as cloudpickle does it).

    Raises:
        Exception: The value cannot be pickled; libraries raise whatever they like here.
    """
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    _pickler_class(is_known)(file, protocol=5, buffer_callback=buffers.append).dump(value)
    # Not getbuffer(): from 3.13 on the collector fails at a file that it ends before its buffer. Neither is a copy.
    return pickle.PickleBuffer(file.getvalue()), buffers


def unpack(packed: tuple[Any, Sequence[Any]]) -> Any:
    """The value that was packed on the other side."""
    head, buffers = packed
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - our own process


def is_same(one: tuple[Any, Sequence[Any]], other: tuple[Any, Sequence[Any]]) -> bool:
    """Whether two packed values are so byte by byte. Equal values need not be: what shares what is packed too."""
    ours, theirs = ([_bytes_of(part) for part in (head, *buffers)] for head, buffers in (one, other))
    # Piece by piece as bytes: two views are compared item by item, which takes ten times as long.
    return [part.nbytes for part in ours] == [part.nbytes for part in theirs] and all(
        part[start : start + _PIECE_BYTES].tobytes() == other_part[start : start + _PIECE_BYTES].tobytes()
        for part, other_part in zip(ours, theirs, strict=True)
        for start in range(0, part.nbytes, _PIECE_BYTES)
    )


def _bytes_of(part: Any) -> memoryview:
    return part.raw() if isinstance(part, pickle.PickleBuffer) else memoryview(part).cast("B")


class KnownNames:
    """The classes and functions of ``__main__`` when a process is forked: both sides have them. It refers to none."""

    def __init__(self) -> None:
        names = vars(sys.modules["__main__"]).items()
        self._objects = weakref.WeakValueDictionary(
            {name: thing for name, thing in names if isinstance(thing, (type, FunctionType, StandIn))}
        )

    def __call__(self, obj: Any) -> bool:
        """Whether this class or function still goes by the name that it had then."""
        first, *rest = obj.__qualname__.split(".")
        found: Any = self._objects.get(first)
        if found is not vars(sys.modules["__main__"]).get(first):
            return False
        for name in rest:
            found = getattr(found, name, None)
        return found is obj


def _pickler_class(is_known: Callable[[object], bool]) -> Any:
    try:
        from cloudpickle import Pickler
    except ImportError:
        return _plain_pickler_class(is_known)

    class ByNameWhereKnown(Pickler):  # type: ignore[misc] # cloudpickle may have no types
        def reducer_override(self, obj: Any) -> Any:
            if _is_of_main(obj) and is_known(obj):
                return NotImplemented
            if isinstance(obj, StandIn) and not _is_importable(obj):
                return obj.by_value()
            return super().reducer_override(obj)

    return ByNameWhereKnown


def _plain_pickler_class(is_known: Callable[[object], bool]) -> Any:
    class ByName(pickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, StandIn) and not (is_known(obj) if _is_of_main(obj) else _is_importable(obj)):
                return obj.by_value()
            if _is_of_main(obj) and not is_known(obj):
                raise IsolationError(
                    f"{obj.__qualname__} is not defined on the other side, and to send it by value needs cloudpickle;"
                    " pip install 'memcell[isolate]'"
                )
            return NotImplemented

    return ByName


def _is_of_main(obj: object) -> bool:
    return isinstance(obj, (type, FunctionType, StandIn)) and getattr(obj, "__module__", None) == "__main__"


def _is_importable(obj: Any) -> bool:
    if obj.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(obj.__module__)
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj
