"""Tells once, after memcell was loaded, that the last kernel in this folder has died."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

if TYPE_CHECKING:
    from memcell.ipython.frontend import Frontend
    from memcell.ipython.settings import Memcell

logger = logging.getLogger("memcell")


class LastDeath:
    """Waits, between ``__enter__`` and ``__exit__``, for the end of the first cell.

    That is the one with ``%load_ext memcell``, or the user's first one where a configuration loads memcell: what is
    shown before any cell runs is seen by nobody.
    """

    def __init__(self, shell: InteractiveShell, frontend: Frontend, settings: Memcell) -> None:
        self._shell = shell
        self._frontend = frontend
        self._settings = settings
        self._is_told = False

    def __enter__(self) -> LastDeath:
        self._shell.events.register("post_run_cell", self.post_run_cell)
        return self

    def __exit__(self, *_: object) -> None:
        if self.post_run_cell in self._shell.events.callbacks["post_run_cell"]:
            self._shell.events.unregister("post_run_cell", self.post_run_cell)

    def post_run_cell(self, _result: ExecutionResult) -> None:
        """After the first cell."""
        self.__exit__()
        if self._is_told or self._settings.show == "never":
            return
        self._is_told = True
        try:
            self._frontend.show_last_death()
        except Exception as error:
            logger.info("memcell: a kernel has died here, but its black box cannot be shown: %s", error)
