"""A block of code as a run: ``with memcell.watch(): …``, in notebooks and outside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType

from memcell.records import Outcome, Run
from memcell.runs import OpenRun, outcome_of


class Watch:
    """A context manager. ``run`` is the record once the block has ended, None before.

    Args:
        label: Names the run; None for the place of the block.
        begin: Opens a run of a label.
        end: Closes it.
    """

    def __init__(
        self, label: str | None, begin: Callable[[str], OpenRun], end: Callable[[OpenRun, Outcome], Run]
    ) -> None:
        self._label = label
        self._begin = begin
        self._end = end
        self._open: list[OpenRun] = []  # the same object may be entered again inside itself
        self.run: Run | None = None

    def __enter__(self) -> Watch:
        code = sys._getframe(1)
        label = self._label or f"{PurePath(code.f_code.co_filename).name}:{code.f_lineno}"
        self._open.append(self._begin(label))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run = self._end(self._open.pop(), outcome_of(error))
