"""memcell: repeated cell runs no longer crash the kernel.

``%load_ext memcell`` measures every cell; ``%memclean`` gives memory back through registered cleaners; ``%memwatch``
shows it live. Outside notebooks ``watch``, ``register`` and ``clear_caches`` do the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from memcell.errors import MemcellError
from memcell.session import get_session

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from memcell.clean.registry import Registration
    from memcell.history import History
    from memcell.records import CleanerInfo, CleanReport, Effect
    from memcell.session import Watch

__version__ = "0.1.0"
__all__ = [
    "MemcellError",
    "cleaners",
    "clear_caches",
    "history",
    "on_clear",
    "register",
    "unregister",
    "watch",
]

_Clear = TypeVar("_Clear", bound=Callable[[], Any])


def register(
    name: str,
    clear: Callable[[], Any],
    *,
    size: Callable[[], int] | None = None,
    effect: Effect = "recompute",
) -> Registration:
    """Register a cleaner: a callable that gives memory back when ``clear_caches()`` or ``%memclean`` runs.

    Registering a name again replaces it, so the cell that does it can be run again. Bound methods and functools
    caches are held weakly and leave by themselves when their object goes; functions are held.

    Args:
        name: What the cleaner is called in reports, without spaces: ``"graphs"``.
        clear: Called without arguments. A functools cache may be given itself: its ``cache_clear`` is called then.
        size: Tells what the cleaner would free, in bytes; shown in ``%memclean --list``.
        effect: ``"none"`` (nobody notices), ``"recompute"`` (costs time later; the default) or ``"state"`` (something
            that the user could miss: it runs only when it is named).

    Returns:
        The registration; its ``unregister()`` may be called twice.

    Raises:
        InvalidCleanerError: The name, the callable or the effect is not usable.
        CleanerNameTakenError: A built-in cleaner or another package has this name.
    """
    return get_session().registry.register(name, clear, size=size, effect=effect, owner=_caller())


def on_clear(
    name: str, *, size: Callable[[], int] | None = None, effect: Effect = "recompute"
) -> Callable[[_Clear], _Clear]:
    """Register the decorated function as a cleaner. Arguments and errors are those of ``register``.

    Example:
        >>> import memcell
        >>> cache = {"a": bytearray(1000)}
        >>> @memcell.on_clear("example")
        ... def clear_example():
        ...     cache.clear()
        >>> memcell.clear_caches("example").outcomes[0].name, cache
        ('example', {})
        >>> memcell.unregister("example")
    """
    owner = _caller()

    def decorate(clear: _Clear) -> _Clear:
        get_session().registry.register(name, clear, size=size, effect=effect, owner=owner)
        return clear

    return decorate


def unregister(name: str) -> None:
    """Take a registered cleaner away.

    Raises:
        UnknownCleanerError: Nothing is registered under this name; the message lists what is.
    """
    get_session().registry.unregister(name)


def cleaners() -> list[CleanerInfo]:
    """All cleaners: registered ones, those of libraries, built-in ones, and what could be registered."""
    return get_session().catalogue.infos()


def clear_caches(*names: str, verbose: bool = False) -> CleanReport:
    """Run cleaners and measure what each gives back.

    Args:
        names: The cleaners to run, in memcell's order; without names all whose effect is ``none`` or ``recompute``.
        verbose: Print a table of what each freed.

    Returns:
        The report: resident memory before and after, and an outcome for each cleaner. A cleaner that fails is
        reported there; the others still run.

    Raises:
        UnknownCleanerError: A name is not known; nothing has run then.
    """
    report = get_session().clean(*names)
    if verbose:
        from memcell.view.text import clean_table

        print(clean_table(report))
    return report


def watch(label: str | None = None) -> Watch:
    """Measure a block of code as one run: ``with memcell.watch("load") as watched: …``.

    Args:
        label: Names the run and groups those of the same label; by default the place of the block.

    Returns:
        A context manager; its ``run`` is the record once the block has ended.
    """
    return get_session().watch(label)


def history() -> History:
    """The runs of this process, oldest first: a sequence with ``to_dicts``, ``to_json``, ``to_csv``, ``plot``."""
    return get_session().history


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%load_ext memcell``."""
    from memcell.ipython import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%unload_ext memcell``."""
    from memcell.ipython import unload

    unload(shell)


def _caller() -> str:
    """The top-level package that called memcell: the owner of what it registers."""
    name = sys._getframe(2).f_globals.get("__name__") or "__main__"
    return str(name).partition(".")[0]
