"""What one shell has of memcell: attached as a whole, detached as a whole."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from memcell.clean.imports import Imports
from memcell.clean.namespace import Namespace
from memcell.ipython import formatters
from memcell.ipython.census import census_taker
from memcell.ipython.completion import make_cleaner_matcher
from memcell.ipython.deep import DeepCleaning
from memcell.ipython.frontend import Frontend
from memcell.ipython.hooks import Hooks
from memcell.ipython.kernel_end import call_at_end
from memcell.ipython.last_death import LastDeath
from memcell.ipython.magics import MEMCLEAN_OPTIONS, MemcellMagics
from memcell.ipython.outputs import shell_cleaners
from memcell.ipython.settings import Memcell
from memcell.ipython.watching import WatchOptions, strip_magic_line

if TYPE_CHECKING:
    from memcell.ipython.fresh import Fresh
    from memcell.ipython.tracing import Top
    from memcell.records.sized import NamespaceSizes
    from memcell.session import Session


class Extension:
    """Connects a session to a shell.

    Args:
        shell: The shell.
        session: The session of this process.
    """

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        self._shell = shell
        self._session = session
        self.settings = Memcell(parent=shell, session=session)
        self.frontend = Frontend(shell, session)
        imports = Imports(stays=lambda: getattr(shell.extension_manager, "loaded", ()))
        self._namespace = Namespace(shell.user_ns, shell.user_ns_hidden, imports)
        self.deep = DeepCleaning(session, self._namespace)
        self.hooks = Hooks(shell, session, self.frontend, self.settings, self.deep, self._fresh, self._top)
        set_limit = functools.partial(setattr, self.settings, "limit")
        self.magics = MemcellMagics(
            shell, session, self.frontend, self.hooks, self.deep, self._sizes, self._repeat, set_limit
        )

    def attach(self) -> Callable[[], None]:
        """Connect everything, or nothing if a step fails; returns what takes it all away again."""
        shell = self._shell
        with ExitStack() as undo:
            configurables: list[Any] = shell.configurables
            configurables.append(self.settings)
            undo.callback(_remove, configurables, self.settings)
            undo.callback(_remove, configurables, self.magics)  # put there by the base class of magics

            shell.register_magics(self.magics)
            undo.callback(self._remove_magics)

            shell.input_transformers_cleanup.append(strip_magic_line)
            undo.callback(_remove, shell.input_transformers_cleanup, strip_magic_line)

            matcher = make_cleaner_matcher(self._session.cleaning.catalogue.names, MEMCLEAN_OPTIONS)
            shell.Completer.custom_matchers.append(matcher)
            undo.callback(_remove, shell.Completer.custom_matchers, matcher)

            undo.callback(formatters.register(shell, self._session))
            undo.callback(self._session.cleaning.catalogue.extend(shell_cleaners(shell)))
            self._session.take_census = census_taker(shell)
            undo.callback(setattr, self._session, "take_census", None)
            log_notice, self._session.cleaning.tell = self._session.cleaning.tell, self.hooks.tell
            undo.callback(setattr, self._session.cleaning, "tell", log_notice)
            undo.callback(self.frontend.close_live)
            undo.callback(self._session.close_all)
            _ = self._session.processes  # from here on what cells start is marked
            undo.callback(self._session.forget_processes)
            undo.callback(self._session.configure, end_children=False)
            undo.callback(call_at_end(shell, self._session.end_at_exit, self._session.close_all))
            undo.enter_context(self.hooks)
            undo.enter_context(LastDeath(shell, self.frontend, self.settings))
            return undo.pop_all().close

    def _repeat(self, options: WatchOptions, cell: str) -> Awaitable[None] | None:
        from memcell.ipython.repeat import Repeat  # loaded when it is first asked for

        repeat = Repeat(self._shell, self._session, self.frontend, self.hooks, options, cell, self._top)
        return repeat.start()

    def _fresh(self) -> Fresh:
        from memcell.ipython.fresh import Fresh
        from memcell.ipython.memtop import Memtop

        return Fresh(self._shell, self._session, Memtop(self._shell, self._session, self._namespace).entries)

    def _top(self, number: int, count: int) -> Top:
        from memcell.ipython.tracing import Top

        return Top(self._shell, self._session, number, count)

    def _sizes(self, count: int) -> NamespaceSizes:
        with self._session.meter.own():
            from memcell.ipython.memtop import Memtop  # loaded when it is first asked for
        return Memtop(self._shell, self._session, self._namespace).look(count)

    def _remove_magics(self) -> None:
        manager = self._shell.magics_manager
        manager.registry.pop(type(self.magics).__name__, None)
        for kind, names in self.magics.magics.items():
            for name in names:
                if getattr(manager.magics[kind].get(name), "__self__", None) is self.magics:
                    del manager.magics[kind][name]


def _remove(items: list[Any], item: object) -> None:
    if item in items:
        items.remove(item)
