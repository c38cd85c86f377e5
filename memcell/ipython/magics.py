"""The magics: parse the line, one call on the session, show what comes back."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from memcell.errors import InvalidSizeError, MemcellError
from memcell.ipython.deep import DeepCleaning, Reach
from memcell.ipython.frontend import Frontend
from memcell.ipython.watching import parse_watch_options, variable_name, variable_names
from memcell.records import NamespaceSizes
from memcell.session import Session
from memcell.units import parse_size

MEMCLEAN_OPTIONS = ["--deep", "--dry-run", "--keep", "--larger", "--list", "--modules", "--vars", "-o", "-q"]


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except InvalidSizeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows from 1 on")
    return int(text)


@magics_class
class MemcellMagics(Magics):
    """``%memclean``, ``%memtop``, ``%memwatch`` and ``%%memwatch``."""

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        frontend: Frontend,
        deep: DeepCleaning,
        sizes: Callable[[int], NamespaceSizes],
    ) -> None:
        super().__init__(shell)
        self._shell = shell
        self._session = session
        self._frontend = frontend
        self._deep = deep
        self._sizes = sizes

    @magic_arguments()
    @argument("names", nargs="*", metavar="NAME", help="cleaners to run; default: all of effect none or recompute")
    @argument("--list", action="store_true", help="list the cleaners, and those that could be registered")
    @argument("--dry-run", action="store_true", help="say what would run and go, and touch nothing")
    @argument("--deep", action="store_true", help="also Out and _, tracebacks, open figures and widgets")
    @argument("--vars", action="store_true", help="also the variables created since %%load_ext memcell")
    @argument("--keep", metavar="A,B", type=variable_names, default=(), help="with --vars: variables that stay")
    @argument("--larger", metavar="SIZE", type=_size, help="with --vars: only arrays and frames from this size on")
    @argument("--modules", action="store_true", help="also modules imported since then, where that does no harm")
    @argument("-q", dest="quiet", action="store_true", help="print nothing")
    @argument("-o", dest="output", metavar="NAME", type=variable_name, help="keep the report in NAME")
    @line_magic
    def memclean(self, line: str) -> None:
        """Give memory back: run cleaners and show what each of them measurably freed.

        Without names all cleaners run whose effect is ``none`` (nobody notices) or ``recompute`` (a cache, which
        costs time later). Those of effect ``state`` (something you could miss) run only when they are named, and
        some of them with ``--deep``. Your variables stay, unless you say ``--vars``.
        """
        try:
            options = parse_argstring(self.memclean, line)
            if (options.keep or options.larger) and not options.vars:
                raise UsageError("--keep and --larger go with --vars")
        except (UsageError, ValueError) as error:  # ValueError: an unclosed quotation mark
            raise UsageError(f"%memclean: {error}; see %memclean? for its options") from None
        reach = Reach(options.deep, options.vars, options.keep, options.larger, options.modules)
        try:
            if options.list:
                self._frontend.show_cleaners(self._session.catalogue.infos())
            elif options.dry_run:
                planned = self._deep.plan(reach)
                self._frontend.show_cleaners(self._session.plan(*options.names, deep=options.deep), dry_run=True)
                self._frontend.show_reached(planned, dry_run=True)
            else:
                report, reached = self._deep.clean(options.names, reach)
                if options.output:
                    self._shell.user_ns[options.output] = report
                if not options.quiet:
                    self._frontend.show_report(report)
                    self._frontend.show_reached(reached)
        except MemcellError as error:
            raise UsageError(str(error)) from None

    @magic_arguments()
    @argument("count", nargs="?", type=_count, default=10, metavar="N", help="how many to show; default: 10")
    @line_magic
    def memtop(self, line: str) -> None:
        """Show the largest variables, and what else holds each: whether ``del`` would give its memory back.

        Memory that several variables share, as views of an array do, counts for one of them. What ``Out`` and the
        last error keep is listed too. A size with ≥ is of a variable with so many objects that not all were counted.
        """
        try:
            options = parse_argstring(self.memtop, line)
        except (UsageError, ValueError) as error:  # ValueError: an unclosed quotation mark
            raise UsageError(f"%memtop: {error}; write it like %memtop or %memtop 20") from None
        self._frontend.show_namespace(self._sizes(options.count))

    @magic_arguments()
    @line_magic
    def memleaks(self, line: str) -> None:
        """Say for every cell that was run again whether it leaks, what holds the growth, and the line that fixes it."""
        if line.strip():
            raise UsageError(f"%memleaks: unknown argument {line.strip()!r}; it takes none")
        self._frontend.show_verdicts(self._session.leaks.verdicts())

    @line_cell_magic
    def memwatch(self, line: str, cell: str | None = None) -> None:
        """Watch the memory live.

        ``%memwatch`` shows the live view of the session in a notebook: the curve of the cell that runs, then the bars
        of what each run kept and how high it went. ``%memwatch off`` closes it.

        ``%%memwatch [-o NAME] [-q] [--clean] [--isolate [--keep A,B]]`` above a cell watches that cell and says its
        summary line::

          -o NAME     keep the record of the run in the variable NAME
          -q          print nothing
          --clean     run the cleaners afterwards, as %memclean does
          --isolate   run it in a process of its own: all that it allocates is gone afterwards, and a crash is an error
          --keep A,B  with --isolate: variables that come back
        """
        if cell is None:
            self._memwatch_session(line.strip())
            return
        # A cell comes here only if its first line could not be taken off, or if code calls the magic by name.
        options = parse_watch_options(line)
        if not cell.strip():
            raise UsageError("%%memwatch: there is no code below it; write the cell's code under the %%memwatch line")
        if options.isolate:
            self._isolate(cell, options.keep)
            return
        self._shell.run_cell(f"%%memwatch {line}\n{cell}")

    def _isolate(self, cell: str, keep: tuple[str, ...]) -> None:
        with self._session.own():
            from memcell.ipython.isolating import run_isolated  # loads multiprocessing
        run_isolated(self._shell, self._session, cell, keep)

    def _memwatch_session(self, word: str) -> None:
        if word == "off":
            if self._frontend.close_live():
                self._frontend.show_history()
            else:
                print("memcell: no live view is open; %memwatch opens one")
        elif word not in ("", "on"):
            raise UsageError(
                f"%memwatch: unknown argument {word!r}; it takes none, or off; %%memwatch watches one cell"
            )
        elif not self._frontend.show_live():
            print("memcell: no live view in this front end; %%memwatch says a cell's line, memcell.history() has all")
            self._frontend.show_history()
