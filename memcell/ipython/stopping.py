"""A cell as something that can be stopped: which frames are its own code, and how to end it while it waits."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping
from types import FrameType
from typing import Any

from memcell.protect.frames import frames_of, variables_of


class StoppableCell:
    """The cell that is about to run.

    Args:
        namespace: The namespace in which its code runs.
        hidden: The names there that are the shell's own.
    """

    __slots__ = ("_namespace", "_task", "not_variables")

    def __init__(self, namespace: Mapping[str, Any], hidden: Container[str]) -> None:
        self._namespace = namespace
        self.not_variables = hidden
        self._task = _task_of_cell()

    def frames(self, frame: FrameType | None) -> list[FrameType]:
        """The frames of the cell's code, and of what it calls; none in the shell's own work around it."""
        found = []
        while frame is not None:
            found.append(frame)
            below = frame.f_back
            if below is not None and below.f_code.co_name == "run_code" and frame.f_globals is self._namespace:
                return found
            frame = below
        return []

    def cancel(self) -> bool:
        """Cancel the cell's task, as ipykernel does at Ctrl-C; tells whether it waits for something."""
        if self._task is None:
            return False
        loop = self._task.get_loop()
        if sys.modules["asyncio"].current_task(loop) is self._task:
            return False  # the task runs, and not the cell's code: the shell is at work for a cell that has ended
        loop.call_soon_threadsafe(self._task.cancel)
        return True


def variables_at_end(
    namespace: Mapping[str, Any], hidden: Container[str], error: BaseException | None
) -> dict[str, object]:
    """What a cell's code could name as it ended, by an error or without one.

    Args:
        namespace: The namespace in which it ran.
        hidden: The names there that are the shell's own.
        error: What it ended with.
    """
    while error is not None:
        frames = frames_of(error)
        while frames and frames[-1].f_globals is not namespace:
            frames.pop()  # the shell's, around it
        if frames:
            return variables_of(frames, hidden)
        error = error.__context__  # a Ctrl-C that the shell met while it handled the error of the cell's code
    return {name: value for name, value in namespace.items() if not name.startswith("_") and name not in hidden}


def is_in_event_loop() -> bool:
    """Whether a loop of asyncio runs in this thread."""
    asyncio = sys.modules.get("asyncio")  # not imported for this: it takes 10 ms
    return asyncio is not None and asyncio._get_running_loop() is not None


def _task_of_cell() -> Any:
    """The task that runs this cell and nothing else; None for a cell that does not await."""
    if not is_in_event_loop():
        return None
    task = sys.modules["asyncio"].current_task()
    # A cell that does not await runs inside the task in which ipykernel handles its messages.
    code = getattr(task.get_coro(), "cr_code", None) if task is not None else None
    return task if code is not None and code.co_name == "run_cell_async" else None
