"""The graphs of models that are gone, kept by TensorFlow's register of gradients.

Each time a function is traced, ``tf.custom_gradient`` registers a gradient under a new name and for good. It refers to
tensors of the traced graph, and so keeps the graph. Keras uses it in every model that is compiled and fitted, which
is why ``keras.backend.clear_session()`` returns next to nothing.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import CellType, FunctionType, ModuleType
from typing import Any

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.instances import instances_of

_GENERATED = "CustomGradient-"


def clear(ops: ModuleType) -> None:
    """Take the generated gradients of those graphs out that no function of the user's can call any more."""
    functions = sys.modules["tensorflow.python.eager.polymorphic_function.concrete_function"]
    gradients = ops.gradient_registry._registry
    generated = {name: entry["type"] for name, entry in list(gradients.items()) if name.startswith(_GENERATED)}
    if not generated:
        return
    gc.collect()  # functions that are gone may be in reference cycles
    alive = {id(function.graph) for function in instances_of(functions.ConcreteFunction)}
    for name, gradient in generated.items():
        graphs = list(_graphs(gradient, ops.SymbolicTensor))
        if graphs and not any(id(outer) in alive for graph in graphs for outer in _nested(graph)):
            del gradients[name]
    del generated, gradient, graphs
    gc.collect()
    sys.modules["tensorflow.python.eager.context"].context().clear_kernel_cache()  # what was compiled for those graphs


def _graphs(function: object, tensor: Any) -> Iterator[object]:
    """The graphs of whose tensors a function knows, also through the functions and lists that it closes over."""
    known, waiting = set[int](), [function]
    while waiting:
        value = waiting.pop()
        if id(value) in known:  # a function may close over itself
            continue
        known.add(id(value))
        if isinstance(value, FunctionType):
            waiting += [item for cell in value.__closure__ or () for item in _contents(cell)]
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, tensor) and hasattr(value.graph, "outer_graph"):  # others are no function's
            yield value.graph


def _contents(cell: CellType) -> Iterator[object]:
    try:
        yield cell.cell_contents
    except ValueError:  # a name that has no value yet
        return


def _nested(graph: Any) -> Iterator[object]:
    """The graph of a function or loop, and those of the functions that it lies within."""
    while hasattr(graph, "outer_graph"):
        yield graph
        graph = graph.outer_graph


CLEANER = library_cleaner(
    "tensorflow",
    "tensorflow.python.framework.ops",
    clear,
    effect="recompute",
    about="graphs of models that are gone, which TensorFlow's register of gradients keeps",
)
