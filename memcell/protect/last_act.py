"""What memcell's watcher does when its kernel has died: it becomes a process that ends what the kernel left.

A signal that ends the kernel at once, a crash or a kill leaves no code in it to end its children. A handler of
SIGTERM in the kernel would be that code, but Python runs it only between two bytecodes: a kernel inside one long C
call would no longer end when it is told to. The watcher learns of any death from a pidfd, and has nothing else to do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from memcell.protect import processes
from memcell.protect.children import Children
from memcell.protect.finding import find_started, find_to_end
from memcell.protect.marker import Origin, SessionId

#: How long a kernel that closes its files may take to be dead.
_DYING_S = 2.0
_CODE = "import sys; sys.path[:] = sys.argv[5:]; from memcell.protect.last_act import main; main(sys.argv[1:5])"


def command(origin: Origin) -> list[str]:
    """The command that ends what this kernel left, once it has died. It finds its modules where this process does."""
    kernel = [str(origin.id), str(origin.session), str(int(origin.ignores_hangup))]
    return [sys.executable, "-I", "-S", "-c", _CODE, *kernel, "--", *filter(None, sys.path)]


def main(arguments: Sequence[str]) -> None:
    """End what the kernel left and nobody detached on purpose. Nothing happens while the kernel lives."""
    identity = SessionId.parse(arguments[0])
    ends = time.monotonic() + _DYING_S
    while identity is not None and not identity.is_dead() and time.monotonic() < ends:
        time.sleep(0.05)
    if identity is not None and identity.is_dead():
        end_left_behind(Origin(identity, int(arguments[1]), arguments[2] == "1"))


def end_left_behind(origin: Origin) -> None:
    """End the processes of a dead kernel that were not detached on purpose."""
    table = processes.read_processes()
    to_end = find_to_end(table, find_started(table, origin), origin)
    Children().end_found(table, to_end)
