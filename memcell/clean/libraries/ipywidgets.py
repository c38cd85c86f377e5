"""The widgets that ipywidgets keeps, with all their data, until they are closed."""

from __future__ import annotations

import gc
from types import ModuleType
from typing import Any

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.closing import for_each

#: A widget with a true attribute of this name stays open, and so do its layout and style. memcell's live view has it.
KEEP = "memcell_keep"


def clear(widget: ModuleType) -> None:
    """Close all widgets; also layouts and styles, which are widgets too and which a widget's own ``close`` leaves."""
    kept = {id(part) for one in widget._instances.values() if getattr(one, KEEP, False) for part in _parts(one)}
    closing = [one for one in list(widget._instances.values()) if id(one) not in kept]
    if not closing:
        return
    try:
        for_each(closing, lambda one: one.close())
    finally:
        closing.clear()
        gc.collect()  # a widget and its comm refer to each other


def _parts(widget: Any) -> tuple[Any, ...]:
    return widget, getattr(widget, "layout", None), getattr(widget, "style", None)


CLEANER = library_cleaner(
    "ipywidgets",
    "ipywidgets.widgets.widget",
    clear,
    effect="state",
    about=f"closes all widgets with their layouts and styles, except those with a true {KEEP}",
    deep=True,
)
