"""Bytes to text and back. Text is in binary units (MiB, GiB); input takes both: MB = 10⁶ bytes, MiB = 2²⁰ bytes."""

from __future__ import annotations

import math
import re

from memcell.errors import InvalidSizeError

MIB = 1 << 20
GIB = 1 << 30

_SIZE = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
# "8G" and "8Gi" as Kubernetes writes them; "8GB" and "8GiB" as IEC 80000-13 does.
_FACTORS = {
    **{prefix + tail: factor for prefix, factor in _DECIMAL.items() for tail in ("", "b")},
    **{prefix + tail: 1 << (10 * power) for power, prefix in enumerate("kmgt", 1) for tail in ("i", "ib")},
}


def parse_size(size: int | float | str) -> int:
    """Read a memory size.

    Args:
        size: Bytes as a number, or text such as ``"500 MB"`` (10⁶), ``"2GiB"`` (2³⁰), ``"1.5G"`` (10⁹) or ``"1024"``.

    Returns:
        The size in bytes.

    Raises:
        InvalidSizeError: The size is not readable, not finite, or not positive.

    >>> parse_size("500 MB"), parse_size("2GiB")
    (500000000, 2147483648)
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        factor = _FACTORS.get(match[2].lower()) if match else None
        if match is None or factor is None:
            raise InvalidSizeError(f"cannot read {size!r} as a memory size; write it like 500MB, 2GiB or 1048576")
        number = float(match[1]) * factor
    elif isinstance(size, bool) or not isinstance(size, (int, float)):
        raise InvalidSizeError(f"a memory size is a number of bytes or text like 500MB, not {type(size).__name__}")
    else:
        number = float(size)
    if not math.isfinite(number) or number < 1:
        raise InvalidSizeError(f"a memory size must be at least one byte, got {size!r}; write it like 500MB or 2GiB")
    # An int passes through unharmed: a float would lose the last bytes above 2**53.
    return size if isinstance(size, int) else int(number)


def format_bytes(size: float, *, sign: bool = False) -> str:
    """Write a number of bytes for people, in MiB with one decimal, or in GiB from 1 GiB on.

    >>> format_bytes(126352588), format_bytes(-3 * MIB, sign=True), format_bytes(24 * GIB)
    ('120.5 MiB', '-3.0 MiB', '24.0 GiB')
    """
    unit, name, digits = (GIB, "GiB", 2) if abs(size) >= 1024 * MIB - MIB / 20 else (MIB, "MiB", 1)
    if abs(size) >= 10 * GIB:
        digits = 1
    number = round(size / unit, digits) + 0.0  # + 0.0 turns a rounded -0.0 into 0.0
    return f"{number:{'+' if sign else ''}.{digits}f} {name}"


def format_limit(size: int) -> str:
    """Write a limit as ``format_bytes`` does, and one so small that it must be a slip in bytes.

    >>> format_limit(512 * MIB), format_limit(600)
    ('512.0 MiB', '600 B')
    """
    return f"{size} B" if size < MIB // 10 else format_bytes(size)


def format_round(size: float) -> str:
    """Write a level or a limit where its decimals say nothing: ``612 MiB``, ``1.4 GiB``, ``24 GiB``.

    >>> format_round(612.4 * MIB), format_round(1.44 * GIB), format_round(24 * GIB)
    ('612 MiB', '1.4 GiB', '24 GiB')
    """
    if abs(size) < 1024 * MIB - MIB / 2:
        return f"{size / MIB:.0f} MiB"
    return f"{round(size / GIB, 1):g} GiB" if abs(size) < 100 * GIB else f"{size / GIB:.0f} GiB"


def format_duration(seconds: float) -> str:
    """Write a duration for people.

    >>> format_duration(0.0021), format_duration(1.236), format_duration(83), format_duration(7384)
    ('2.1 ms', '1.24 s', '1 min 23 s', '2 h 03 min')
    """
    if seconds < 0.1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
