"""Errors that are shown as a line of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn


def raise_shown(error: BaseException, lines: list[str]) -> NoReturn:
    """Raise an error that the shell shows as these lines: its own traceback would only show memcell."""
    render: Callable[[], list[str]] = lambda: lines  # noqa: E731 - an attribute of this error alone
    error._render_traceback_ = render  # type: ignore[attr-defined]
    raise error from None
