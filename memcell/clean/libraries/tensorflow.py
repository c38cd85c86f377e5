"""The graphs of models that are gone, kept by TensorFlow's register of gradients.

Each time a function is traced, ``tf.custom_gradient`` registers a gradient under a new name and for good. It refers to
tensors of the traced graph, and so keeps the graph. Keras uses it in every model that is compiled and fitted, which
is why ``keras.backend.clear_session()`` returns next to nothing.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType

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
    alive = {id(graph) for function in instances_of(functions.ConcreteFunction) for graph in _nested(function.graph)}
    for name, gradient in generated.items():
        graphs = list(_graphs(gradient, ops.SymbolicTensor))
        if graphs and not any(id(outer) in alive for graph in graphs for outer in _nested(graph)):
            del gradients[name]
    del generated, gradient, graphs
    gc.collect()


def _graphs(value: object, tensor: type) -> Iterator[object]:
    """The graphs of the tensors that a function closes over, also through functions and lists that it closes over."""
    if isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            yield from _graphs(cell.cell_contents, tensor)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _graphs(item, tensor)
    elif isinstance(value, tensor):
        yield value.graph  # type: ignore[attr-defined]


def _nested(graph: object) -> Iterator[object]:
    """The graph, and those that it lies within."""
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


CLEANER = library_cleaner(
    "tensorflow",
    "tensorflow.python.framework.ops",
    clear,
    effect="none",
    about="graphs of models that are gone, which TensorFlow's register of gradients keeps",
)
