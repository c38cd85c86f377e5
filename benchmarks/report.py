"""From figures to markdown, and into the page that carries it."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from benchmarks import QUESTIONS

#: What every measurement in a kernel is made with.
KERNEL = ("memcell", "ipython", "ipykernel")
_BEGIN, _END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
_INTRODUCTION = (
    "## What it costs\n\n"
    "Regenerate with `pip install -e '.[benchmarks,test]'` and `python -m benchmarks --write`; it takes a quarter of"
    " an hour, and names, such as `hooks`, measure only those. Figures are medians, with the quartiles in brackets."
    " What is compared is measured in turns in one run, because the machine is shared: differences say more than"
    " absolute times."
)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def provenance(command: str, distributions: Iterable[str], *, machine: str = "") -> str:
    """How, when, where and with what something was measured.

    Args:
        command: What follows ``python -m`` to measure it again.
        distributions: Those whose versions are named, each once.
        machine: The machine, where it matters.
    """
    system = [f"Linux {platform.release()}", f"Python {platform.python_version()}"]
    facts = [machine, *system, *(f"{name} {_version(name)}" for name in dict.fromkeys(distributions))]
    return f"*`python -m {command}`, {datetime.date.today().isoformat()}: {', '.join(filter(None, facts))}.*"


def this_machine() -> str:
    """The processors and the memory of this machine."""
    return f"{os.cpu_count()} CPUs ({_processor()}), {_memory_gib():.0f} GiB"


def distribution(requirement: str) -> str:
    """The distribution that a requirement such as ``dask[array]>=2025`` is for."""
    return re.split(r"[=<>!~\[; ]", requirement)[0]


def is_installed(requirement: str) -> bool:
    """Whether its distribution is installed, in whatever version."""
    try:
        metadata.version(distribution(requirement))
    except metadata.PackageNotFoundError:
        return False
    return True


def rows(text: str) -> dict[str, list[str]]:
    """The rows of a table in markdown, by their first cell, for a run that measures only some of them."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and set(cells[0]) != {"-"}:
            found[cells[0].strip("`")] = cells
    return found


def sections(text: str, prefix: str = "") -> dict[str, str]:
    """The sections of a text, by the names in the comments above them."""
    parts = re.split(rf"<!-- {prefix}(\w+) -->\n", text)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def joined(known: Mapping[str, str], order: Iterable[str], prefix: str = "") -> str:
    """The text of sections, in this order, each below the comment with its name."""
    return "\n\n".join(f"<!-- {prefix}{name} -->\n{known[name]}" for name in order if name in known)


def put_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace the lines between two markers of a page; without both, in this order, end with a message."""
    before, _, after = _split(path, begin, end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _split(path: Path, begin: str, end: str) -> tuple[str, str, str]:
    """The text of a page before, between and after two markers."""
    before, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    between, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        sys.exit(f"{path} lacks the markers {begin} and {end}; put them where the tables belong")
    return before, between, after


class Page:
    """The page whose part between two markers holds the tables: one section for each question.

    Args:
        path: The page; it is made, with a heading only, if there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"# How memcell works\n\n{_BEGIN}\n{_END}\n", encoding="utf-8")
        _split(path, _BEGIN, _END)  # what is wrong with the page is said before the measuring

    def put(self, name: str, text: str) -> None:
        """Replace the section of one question; the others stay."""
        # Read anew each time: measuring takes minutes, in which somebody may have edited the rest of the page.
        _, block, _ = _split(self._path, _BEGIN, _END)
        body = joined({**sections(block, "benchmarks:"), name: text}, QUESTIONS, "benchmarks:")
        put_between(self._path, _BEGIN, _END, f"\n{_INTRODUCTION}\n\n{body}\n")


def _version(name: str) -> str:
    return metadata.version(name) if is_installed(name) else "(not installed)"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES") / 2**30
