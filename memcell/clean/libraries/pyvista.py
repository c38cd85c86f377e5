"""The plotters that PyVista keeps, with their meshes and VTK render windows, until they are closed."""

from __future__ import annotations

import gc
from types import ModuleType

from memcell.clean.cleaner import library_cleaner


def clear(plotter: ModuleType) -> None:
    """Close them, and collect them. An actor that ``add_mesh`` returned, and ``Out`` kept, holds its mesh still."""
    if not plotter._ALL_PLOTTERS:
        return
    plotter.close_all()
    gc.collect()


CLEANER = library_cleaner(
    "pyvista", "pyvista.plotting.plotter", clear, effect="state", about="closes all plotters", deep=True
)
