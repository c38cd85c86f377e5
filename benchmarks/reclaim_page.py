"""The page ``docs/reclaim.md``: a section for each of the three proofs that memory comes back."""

from __future__ import annotations

import re
from pathlib import Path

from memcell.units import MIB

PAGE = Path(__file__).parents[1] / "docs" / "reclaim.md"

#: The sections in their order, by the module that measures each.
SECTIONS = ("reclaim", "cases", "soak")
_INTRODUCTION = (
    "# What comes back\n\n"
    "Measured in real kernels, whose memory is read from outside. The tables are written by the commands below them;"
    " do not edit them by hand. Figures are MiB of resident memory unless a line says otherwise."
)


def put(name: str, text: str) -> None:
    """Replace the section of one module; the others stay."""
    sections = {**_sections(), name: text.strip()}
    body = [f"<!-- {known} -->\n{sections[known]}" for known in SECTIONS if known in sections]
    PAGE.write_text("\n\n".join([_INTRODUCTION, *body]) + "\n", encoding="utf-8")


def rows_of(name: str) -> dict[str, list[str]]:
    """The rows that a section's table has, by their first cell, for a run that measures only some of them."""
    rows = {}
    for line in _sections().get(name, "").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and set(cells[0]) != {"-"}:
            rows[cells[0].strip("`")] = cells
    return rows


def mib(size: float) -> str:
    """Bytes as whole MiB, with one decimal below 10, a true minus, and no minus before a zero."""
    value = round(size / MIB, 0 if abs(size) >= 10 * MIB else 1) + 0.0
    return f"{value:,.{0 if abs(value) >= 10 else 1}f}".replace("-", "−")


def _sections() -> dict[str, str]:
    if not PAGE.exists():
        return {}
    parts = re.split(r"<!-- (\w+) -->\n", PAGE.read_text(encoding="utf-8"))
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}
