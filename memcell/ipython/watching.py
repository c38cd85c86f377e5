"""``%%memwatch``: taking its first line off a cell, so that the cell runs as itself.

A cell magic would have to run the cell's text anew, which breaks ``await``, shows the value twice, adds frames to
tracebacks and fires the hooks twice. So an input transformer takes the line off, and the hook that opens the
run reads the options from the raw cell. Only where the line cannot be taken off (an option that is wrong, nothing
below it) it stays, and the magic of that name says what is wrong.
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

_MAGIC_LINE = re.compile(r"%%memwatch(?:[ \t]+(.*))?[ \t]*")


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What ``%%memwatch`` was asked for. ``output`` is the name of a variable for the record."""

    output: str | None = None
    quiet: bool = False
    clean: bool = False
    isolate: bool = False
    keep: tuple[str, ...] = ()


def variable_name(text: str) -> str:
    """An argument type: the name of a variable."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a variable name")
    return text


def variable_names(text: str) -> tuple[str, ...]:
    """An argument type: names of variables, with commas between them."""
    return tuple(variable_name(name) for name in text.split(",") if name)


def watch_parser() -> MagicArgumentParser:
    """The parser of the options of ``%%memwatch``."""
    parser = MagicArgumentParser("%%memwatch", add_help=False)
    parser.add_argument("-o", dest="output", metavar="NAME", type=variable_name, help="keep the record in NAME")
    parser.add_argument("-q", dest="quiet", action="store_true", help="print nothing")
    parser.add_argument("--clean", action="store_true", help="run the cleaners afterwards")
    parser.add_argument("--isolate", action="store_true", help="run the cell in a process of its own")
    parser.add_argument(
        "--keep", metavar="A,B", type=variable_names, default=(), help="with --isolate: variables that come back"
    )
    return parser


def parse_watch_options(line: str) -> WatchOptions:
    """Read the options.

    Raises:
        UsageError: An option is unknown or lacks its value.
    """
    try:
        options = WatchOptions(**vars(watch_parser().parse_argstring(line)))
        if options.keep and not options.isolate:
            raise UsageError("--keep goes with --isolate")
        return options
    except (UsageError, ValueError) as error:  # ValueError: an unclosed quotation mark
        raise UsageError(f"%%memwatch: {error}; see %%memwatch? for its options") from None


def split_magic_line(cell: str) -> tuple[WatchOptions, str] | None:
    """The options of ``%%memwatch`` and the cell below it; None for any other cell and for one that is wrong."""
    lines = cell.lstrip("\n").split("\n", 1) if "%%memwatch" in cell else []
    match = _MAGIC_LINE.fullmatch(lines[0].strip()) if lines else None
    if match is None or len(lines) < 2 or not lines[1].strip():
        return None
    try:
        return parse_watch_options(match[1] or ""), lines[1]
    except UsageError:
        return None


def split_raw_cell(
    cell: str, transforms: Sequence[Callable[[list[str]], list[str]]]
) -> tuple[WatchOptions, str] | None:
    """As ``split_magic_line``, for a cell that the front end's prompts and blank lines have not been taken off yet.

    Args:
        cell: The raw cell.
        transforms: The shell's clean-up transformers, ``strip_magic_line`` among them.
    """
    if "%%memwatch" not in cell:
        return None
    lines = cell.splitlines(keepends=True)
    for transform in transforms:
        if transform is strip_magic_line:
            break
        lines = transform(lines)
    return split_magic_line("".join(lines))


def strip_magic_line(lines: list[str]) -> list[str]:
    """The input transformer."""
    if not lines or not lines[0].startswith("%%memwatch") or _is_inside_magic():
        return lines
    split = split_magic_line("".join(lines))
    # An isolated cell is run by the magic, elsewhere.
    return lines if split is None or split[0].isolate else lines[1:]


def _is_inside_magic() -> bool:
    """Whether a magic such as ``%%time`` transforms text that it will run by itself: no hook sees that as a cell."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name in (
        "_is_inside_magic",
        "strip_magic_line",
        "transform_cell",
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).startswith("IPython.core.magics.")


# Without this a terminal would ask the transformer whether the cell is complete, and run it after its first line
# instead of waiting for the blank line that ends a cell magic.
strip_magic_line.has_side_effects = True  # type: ignore[attr-defined]
