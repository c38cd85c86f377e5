"""The ``;`` at the end of a cell that memcell runs: it holds the value back, as it does where the cell runs as itself.

The shell looks for it at the end of its history, where the cell that calls the magic is.
"""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell


class Semicolon:
    """A context in which a shell looks for the ``;`` in a cell's own text. It can be entered again and again.

    Args:
        shell: The shell.
        cell: The cell.
    """

    def __init__(self, shell: InteractiveShell, cell: str) -> None:
        self._shell = shell
        self._cell = cell
        self._code: str | None = None
        self._is_entered = False
        self._cells_before = 0
        self._own: dict[str, Any] = {}

    def __enter__(self) -> Semicolon:
        hook: Any = self._shell.displayhook
        self._cells_before = self._cells()
        self._own = {name: value for name, value in vars(hook).items() if name == "quiet"}
        hook.quiet = self._is_quiet
        self._is_entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let the shell look where it did before. May be called twice."""
        if not self._is_entered:
            return
        self._is_entered = False
        names = vars(self._shell.displayhook)
        del names["quiet"]
        names.update(self._own)

    def _is_quiet(self) -> bool:
        hook: Any = self._shell.displayhook
        if self._cells() != self._cells_before:  # another cell, which the cell runs and which has a line of its own
            return bool(type(hook).quiet(hook))
        if self._code is None:
            self._code = self._shell.transform_cell(self._cell)
        return bool(hook.semicolon_at_end_of_expression(self._code))

    def _cells(self) -> int:
        manager = self._shell.history_manager
        return 0 if manager is None else len(manager.input_hist_parsed)
