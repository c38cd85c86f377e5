"""The modules that were imported since a moment: which of them can be dropped from ``sys.modules``, and doing so.

Dropping a module that is needed still does harm: its classes exist twice after the next import, and C code cannot be
loaded anew at all. So a package goes as a whole or stays as a whole, and it stays when in doubt.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, ExtensionFileLoader
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from memcell.records import ModuleOutcome

#: Standard packages with threads, processes or handlers that the interpreter ends when it exits.
_INTERPRETERS = frozenset({"asyncio", "concurrent", "logging", "multiprocessing", "threading"})
_COMPILED_SUFFIXES = (*EXTENSION_SUFFIXES, ".so", ".pyd")
_USERS = frozenset({"__main__", "__mp_main__"})


class Imports:
    """The modules that are imported from now on.

    A package that is there already keeps its submodules, also those that it imports later.

    Args:
        modules: Where they appear, by default ``sys.modules``.
        stays: Names the packages that have to stay, at the moment when it matters: extensions of the shell.
    """

    def __init__(
        self,
        modules: MutableMapping[str, ModuleType] | None = None,
        stays: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._modules = sys.modules if modules is None else modules
        self._stays = stays
        self._before = frozenset(_package(name) for name in self._modules)

    def plan(self, variables: Mapping[str, object]) -> list[ModuleOutcome]:
        """What ``drop`` would do.

        Args:
            variables: The user's; those that refer to a module keep it in memory, and are named.
        """
        packages = self._packages()
        refused = self._refused(packages)
        holders: dict[str, str] = {}
        for name, value in list(variables.items()):
            holders.setdefault(self._home(value), name)
        return [
            ModuleOutcome(
                name=package,
                dropped=package not in refused,
                note=refused.get(package) or _held_by(holders.get(package)),
                count=len(names),
            )
            for package, names in sorted(packages.items())
        ]

    def drop(self, variables: Mapping[str, object]) -> list[ModuleOutcome]:
        """Drop all that can be dropped, whole packages only.

        Args:
            variables: As for ``plan``. They stay as they are.
        """
        outcomes = self.plan(variables)
        packages = self._packages()
        for outcome in outcomes:
            if outcome.dropped:
                for name in packages.get(outcome.name, ()):
                    self._modules.pop(name, None)
        return outcomes

    def _packages(self) -> dict[str, list[str]]:
        """The modules imported since, by top-level package."""
        packages: dict[str, list[str]] = {}
        for name in list(self._modules):
            package = _package(name)
            if package not in self._before and package not in _USERS:
                packages.setdefault(package, []).append(name)
        return packages

    def _refused(self, packages: Mapping[str, list[str]]) -> dict[str, str]:
        """The packages that stay, and why."""
        stays, running = self._stays(), _running()
        compiled = self._compiled()
        refused = {}
        for package, names in packages.items():
            if package in stays:
                refused[package] = "it is an extension of the shell"
            elif package in _INTERPRETERS:
                refused[package] = "the interpreter relies on it when it exits"
            elif not running.isdisjoint(names):
                refused[package] = "its code is running, in this or another thread"
            else:
                reason = next(filter(None, (_irreplaceable(name, self._modules.get(name)) for name in names)), None)
                if reason:
                    refused[package] = reason
        uses = list(self._uses(packages))
        for user, used, place in uses:
            if user not in packages:
                refused.setdefault(used, f"{place} refers to it")
        # An installed package on top of a compiled one has often registered itself there, and a second time fails.
        for user, used, _ in uses:
            if user in packages and used in compiled and any(_is_installed(self._modules[n]) for n in packages[user]):
                refused.setdefault(user, f"it is built on {used}, which is compiled and may know it")
        # What a package that stays refers to stays as well.
        found = True
        while found:
            found = False
            for user, used, place in uses:
                if user in refused and used in packages and used not in refused:
                    refused[used] = f"{place} refers to it"
                    found = True
        return refused
