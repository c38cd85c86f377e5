"""The shell's glue: the only room that knows IPython. ``load`` and ``unload`` are what ``%load_ext`` calls."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from memcell.ipython.extension import Extension
from memcell.session import get_session


def load(shell: InteractiveShell) -> None:
    """Attach memcell to a shell. A shell that has it already keeps what it has."""
    session = get_session()
    if not session.is_attached(shell):
        session.attach(shell, Extension(shell, session).attach())


def unload(shell: InteractiveShell) -> None:
    """Take memcell off a shell: hooks, magics, settings, live view. May be called twice."""
    get_session().detach(shell)
