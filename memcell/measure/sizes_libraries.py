"""Where objects of libraries keep data that the garbage collector does not see: the addresses and sizes of it.

What the collector does see is followed as for any other object. So a data frame of pandas, a sparse matrix or a module
of torch needs nothing here: they are Python objects around the arrays and tensors below. A library's own total, such
as ``DataFrame.memory_usage(deep=True)``, counts a shared array or string once for each place where it is used.

Only classes of libraries that are imported are looked up, and methods are taken from those classes, so that a
subclass of the user does not get to run its own.
"""

from __future__ import annotations

import itertools
import mmap
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from memcell.looking import imported_class, mro
from memcell.units import format_bytes

_PLAIN_BUFFERS = (bytes, bytearray, array)
#: Elements of an object array that are taken out at once.
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Memory outside Python's objects, by its address: the same address reached twice is the same memory."""

    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What belongs to an object beside itself and what the garbage collector knows that it refers to.

    Attributes:
        blocks: Memory that other objects may refer to as well.
        extra_bytes: Memory of this object alone.
        follow: Objects that the collector does not see.
        note: What a person should know about the size.
    """

    blocks: tuple[Block, ...] = ()
    extra_bytes: int = 0
    follow: Iterable[object] = ()
    note: str = ""


Sizer = Callable[[Any], Parts]


def library_sizer(kind: type) -> Sizer | None:
    """What tells the parts of objects of a class; None if no known library has a say."""
    bases = mro(kind)
    for module, name, sizer in _SIZERS:
        if module in sys.modules and imported_class(module, name) in bases:
            return sizer
    return None


def _numpy_array(one: Any) -> Parts:
    ndarray = sys.modules["numpy"].ndarray
    base = ndarray.base.__get__(one)
    if base is not None and issubclass(type(base), ndarray):
        return Parts(follow=[base])  # a view: the data, all of it, is the other's
    size_bytes = ndarray.nbytes.__get__(one)
    if _is_mapped_file(base):
        return Parts(note=f"{format_bytes(size_bytes)} mapped from a file, not counted")
    follow: Iterable[object] = _elements(one) if ndarray.dtype.__get__(one).hasobject else ()
    if base is not None:
        follow = itertools.chain([base], follow)
        if type(base) in _PLAIN_BUFFERS or type(base) is memoryview:
            return Parts(follow=follow)
    address = ndarray.__array_interface__.__get__(one)["data"][0]
    return Parts((Block(address, size_bytes),), follow=follow)


def _is_mapped_file(base: object) -> bool:
    if type(base) is memoryview:
        base = base.obj
    return type(base) is mmap.mmap


def _elements(objects: Any) -> Iterator[object]:
    """The elements of an array of objects, without a copy of all of it. Fields of records are left out."""
    ndarray = sys.modules["numpy"].ndarray
    if ndarray.dtype.__get__(objects).names is not None:
        return
    flat = ndarray.flat.__get__(objects)
    for start in range(0, ndarray.size.__get__(objects), _CHUNK):
        yield from flat[start : start + _CHUNK].tolist()


def _pandas_engine(engine: Any) -> Parts:
    # The table in which labels are looked up, once it is built. Its keys are those of the index.
    return Parts(extra_bytes=int(engine.sizeof()))


def _arrow_buffers(arrays: Iterable[Any]) -> Parts:
    blocks = []
    for one in arrays:
        for buffer in one.buffers():
            if buffer is None or not buffer.is_cpu:
                continue
            while buffer.parent is not None:  # a slice of a larger one, all of which stays
                buffer = buffer.parent
            blocks.append(Block(buffer.address, buffer.size))
        if hasattr(one, "dictionary"):
            blocks += _arrow_buffers([one.dictionary]).blocks
    return Parts(tuple(blocks))


def _arrow_buffer(buffer: Any) -> Parts:
    while buffer.parent is not None:
        buffer = buffer.parent
    return Parts((Block(buffer.address, buffer.size),)) if buffer.is_cpu else Parts()


def _arrow_array(one: Any) -> Parts:
    return _arrow_buffers([one])


def _arrow_chunks(chunked: Any) -> Parts:
    return _arrow_buffers(chunked.chunks)


def _arrow_table(table: Any) -> Parts:
    return _arrow_buffers(chunk for column in table.columns for chunk in column.chunks)


def _arrow_batch(batch: Any) -> Parts:
    return _arrow_buffers(batch.columns)


def _polars_frame(frame: Any) -> Parts:
    return _polars_columns(frame.get_columns())


def _polars_series(series: Any) -> Parts:
    return _polars_columns([series])


def _polars_columns(columns: list[Any]) -> Parts:
    """The buffers of columns, which frames share; polars tells their addresses only by way of pyarrow.

    Columns of other types would be copied on that way: for those its own estimate counts.
    """
    polars, pyarrow = sys.modules["polars"], sys.modules.get("pyarrow")
    blocks: list[Block] = []
    estimated_bytes = 0
    for column in columns:
        kind = column.dtype
        is_plain = kind.is_integer() or kind.is_float() or kind in (polars.Boolean, polars.String, polars.Binary)
        if is_plain and pyarrow is not None and hasattr(pyarrow, "string_view"):
            blocks += _arrow_chunks(pyarrow.chunked_array(column)).blocks
        else:
            estimated_bytes += column.estimated_size()
    return Parts(tuple(blocks), estimated_bytes, note="partly polars' estimate" if estimated_bytes else "")


def _torch_tensor(tensor: Any) -> Parts:
    torch = sys.modules["torch"]
    # So that a subclass's __torch_function__ stays out of it, and a copy on write is not made.
    with torch._C.DisableTorchFunctionSubclass():
        if tensor.layout is torch.sparse_coo:
            return Parts(follow=[tensor._indices(), tensor._values()])
        if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            return Parts(follow=[tensor.crow_indices(), tensor.col_indices(), tensor.values()])
        if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            return Parts(follow=[tensor.ccol_indices(), tensor.row_indices(), tensor.values()])
        storage = tensor.untyped_storage()
        size_bytes = storage.nbytes()
        follow = [tensor.grad] if tensor.is_leaf and tensor.grad is not None else []
        if tensor.device.type != "cpu":
            return Parts(follow=follow, note=f"{format_bytes(size_bytes)} on {tensor.device}, not counted")
        return Parts((Block(storage.data_ptr(), size_bytes),), follow=follow)


def _igraph_graph(graph: Any) -> Parts:
    """The C library keeps four vectors of an entry per edge and two of an entry per vertex, plus one, of 64 bits.

    Source: ``struct igraph_s`` of igraph 0.10 and later (from, to, oi, ii; os, is), ``include/igraph_datatype.h``. The
    vectors may have room for more, and the cache of properties is small.
    """
    base = sys.modules["igraph"]._igraph.GraphBase
    extra_bytes = 8 * (4 * base.ecount(graph) + 2 * (base.vcount(graph) + 1))
    return Parts(extra_bytes=extra_bytes, note="estimated from vertices and edges")


#: Library, class, what tells the parts of its objects. A subclass stands before its base.
_SIZERS: tuple[tuple[str, str, Sizer], ...] = (
    ("numpy", "ndarray", _numpy_array),
    ("pandas._libs.index", "IndexEngine", _pandas_engine),
    ("pyarrow", "Array", _arrow_array),
    ("pyarrow", "ChunkedArray", _arrow_chunks),
    ("pyarrow", "Table", _arrow_table),
    ("pyarrow", "RecordBatch", _arrow_batch),
    ("pyarrow", "Buffer", _arrow_buffer),
    ("polars", "DataFrame", _polars_frame),
    ("polars", "Series", _polars_series),
    ("torch", "Tensor", _torch_tensor),
    ("igraph", "GraphBase", _igraph_graph),
)
