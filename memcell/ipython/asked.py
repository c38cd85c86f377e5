"""The kernel's side of ``memcell check`` and ``memcell demo``: what is asked from outside between two cells.

Nothing here shows in the notebook: no name in the user's namespace, no output, no number of a cell.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from IPython.core.getipython import get_ipython

from memcell.ipython import load
from memcell.ipython.census import census_taker
from memcell.ipython.settings import Memcell
from memcell.session import get_session

#: A machine that runs checks may be slow, and who asks for a culprit wants one.
_CENSUS_DEADLINE_S = 20.0


class Answer:
    """A plain value, on its way out of the kernel as JSON.

    Args:
        value: What JSON knows.
        mime: The type to send it as: one that no formatter of the notebook touches.
    """

    def __init__(self, value: Any, mime: str) -> None:
        self._value = value
        self._mime = mime

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {self._mime: {"value": self._value}}


def begin() -> None:
    """Attach memcell without a sign of it: a notebook may load it as well, and what it has loaded already serves.

    Loaded this way the shell does not list it as an extension, so that the notebook's own ``%load_ext memcell`` prints
    no "already loaded".
    """
    shell, session = get_ipython(), get_session()
    if shell is None:
        raise RuntimeError("this kernel has no IPython shell")
    load(shell)
    session.take_census = census_taker(shell, _CENSUS_DEADLINE_S)
    session.leaks.be_thorough()
    settings = next(one for one in shell.configurables if isinstance(one, Memcell))
    # What is checked is the notebook: memcell says nothing in it, and gives nothing back.
    settings.show, settings.auto_clean, settings.auto_clean_every, settings.after_run = "never", "never", 0, "keep"


def last_run(cell: str) -> dict[str, Any]:
    """The run that has just ended.

    Returns:
        ``run``: its record, None if none was recorded for this cell. ``exits``: the cell has asked the shell to exit,
        so that the kernel will soon be gone.
    """
    shell, session = get_ipython(), get_session()
    last = session.history[-1] if len(session.history) else None
    if not session.is_attached(shell):
        begin()  # the cell has unloaded memcell
    return {
        "run": last.to_dict() if last is not None and last.cell == cell else None,
        "exits": bool(getattr(shell, "exit_now", False)),
    }


def verdict(cell: str) -> dict[str, Any] | None:
    """The verdict of a cell; None if it was not run twice."""
    found = get_session().leaks.verdict(cell)
    return None if found is None else found.to_dict()


def runs() -> list[dict[str, Any]]:
    """All runs of the kernel's session."""
    return get_session().history.to_dicts()


def limit() -> dict[str, Any]:
    """The limit that applies to the kernel."""
    return dataclasses.asdict(get_session().limits.read())
