"""The syntax trees of every file that a traceback went through, kept for IPython's tracebacks."""

from __future__ import annotations

import ast
import functools
import gc
from types import ModuleType

from memcell.clean.cleaner import library_cleaner

#: Holds every operator and context. Python has one node of each for all trees, and that node's ``parent``, which
#: executing sets, is in the tree where it was met last.
_OPERATORS = """
a = b; del a
a and b or not c
~a + -b - +c * d @ e / f % g ** h << i >> j | k ^ l & m // n
a == b != c < d <= e > f >= g is h is not i in j not in k
"""


def clear(executing: ModuleType) -> None:
    """Forget the trees.

    Each class of sources has them in dicts of its own, and the functions that look statements up are under
    ``functools.lru_cache``, whose arguments are the trees again.
    """
    sources = [executing.Source, *executing.Source.__subclasses__()]
    cleared = False
    for owner in (executing, *sources):
        for name, value in list(vars(owner).items()):
            if type(value) is functools._lru_cache_wrapper:
                value.cache_clear()
            elif type(value) is dict and owner is not executing and "_cache" in name and value:
                value.clear()
                cleared = True
    if cleared:
        for node in ast.walk(ast.parse(_OPERATORS)):
            vars(node).pop("parent", None)
        gc.collect()  # the nodes of a tree know their parents


CLEANER = library_cleaner(
    "executing",
    "executing.executing",
    clear,
    effect="recompute",
    about="syntax trees of the files that tracebacks went through",
)
