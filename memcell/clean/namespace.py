"""The user's variables: which they are, about how large, and removing them.

Knows no shell: it is given the namespace, and the one in which the shell records the names that are its own.
"""

from __future__ import annotations

import difflib
import sys
import weakref
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from memcell.clean.imports import Imports
from memcell.errors import UnknownVariableError
from memcell.looking import class_name
from memcell.records.cleaned import ModuleOutcome, Variable

#: Names that stay whatever is bound to them: the interpreter's, and those with which a shell is used.
_NEVER = frozenset(
    {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__builtin__", "__builtins__"}
    | {"In", "Out", "_ih", "_oh", "_dh", "_exit_code", "get_ipython", "exit", "quit"}
)
_NAMES_SHOWN = 20


class Namespace:
    """The variables and imports of a user, from now on: what is there when this is made belongs to others.

    Args:
        names: The namespace in which the user's code runs.
        hidden: What the shell itself put there, by name. A name that is bound to something else is the user's.
        imports: The modules imported from now on.
    """

    def __init__(
        self, names: MutableMapping[str, Any], hidden: MutableMapping[str, Any], imports: Imports | None = None
    ) -> None:
        self._names = names
        self._hidden = hidden
        self._imports = Imports() if imports is None else imports
        self._before = {name: _Identity(value) for name, value in names.items()}

    def variables(self, *, keep: Iterable[str] = (), larger_than: int | None = None) -> list[Variable]:
        """The user's variables, the largest first.

        Args:
            keep: Names to leave out.
            larger_than: Only arrays and data frames of more than so many bytes.

        Raises:
            UnknownVariableError: A name in ``keep`` is no variable.
        """
        kept = set(keep)
        for name in kept:
            if name not in self._names:
                raise UnknownVariableError(self._unknown(name))
        found = []
        for name in self._user_names():
            if name in kept:
                continue
            value = self._names[name]
            data_bytes = data_size(value)
            if larger_than is None or (data_bytes is not None and data_bytes > larger_than):
                size_bytes = object_size(value) if data_bytes is None else data_bytes
                found.append(Variable(name, class_name(type(value)), size_bytes))
        return sorted(found, key=lambda variable: -(variable.size_bytes or 0))

    def remove_variables(self, *, keep: Iterable[str] = (), larger_than: int | None = None) -> list[Variable]:
        """Remove what ``variables`` lists for these arguments, and return it."""
        removed = self.variables(keep=keep, larger_than=larger_than)
        for variable in removed:
            self._remove(variable.name)
        return removed

    def modules(self) -> list[ModuleOutcome]:
        """What ``drop_modules`` would do."""
        return self._imports.plan(self._names)

    def drop_modules(self) -> list[ModuleOutcome]:
        """Drop the modules imported since from ``sys.modules``; those that would do harm are refused."""
        return self._imports.drop(self._names)

    def reset(self) -> None:
        """Remove all variables of the user and drop what modules can be dropped, so that the next code starts clean.

        What is in reference cycles is left to a garbage collection.
        """
        for name in self._user_names():
            self._remove(name)
        self._imports.drop(self._names)

    def all_names(self) -> list[str]:
        """The names of all variables that are not the shell's, those from before this was made too."""
        return [
            name
            for name, value in list(self._names.items())
            if isinstance(name, str)
            and name not in _NEVER
            and not (name in self._hidden and self._hidden[name] is value)
        ]

    def _user_names(self) -> list[str]:
        return [
            name
            for name in self.all_names()
            if not (name in self._before and self._before[name].is_of(self._names.get(name)))
        ]

    def _remove(self, name: str) -> None:
        """Remove a variable; a name of the shell's that it covered is the shell's again."""
        if name in self._hidden:
            self._names[name] = self._hidden[name]
        else:
            del self._names[name]

    def _unknown(self, name: str) -> str:
        names = self._user_names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        shown = ", ".join(names[:_NAMES_SHOWN]) or "none"
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        return f"cannot keep {name!r}: there is no such variable; {hint}variables: {shown}{more}"


class _Identity:
    """Tells whether an object is the one it was made for, without keeping that one alive where it can."""

    __slots__ = ("_id", "_reference")

    def __init__(self, value: object) -> None:
        self._id = id(value)
        self._reference: weakref.ref[object] | None
        try:
            self._reference = weakref.ref(value)
        except TypeError:  # numbers, text, lists, dicts: another object may get the same id once this one is gone
            self._reference = None

    def is_of(self, value: object) -> bool:
        return id(value) == self._id if self._reference is None else self._reference() is value


def _memory_usage(frame: Any) -> Any:
    usage = frame.memory_usage(deep=False)
    return usage.sum() if hasattr(usage, "sum") else usage


#: Types whose objects are data, by library and name, and how they tell their bytes.
_DATA: tuple[tuple[str, tuple[str, ...], Callable[[Any], Any]], ...] = (
    ("numpy", ("ndarray",), lambda array: array.nbytes),
    ("pandas", ("DataFrame", "Series", "Index"), _memory_usage),
    ("polars", ("DataFrame", "Series"), lambda frame: frame.estimated_size()),
    ("pyarrow", ("Table", "RecordBatch", "ChunkedArray", "Array"), lambda table: table.nbytes),
    ("torch", ("Tensor",), lambda tensor: tensor.numel() * tensor.element_size()),
    ("xarray", ("Dataset", "DataArray"), lambda array: array.nbytes),
    ("jax", ("Array",), lambda array: array.nbytes),
    ("cupy", ("ndarray",), lambda array: array.nbytes),
)


def data_size(value: object) -> int | None:
    """The bytes of data in an array or data frame of a known library; None for anything else.

    Approximate: Python objects in it are not followed, and a view counts what it shows of another's data.
    """
    for library, names, size_of in _DATA:
        module = sys.modules.get(library)
        if module is None:
            continue
        attributes = vars(module)
        known = [attributes.get(name) for name in names]
        # By its type, and not isinstance(), which asks the object for its __class__: a proxy would load what it is for.
        if issubclass(type(value), tuple(kind for kind in known if isinstance(kind, type))):
            return _asked(lambda size_of=size_of: size_of(value))  # type: ignore[misc]
    return None


def object_size(value: object) -> int | None:
    """The bytes of the object alone, without what it refers to; None where it does not tell."""
    return _asked(lambda: sys.getsizeof(value))


def _asked(size: Callable[[], Any]) -> int | None:
    try:
        return int(size())
    except Exception:  # foreign code: a deleted buffer, a __sizeof__ that raises
        return None
