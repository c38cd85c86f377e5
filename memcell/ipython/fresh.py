"""``%%memwatch --fresh``: drops large variables that a cell is about to bind anew, just before it does.

Run again, ``x = make()`` holds the old and the new value together, and so peaks at twice the size. With the old one
dropped first it peaks as the first run did. That is done only where nobody can want the old value any more.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from IPython.core.interactiveshell import InteractiveShell

from memcell.ipython.readers import Readers, why_value_stays
from memcell.ipython.rebinding import Rebinding, rebindings, with_drops
from memcell.records.explained import FreshReport, LeftName
from memcell.units import MIB

if TYPE_CHECKING:
    from memcell.records.sized import NamespaceEntry
    from memcell.session import Session

logger = logging.getLogger("memcell")

#: Smaller values are left: they are not worth losing a value should the cell fail.
LEAST_BYTES = MIB


class Fresh(ast.NodeTransformer):
    """Rewrites the next cell that the shell compiles, and that one only, from ``__init__`` to ``end``.

    Args:
        shell: The shell.
        session: The session of this process.
        entries: Tells of variables how large they are and what else holds them.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        entries: Callable[[Collection[str]], dict[str, NamespaceEntry]],
    ) -> None:
        self._shell = shell
        self._session = session
        self._entries = entries
        self._has_seen_cell = False
        self._drops: list[tuple[str, int, int]] = []  # the name, the size, and the identity of the old value
        self._left: list[LeftName] = []
        shell.ast_transformers.append(self)

    def visit(self, tree: ast.AST) -> ast.AST:
        """What the shell calls with the tree of the cell. A failure leaves the cell as it is."""
        if self._has_seen_cell or not isinstance(tree, ast.Module):  # a cell that this one runs, or %timeit
            return tree
        self._has_seen_cell = True
        try:
            with self._session.meter.own():
                drops = self._plan(tree)
        except Exception as error:
            logger.warning("memcell: --fresh failed: %s: %s; nothing is dropped", type(error).__name__, error)
            return tree
        return with_drops(tree, drops)

    def end(self, error: BaseException | None) -> FreshReport:
        """The cell is over. May be called twice.

        Args:
            error: What it raised.
        """
        if self in self._shell.ast_transformers:
            self._shell.ast_transformers.remove(self)
        names = self._shell.user_ns
        # A cell that failed before the assignment still has the old value.
        dropped = [drop for drop in self._drops if error is None or id(names.get(drop[0])) != drop[2]]
        return FreshReport(
            dropped=tuple((name, size) for name, size, _ in dropped),
            left=tuple(self._left),
            # A cell that did not fail has deleted the new value by itself.
            lost=tuple(name for name, _, _ in dropped if name not in names) if error is not None else (),
        )

    def _plan(self, tree: ast.Module) -> list[Rebinding]:
        shell = self._shell
        names = shell.user_ns
        found = [
            rebinding
            for rebinding in rebindings(tree)
            if rebinding.name in names and names[rebinding.name] is not shell.user_ns_hidden.get(rebinding.name, tree)
        ]
        if not found:
            return []
        entries = self._entries([rebinding.name for rebinding in found])
        readers = Readers(names, shell)
        drops = []
        for rebinding in found:
            name = rebinding.name
            entry = entries.get(name)
            if entry is None or not (entry.size_bytes >= LEAST_BYTES or entry.shared_with):
                continue
            why = (
                rebinding.why_not
                or _gate(rebinding.reads & readers.dynamic)
                or readers.why_not(name)
                or why_value_stays(names[name])
                or _holders(entry)
            )
            if why:
                self._left.append(LeftName(name, entry.size_bytes, why))
            else:
                drops.append(rebinding)
                self._drops.append((name, entry.size_bytes, id(names[name])))
        return drops


def _gate(names: frozenset[str]) -> str:
    return f"the cell uses {min(names)}, which may read any variable" if names else ""


def _holders(entry: NamespaceEntry) -> str:
    """What holds all of a value beside its name: then nothing is gained."""
    if entry.freed_by_del != "nothing":
        return ""
    others = (*entry.shared_with, *entry.also_held_by)
    is_shells = any(name.startswith("Out[") or name == "sys.last_traceback" for name in others)
    hint = "; %memclean --deep lets the shell's own go" if is_shells else ""
    return f"nothing would be gained, {' and '.join(others[:3])} holds it too{hint}"
