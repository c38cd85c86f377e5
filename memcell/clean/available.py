"""Modules that merely have a ``clear_caches()``: listed, and never called unasked, since some delete files on disk."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from types import ModuleType

from memcell.looking import module_names
from memcell.records.cleaned import CleanerInfo

FUNCTION = "clear_caches"
_OWN = frozenset({"memcell", "__main__"})


def available_cleaners(known: Collection[str], modules: Mapping[str, ModuleType] | None = None) -> list[CleanerInfo]:
    """List the imported top-level modules with a ``clear_caches()`` that no cleaner stands for.

    Args:
        known: Names and libraries that have a cleaner already.
        modules: Where to look, by default ``sys.modules``.
    """
    return [
        CleanerInfo(name=name, effect="state", source="available", owner=name, about=f"to use it: {how_to_use(name)}")
        for name, module in list((sys.modules if modules is None else modules).items())
        if "." not in name
        and name not in known
        and name not in _OWN
        and name not in sys.stdlib_module_names
        and callable(module_names(module).get(FUNCTION))
    ]


def how_to_use(name: str) -> str:
    """What a user writes to have memcell call the module's own function."""
    return f"memcell.register({name!r}, {name}.{FUNCTION})"
