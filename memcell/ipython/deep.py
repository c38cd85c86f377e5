"""Clean-ups that reach into the notebook: what the shell keeps, the user's variables, the modules they imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memcell.clean.cleaner import Cleaner

if TYPE_CHECKING:
    from memcell.clean.namespace import Namespace
    from memcell.records.cleaned import CleanReport, ModuleOutcome, Variable
    from memcell.records.protected import ChildProcess, EndOutcome
    from memcell.session import Session


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a clean-up goes beyond caches.

    Attributes:
        deep: What the shell keeps, figures and widgets.
        variables: The variables that the user created since memcell was loaded.
        keep: Variables that stay.
        larger_than: Only arrays and data frames from this size on, in bytes.
        modules: The modules that were imported since.
        processes: The processes that cells started and nobody detached.
    """

    deep: bool = False
    variables: bool = False
    keep: tuple[str, ...] = ()
    larger_than: int | None = None
    modules: bool = False
    processes: bool = False


@dataclass(frozen=True, slots=True)
class Reached:
    """What such a clean-up took away beside what the report says, or would take away."""

    variables: tuple[Variable, ...] = ()
    modules: tuple[ModuleOutcome, ...] = ()
    children: tuple[ChildProcess, ...] = ()
    ended: tuple[EndOutcome, ...] = ()


class DeepCleaning:
    """Runs clean-ups of any reach on one shell's namespace. Each part is a cleaner, so it is measured like one.

    Args:
        session: The session of this process.
        namespace: The user's variables and imports.
    """

    def __init__(self, session: Session, namespace: Namespace) -> None:
        self._session = session
        self._namespace = namespace

    def plan(self, reach: Reach) -> Reached:
        """What a clean-up would remove.

        Raises:
            UnknownVariableError: A variable to keep does not exist.
        """
        return Reached(
            tuple(self._namespace.variables(keep=reach.keep, larger_than=reach.larger_than)) if reach.variables else (),
            tuple(self._namespace.modules()) if reach.modules else (),
            tuple(self._session.processes.children()) if reach.processes else (),
        )

    def clean(self, names: Sequence[str], reach: Reach) -> tuple[CleanReport, Reached]:
        """Run cleaners, and remove what the reach says.

        Raises:
            UnknownVariableError: A variable to keep does not exist; nothing has run then.
            UnknownCleanerError: A name is not known; nothing has run then.
        """
        variables: list[Variable] = []
        modules: list[ModuleOutcome] = []
        ended: list[EndOutcome] = []
        more = []
        if reach.variables:
            keep, larger_than = reach.keep, reach.larger_than
            self._namespace.variables(keep=keep, larger_than=larger_than)  # a wrong name is told before anything runs
            more.append(
                _once(
                    "variables",
                    lambda: variables.extend(self._namespace.remove_variables(keep=keep, larger_than=larger_than)),
                )
            )
        if reach.modules:
            more.append(_once("modules", lambda: modules.extend(self._namespace.drop_modules())))
        if reach.processes:
            more.append(_once("processes", lambda: ended.extend(self._session.processes.end())))
        report = self._session.cleaning.clean(*names, deep=reach.deep, more=more)
        left = tuple(self._session.processes.children()) if reach.processes else ()
        return report, Reached(tuple(variables), tuple(modules), left, tuple(ended))

    def reset(self) -> None:
        """Leave nothing of what ran: displayed values, tracebacks, variables, modules, garbage."""
        self._session.cleaning.clean("out", "traceback", "gc", "trim", more=[_once("namespace", self._namespace.reset)])


def _once(name: str, clear: object) -> Cleaner:
    return Cleaner(name, "state", "built-in", "memcell", lambda: clear)  # type: ignore[arg-type, return-value]
