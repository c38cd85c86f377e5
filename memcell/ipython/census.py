"""What has a name in a shell, for the census: the user's variables, and the shell's own stores."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from IPython.core.interactiveshell import InteractiveShell

if TYPE_CHECKING:
    from memcell.explain.census import Census
    from memcell.session import TakeCensus

#: A census may take so much of the processor at once, beside its share of wall time, and where others keep the
#: processor busy, so many times as long: cut short by them, it would find nothing.
_DEADLINE_S = 1.0
_AT_MOST_TIMES = 3.0


def census_taker(shell: InteractiveShell, deadline_s: float = _DEADLINE_S) -> TakeCensus:
    """Takes censuses of a shell, which it holds weakly; None once the shell is gone."""
    reference = weakref.ref(shell)

    def take(previous: Census | None, children: Mapping[int, int]) -> Census | None:
        alive = reference()
        if alive is None:
            return None
        from memcell.explain.census import take_census  # with the first census

        places: dict[str, object] = {"Out": alive.user_ns.get("_oh")}
        outputs = getattr(alive.history_manager, "outputs", None)  # from IPython 9.1 on
        if outputs is not None:
            places["IPython HistoryManager.outputs"] = outputs
        return take_census(
            alive.user_ns,
            hidden=alive.user_ns_hidden,
            places=places,
            children=children,
            previous=previous,
            deadline_s=deadline_s,
            clock=_stopwatch(),
        )

    return take


def _stopwatch() -> Callable[[], float]:
    """Tells the time that this thread has had since now, or a part of that which has passed, if it is more."""
    had, began = time.thread_time(), time.perf_counter()
    return lambda: max(time.thread_time() - had, (time.perf_counter() - began) / _AT_MOST_TIMES)
