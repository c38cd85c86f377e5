"""The page ``docs/reclaim.md``: a section for each of the three proofs that memory comes back."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import joined, rows, sections
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
    body = joined({**_sections(), name: text.strip()}, SECTIONS)
    PAGE.write_text(f"{_INTRODUCTION}\n\n{body}\n", encoding="utf-8")


def rows_of(name: str) -> dict[str, list[str]]:
    """The rows that a section's table has, by their first cell."""
    return rows(_sections().get(name, ""))


def mib(size: float) -> str:
    """Bytes as whole MiB, with one decimal below 10, a true minus, and no minus before a zero."""
    value = round(size / MIB, 0 if abs(size) >= 10 * MIB else 1) + 0.0
    return f"{value:,.{0 if abs(value) >= 10 else 1}f}".replace("-", "−")


def _sections() -> dict[str, str]:
    return sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
