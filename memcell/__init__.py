"""memcell: repeated cell runs no longer crash the kernel.

``%load_ext memcell`` measures every cell; ``%memclean`` gives memory back through registered cleaners; ``%memwatch``
shows it live. Outside notebooks ``watch``, ``register`` and ``clear_caches`` do the same. It is long because what
a user calls is described here; what it does is elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from memcell.errors import MemcellError, MemoryLimitExceeded

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from memcell.clean.registry import Registration
    from memcell.protect.monitor import Monitor as _Monitor
    from memcell.protect.shared import Shared
    from memcell.protect.workers import Isolated
    from memcell.records.cleaned import CleanerInfo, CleanReport, Effect
    from memcell.records.explained import Verdict
    from memcell.records.protected import ChildProcess, EndOutcome, Status
    from memcell.run_history import History
    from memcell.session import Session
    from memcell.watch_block import Watch

__version__ = "0.1.0"
__all__ = [
    "MemcellError",
    "MemoryLimitExceeded",
    "Monitor",
    "children",
    "cleaners",
    "clear_caches",
    "end_children",
    "fits",
    "history",
    "isolated",
    "leaks",
    "on_clear",
    "register",
    "shared",
    "status",
    "unregister",
    "watch",
]

_Clear = TypeVar("_Clear", bound=Callable[[], Any])
_Arguments = ParamSpec("_Arguments")
_Built = TypeVar("_Built")


def get_session() -> Session:
    """The session of this process. Loaded with the first call: pytest imports this package for its plugin."""
    from memcell.session import get_session as find

    return find()


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
    return get_session().cleaning.registry.register(name, clear, size=size, effect=effect, owner=_caller())


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
        get_session().cleaning.registry.register(name, clear, size=size, effect=effect, owner=owner)
        return clear

    return decorate


def unregister(name: str) -> None:
    """Take a registered cleaner away.

    Raises:
        UnknownCleanerError: Nothing is registered under this name; the message lists what is.
    """
    get_session().cleaning.registry.unregister(name)


def cleaners() -> list[CleanerInfo]:
    """All cleaners: registered ones, those of libraries, built-in ones, and what could be registered."""
    return get_session().cleaning.catalogue.infos()


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
    report = get_session().cleaning.clean(*names)
    if verbose:
        from memcell.view.tables import clean_report
        from memcell.view.text import table_text

        print(table_text(clean_report(report)))
    return report


def watch(label: str | None = None, limit: int | str | None = None) -> Watch:
    """Measure a block of code as one run: ``with memcell.watch("load") as watched: …``.

    Args:
        label: Names the run and groups those of the same label; by default the place of the block.
        limit: Stop the block with ``MemoryLimitExceeded`` before the memory of this process and its children passes
            this size, such as ``"2GB"``. In the main thread only. Linux.

    Returns:
        A context manager; its ``run`` is the record once the block has ended.

    Raises:
        InvalidSizeError: The limit cannot be read.
        LimitTooLowError: On entering: more than the limit is in use already.
        NotInMainThreadError: On entering: a limit was given in another thread than the main one.
    """
    return get_session().watch(label, limit)


def history() -> History:
    """The runs of this process, oldest first: a sequence with ``to_dicts``, ``to_json``, ``to_csv``, ``plot``."""
    return get_session().history


@overload
def shared(function: Callable[_Arguments, _Built], /) -> Shared[_Arguments, _Built]: ...
@overload
def shared(
    *, ttl: float | None = None, max_entries: int | None = None, on_release: Callable[[Any], object] | None = None
) -> Callable[[Callable[_Arguments, _Built]], Shared[_Arguments, _Built]]: ...
def shared(
    function: Callable[_Arguments, _Built] | None = None,
    /,
    *,
    ttl: float | None = None,
    max_entries: int | None = None,
    on_release: Callable[[Any], object] | None = None,
) -> Any:
    """Share one instance of an expensive object, such as a model, per arguments: ``@memcell.shared``.

    The decorated function builds it when it is first called; every later call with the same arguments returns that
    instance, from any thread, and also after the cell that defines the function was run again. If the function was
    edited, the old instance is released before the new one is built.

    Args:
        function: The function that builds the object. Its arguments have to be hashable.
        ttl: Seconds after which an instance is released and built anew.
        max_entries: How many instances are kept; the one that was not asked for the longest goes first.
        on_release: Called with each instance that is let go of.

    Returns:
        The shared function. Its ``clear()`` releases all instances and returns how many.

    Raises:
        InvalidSettingError: No plain function, a bad ``ttl`` or ``max_entries``, or, on a call, an argument that is
            not hashable.

    Example:
        >>> import memcell
        >>> @memcell.shared
        ... def load(name):
        ...     return {"model": name}
        >>> load("a") is load("a"), load("a") is load("b")
        (True, False)
        >>> load.clear()
        2
    """

    def share(function: Callable[_Arguments, _Built]) -> Shared[_Arguments, _Built]:
        table = get_session().shared
        return table.share(function, ttl=ttl, max_entries=max_entries, on_release=on_release)

    return share if function is None else share(function)


@overload
def isolated(
    function: Callable[_Arguments, _Built],
    /,
    *,
    max_runs: int | None = 20,
    max_growth: int | str | None = "500MB",
    workers: int = 1,
    timeout: float | None = None,
) -> Isolated[_Arguments, _Built]: ...
@overload
def isolated(
    *,
    max_runs: int | None = 20,
    max_growth: int | str | None = "500MB",
    workers: int = 1,
    timeout: float | None = None,
) -> Callable[[Callable[_Arguments, _Built]], Isolated[_Arguments, _Built]]: ...
def isolated(
    function: Callable[..., Any] | None = None,
    /,
    *,
    max_runs: int | None = 20,
    max_growth: int | str | None = "500MB",
    workers: int = 1,
    timeout: float | None = None,
) -> Any:
    """Let a function run in a worker process: ``@memcell.isolated``. What it leaves behind goes with the worker.

    The worker is started with the first call, as a fork of this process, or as a new interpreter where a library that
    is loaded cannot be forked (that needs ``pip install 'memcell[isolate]'``). It has this process's variables as they
    were then. Calls may come from any thread. Arguments and results are pickled; large arrays are not copied for it.

    Args:
        function: The function.
        max_runs: After so many calls a worker is replaced; None for never. 1 gives every call a fresh process.
        max_growth: So is one that has grown by more than this (``"500MB"``, bytes) since it began; None for never.
        workers: How many calls may run at once; others wait for them.
        timeout: Seconds that one call may take, not counting a wait for a worker.

    Returns:
        The isolated function: call it as the function. It is a context manager, and its ``close()`` ends the workers.

    Raises:
        InvalidSettingError: No function, or an option that must be above 0.
        IsolatedWorkerDied: On a call: the worker crashed or was killed. The next call gets a new one.
        IsolatedTimeoutError: On a call: it took too long.
        IsolationError: On a call: arguments or the result cannot be pickled, or it was closed.

    Example:
        >>> import memcell
        >>> with memcell.isolated(sum, max_runs=2) as total:
        ...     total([1, 2]), total([3, 4])
        (3, 7)
    """

    def isolate(function: Callable[..., Any]) -> Isolated[..., Any]:
        return get_session().isolated(
            function, max_runs=max_runs, max_growth=max_growth, workers=workers, timeout=timeout
        )

    return isolate if function is None else isolate(function)


def Monitor(  # noqa: N802 - it makes a Monitor
    interval_s: float = 30,
    warn: int | float | str | None = 0.70,
    clean: int | float | str | None = 0.80,
    every: float | None = None,
    *,
    on_warn: Callable[[Status], object] | None = None,
    on_clean: Callable[[CleanReport], object] | None = None,
) -> _Monitor:
    """Watch this process's memory in a thread, for servers and scripts: ``with memcell.Monitor(warn="500MB"): …``.

    It warns once when resident memory passes ``warn`` (again only after it fell 10 % below), and runs the cleaners
    while it is above ``clean``: at most 5 % of the time, and after a clean-up that freed next to nothing only ten
    minutes later. Both are said on the logger ``memcell``.

    Args:
        interval_s: Seconds between two looks.
        warn: A size (``"500MB"``, bytes) or a fraction of the limit that applies; None for never.
        clean: The same for cleaning; must be above ``warn``.
        every: Seconds after which the cleaners run in any case; None for never.
        on_warn: Called with the ``Status``, in the monitor's thread.
        on_clean: Called with the ``CleanReport``, in the monitor's thread.

    Returns:
        The monitor: a context manager with ``start()`` and ``stop()``.

    Raises:
        InvalidSettingError: ``warn`` is not below ``clean``, or a time is not above 0.
        InvalidSizeError: A size cannot be read.
    """
    return get_session().monitor(
        interval_s=interval_s, warn=warn, clean=clean, every=every, on_warn=on_warn, on_clean=on_clean
    )


def status() -> Status:
    """How this process is: ``memcell.status().to_dict()`` is a body for a health check.

    ``state`` is ``warning`` from 70 % of the limit that applies and ``critical`` from 80 % (settings ``warn_fraction``
    and ``clean_fraction``). The growth per hour is the slope of the levels that were seen during the last hour.
    """
    return get_session().health.status()


def fits(nbytes: int | str) -> bool:
    """Whether this much more memory fits now, up to 95 % of the limit that applies. True where no limit is known.

    Args:
        nbytes: Bytes, or text such as ``"2GB"``.

    Raises:
        InvalidSizeError: The size cannot be read.
    """
    return get_session().health.fits(nbytes)


def leaks() -> list[Verdict]:
    """A verdict for each cell, or ``watch`` label, that was run at least twice: does it leak, and what holds it?

    Returns:
        Growing ones first, the fastest at the top. ``.kind`` is ``growing``, ``warming``, ``steady``, ``noisy`` or
        ``unknown``; ``.culprits[0].name`` is what a person can type, ``.fix`` the line that gives it back.
    """
    return get_session().leaks.verdicts()


def children() -> list[ChildProcess]:
    """The processes that this one started and that are still there, the oldest first, also those that were detached.

    In a notebook these are the processes that cells started since ``%load_ext memcell``, each with its cell. Without
    one, the first call marks what is started from then on; of earlier ones only those are known that are still in the
    tree of processes.
    """
    return get_session().processes.children()


def end_children(*processes: int | ChildProcess, grace_s: float = 3.0) -> list[EndOutcome]:
    """End processes that this one started, children before parents: SIGTERM, then SIGKILL for what does not heed it.

    What is known as a child is said under ``children``. Each is confirmed by pid and start before every signal.

    Args:
        processes: These (pids, or what ``children()`` returned), each with all that it started; also what kernels of
            yours that have died left behind. Without any, all but those that were detached on purpose.
        grace_s: Seconds between SIGTERM and SIGKILL.

    Returns:
        What became of each process.

    Raises:
        UnknownProcessError: One of them is no such process; nothing was signalled then.
    """
    return get_session().processes.end(processes or None, grace_s=grace_s)


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
