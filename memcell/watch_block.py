"""A block of code as a run: ``with memcell.watch(): …``, in notebooks and outside them."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable, Container
from pathlib import PurePath
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from memcell.errors import MemoryLimitExceeded
from memcell.runs import OpenRun, outcome_of

if TYPE_CHECKING:
    from memcell.records.measured import Outcome, Run


class StoppableBlock:
    """The block as something that can be stopped.

    Args:
        frame: The frame of the function that holds it.
    """

    not_variables: Container[str] = ()

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame
        asyncio = sys.modules.get("asyncio")
        is_coroutine = bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        # Only a coroutine's own task may be cancelled: another runs more than this block.
        self._task: Any = asyncio.current_task() if asyncio is not None and is_coroutine else None

    def frames(self, frame: FrameType | None) -> list[FrameType]:
        """The frames from the interrupted one down to the block's own; none if that is not among them."""
        if isinstance(sys.exc_info()[1], MemoryError):
            # An allocation was refused, and the end of the block says why. An error that was raised just now would keep
            # CPython 3.10 from coming there.
            return []
        found = []
        while frame is not None:
            if frame.f_globals is globals():
                return []  # the block is just being entered or left
            found.append(frame)
            if frame is self._frame:
                return found
            frame = frame.f_back
        return []

    def cancel(self) -> bool:
        """Cancel the task, where the block waits for something; tells whether there is one."""
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        return self._task is not None


class _LateCtrlC:
    """Keeps a Ctrl-C that comes at the end of a block from taking that end away.

    CPython looks for signals when a Python function is entered: what is raised there ends ``__exit__`` before its first
    line. The watcher sends Ctrl-C, too, and at just that moment, to C code that an allocation fails in afterwards.
    """

    def __init__(self, end: CodeType) -> None:
        self._end = end
        self._has_come = False
        self._previous: Any = None

    def listen(self) -> None:
        """From now on, in the main thread. Only where Python hears of Ctrl-C at all."""
        previous = signal.getsignal(signal.SIGINT)
        if callable(previous):
            self._previous = previous
            signal.signal(signal.SIGINT, self._hear)

    def stop(self, *, is_wanted: bool) -> None:
        """No longer; what has come at the end comes now, if it is wanted."""
        previous, self._previous = self._previous, None
        if previous is None:
            return
        if signal.getsignal(signal.SIGINT) == self._hear:
            signal.signal(signal.SIGINT, previous)
        if self._has_come and is_wanted:
            previous(signal.SIGINT, sys._getframe(1))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        within = frame
        while within is not None and within.f_code is not self._end:
            within = within.f_back
        if within is not None:
            self._has_come = True
        elif self._previous is not None:
            self._previous(number, frame)


class Watch:
    """A context manager. ``run`` is the record once the block has ended, None before.

    Args:
        label: Names the run; None for the place of the block.
        begin: Opens a run of a label, for code that may be stopped where a limit was given.
        end: Closes it.
        stopped: The error of the last run that was stopped at its limit.
        has_limit: Whether the block may be stopped.
    """

    def __init__(
        self,
        label: str | None,
        begin: Callable[[str, StoppableBlock | None], OpenRun],
        end: Callable[[OpenRun, Outcome], Run],
        stopped: Callable[[], MemoryLimitExceeded | None],
        *,
        has_limit: bool = False,
    ) -> None:
        self._label = label
        self._begin = begin
        self._end = end
        self._stopped = stopped
        self._has_limit = has_limit
        # The same object may be entered again inside itself.
        self._open: list[tuple[OpenRun, _LateCtrlC]] = []
        self.run: Run | None = None

    def __enter__(self) -> Watch:
        code = sys._getframe(1)
        label = self._label or f"{PurePath(code.f_code.co_filename).name}:{code.f_lineno}"
        late = _LateCtrlC(type(self).__exit__.__code__)
        self._open.append((self._begin(label, StoppableBlock(code) if self._has_limit else None), late))
        if self._has_limit:
            late.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run, late = self._open.pop()
        is_stopped = False
        try:
            self.run = self._end(run, outcome_of(error))
            is_stopped = self.run.outcome == "limit"
        finally:
            late.stop(is_wanted=not is_stopped)
        if self._has_limit and is_stopped and not isinstance(error, MemoryLimitExceeded):
            # An allocation failed, or an await was cancelled, because memcell stopped the block.
            raise self._stopped() or MemoryLimitExceeded() from error
