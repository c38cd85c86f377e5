"""Libraries that are imported when a test uses them, not when it is collected."""

from __future__ import annotations

import importlib
from typing import Any


class Lazily:
    """Stands for a module that is imported when something of it is first used.

    All tests are collected before the first one runs. What collecting imports makes the process large in which the
    shell's tests then measure and count objects: they took two and a half times as long.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest asks every name in a test module whether it is a fixture or a test
            raise AttributeError(name)
        return getattr(importlib.import_module(self._module), name)
