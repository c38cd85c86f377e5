"""Who may read a variable of the notebook by its name while a cell runs: the functions that live, wherever they are.

A function has the namespace in which it was defined as its globals, so the garbage collector finds every one that was
defined in the notebook by who refers to that namespace: also those that only a library, a thread or a class has.
"""

from __future__ import annotations

import builtins
import dis
import gc
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping

from memcell.ipython.rebinding import DYNAMIC_ATTRIBUTES, DYNAMIC_NAMES, READERS, looks_read, mentions

_GLOBAL_OPCODES = frozenset(
    {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "STORE_NAME", "DELETE_GLOBAL", "DELETE_NAME"}
    | {"LOAD_FROM_DICT_OR_GLOBALS", "LOAD_CLASSDEREF"}
)
_NAMED_OPCODES = _GLOBAL_OPCODES | {"LOAD_ATTR", "LOAD_METHOD", "IMPORT_NAME", "IMPORT_FROM"}


#: Code at the top level of a cell or module, which is running: what it reads later is bound again by then.
_TOP_LEVEL = ("<module>", "<cell line")
_CO_HAS_DOCSTRING = 0x4000000  # from CPython 3.13 on


class Readers:
    """The code that may run and can see the variables of a notebook.

    Args:
        names: The namespace of the notebook.
        shell: The shell: what a name that is bound to it can do, nobody can tell.
    """

    def __init__(self, names: Mapping[str, object], shell: object) -> None:
        main = sys.modules.get("__main__")
        gates = [names, shell, main, *(vars(builtins)[name] for name in ("eval", "exec", "globals", "locals", "vars"))]
        aliases = {name for name, value in names.items() if any(value is gate for gate in gates)}
        #: Names that reach any variable.
        self.dynamic = DYNAMIC_NAMES | aliases
        self._doubt = _module_with(main)
        self._codes = list(_codes(names))

    def why_not(self, name: str) -> str:
        """Why the value of a variable has to stay while a cell runs; empty if no code reads it by its name."""
        if self._doubt:
            return self._doubt
        for words, code in self._codes:
            for part in _nested(code):
                why = self._why_not(name, part, words)
                if why:
                    return why
        return ""

    def _why_not(self, name: str, code: types.CodeType, words: str) -> str:
        if any(looks_read(text) and mentions(text, name) for text in _texts(code)):
            return f"a text in {words} names it"
        # Taking code apart is slow; most mentions none of these.
        watched = {name} | self.dynamic | DYNAMIC_ATTRIBUTES | READERS
        if watched.isdisjoint(code.co_names):
            return ""
        steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "PRECALL")]
        for step, following in zip(steps, [*steps[1:], steps[-1]], strict=True):
            is_global = step.opname in _GLOBAL_OPCODES
            if is_global and step.argval == name:
                return f"{words} reads it"
            if step.argval in (self.dynamic if is_global else ()) or (
                step.opname in _NAMED_OPCODES and step.argval in DYNAMIC_ATTRIBUTES
            ):
                return f"{words} uses {step.argval}, which may read any variable"
            is_empty_call = following.opname.startswith("CALL") and following.arg == 0
            if step.opname in _NAMED_OPCODES and step.argval in READERS and not is_empty_call:
                return f"{words} calls {step.argval}(), which may read variables by their names in a text"
        return ""


def why_value_stays(value: object) -> str:
    """Why a value has to live on for what it is, whoever reads its name."""
    if any("__del__" in vars(kind) for kind in type(value).__mro__):
        return "it has a finalizer, which would run earlier"
    is_pandas = type(value).__module__.partition(".")[0] == "pandas"  # which has weak references of its own
    for reference in weakref.getweakrefs(value):
        if reference.__callback__ is None and (is_pandas or _is_ours(reference)):
            continue
        return "something refers to it weakly"
    return ""


def _is_ours(reference: object) -> bool:
    holders = [holder for holder in gc.get_referrers(reference) if not isinstance(holder, (types.FrameType, list))]
    return bool(holders) and all(type(holder).__module__.startswith("memcell.") for holder in holders)


def _codes(names: Mapping[str, object]) -> Iterator[tuple[str, types.CodeType]]:
    """The code of all functions, generators and frames whose globals these names are, with the words for it."""
    for referrer in gc.get_referrers(names):
        if type(referrer) is types.FunctionType and referrer.__globals__ is names:
            name, code = referrer.__qualname__, referrer.__code__
        elif type(referrer) is types.FrameType and referrer.f_globals is names:
            name, code = referrer.f_code.co_name, referrer.f_code
        else:
            continue
        if not code.co_name.startswith(_TOP_LEVEL):
            yield _words(name), code


def _words(qualified_name: str) -> str:
    name = qualified_name.rpartition(".")[2] if "<" in qualified_name else qualified_name
    return {"<lambda>": "a lambda", "<genexpr>": "a generator"}.get(name, f"{name}()")


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _texts(code: types.CodeType) -> Iterator[str]:
    """The texts in a code object, without its docstring."""
    constants = code.co_consts
    if sys.version_info >= (3, 13):
        has_docstring = bool(code.co_flags & _CO_HAS_DOCSTRING)
    else:
        has_docstring = bool(code.co_flags & 1) and not code.co_name.startswith("<")  # of a function
    yield from _texts_in(constants[1:] if has_docstring else constants)


def _texts_in(constants: Iterable[object]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, (tuple, frozenset)):
            yield from _texts_in(constant)


def _module_with(main: object) -> str:
    """A module that has the notebook's own among its names, and so may read any variable; empty without one."""
    known = {*sys.stdlib_module_names, "IPython", "ipykernel", "debugpy", "memcell", "__main__", "__mp_main__"}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in known or type(module) is not types.ModuleType or main is None:
            continue
        if any(value is main for value in list(vars(module).values())):
            return f"the module {name} has the notebook's own, and may read any variable"
    return ""
