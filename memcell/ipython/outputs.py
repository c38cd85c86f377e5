"""What the shell itself keeps alive, displayed values and tracebacks, and how it lets go of them.

A displayed value is held in more places than ``Out``, and the last error in more than ``sys.last_value``; one that is
left out keeps everything. The objects that hold them stay the same, since others refer to them: only what is in them
goes. What a user bound to one of these names is told by identity, and stays.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import inspect
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType

from IPython.core.interactiveshell import InteractiveShell

from memcell.clean.cleaner import Cleaner, ClearCallback

_LAST_VALUES = ("_", "__", "___")
_NUMBERED = re.compile(r"_\d+")
_LAST_ERROR = ("last_type", "last_value", "last_traceback", "last_exc")


def shell_cleaners(shell: InteractiveShell) -> tuple[Cleaner, ...]:
    """The cleaners of what this shell keeps. They hold the shell weakly and run by name or with ``--deep``."""
    return (
        _shell_cleaner("out", shell, forget_outputs, "displayed values: Out, _, __, ___, _N; globals of %run scripts"),
        _shell_cleaner("traceback", shell, forget_tracebacks, "the last errors, with the variables in their frames"),
    )


def forget_outputs(shell: InteractiveShell) -> None:
    """Let the shell forget the values that cells displayed, and the globals that it keeps of ``%run`` scripts.

    ``_`` holds the next displayed value again.
    """
    hook, user, hidden = shell.displayhook, shell.user_ns, shell.user_ns_hidden
    # The shell's own record of these names is the hidden namespace: Out loses entries once it is full, this does not.
    for name in [name for name in hidden if _NUMBERED.fullmatch(name)]:
        value = hidden.pop(name)
        if user.get(name) is value:
            del user[name]
    for name in _LAST_VALUES:
        is_shells = name in user and (user[name] is getattr(hook, name) or user[name] is hidden.get(name, hook))
        # All of them are to say the same, or the shell takes the name for the user's and never binds it again.
        setattr(hook, name, "")
        if name in hidden:
            hidden[name] = ""
        if is_shells:
            user[name] = ""
    manager = shell.history_manager
    if manager is not None:
        manager.output_hist.clear()
        manager.output_hist_reprs.clear()
        _clear_if_there(manager, "outputs")
    _take_from_last_result(shell, "result")
    shell.clear_main_mod_cache()


def forget_tracebacks(shell: InteractiveShell) -> None:
    """Let the shell forget the last errors, and empty the frames that their tracebacks hold.

    ``%debug`` and ``%tb`` have nothing to look at afterwards, and say so.
    """
    handler, last = shell.InteractiveTB, shell.last_execution_result
    errors = [getattr(sys, "last_value", None), getattr(sys, "last_exc", None), shell.SyntaxTB.last_syntax_error]
    if last is not None:
        errors += [last.error_before_exec, last.error_in_exec]
    tracebacks = [getattr(sys, "last_traceback", None), getattr(handler, "tb", None)]
    tracebacks += [error.__traceback__ for error in _related(errors)]
    for traceback in tracebacks:
        _empty_frames(traceback)
    for name in _LAST_ERROR:
        if hasattr(sys, name):
            delattr(sys, name)
    handler.tb = None
    handler.pdb = None  # made anew when it is needed; the old one keeps the outermost frame that %debug showed
    shell.SyntaxTB.last_syntax_error = None
    _take_from_last_result(shell, "error_before_exec", "error_in_exec")
    if shell.history_manager is not None:
        _clear_if_there(shell.history_manager, "exceptions")


def _shell_cleaner(
    name: str, shell: InteractiveShell, forget: Callable[[InteractiveShell], None], about: str
) -> Cleaner:
    reference = weakref.ref(shell)

    def clear() -> None:
        alive = reference()
        if alive is not None:
            forget(alive)

    def find() -> ClearCallback | None:
        return None if reference() is None else clear

    return Cleaner(name, "state", "built-in", "memcell", find, about=about, deep=True)


def _clear_if_there(manager: object, name: str) -> None:
    """Empty a dict that the history manager has from IPython 9.1 on."""
    kept = getattr(manager, name, None)
    if kept is not None:
        kept.clear()


def _take_from_last_result(shell: InteractiveShell, *fields: str) -> None:
    """Replace the shell's last result by a copy without these fields: a kernel may still have to answer with it."""
    last = shell.last_execution_result
    if last is not None:
        lighter = copy.copy(last)
        for field in fields:
            setattr(lighter, field, None)
        shell.last_execution_result = lighter


def _related(errors: list[BaseException | None]) -> Iterator[BaseException]:
    """These errors, and all that they were raised from or while handling, or group; each once."""
    pending = [error for error in errors if error is not None]
    seen = set[int]()
    while pending:
        error = pending.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        pending += [related for related in (error.__cause__, error.__context__) if related is not None]
        if isinstance(error, _group_types()):
            pending += error.exceptions  # type: ignore[attr-defined] # of a type that is looked up


def _group_types() -> tuple[type, ...]:
    if sys.version_info >= (3, 11):
        return (builtins.BaseExceptionGroup,)
    backport = sys.modules.get("exceptiongroup")
    return (backport.BaseExceptionGroup,) if backport is not None else ()


def _empty_frames(traceback: TracebackType | None) -> None:
    """Drop the local variables of a traceback's frames: whoever else holds the error keeps only its lines."""
    while traceback is not None:
        frame = traceback.tb_frame
        # A generator may have caught the error and be waiting: clearing its frame would end it.
        if not frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            with contextlib.suppress(RuntimeError):  # the frame is running
                frame.clear()
                # Before Python 3.13 the mapping made for an earlier look at the locals lives on until the next look.
                frame.f_locals  # noqa: B018
        traceback = traceback.tb_next
