"""``%%memwatch --top``: traces the allocations of a cell, whose lines are named as a person sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.interactiveshell import InteractiveShell

from memcell.measure.allocations import NameLine, Tracing
from memcell.measure.process import trim_heap

if TYPE_CHECKING:
    from memcell.records.explained import AllocationSites
    from memcell.runs import OpenRun
    from memcell.session import Session


class Top:
    """The allocations of a run, or of several, from now on.

    Args:
        shell: The shell.
        session: The session of this process.
        number: The number of the cell.
        count: How many sites to tell.
    """

    def __init__(self, shell: InteractiveShell, session: Session, number: int, count: int) -> None:
        self._session = session
        self._count = count
        with session.meter.own():  # loads the tracer
            self._tracing = Tracing(_line_namer(shell, number))

    def end(self, run: OpenRun | None, runs: int = 1) -> AllocationSites:
        """Stop, and tell what is still held.

        Args:
            run: The run that is still open.
            runs: Over how many runs was traced.
        """
        own_bytes = run.own_bytes if run is not None else 0
        with self._session.meter.own():
            sites = self._tracing.stop(self._count, runs)
            trim_heap()
        if run is not None:
            run.own_bytes = own_bytes  # what goes now was allocated during the run: all in all it is nothing
        return sites

    def cancel(self) -> None:
        """Stop without a result. May be called twice."""
        self._tracing.cancel()


def _line_namer(shell: InteractiveShell, number: int) -> NameLine:
    def name(file: str, line: int) -> str:
        named = shell.compile.format_code_name(file)
        if named is None:
            return ""
        is_this = named[1] == f"In[{number}]"
        return f"[cell] line {line}" if is_this else f"{named[1]} line {line}"

    return name
