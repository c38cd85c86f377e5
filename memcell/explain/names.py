"""What a name tells: whose it is, and in which module."""

from __future__ import annotations

import sys

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
