"""The magics: parse the line, one call on the session, show what comes back."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from memcell import arguments
from memcell.errors import MemcellError
from memcell.ipython.deep import DeepCleaning, Reach
from memcell.ipython.semicolon import Semicolon
from memcell.ipython.watching import (
    WatchOptions,
    check_limit,
    parse_watch_options,
    strip_magic_line,
)
from memcell.units import parse_size

if TYPE_CHECKING:
    from memcell.ipython.frontend import Frontend
    from memcell.ipython.hooks import Hooks
    from memcell.records.sized import NamespaceSizes
    from memcell.session import Session

MEMCLEAN_OPTIONS = ["--deep", "--dry-run", "--keep", "--larger", "--list", "--modules", "--procs", "--vars", "-o", "-q"]


@magics_class
class MemcellMagics(Magics):
    """The magics, one method each."""

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        frontend: Frontend,
        hooks: Hooks,
        deep: DeepCleaning,
        sizes: Callable[[int], NamespaceSizes],
        repeat: Callable[[WatchOptions, str], Awaitable[None] | None],
        set_limit: Callable[[int | str], None],
    ) -> None:
        super().__init__(shell)
        self._shell = shell
        self._session = session
        self._frontend = frontend
        self._hooks = hooks
        self._deep = deep
        self._sizes = sizes
        self._repeat = repeat
        self._set_limit = set_limit

    @magic_arguments()
    @argument("names", nargs="*", metavar="NAME", help="cleaners to run; default: all of effect none or recompute")
    @argument("--list", action="store_true", help="list the cleaners, and those that could be registered")
    @argument("--dry-run", action="store_true", help="say what would run and go, and touch nothing")
    @argument("--deep", action="store_true", help="also Out and _, tracebacks, open figures and widgets")
    @argument("--vars", action="store_true", help="also the variables created since %%load_ext memcell")
    @argument(
        "--keep", metavar="A,B", type=arguments.variable_names, default=(), help="with --vars: variables that stay"
    )
    @argument(
        "--larger", metavar="SIZE", type=arguments.size, help="with --vars: only arrays and frames from this size on"
    )
    @argument("--modules", action="store_true", help="also modules imported since then, where that does no harm")
    @argument("--procs", action="store_true", help="also end the processes that cells started and nobody detached")
    @argument("-q", dest="quiet", action="store_true", help="print nothing")
    @argument("-o", dest="output", metavar="NAME", type=arguments.variable_name, help="keep the report in NAME")
    @line_magic
    def memclean(self, line: str) -> None:
        """Give memory back: run cleaners and show what each of them measurably freed.

        Without names all cleaners run whose effect is ``none`` (nobody notices) or ``recompute`` (a cache, which
        costs time later). Those of effect ``state`` (something you could miss) run only when they are named, and
        some of them with ``--deep``. Your variables stay, unless you say ``--vars``.
        """
        try:
            options = parse_argstring(self.memclean, line.partition(" #")[0])  # lines to paste have a remark
            if (options.keep or options.larger) and not options.vars:
                raise UsageError("--keep and --larger go with --vars")
        except (UsageError, ValueError) as error:  # ValueError: an unclosed quotation mark
            raise UsageError(f"%memclean: {error}; see %memclean? for its options") from None
        reach = Reach(options.deep, options.vars, options.keep, options.larger, options.modules, options.procs)
        try:
            if options.list:
                self._frontend.show_cleaners(self._session.cleaning.catalogue.infos())
            elif options.dry_run:
                planned = self._deep.plan(reach)
                self._frontend.show_cleaners(
                    self._session.cleaning.plan(*options.names, deep=options.deep), dry_run=True
                )
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
    @argument("--kill", nargs="+", metavar="PID", type=arguments.pid, help="end these, with all that they started")
    @line_magic
    def memprocs(self, line: str) -> None:
        """List the processes that cells started: what each holds, for how long it runs, and which cell it was.

        Also those that left the process tree, and what kernels of yours that have died left behind. ``--kill`` ends
        any of them, children before parents: SIGTERM, then SIGKILL after three seconds. ``%memclean --procs`` ends all
        of this session but those that were detached on purpose (``nohup``, or a session of their own).
        """
        try:
            options = parse_argstring(self.memprocs, line)
            if options.kill:
                self._frontend.show_ended(self._session.processes.end(options.kill))
                return
        except (UsageError, ValueError) as error:  # ValueError: an unclosed quotation mark
            raise UsageError(f"%memprocs: {error}; see %memprocs? for its options") from None
        except MemcellError as error:
            raise UsageError(str(error)) from None
        self._frontend.show_children(self._session.processes.children(), self._session.processes.orphans())

    @magic_arguments()
    @argument(
        "count",
        nargs="?",
        type=arguments.number_of("rows"),
        default=10,
        metavar="N",
        help="how many to show; default: 10",
    )
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

    @magic_arguments()
    @argument("--list", action="store_true", help="a line for each of this folder's deaths")
    @argument("--clear", action="store_true", help="remove the black boxes of this folder")
    @line_magic
    def mempostmortem(self, line: str) -> None:
        """Say what killed the last kernel in this folder: its cell, its memory in the last minute, what to try next.

        ``memcell postmortem`` tells the same in a shell, also of other folders.
        """
        from memcell.protect.deaths import Boxes

        try:
            options = parse_argstring(self.mempostmortem, line)
            if options.list and options.clear:
                raise UsageError("--list and --clear do not go together")
        except (UsageError, ValueError) as error:
            raise UsageError(
                f"%mempostmortem: {error}; write it like %mempostmortem or %mempostmortem --list"
            ) from None
        folder = self._session.folder
        try:
            if options.clear:
                print(f"memcell: black boxes removed: {Boxes().clear(folder)}")
                return
            found = Boxes().read(folder)
        except MemcellError as error:
            raise UsageError(f"%mempostmortem: {error}") from None
        for unreadable in found.unreadable:
            print(f"memcell: {unreadable}")
        self._frontend.show_deaths(found.deaths, in_full=not options.list)

    @line_magic
    def memlimit(self, line: str) -> None:
        """Show the memory limit of this session, or set it.

        ``%memlimit`` shows the limit, what is used of it, and from where on memcell warns, cleans and stops a cell.
        ``%memlimit 8GB`` sets it, ``%memlimit off`` takes it away, and ``%memlimit auto`` is the default: the lowest of
        control group, machine, resource limits and the environment variable MEM_LIMIT. For one cell alone there is
        ``%%memwatch --limit SIZE``.
        """
        word = line.strip()
        try:
            if word in ("auto", "off"):
                self._set_limit(word)
            elif word:
                size = parse_size(word)
                self._session.limits.check(size)
                self._set_limit(size)
        except MemcellError as error:
            raise UsageError(f"%memlimit: {error}") from None
        self._frontend.show_limit(self._session.limits.info())

    @line_cell_magic
    def memwatch(self, line: str, cell: str | None = None) -> Awaitable[None] | None:
        """Watch the memory live.

        ``%memwatch`` shows the live view of the session in a notebook: the curve of the cell that runs, then the bars
        of what each run kept and how high it went. ``%memwatch off`` closes it.

        ``%%memwatch [options]`` above a cell watches that cell and says its summary line::

          -o NAME       keep the record in the variable NAME: a Run, with --repeat a RepeatReport
          -q            print nothing
          --clean       run the cleaners afterwards (after the last run), as %memclean does
          --repeat N    run the cell N times, show what the first run shows, and say whether it leaks and what holds it
          --top [N]     the N (10) lines of code whose allocations are still held; the run is slower for it
          --limit SIZE  stop the cell before the memory of the kernel and its children passes SIZE
          --fresh       drop large variables that the cell rebinds just before it does, so that old and new are
                        never there together; where it cannot prove that nobody reads the old value, it says why not
          --isolate     run it in a process of its own: all that it allocates is gone afterwards, a crash is an error
          --keep A,B    with --isolate: variables that come back
        """
        if cell is None:
            self._memwatch_session(line.strip())
            return None
        # A cell comes here if its first line could not be taken off or has --repeat or --isolate, or by name from code.
        options = parse_watch_options(line)
        check_limit(options)
        if not cell.strip():
            raise UsageError("%%memwatch: there is no code below it; write the cell's code under the %%memwatch line")
        if options.repeat:
            return self._repeat(options, cell)
        if options.isolate and (self._hooks.is_isolating or _is_isolated()):
            self._isolate(cell, options.keep)
            return None
        if strip_magic_line not in self._shell.input_transformers_cleanup:  # it would come here again, and again
            raise UsageError("%%memwatch: its input transformer was taken away; %reload_ext memcell puts it back")
        with Semicolon(self._shell, cell):
            result = self._shell.run_cell(f"%%memwatch {line}\n{cell}")
        self._hooks.note_failure(result.error_before_exec or result.error_in_exec)
        return None

    def _isolate(self, cell: str, keep: tuple[str, ...]) -> None:
        with self._session.meter.own():
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


def _is_isolated() -> bool:
    """Whether this process runs an isolated cell; there the magic itself says that one inside is refused."""
    module = sys.modules.get("memcell.ipython.isolated_cell")
    return module is not None and bool(module.is_isolated())
