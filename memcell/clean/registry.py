"""The cleaners that users and libraries register by name. Thread-safe; the session owns the one that is used."""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, get_args

from memcell.clean.cleaner import Cleaner
from memcell.clean.holding import Held, cached_function
from memcell.errors import CleanerNameTakenError, InvalidCleanerError, UnknownCleanerError
from memcell.records.cleaned import Effect

_NAMES_SHOWN = 20


class Registration:
    """A registered cleaner. It need not be kept: the registry has it."""

    __slots__ = ("_held", "_registry", "cleaner")

    def __init__(self, registry: Registry, cleaner: Cleaner, held: Held) -> None:
        self._registry = registry
        self._held = held
        self.cleaner = cleaner

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        return self.cleaner.name

    def unregister(self) -> None:
        """Take the cleaner out of the registry. May be called twice; leaves alone what has replaced it since."""
        self._registry.discard(self)

    def release(self) -> None:
        """Let go of the callback, so that a clean-up that is going on does not call it any more."""
        self._held.drop()

    def __repr__(self) -> str:
        return f"<Registration {self.name!r} of {self.cleaner.owner!r}, effect {self.cleaner.effect!r}>"


class Registry:
    """Cleaners by name, in the order of their registration; one that is replaced keeps its place.

    A weakly held cleaner leaves the registry by itself when its object is gone.

    Args:
        reserved: Tells the names that nobody can register: those of the built-in cleaners, imported or not.
    """

    def __init__(self, reserved: Callable[[], Collection[str]] = tuple) -> None:
        self._reserved = reserved
        self._registrations: dict[str, Registration] = {}
        # Re-entrant, because the garbage collector may run at any allocation in here, and with it finalizers that
        # register or unregister. For the same reason each change below is one operation of the dict.
        self._lock = threading.RLock()

    def register(
        self,
        name: str,
        clear: Callable[..., object],
        *,
        owner: str,
        size: Callable[[], float] | None = None,
        effect: Effect = "recompute",
    ) -> Registration:
        """Register a clear-callback; the same owner's cleaner of that name is replaced.

        Args:
            name: What the user calls it: no whitespace, no commas, no leading dash.
            clear: Called without arguments. A cached function (one with a ``cache_clear``) stands for its
                ``cache_clear``. Bound methods and cached functions are held weakly, everything else strongly.
            owner: The top-level package of who registers it.
            size: Tells how many bytes ``clear`` would free; held like ``clear``.
            effect: What a user may notice: ``none``, ``recompute`` or ``state``.

        Returns:
            The registration, whose ``unregister()`` undoes it.

        Raises:
            InvalidCleanerError: The name is no name, a callable is none or needs arguments, or the effect is unknown.
            CleanerNameTakenError: A built-in cleaner or another owner has the name.
        """
        _check_name(name)
        function = cached_function(clear)
        if function is None:
            _check_callable(name, clear, "clear")
        if size is not None:
            _check_callable(name, size, "size")
        if effect not in get_args(Effect):
            raise InvalidCleanerError(
                f"cleaner {name!r}: unknown effect {effect!r}; choose one of {', '.join(get_args(Effect))}"
            )
        if name in self._reserved():
            raise CleanerNameTakenError(
                f"the cleaner name {name!r} belongs to a built-in cleaner of memcell; choose another name"
            )

        with self._lock:
            replaced = self._registrations.get(name)
            if replaced is not None and replaced.cleaner.owner != owner:
                raise CleanerNameTakenError(
                    f"the cleaner name {name!r} is taken by {replaced.cleaner.owner!r}; choose another name, or first "
                    f"take that one out with memcell.unregister({name!r})"
                )

            # Bound before anything can die: the objects behind both callables are arguments of this call.
            def died() -> None:
                self.discard(registration)

            held = Held(clear, died) if function is None else Held.cache(function, died)
            size_of = None if size is None else _SizeOf(Held(size))
            cleaner = Cleaner(name, effect, "registered", owner, held.get, size=size_of)
            registration = Registration(self, cleaner, held)
            self._registrations[name] = registration
        if replaced is not None:
            replaced.release()
        return registration

    def unregister(self, name: str) -> None:
        """Take a cleaner out by its name.

        Raises:
            UnknownCleanerError: No cleaner is registered under that name.
        """
        with self._lock:
            registration = self._registrations.pop(name, None)
        if registration is not None:
            registration.release()
        elif name in self._reserved():
            raise UnknownCleanerError(
                f"the cleaner {name!r} is built in and stays; to leave it out of a clean-up, name those that shall run"
            )
        else:
            raise UnknownCleanerError(unknown_cleaner(name, [cleaner.name for cleaner in self.cleaners()]))

    def discard(self, registration: Registration) -> None:
        """Take this registration out if it still stands."""
        with self._lock:
            if self._registrations.get(registration.name) is registration:
                del self._registrations[registration.name]
        registration.release()

    def forget_parent(self) -> None:
        """In a forked child: a thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    def cleaners(self) -> tuple[Cleaner, ...]:
        """What is registered at this moment, oldest name first."""
        with self._lock:
            registrations = tuple(self._registrations.values())
        return tuple(registration.cleaner for registration in registrations)


def unknown_cleaner(name: str, known: Iterable[str]) -> str:
    """One line for a name that nobody has: what was meant, perhaps, and what there is.

    >>> unknown_cleaner("grpah", ["graph", "sympy"])
    "unknown cleaner 'grpah'; did you mean 'graph'? registered: graph, sympy"
    """
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(names[:_NAMES_SHOWN]) or "none"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"unknown cleaner {name!r}; {hint}registered: {shown}{more}"


class _SizeOf:
    """Asks a user's ``size`` callable, and has None for whatever goes wrong in it."""

    __slots__ = ("_held",)

    def __init__(self, held: Held) -> None:
        self._held = held

    def __call__(self) -> int | None:
        try:
            size = self._held.get()
            return None if size is None else int(size())
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit too: a list of cleaners must not end the program
            return None


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidCleanerError(
            f"a cleaner's name comes first and is text, as in memcell.register('my-cache', clear), "
            f"not {type(name).__name__}"
        )
    if not name or name.startswith("-") or any(character.isspace() or character == "," for character in name):
        raise InvalidCleanerError(
            f"{name!r} cannot name a cleaner: leave out whitespace, commas and a leading dash, as in 'my-cache'"
        )


def _check_callable(name: str, candidate: Any, role: str) -> None:
    if not callable(candidate):
        raise InvalidCleanerError(
            f"cleaner {name!r}: {role} must be callable, not {type(candidate).__name__}; "
            "pass the function itself, without calling it"
        )
    if inspect.iscoroutinefunction(candidate):
        raise InvalidCleanerError(f"cleaner {name!r}: {role} is a coroutine function; pass a plain function")
    try:
        parameters = inspect.signature(candidate).parameters.values()
    except (TypeError, ValueError):  # some callables written in C do not tell
        return
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed == ["self"] or needed == ["cls"]:
        raise InvalidCleanerError(
            f"cleaner {name!r}: {role} is a method without its object; register the bound one, "
            f"as in memcell.register({name!r}, self.{getattr(candidate, '__name__', role)})"
        )
    if needed:
        raise InvalidCleanerError(
            f"cleaner {name!r}: {role} is called without arguments but needs {', '.join(needed)}; "
            "wrap it in a lambda or functools.partial"
        )
