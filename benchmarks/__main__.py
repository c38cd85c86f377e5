"""``python -m benchmarks [NAME…] [--quick] [--write]``: measure all questions or the named ones."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import QUESTIONS
from benchmarks.report import KERNEL, Page, provenance, this_machine
from benchmarks.tools import PEERS

_PAGE = Path(__file__).parents[1] / "docs" / "how-it-works.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(QUESTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that everything runs, in a minute")
    parser.add_argument("--write", action="store_true", help=f"put the tables into docs/{_PAGE.name}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(QUESTIONS)):
        parser.error(f"unknown benchmark {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    if options.quick and options.write:
        parser.error("--quick measures too little to be written down; leave one of the two out")
    page = Page(_PAGE) if options.write else None
    tools = [*KERNEL, *(peer.name for peer in PEERS if peer.name != "tracemalloc")]
    for name in options.names or QUESTIONS:
        question = importlib.import_module(f"benchmarks.{name}")
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        began = time.perf_counter()
        measured = question.run(options.quick)
        made = provenance(f"benchmarks {name}", tools, machine=this_machine())
        print(f"… {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        text = "\n\n".join([f"### {question.TITLE}", *measured, made])
        print(f"\n{text}\n", flush=True)
        if page is not None:
            page.put(name, text)


if __name__ == "__main__":
    main()
