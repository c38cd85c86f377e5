"""Names that a person can type: how they are written, whose they are, and in which module."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from typing import Any

USERS = "__main__."
#: Longer texts are no keys to type.
_LONGEST_KEY = 60
_LONGEST_TUPLE = 4
#: The last step of a name: a key in brackets, which may be a text with anything in it, or an attribute.
_LAST_STEP = re.compile(r"""(?:\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]'"]*)\]|\.\w+)$""")
_SHELLS = frozenset({"In", "_ih", "_oh", "_dh", "get_ipython", "exit", "quit", "open"})


def module_in(name: str) -> str:
    """The longest beginning of a dotted name that is an imported module; empty for the user's and the shell's."""
    parts = name.partition("[")[0].partition("(")[0].split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        if module in sys.modules:
            return "" if module == "__main__" else module
    return ""


def is_dunder(name: str) -> bool:
    """Whether a name is one of Python's own."""
    return name.startswith("__") and name.endswith("__")


def is_shells(name: str) -> bool:
    """Whether a variable is IPython's own, or one of those that it numbers: ``_``, ``_3``, ``_i3``, ``_ii``."""
    return name in _SHELLS or (name.startswith("_") and name.strip("_i").isdigit()) or not name.strip("_i")


def own_variables(names: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the user's own.

    Args:
        names: All that are in the namespace.
        hidden: What the shell itself has put there; a name bound to something else is the user's.
    """
    return {
        name: value
        for name, value in list(names.items())
        if type(name) is str
        and not is_dunder(name)
        and not is_shells(name)
        and not (name in hidden and hidden[name] is value)
    }


def variable_name(name: str) -> str:
    """How a variable of the user's is written."""
    return f"{USERS}{name}" if _is_typed(name) else f"{USERS}globals()[{name!r}]"


def attribute_name(owner: str, attribute: str) -> str:
    """How an attribute is written; empty for one of a library's that cannot be typed."""
    if _is_typed(attribute):
        return f"{owner}.{attribute}"
    return f"{USERS}getattr({owner.removeprefix(USERS)}, {attribute!r})" if owner.startswith(USERS) else ""


def key_words(key: object) -> str:
    """How a key is written; empty where its own ``repr`` would have to be asked, or would be too long."""
    kind = type(key)
    if kind in (str, bytes):
        return repr(key) if len(key) <= _LONGEST_KEY else ""  # type: ignore[arg-type] # the type was just asked for
    if kind in (int, bool, float, type(None)):
        return repr(key)
    if kind is not tuple or len(key) > _LONGEST_TUPLE:  # type: ignore[arg-type] # as above
        return ""
    parts = [key_words(part) for part in key]  # type: ignore[attr-defined] # as above
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})" if all(parts) else ""


def _is_typed(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def owner_of(name: str) -> str:
    """The name of what holds the thing with this name; empty for what nothing holds."""
    step = _LAST_STEP.search(name)
    return name[: step.start()] if step else ""


def private_steps(name: str) -> int:
    """How many parts of a name are meant for nobody else."""
    return name.count("._")
