"""Which lines of code allocated what is still held: traced by memray where it can be, else by tracemalloc.

memray also sees what C code takes from malloc: what lies behind small Python objects. It cannot trace twice at a
time, and takes the place of a profiler. tracemalloc sees what Python's own allocators give, and numpy's.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from memcell.records.explained import AllocationSite, AllocationSites

#: Frames that tracemalloc keeps of each allocation. From six on it looks for lines in the large functions of the shell
#: below the cell: that made allocating 30 times slower, four frames 5 times.
_FRAMES = 4
#: Frames that are read of what memray keeps.
_MEMRAY_FRAMES = 60
#: What holds less is not shown: shells and libraries keep some kB of every run.
_LEAST_BYTES = 16 << 10
#: The file of the shell that runs cells.
_SHELL = str(Path("IPython", "core", "interactiveshell.py"))
_OURS = str(Path(__file__).parents[1])

#: The words for a line of a file, if it belongs to a cell.
NameLine = Callable[[str, int], str]


class _Frame(NamedTuple):
    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class _Held:
    """Memory that is still held, and the calls that led to it, the innermost first."""

    frames: list[_Frame]
    size_bytes: int
    count: int


class Tracing:
    """Traces allocations from now on, in the whole process.

    Args:
        name_line: Names a line of a file if it is one of a cell, such as ``[cell] line 3``; else an empty string.
    """

    def __init__(self, name_line: NameLine) -> None:
        self._name_line = name_line
        self._tracer, self._note = _start()

    def stop(self, count: int, runs: int = 1) -> AllocationSites:
        """Stop, and say what is still held.

        Args:
            count: How many sites to tell.
            runs: Over how many runs was traced.
        """
        held = list(self._tracer.stop())
        sites = sorted(self._grouped(held), key=lambda site: -site.size_bytes)
        return AllocationSites(
            sites=tuple(sites[:count]),
            count=len(sites),
            total_bytes=sum(site.size_bytes for site in sites),
            tracer=self._tracer.name,
            runs=runs,
            note=self._note,
        )

    def cancel(self) -> None:
        """Stop without looking at what was traced. May be called twice, and after ``stop``."""
        self._tracer.cancel()

    def _grouped(self, held: Iterable[_Held]) -> Iterator[AllocationSite]:
        sums: dict[tuple[str, str, str], list[int]] = {}
        for one in held:
            place = self._place(one.frames)
            if place is not None:
                total = sums.setdefault(place, [0, 0])
                total[0] += one.size_bytes
                total[1] += one.count
        for (where, function, called_from), (size_bytes, count) in sums.items():
            if size_bytes >= _LEAST_BYTES:
                yield AllocationSite(where, function, called_from, size_bytes, count)

    def _place(self, frames: list[_Frame]) -> tuple[str, str, str] | None:
        """The line that allocated, its function, and the lines of cells that led there; None for memcell's own."""
        seen = [frame for frame in frames if not frame.file.startswith("<frozen importlib")]
        if not seen or seen[0].file.startswith(_OURS) or seen[0].file.endswith(("tracemalloc.py", "<unknown>")):
            return None
        # Below the shell stands a cell that runs this one, as with --repeat.
        inner = itertools.takewhile(lambda frame: not frame.file.endswith(_SHELL), seen)
        named = [words for words in (self._name_line(frame.file, frame.line) for frame in inner) if words]
        site = seen[0]
        where = self._name_line(site.file, site.line)
        callers = list(dict.fromkeys(words for words in (*named[:1], *named[-1:]) if words != where))
        function = "" if site.function.startswith("<") else site.function
        return where or f"{_short(site.file)}:{site.line}", function, ", ".join(callers)


def _short(file: str) -> str:
    """The end of a path by which a person knows a module: ``numpy/lib/shape_base.py``, ``module.py``."""
    path = Path(file)
    for folder in sorted(map(Path, filter(None, sys.path)), key=lambda folder: -len(str(folder))):
        if folder in path.parents:
            return str(path.relative_to(folder))
    return path.name


def _start() -> tuple[Any, str]:
    """The tracer that can trace here, started, and why it is not the other one."""
    if importlib.util.find_spec("memray") is None:
        return _Tracemalloc(), "install memray to see memory of C code too"
    if sys.getprofile() is not None:
        return _Tracemalloc(), "memory of C code is not seen: memray would end the profiler that is active"
    if "gevent" in sys.modules or "eventlet" in sys.modules:
        return _Tracemalloc(), "memory of C code is not seen: memray does not go with greenlets"
    try:
        return _Memray(), ""
    except Exception as error:  # another tracker is active, no room for its file
        return _Tracemalloc(), f"memory of C code is not seen, memray did not start: {error}"


class _Tracemalloc:
    """Python's own tracer; one that traces already goes on afterwards."""

    name: Literal["tracemalloc"] = "tracemalloc"

    def __init__(self) -> None:
        self._tracemalloc = importlib.import_module("tracemalloc")
        self._is_ours = not self._tracemalloc.is_tracing()
        self._before: dict[tuple[tuple[str, int], ...], tuple[int, int]] = {}
        if self._is_ours:
            self._tracemalloc.start(_FRAMES)
        else:
            self._before = self._sums()

    def stop(self) -> Iterator[_Held]:
        if not self._tracemalloc.is_tracing():  # the cell stopped it
            return
        sums = self._sums()
        self.cancel()
        for calls, (size_bytes, count) in sums.items():
            size_before, count_before = self._before.get(calls, (0, 0))
            if size_bytes > size_before:
                frames = [_Frame("", file, line) for file, line in calls]
                yield _Held(frames, size_bytes - size_before, max(1, count - count_before))

    def cancel(self) -> None:
        if self._is_ours and self._tracemalloc.is_tracing():
            self._tracemalloc.stop()

    def _sums(self) -> dict[tuple[tuple[str, int], ...], tuple[int, int]]:
        """Bytes and blocks by the calls that led to them, the innermost first."""
        # The traces as C code gives them, the same in every CPython since 3.4: the public way makes several objects of
        # each, ten seconds' work for a million. Equal calls are one object in there.
        traces = self._tracemalloc.take_snapshot().traces._traces
        by_identity: dict[int, list[Any]] = {}
        for trace in traces:
            found = by_identity.setdefault(id(trace[2]), [trace[2], 0, 0])
            found[1] += trace[1]
            found[2] += 1
        return {calls: (size_bytes, count) for calls, size_bytes, count in by_identity.values()}


class _Memray:
    """memray's tracker. It writes what it sees to a file in a folder for itself, which goes with the tracing."""

    name: Literal["memray"] = "memray"

    def __init__(self) -> None:
        self._memray = importlib.import_module("memray")
        self._folder = tempfile.TemporaryDirectory(prefix="memcell-")
        self._file = Path(self._folder.name, "allocations")
        self._tracker: Any = None
        try:
            tracker = self._memray.Tracker(self._file, trace_python_allocators=True)
            tracker.__enter__()
            self._tracker = tracker
        except BaseException:
            self._folder.cleanup()
            raise

    def stop(self) -> Iterator[_Held]:
        try:
            self._leave()
            with self._memray.FileReader(self._file) as reader:
                for record in reader.get_leaked_allocation_records(merge_threads=True):
                    frames = [_Frame(*frame) for frame in record.stack_trace(max_stacks=_MEMRAY_FRAMES)]
                    yield _Held(frames, record.size, record.n_allocations)
        finally:
            self._folder.cleanup()

    def cancel(self) -> None:
        self._leave()
        self._folder.cleanup()

    def _leave(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.__exit__(None, None, None)
