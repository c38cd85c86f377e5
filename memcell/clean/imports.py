"""The modules that were imported since a moment: which of them can be dropped from ``sys.modules``, and doing so.

Dropping a module that is needed still does harm: its classes exist twice after the next import, and C code cannot be
loaded anew at all. So a package goes as a whole or stays as a whole, and it stays when in doubt.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, ExtensionFileLoader
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple, cast

from memcell.looking import class_module, module_names
from memcell.records.cleaned import ModuleOutcome

#: Standard packages whose threads, processes and handlers the interpreter ends when it exits.
_INTERPRETERS = frozenset({"asyncio", "concurrent", "logging", "multiprocessing"})
_COMPILED_SUFFIXES = (*EXTENSION_SUFFIXES, ".so", ".pyd")
_USERS = frozenset({"__main__", "__mp_main__"})


class Imports:
    """The modules that are imported from now on.

    What is told apart is a *root*: a package or module that was not there before, with the submodules that came with
    it. A submodule of an installed package that was there before is that package's own affair.

    Args:
        modules: Where they appear, by default ``sys.modules``.
        stays: Names packages that have to stay, when it is asked: the extensions of the shell.
    """

    def __init__(
        self,
        modules: MutableMapping[str, ModuleType] | None = None,
        stays: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._modules = sys.modules if modules is None else modules
        self._stays = stays
        self._before = frozenset(self._modules)

    def plan(self, variables: Mapping[str, object]) -> list[ModuleOutcome]:
        """What ``drop`` would do.

        Args:
            variables: The user's; where one of them keeps a dropped module in memory, the outcome says so.
        """
        roots = self._roots()
        refused = self._refused(roots)
        holders: dict[str, str] = {}
        names = {id(module): name for name, module in self._modules.items()}
        for variable, value in list(variables.items()):
            holders.setdefault(self._root(_module_of(value, names)), variable)
        outcomes = []
        for root, members in sorted(roots.items()):
            held = f"the variable {holders[root]} keeps it in memory" if root in holders else ""
            outcomes.append(ModuleOutcome(root, root not in refused, refused.get(root, held), len(members)))
        return outcomes

    def drop(self, variables: Mapping[str, object]) -> list[ModuleOutcome]:
        """Drop all that can be dropped.

        Args:
            variables: As for ``plan``. They stay as they are.
        """
        outcomes = self.plan(variables)
        roots = self._roots()
        for outcome in outcomes:
            if outcome.dropped:
                for name in roots.get(outcome.name, ()):
                    self._drop(name)
        return outcomes

    def _drop(self, name: str) -> None:
        module = self._modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        attributes = module_names(self._modules.get(parent))
        if module is not None and attributes.get(child) is module:
            del attributes[child]

    def _root(self, name: str) -> str:
        """The outermost package of a module that was not there before; empty if the module itself was."""
        root = name
        while name and name not in self._before:
            root, name = name, name.rpartition(".")[0]
        return root if root not in self._before else ""

    def _roots(self) -> dict[str, list[str]]:
        """The names of the modules imported since, by their root."""
        roots: dict[str, list[str]] = {}
        for name in list(self._modules):
            root = self._root(name)
            package = _package(root)
            if not root or package in _USERS or package == "memcell":
                continue
            parent = self._modules.get(root.rpartition(".")[0])
            if parent is None or not (package in sys.stdlib_module_names or _is_installed(parent)):
                roots.setdefault(root, []).append(name)
        return roots

    def _refused(self, roots: Mapping[str, list[str]]) -> dict[str, str]:
        """The roots that stay, and why."""
        stays, running = set(self._stays()), _running_modules()
        refused: dict[str, str] = {}
        for root, members in roots.items():
            if not stays.isdisjoint(members):
                refused[root] = "it is an extension of the shell"
            elif _package(root) in _INTERPRETERS:
                refused[root] = "the interpreter ends what it started"
            elif not running.isdisjoint(members):
                refused[root] = "its code is running, in this or another thread"
            else:
                for name in members:
                    reason = _irreplaceable(name, self._modules.get(name))
                    if reason:
                        refused[root] = reason
                        break
        uses = self._uses(roots)
        for use in uses:
            if not use.user:
                refused.setdefault(use.used, f"{use.place} refers to it")
        # An installed package on top of a compiled one has often registered itself there, which fails a second time.
        compiled = self._compiled_packages()
        for use in uses:
            if use.user and use.used in compiled and _is_installed(self._modules.get(use.user)):
                refused.setdefault(use.user, f"it is built on {use.used}, which is compiled and may know it")
        # What a root that stays refers to stays as well, and so on.
        pending = list(refused)
        while pending:
            staying = pending.pop()
            for use in uses:
                if use.user == staying and use.used in roots and use.used not in refused:
                    refused[use.used] = f"{use.place} refers to it"
                    pending.append(use.used)
        return refused

    def _uses(self, roots: Mapping[str, list[str]]) -> list[_Use]:
        """What the modules refer to directly in their namespaces: modules, functions, classes and their instances.

        Each pair of user and used once. Takes 0.05–0.15 s beside 2,000 modules, and nothing where there is no root.
        """
        found: dict[tuple[str, str], _Use] = {}
        names = {id(module): name for name, module in self._modules.items()}
        root_of = {member: root for root, members in roots.items() for member in members}
        for name, module in list(self._modules.items()) if roots else ():
            if name in _USERS:
                continue
            user = root_of.get(name, "")
            for attribute, value in list(module_names(module).items()):
                target = _module_of(value, names)
                used = root_of.get(target) or (_package(target) if user else "")
                if not used or used == user or (user, used) in found:
                    continue
                if target != f"{name}.{attribute}" or value is not self._modules.get(target):  # no submodule
                    found[user, used] = _Use(user, used, f"{name}.{attribute}")
        return list(found.values())

    def _compiled_packages(self) -> set[str]:
        """The packages outside the standard library with a module of C code."""
        packages = {_package(name) for name, module in list(self._modules.items()) if _is_compiled(module)}
        return packages - sys.stdlib_module_names


class _Use(NamedTuple):
    """A root, empty for all modules that were there before, and the root or package that it refers to at a place."""

    user: str
    used: str
    place: str


def _package(name: str) -> str:
    return name.partition(".")[0]


def _module_of(value: Any, names: Mapping[int, str]) -> str:
    """The name of the module that a value is or comes from; empty where that is not told."""
    kind = type(value)
    if issubclass(kind, ModuleType):
        return names.get(id(value), "")
    if kind in (FunctionType, BuiltinFunctionType):
        name = value.__module__
        return name if type(name) is str else ""
    return class_module(cast("type", value) if issubclass(kind, type) else kind)


def _irreplaceable(name: str, module: object) -> str:
    """Why a module cannot be imported a second time; empty if it can."""
    spec = module_names(module).get("__spec__")
    if spec is None:
        return f"{name} was made at run time, and no import makes it again"
    if _is_compiled(module):
        return f"{name} is compiled, and C code cannot be loaded anew"
    if getattr(spec, "_initializing", False):
        return f"{name} is being imported"
    return ""


def _is_compiled(module: object) -> bool:
    spec = module_names(module).get("__spec__")
    loader, origin = getattr(spec, "loader", None), getattr(spec, "origin", None)
    return (
        isinstance(loader, ExtensionFileLoader)
        or loader is BuiltinImporter
        or (isinstance(origin, str) and origin.endswith(_COMPILED_SUFFIXES))
    )


def _is_installed(module: object) -> bool:
    """Whether a module is where installers put packages, so that it is not the user's own."""
    path = module_names(module).get("__file__")
    return isinstance(path, str) and not {"site-packages", "dist-packages"}.isdisjoint(PurePath(path).parts)


def _running_modules() -> set[str]:
    """The modules whose code is on the stack of a thread."""
    names = set[str]()
    for top in sys._current_frames().values():
        frame = top
        while frame is not None:
            names.add(str(frame.f_globals.get("__name__")))
            frame = frame.f_back  # type: ignore[assignment]
    return names
