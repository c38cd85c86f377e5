"""How many bytes some objects hold, as far as that can be told without running any code of theirs.

Objects are followed as the garbage collector follows them. What cannot be seen this way, memory of C behind a small
object, is said to be there.
"""

from __future__ import annotations

import builtins
import gc
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from memcell import looking
from memcell.explain.inside import objects_in_array

#: Classes whose own size is all there is to them.
_PLAIN_MODULES = frozenset(
    {"builtins", "_thread", "_weakref", "weakref", "datetime", "decimal", "_decimal", "collections", "_collections"}
    | {
        "_abc",
        "_asyncio",
        "_contextvars",
        "_functools",
        "functools",
        "itertools",
        "operator",
        "_queue",
        "_random",
        "re",
    }
    | {"_struct", "types", "typing", "_io", "_operator", "enum"}
)
#: Python objects whose memory is in other threads or processes.
_RUNNING = frozenset(
    {"threading.Thread", "multiprocessing.process.BaseProcess", "multiprocessing.pool.Pool", "subprocess.Popen"}
    | {"concurrent.futures._base.Executor", "asyncio.subprocess.Process"}
)
#: These, and a class of the interpreter that does not tell its size.
_UNSEEN = _RUNNING | {"_io.StringIO"}
_EMPTY: tuple[Any, ...] = ((), [], {}, set(), "", b"", bytearray(), range(0), {}.keys(), {}.values(), {}.items())
#: Classes of the interpreter: those with a name in ``builtins`` or ``types``, and what views and loops are made of.
_BUILT_IN = frozenset(
    one
    for one in (*vars(builtins).values(), *vars(types).values(), *map(type, _EMPTY), *map(type, map(iter, _EMPTY)))
    if isinstance(one, type)
)
_STOP: tuple[type, ...] = (types.ModuleType, type, types.CodeType, types.BuiltinFunctionType)
_BASICSIZE: Any = vars(type)["__basicsize__"]
#: Where a class keeps the dict and the list of weak references of its objects; not above 0 where not among the fields.
_OFFSETS: tuple[Any, ...] = (vars(type)["__dictoffset__"], vars(type)["__weakrefoffset__"])
_HEADER_BYTES = object.__basicsize__
_POINTER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Weight:
    """What some objects hold: bytes that were seen, and whether there may be more that was not.

    ``opaque`` where that is memory of C, or more objects than are followed; ``cut`` in the latter case.
    """

    seen_bytes: int
    opaque: bool
    cut: bool = False


Gauge = Callable[[Any], int]


class Scale:
    """Weighs objects. Holds classes, no objects; meant to be used for a moment and dropped.

    Args:
        stop: Identities of objects that belong to others: what they hold is not counted.
        objects: How many objects one weighing follows at most.
    """

    def __init__(self, stop: set[int], objects: int = 5_000) -> None:
        self._stop = stop
        self._objects = objects
        self._data_gauge = looking.ByClass(_data_gauge)
        self._size_gauge = looking.ByClass(_size_gauge)
        self._hides_memory = looking.ByClass(hides_memory)

    def weigh(self, values: Iterable[object]) -> Weight:
        """The bytes of these objects and of all that they hold."""
        pending = list(values)
        seen = {id(value) for value in pending}
        total, opaque, left = 0, False, self._objects
        while pending and left:
            left -= 1
            value = pending.pop()
            kind = type(value)
            data = self.data_bytes(value)
            if data is not None:
                held: list[Any] = []
                total += data
                base = _array_base(value)
                if base is not None:  # a view: the memory is that of another
                    total -= data
                    held = [base]
                elif kind is memoryview:
                    total -= data
                    held = gc.get_referents(value)
                objects = objects_in_array(value)
                held += objects
                opaque = opaque or (not objects and _hides_more(value))
            elif kind is types.FunctionType:
                held = _held_by_function(value)
            elif kind is types.FrameType:  # of a traceback: the frames that called it lead to the whole shell
                total += self.own_bytes(value)
                held = [one for one in gc.get_referents(value) if type(one) is not types.FrameType]
            elif issubclass(kind, _STOP) and not (issubclass(kind, type) and _is_made_anew(value)):
                continue
            else:
                total += self.own_bytes(value)
                opaque = opaque or self._hides_memory(kind)
                held = gc.get_referents(value)
            for one in held:
                identity = id(one)
                if identity not in seen and identity not in self._stop:
                    seen.add(identity)
                    pending.append(one)
        return Weight(total, opaque or bool(pending), cut=bool(pending))

    def data_bytes(self, value: object) -> int | None:
        """The bytes of an array, column or frame of a library that tells them in C; None for anything else."""
        gauge = self._data_gauge(type(value))
        try:
            return None if gauge is None else int(gauge(value))
        except Exception:  # a deleted buffer, a tensor without storage
            return None

    def own_bytes(self, value: object) -> int:
        """The bytes of an object itself, without what it holds."""
        try:
            return self._size_gauge(type(value))(value)
        except Exception:  # an extension type that does not keep its word
            return 0


def hides_memory(kind: type) -> bool:
    """Whether objects of a class may hold memory that the interpreter does not see: those with fields made in C."""
    slots = 0
    for base in looking.mro(kind):
        if looking.class_name(base) in _UNSEEN:
            return True
        names = looking.class_names(base)
        if "__slots__" in names:
            slots += sum(type(slot) is types.MemberDescriptorType for slot in names.values())
        elif base is not object and _is_the_interpreters(base):
            return False
    pointers = slots + sum(offset.__get__(kind) > 0 for offset in _OFFSETS)
    fields = cast(int, _BASICSIZE.__get__(kind)) - _HEADER_BYTES - pointers * _POINTER_BYTES
    return bool(fields > 0)


def _is_the_interpreters(kind: type) -> bool:
    """Whether a class is one of Python's own of which everything can be seen."""
    module = looking.class_module(kind)
    # Extensions that give their classes no module, such as Pillow's, say that these are built in.
    return kind in _BUILT_IN if module == "builtins" else module in _PLAIN_MODULES


def _is_made_in_c(kind: type) -> bool:
    return not kind.__flags__ & (1 << 9)  # Py_TPFLAGS_HEAPTYPE: what a class statement makes


def _is_made_anew(kind: Any) -> bool:
    """Whether a class is one that a cell makes: the user's, or not the one that its module has under its name."""
    home = looking.class_module(kind)
    if home == "__main__":
        return True
    if home in _PLAIN_MODULES:  # such as a lock's, which has no name there
        return False
    module = sys.modules.get(home)
    name = looking.class_name(kind).rpartition(".")[2]
    return not _is_made_in_c(kind) and looking.module_names(module).get(name) is not kind


def _size_gauge(kind: type) -> Gauge:
    if any(looking.class_module(base) == "_ctypes" for base in looking.mro(kind)):
        return cast(Gauge, looking.module_names(sys.modules.get("_ctypes"))["sizeof"])
    for base in looking.mro(kind):
        found = looking.class_names(base).get("__sizeof__")
        if type(found) is types.MethodDescriptorType:
            return cast(Gauge, found)
    return object.__sizeof__


def _data_gauge(kind: type) -> Gauge | None:
    """How objects of this class tell their bytes, by code of the library and in C only."""
    module = looking.class_module(kind).partition(".")[0]
    # Classes that are made in Rust say that they are built in.
    if module == "builtins" and kind is not memoryview and _is_made_in_c(kind):
        return None
    if module in ("torch", "jaxlib"):
        return _torch_gauge(kind) if module == "torch" else _jax_gauge(kind)
    for name in ("nbytes", "estimated_size"):
        found = looking.in_class(kind, name)
        if looking.is_proxy(kind):
            return None
        if type(found) is types.GetSetDescriptorType:
            return cast(Gauge, found.__get__)
        if type(found) is types.MethodDescriptorType and name == "estimated_size":
            return cast(Gauge, found)
    return None


def _torch_gauge(kind: type) -> Gauge | None:
    torch = sys.modules.get("torch")
    known = [looking.module_names(torch).get("Tensor")]
    known.append(looking.module_names(sys.modules.get("torch.nn.parameter")).get("Parameter"))
    # Other subclasses may handle what they are asked in Python.
    return (lambda tensor: tensor.numel() * tensor.element_size()) if any(kind is one for one in known) else None


def _jax_gauge(kind: type) -> Gauge | None:
    found = looking.in_class(kind, "nbytes")
    return cast("Gauge | None", found.fget) if type(found) is property else None


def _ndarray() -> Any:
    return looking.module_names(sys.modules.get("numpy")).get("ndarray")


def _array_base(value: object) -> object | None:
    array = _ndarray()
    if array is None or not issubclass(type(value), array):
        return None
    base: object | None = looking.class_names(array)["base"].__get__(value)
    return base


def _hides_more(value: object) -> bool:
    """Whether data holds more than it tells: an array of objects, a tensor with the graph that made it."""
    kind, array = type(value), _ndarray()
    if array is not None and issubclass(kind, array):
        return bool(looking.class_names(array)["dtype"].__get__(value).hasobject)
    if looking.class_module(kind).partition(".")[0] == "torch":
        return looking.in_class(kind, "grad_fn").__get__(value) is not None
    return False


def _held_by_function(function: Any) -> list[Any]:
    """What a function holds of its own: not its globals, which are its module's."""
    return [*(function.__closure__ or ()), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
