"""``%%memwatch``: taking its first line off a cell, so that the cell runs as itself.

A cell magic would have to run the cell's text anew, which breaks ``await``, shows the value twice, adds frames to
tracebacks and fires the hooks twice. So an input transformer takes the line off, and the hook that opens the
run reads the options from the raw cell. Only where the line cannot be taken off (an option that is wrong, nothing
below it) it stays, and the magic of that name says what is wrong.

With ``--repeat`` and ``--isolate`` the line stays too: the magic runs the cell, several times or elsewhere. A repeated
cell with ``await`` at its top level then becomes one that awaits the magic: the loop that would run it is running.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from IPython.core.error import UsageError
from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic_arguments import MagicArgumentParser

from memcell import arguments
from memcell.errors import MemcellError
from memcell.session import get_session

_MAGIC_LINE = re.compile(r"%%memwatch(?:[ \t]+(.*))?[ \t]*")
_MOST_REPEATS = 1000
_SITES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What ``%%memwatch`` was asked for.

    Attributes:
        output: The name of a variable for the record.
        quiet: Whether to print nothing.
        clean: Whether to run the cleaners afterwards.
        repeat: How often to run the cell; None for once, as itself.
        top: How many allocation sites to show; None for none.
        fresh: Whether to drop what the cell is about to rebind.
        limit: The limit of this run in bytes; None for that of the session alone.
        isolate: Whether to run the cell in a process of its own.
        keep: With ``isolate``: the variables that come back.
    """

    output: str | None = None
    quiet: bool = False
    clean: bool = False
    repeat: int | None = None
    top: int | None = None
    fresh: bool = False
    limit: int | None = None
    isolate: bool = False
    keep: tuple[str, ...] = ()


def watch_parser() -> MagicArgumentParser:
    """The parser of the options of ``%%memwatch``, whose docstring describes them."""
    parser = MagicArgumentParser("%%memwatch", add_help=False)
    parser.add_argument("-o", dest="output", type=arguments.variable_name)
    parser.add_argument("-q", dest="quiet", action="store_true")
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--repeat", type=arguments.number_of("runs", 2, _MOST_REPEATS))
    parser.add_argument("--top", nargs="?", type=arguments.number_of("allocation sites"), const=_SITES_SHOWN)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--limit", type=arguments.size)
    parser.add_argument("--isolate", action="store_true")
    parser.add_argument("--keep", nargs="+", type=arguments.variable_names, default=())
    return parser


def parse_watch_options(line: str) -> WatchOptions:
    """Read the options.

    Raises:
        UsageError: An option is unknown or lacks its value.
    """
    try:
        found = vars(watch_parser().parse_argstring(line))
        found["keep"] = tuple(itertools.chain.from_iterable(found["keep"]))  # with spaces after the commas, too
        options = WatchOptions(**found)
        if options.keep and not options.isolate:
            raise UsageError("--keep goes with --isolate")
        here_only = {"--repeat": options.repeat, "--top": options.top, "--fresh": options.fresh}
        refused = next((name for name, value in here_only.items() if value), None)
        if options.isolate and refused:
            raise UsageError(f"{refused} does not go with --isolate, whose memory is gone when the cell ends")
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
    # A limit that cannot be kept: the line stays, and the magic of that name says why.
    if split is None or _limit_problem(split[0]) is not None:
        return lines
    options, cell = split
    if options.isolate:
        return lines  # the magic runs it, elsewhere
    if not options.repeat:
        return lines[1:]
    shell = get_ipython()
    if shell is None or not needs_await(shell, cell):
        return lines
    line = lines[0].strip().partition("%%memwatch")[2].strip()
    return [f"await get_ipython().run_cell_magic('memwatch', {line!r}, {cell!r})\n"]


def needs_await(shell: InteractiveShell, cell: str) -> bool:
    """Whether a cell awaits at its top level, in a shell that lets it."""
    if "await" not in cell and "async" not in cell:
        return False
    try:
        transformed = shell.transform_cell(cell)
    except SyntaxError:  # which running it will tell
        return False
    return bool(shell.should_run_async(cell, transformed_cell=transformed))


def check_limit(options: WatchOptions) -> None:
    """Refuse a limit that cannot be kept.

    Raises:
        UsageError: More is in use already, or the cell runs in a subshell.
    """
    problem = _limit_problem(options)
    if problem is not None:
        raise UsageError(f"%%memwatch --limit: {problem}")


def _limit_problem(options: WatchOptions) -> MemcellError | None:
    if options.limit is not None:
        try:
            get_session().limits.check(options.limit)
        except MemcellError as error:
            return error
    return None


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
