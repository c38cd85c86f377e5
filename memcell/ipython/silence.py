"""Swallowing what a cell shows while it is run again: prints, displays and values, but no error.

Values are still formatted, as they would be if they were shown: what a library's repr keeps belongs to the run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell


class Silence:
    """A context in which a shell shows errors only. It can be entered again and again, one time within none other.

    Args:
        shell: The shell.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._is_entered = self._is_on = False
        self._streams: tuple[Any, Any] | None = None
        self._before: tuple[Any, ...] = ()

    def __enter__(self) -> Silence:
        shell = self._shell
        trap = shell.display_trap
        self._before = (sys.stdout, sys.stderr, sys.displayhook, trap.hook, shell.display_pub)
        if self._streams is None:
            self._streams = (_Muted(sys.stdout, self._is_silent), _Muted(sys.stderr, self._is_silent))
        sys.stdout, sys.stderr = self._streams
        # The trap sets its own hook where no cell is running.
        sys.displayhook = trap.hook = self._format_only
        publisher: Any = _MutedPublisher(shell.display_pub, self._is_silent)
        shell.display_pub = publisher
        self._showtraceback, self._had_own = shell.showtraceback, "showtraceback" in vars(shell)
        shell.showtraceback = self._show_error  # type: ignore[method-assign] # every error comes by here
        self._is_entered = self._is_on = True
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let everything be shown again. May be called twice."""
        if not self._is_entered:
            return
        self._is_entered = self._is_on = False
        shell = self._shell
        if self._had_own:
            shell.showtraceback = self._showtraceback  # type: ignore[method-assign]
        else:
            del shell.showtraceback
        sys.stdout, sys.stderr, sys.displayhook, shell.display_trap.hook, shell.display_pub = self._before

    def _is_silent(self) -> bool:
        return self._is_on

    def _show_error(self, *arguments: Any, **options: Any) -> None:
        self._is_on = False
        try:
            self._showtraceback(*arguments, **options)
        finally:
            self._is_on = self._is_entered

    def _format_only(self, value: object) -> None:
        if value is not None and self._shell.display_formatter is not None and not self._shell.displayhook.quiet():
            self._shell.display_formatter.format(value)


class _Muted:
    """A stream that writes nothing while it is silent. Whoever keeps it, as a logging handler does, writes later."""

    def __init__(self, stream: Any, is_silent: Callable[[], bool]) -> None:
        self._stream = stream
        self._is_silent = is_silent

    def write(self, text: str) -> int:
        return len(text) if self._is_silent() else int(self._stream.write(text) or 0)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _MutedPublisher:
    """A display publisher that publishes nothing while it is silent."""

    def __init__(self, publisher: Any, is_silent: Callable[[], bool]) -> None:
        self._publisher = publisher
        self._is_silent = is_silent

    def publish(self, *arguments: Any, **options: Any) -> None:
        if not self._is_silent():
            self._publisher.publish(*arguments, **options)

    def clear_output(self, *arguments: Any, **options: Any) -> None:
        if not self._is_silent():
            self._publisher.clear_output(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)
