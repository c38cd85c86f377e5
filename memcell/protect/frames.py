"""The frames of code that is being stopped: what it can name, and raising in it against its will."""

from __future__ import annotations

import opcode
import sys
from collections.abc import Container
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memcell.errors import MemoryLimitExceeded

#: Names in so many of the innermost calls are looked at for the largest variables.
_CALLS_LOOKED_AT = 8
#: So many of the outermost calls are made to stop where the error was caught: a recursion has thousands.
_CALLS_INSISTED = 200
#: The instructions with which CPython begins to handle an error: for it, the line of a ``with`` is run once more.
_UNWINDING = {opcode.opmap[name] for name in ("PUSH_EXC_INFO", "WITH_EXCEPT_START") if name in opcode.opmap}


def variables_of(frames: list[FrameType], left_out: Container[str]) -> dict[str, object]:
    """What the interrupted code can name: variables of the outermost frame, and of the innermost calls."""
    found: dict[str, object] = {}
    if frames:
        found.update({name: value for name, value in frames[-1].f_locals.items() if name not in left_out})
    for frame in frames[: min(_CALLS_LOOKED_AT, len(frames) - 1)]:
        for name, value in frame.f_locals.items():
            found.setdefault(f"{name} in {frame.f_code.co_name}()", value)
    return {name: value for name, value in found.items() if not name.startswith("_")}


def frames_of(error: BaseException) -> list[FrameType]:
    """The frames that an error has passed, the innermost first."""
    frames: list[FrameType] = []
    trace = error.__traceback__
    while trace is not None:
        frames.insert(0, trace.tb_frame)
        trace = trace.tb_next
    return frames


def insist(frames: list[FrameType], error: MemoryLimitExceeded) -> None:
    """Raise the error once more at the next line that one of these frames runs.

    This is the debugger's means against code that swallows every error: ``while True: try: … except: pass``. The line
    that runs after the error was caught lies outside of that ``try``, so an error there escapes it.
    """
    if sys.gettrace() is not None:
        return  # a debugger, or one that measures coverage

    def raise_again(frame: FrameType, event: str, _argument: object) -> Any:
        if event != "line" or frame.f_code.co_code[frame.f_lasti] in _UNWINDING:
            return raise_again  # an error there would keep the end of a ``with`` from being run
        sys.settrace(None)
        raise error

    for frame in frames[-_CALLS_INSISTED:]:
        if frame.f_globals is frames[-1].f_globals:  # the user's own; a library may be at its clean-up
            frame.f_trace = raise_again
    sys.settrace(_trace_no_calls)


def _trace_no_calls(_frame: FrameType, _event: str, _argument: object) -> None:
    """Frames that are entered from here on are of no interest."""


def stop_insisting() -> None:
    """Take back what ``insist`` left, where the error was not caught."""
    if sys.gettrace() is _trace_no_calls:
        sys.settrace(None)
