"""The namespace of a shell by size: what each variable takes, and what else holds it.

Sizes are measured by one room and holders found by another; here they meet. What is looked at is referred to only
while it is looked at.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from IPython.core.interactiveshell import InteractiveShell

from memcell.explain.holders import Held, find_holders
from memcell.measure.sizes import WORTH_SAYING_BYTES, Root, Sizing
from memcell.records.sized import NamespaceEntry, NamespaceSizes, ObjectSize

if TYPE_CHECKING:
    from memcell.clean.namespace import Namespace
    from memcell.session import Session

#: For how long is counted, and then searched for holders.
SIZING_S = 1.0
HOLDERS_S = 0.5

_TRACEBACK = "sys.last_traceback"
#: Further names of what ``Out`` and the last error keep.
_ALIASES = re.compile(r"_{1,3}|_\d+|sys\.last_(value|exc|traceback)")


@dataclass(frozen=True, slots=True)
class _Places:
    """The names of what holds memory, by kind."""

    variables: frozenset[str]
    outputs: frozenset[str]

    def freed_by(self, name: str) -> str:
        if name in self.variables:
            return ""
        return "%memclean out" if name in self.outputs else "%memclean traceback"


class Memtop:
    """Looks at the namespace of one shell.

    Args:
        shell: The shell.
        session: The session of this process.
        namespace: The user's variables.
    """

    def __init__(self, shell: InteractiveShell, session: Session, namespace: Namespace) -> None:
        self._shell = shell
        self._session = session
        self._namespace = namespace

    def look(self, count: int) -> NamespaceSizes:
        """The largest objects of the namespace, with what else holds them.

        Args:
            count: How many.
        """
        rss_bytes = self._session.meter.snapshot().level_bytes
        with self._session.meter.own():
            roots, places = self._roots()
            sizing = self._sizing(roots)
            order = sorted(range(len(roots)), key=lambda index: -sizing.sizes[index].size_bytes)[:count]
            held = self._held(order, roots, sizing)
        entries = tuple(_entry(sizing.sizes[index], held.get(index, Held()), places) for index in order)
        return NamespaceSizes(
            entries=entries,
            count=len(places.variables),
            total_bytes=sum(size.size_bytes for size in sizing.sizes),
            rss_bytes=rss_bytes,
            uncounted=tuple(size.name for size in sizing.sizes if not size.complete),
            holders_complete=all(found.complete for found in held.values()),
            shared=tuple(self._session.shared.infos()),
        )

    def entries(self, names: Collection[str]) -> dict[str, NamespaceEntry]:
        """Some variables by name, with what else holds them.

        Args:
            names: Their names.
        """
        with self._session.meter.own():
            roots, places = self._roots()
            sizing = self._sizing(roots)
            chosen = [index for index, root in enumerate(roots) if root.name in names]
            held = self._held(chosen, roots, sizing)
        return {roots[index].name: _entry(sizing.sizes[index], held.get(index, Held()), places) for index in chosen}

    def _sizing(self, roots: list[Root]) -> Sizing:
        return Sizing(roots, fences=[*self._fences(), *_streams(roots)], deadline_s=SIZING_S)

    def _held(self, chosen: list[int], roots: list[Root], sizing: Sizing) -> dict[int, Held]:
        # Of what is small it does not matter who holds it.
        large = [index for index in chosen if _is_large(sizing.sizes[index])]
        return dict(zip(large, self._holders([roots[index].value for index in large], roots, sizing), strict=True))

    def _roots(self) -> tuple[list[Root], _Places]:
        """The variables, then what the shell keeps: what both have counts for the variable."""
        shell = self._shell
        found = [Root(name, shell.user_ns.get(name)) for name in self._namespace.all_names()]
        # The displayed values are told as those of Out.
        roots = [root for root in found if getattr(shell.displayhook, root.name, None) is not root.value]
        names = frozenset(root.name for root in roots)
        outputs = [Root(f"Out[{number}]", value) for number, value in _outputs(shell)]
        roots += outputs
        error = getattr(sys, "last_value", None)
        if error is not None:  # which has the traceback, whose frames have their variables
            roots.append(Root(_TRACEBACK, error))
        return roots, _Places(names, frozenset(root.name for root in outputs))

    def _fences(self) -> list[object]:
        shell = self._shell
        return [
            *(shell, shell.user_ns, shell.user_ns_hidden, shell.user_ns.get("_oh"), shell.displayhook),
            *(shell.history_manager, shell.last_execution_result, getattr(shell, "kernel", None), self._session),
        ]

    def _holders(self, values: Sequence[object], roots: list[Root], sizing: Sizing) -> list[Held]:
        shell = self._shell
        untold = {id(shell.displayhook), id(shell.last_execution_result)}

        def known_name(referrer: object) -> str | None:
            if type(referrer) is Root or id(referrer) in untold:
                return ""
            owner = sizing.owner(referrer)
            return None if owner is None else roots[owner].name

        namespaces = {id(shell.user_ns): "{}", id(shell.user_ns_hidden): "", id(shell.user_ns.get("_oh")): "Out[{}]"}
        return find_holders(values, known_name=known_name, namespaces=namespaces, deadline_s=HOLDERS_S)


def _streams(roots: Sequence[Root]) -> list[object]:
    """What threads and log handlers write to, if it is no variable: a kernel's lead to much that is the kernel's."""
    variables = {id(root.value) for root in roots}
    return [stream for stream in (sys.stdout, sys.stderr) if id(stream) not in variables]


def _is_large(size: ObjectSize) -> bool:
    return size.size_bytes >= WORTH_SAYING_BYTES or bool(size.whole_held_by)


def _outputs(shell: InteractiveShell) -> list[tuple[int, Any]]:
    kept: Any = shell.user_ns.get("_oh")
    return list(kept.items()) if type(kept) is dict else []


def _entry(size: ObjectSize, held: Held, places: _Places) -> NamespaceEntry:
    whole = set(size.whole_held_by) | set(held.names)
    others = dict.fromkeys((*size.whole_held_by, *size.part_held_by, *held.names))
    others.pop(size.name, None)
    is_variable = size.name in places.variables
    if not is_variable or any(name == _TRACEBACK or name in places.outputs for name in others):
        others = {name: None for name in others if name == _TRACEBACK or not _ALIASES.fullmatch(name)}
    freed: Literal["all", "part", "nothing"] = "all"
    if others:
        freed = "nothing" if whole.intersection(others) else "part"
    return NamespaceEntry(
        name=size.name,
        type_name=size.type_name,
        size_bytes=size.size_bytes,
        complete=size.complete,
        shared_with=tuple(name for name in others if name in places.variables),
        also_held_by=tuple(name for name in others if name not in places.variables),
        freed_by_del=freed if is_variable else None,
        freed_by=places.freed_by(size.name),
        note=size.note,
    )
