"""The built-in cleaners of libraries: one file for each, and one line of this table.

A file holds a ``library_cleaner(...)``, whose function is given the library's module. It runs only once that module is
in ``sys.modules``, so it imports neither the library nor anything heavy of it.
"""

from __future__ import annotations

from memcell.clean.cleaner import Cleaner
from memcell.clean.libraries import jax, matplotlib, pyarrow, regex, source_lines, sympy, torch

LIBRARIES: tuple[Cleaner, ...] = (
    regex.CLEANER,
    source_lines.CLEANER,
    matplotlib.CLEANER,
    sympy.CLEANER,
    jax.CLEANER,
    torch.COMPILED,
    torch.POOLS,
    pyarrow.CLEANER,
)
