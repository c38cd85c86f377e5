"""What tells one definition of a function from another: its name, and a digest of its text."""

from __future__ import annotations

import hashlib
from types import CodeType, FunctionType

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def name_of(function: object) -> str:
    """The name by which a person knows a function: dotted, without ``__main__``."""
    module = getattr(function, "__module__", None) or "__main__"
    name = getattr(function, "__qualname__", type(function).__name__)
    return str(name) if module == "__main__" else f"{module}.{name}"


def digest_of(function: FunctionType) -> bytes:
    """What changes when the text of a function does; comments and its place in the file aside.

    A default that is no plain value counts by its type: its text would hold an address, which changes each time.
    """
    digest = hashlib.blake2b(digest_size=16)

    def feed(code: CodeType) -> None:
        digest.update(code.co_code)
        digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                feed(constant)
            else:
                digest.update(_text(constant).encode())

    feed(function.__code__)
    defaults = (function.__defaults__ or (), tuple(sorted((function.__kwdefaults__ or {}).items())))
    digest.update(_text(defaults).encode())
    return digest.digest()


def _text(value: object) -> str:
    if type(value) in _PLAIN:
        return f"{type(value).__name__} {value!r}"
    if type(value) is tuple:
        return f"({', '.join(map(_text, value))})"
    if type(value) is frozenset:
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    return f"{type(value).__module__}.{type(value).__qualname__}"
