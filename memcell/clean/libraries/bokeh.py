"""The document that Bokeh adds plots to when nobody names one: ``curdoc()``."""

from __future__ import annotations

import gc
from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(state: ModuleType) -> None:
    """Begin a new document in its place.

    ``curdoc().clear()`` alone frees nothing, because the emptied document still knows its models. The new one has the
    theme of the old, and where plots are shown (``output_notebook()``) stays as it is, which ``reset()`` would undo.
    """
    if state._STATE is None or not state._STATE.document.roots:
        return
    old = state._STATE.document
    old.clear()  # so that a plot which the user still has belongs to no document, and can be added to the new one
    state._STATE.document = type(old)(theme=old.theme)
    del old
    gc.collect()


CLEANER = library_cleaner(
    "bokeh", "bokeh.io.state", clear, effect="state", about="begins a new document for curdoc()", deep=True
)
