"""A run that is going on, and what is known of a cell from its source."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable

from memcell.errors import MemoryLimitExceeded
from memcell.records.measured import Curve, Outcome, Run, Sample

_SOURCE_LINE_LENGTH = 100
#: How far outside a run something may seem to have happened in it: the system tells hundredths of a second.
_MOMENT_ERROR_S = 0.01


class OpenRun:
    """A run that is going on. Made by ``Meter.open``, ended by ``Meter.close`` or ``Meter.abandon``."""

    __slots__ = (
        "before",
        "began",
        "cell",
        "children_before_bytes",
        "cleaned_bytes",
        "exact",
        "isolated_peak_bytes",
        "number",
        "own_bytes",
        "own_s",
        "peak_bytes",
        "source",
        "source_hash",
        "source_line",
        "started",
    )

    def __init__(self, source: str, number: int, cell: str | None) -> None:
        self.source = source
        self.source_hash = hash_source(source)
        self.source_line = first_line(source)
        self.cell = cell or self.source_hash
        self.number = number
        self.peak_bytes = 0
        self.exact = False
        self.own_bytes = 0
        self.own_s = 0.0
        self.cleaned_bytes = 0
        self.children_before_bytes = 0
        self.isolated_peak_bytes: int | None = None
        self.before: Sample
        self.started: float
        self.began: float

    def fold(self, mark_bytes: int | None) -> None:
        """Take an exact peak since the last reset into account. It may be unknown."""
        if mark_bytes is not None:
            self.peak_bytes = max(self.peak_bytes, mark_bytes - self.own_bytes)
            self.exact = True

    def record(
        self,
        *,
        ended: float,
        after: Sample,
        curve: Curve,
        outcome: Outcome,
        error_bytes: int,
        children_after_bytes: int,
        device_bytes: int | None,
    ) -> Run:
        """The record of this run, now that it has ended.

        Args:
            ended: When it ended, by the clock that said when it began.
            after: The memory then.
            curve: Its samples; empty for a short run.
            outcome: How it ended.
            error_bytes: How far an exact peak may be off.
            children_after_bytes: The child processes after it.
            device_bytes: GPU memory after it.
        """
        before, settled_bytes = self.before, after.rss_bytes - self.own_bytes
        sampled_bytes = max(curve.rss_bytes, default=0)
        children = [self.children_before_bytes, children_after_bytes]
        if self.isolated_peak_bytes is None:
            children += curve.children_bytes
        else:  # exact; the samples of a fork have half of what it shares with this process
            children.append(self.children_before_bytes + self.isolated_peak_bytes)
        return Run(
            cell=self.cell,
            number=self.number,
            source_hash=self.source_hash,
            source_line=self.source_line,
            started=self.started,
            duration_s=max(0.0, ended - self.began - self.own_s),
            before_bytes=before.rss_bytes,
            after_bytes=after.rss_bytes,
            peak_bytes=max(self.peak_bytes, settled_bytes, before.rss_bytes, 0 if self.exact else sampled_bytes),
            peak_method="high-water" if self.exact else "sampled" if sampled_bytes else "ends",
            peak_error_bytes=error_bytes if self.exact else None,
            outcome=outcome,
            anon_before_bytes=before.anon_bytes,
            anon_after_bytes=after.anon_bytes,
            file_before_bytes=before.file_bytes,
            file_after_bytes=after.file_bytes,
            shmem_before_bytes=before.shmem_bytes,
            shmem_after_bytes=after.shmem_bytes,
            heap_before_bytes=before.heap_bytes,
            heap_after_bytes=after.heap_bytes,
            own_bytes=self.own_bytes,
            cleaned_bytes=self.cleaned_bytes,
            children_before_bytes=self.children_before_bytes,
            children_after_bytes=children_after_bytes,
            children_peak_bytes=max(children),
            device_bytes=device_bytes,
            curve_bytes=curve.rss_bytes,
        )


def outcome_of(error: BaseException | None) -> Outcome:
    """How a run ended, from the exception that ended it.

    An interrupted ``await`` at the top level of a cell ends with ``CancelledError``: ipykernel cancels its task.
    """
    if error is None:
        return "ok"
    if isinstance(error, MemoryLimitExceeded):
        return "limit"
    # Looked up: asyncio takes 10 ms to import, and without it nothing is cancelled.
    cancelled = getattr(sys.modules.get("asyncio"), "CancelledError", KeyboardInterrupt)
    return "interrupted" if isinstance(error, (KeyboardInterrupt, cancelled)) else "error"


def run_at(moment: float, recorded: Iterable[Run], going_on: Iterable[OpenRun]) -> tuple[int, str] | None:
    """The run that was going on at a time: its number and first line; None between runs.

    Args:
        moment: Seconds since the epoch, known to some milliseconds.
        recorded: The runs that have ended.
        going_on: Those that have not, the innermost last.
    """
    spans = [(run.started, run.started + run.duration_s, (run.number, run.source_line)) for run in recorded]
    spans += [(run.started, math.inf, (run.number, run.source_line)) for run in going_on]
    nearest, distance_s = None, _MOMENT_ERROR_S
    for began, ended, run in spans:
        # Cells may follow one another faster than a moment is known: it is the nearest one.
        away_s = max(began - moment, moment - ended, 0.0)
        if away_s <= distance_s:
            nearest, distance_s = run, away_s
    return nearest


def hash_source(source: str) -> str:
    """A short hash of a cell's source, the same in every session."""
    return hashlib.blake2b(source.strip().encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def first_line(source: str) -> str:
    """The first line of a source that says something, shortened."""
    line = source.lstrip().partition("\n")[0].rstrip()
    return line if len(line) <= _SOURCE_LINE_LENGTH else line[: _SOURCE_LINE_LENGTH - 1] + "…"


def last_part(curve: Curve, duration_s: float, points: int | None = None) -> Curve:
    """The end of a curve: of the last ``duration_s`` seconds, in at most ``points`` slices."""
    if not curve.rss_bytes:
        return curve
    # A run inside another sees the part of the outer one's curve that is its own.
    wanted = max(1, min(len(curve.rss_bytes), round(duration_s / curve.slice_s)))
    width = 1 if points is None else -(-wanted // points)
    starts = range(len(curve.rss_bytes) - wanted, len(curve.rss_bytes), width)
    return Curve(
        curve.slice_s * width,
        tuple(max(curve.rss_bytes[start : start + width]) for start in starts),
        tuple(max(curve.children_bytes[start : start + width]) for start in starts),
    )
