"""Being called when the kernel ends in an orderly way: when it is asked to shut down or restart, and when it exits.

ipykernel itself sends SIGTERM to the children in its group before it exits, parents first, and then waits for them, so
the moment before that is the one to end children in order. Without a kernel, and for ``exit()``, there is ``atexit``.
Whatever else ends a kernel is seen by the watcher: see ``protect/last_act.py``.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

logger = logging.getLogger("memcell")


def call_at_end(
    shell: InteractiveShell, end_children: Callable[[], object], close: Callable[[], object]
) -> Callable[[], None]:
    """Call something when the kernel ends; returns what undoes that, which may be called twice.

    Args:
        shell: The shell.
        end_children: Called when the kernel is asked to shut down, and again when the process exits.
        close: Called after that, as the last thing.
    """
    pid = os.getpid()
    is_connected = True

    def end() -> None:
        if not is_connected or os.getpid() != pid:
            return  # a forked child inherits all this: the children are its parent's
        try:
            end_children()
        except Exception as error:
            logger.warning("memcell: ending the child processes failed: %s: %s", type(error).__name__, error)

    def at_exit() -> None:
        end()
        if os.getpid() == pid:
            close()

    atexit.register(at_exit)
    kernel: Any = getattr(shell, "kernel", None)
    is_wrapped = hasattr(kernel, "do_shutdown")
    if is_wrapped:
        do_shutdown = kernel.do_shutdown

        def end_and_shut_down(restart: bool) -> Any:
            end()
            return do_shutdown(restart)

        kernel.do_shutdown = end_and_shut_down

    def undo() -> None:
        nonlocal is_connected
        is_connected = False  # somebody else may have wrapped ours: then it stays, and does nothing
        atexit.unregister(at_exit)
        if is_wrapped and vars(kernel).get("do_shutdown") is end_and_shut_down:
            del kernel.do_shutdown

    return undo
