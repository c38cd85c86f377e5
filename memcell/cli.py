"""The ``memcell`` command."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import memcell
from memcell import arguments, check_command
from memcell.errors import MemcellError
from memcell.postmortem import add_postmortem, run_postmortem

#: As of a program that SIGPIPE has ended: whoever read its output, such as ``head``, has enough.
_BROKEN_PIPE = 128 + 13


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 for a failure, 2 for a mistake on the command line."""
    try:
        try:
            return _run(words)
        finally:
            print(end="", flush=True)  # what is still in the buffer may break the pipe, too
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return _BROKEN_PIPE


def _run(words: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="memcell", description="Repeated notebook cell runs no longer crash the kernel."
    )
    parser.add_argument("--version", action="version", version=f"memcell {memcell.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="re-run a heavy cell in a real kernel, without and with cleaning, and show what came back",
        description="Runs a notebook with a graph library in a real kernel: a heavy cell is re-run without memcell's "
        "cleaning, then with it. Prints each run, writes an HTML page and a picture. Takes about 1.5 GB.",
    )
    demo.add_argument(
        "--runs", type=arguments.number_of("runs"), default=10, metavar="N", help="re-runs of each kind (default: 10)"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("memcell-demo"), metavar="DIR", help="where to write (default: memcell-demo)"
    )
    check_command.add_parser(commands)
    add_postmortem(commands)
    orphans = commands.add_parser(
        "orphans",
        help="list the processes that kernels which have died left behind, and end them with --kill",
        description="Lists the processes of this user that notebook cells started and whose kernel has died. Those of "
        "kernels that live are never among them.",
    )
    orphans.add_argument(
        "--kill",
        nargs="*",
        metavar="PID",
        type=arguments.pid,
        help="end all, or these with what they started, children first: SIGTERM, then SIGKILL after three seconds",
    )
    options = parser.parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal or a log that knows few characters
    try:
        if options.command == "check":
            return check_command.run_command(options)
        if options.command == "orphans":
            _orphans(options.kill)
        elif options.command == "postmortem":
            run_postmortem(options)
        else:
            from memcell.demo import run_demo  # needs the extra `demo`

            run_demo(options.runs, options.out)
    except MemcellError as error:
        print(f"memcell {options.command}: {error}", file=sys.stderr)
        return 2 if options.command == "check" else 1  # where 1 says that something leaks
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _orphans(kill: list[int] | None) -> None:
    from memcell.session import get_session
    from memcell.view import process_tables
    from memcell.view.text import table_text

    processes = get_session().processes
    ended = [] if kill is None else processes.end(kill) if kill else processes.end_orphans()
    print(table_text(process_tables.ended(ended) if ended else process_tables.orphans(processes.orphans())))
