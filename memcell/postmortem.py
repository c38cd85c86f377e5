"""``memcell postmortem``: what killed the kernel."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from memcell.errors import BlackBoxFolderError
from memcell.protect.deaths import Boxes
from memcell.records.deaths import Death


def add_postmortem(commands: Any) -> None:
    """Add the command to those of the ``memcell`` command."""
    parser = commands.add_parser(
        "postmortem",
        help="say what killed the kernel: its cell, its memory in the last minute, and what to try next",
        description="Shows the black box that a kernel with memcell left when it died: which cell ran, its source, how "
        "its memory went in the last minute, and whether the out-of-memory killer ended it. An orderly end leaves "
        "none.",
    )
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="where the kernel was started (default: the present folder)"
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--list", action="store_true", help="list all deaths, or those of FOLDER")
    actions.add_argument("--json", action="store_true", help="print the deaths of the folder as JSON")
    actions.add_argument("--clear", action="store_true", help="remove the black boxes of the folder")
    parser.add_argument("--all", action="store_true", help="with --json, --clear and --html: those of all folders")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with pictures to FILE")


def run_postmortem(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        BlackBoxFolderError: The black boxes cannot be read, or the page cannot be written.
    """
    boxes = Boxes()
    is_of_all = options.all or (options.list and options.folder is None)
    folder = None if is_of_all else os.path.realpath(options.folder or ".")
    found = boxes.read(folder)
    for line in found.unreadable:
        print(f"memcell postmortem: {line}", file=sys.stderr)
    if options.html is not None:
        _write_page(options.html, found.deaths)
    if options.clear:
        removed = boxes.clear(folder)
        print(f"{removed} black {'box' if removed == 1 else 'boxes'} removed")
    elif options.json:
        print(json.dumps([death.to_dict() for death in found.deaths], indent=1))
    elif options.html is None or options.list:
        print(_told(boxes, found.deaths, folder, is_list=options.list))


def _told(boxes: Boxes, deaths: tuple[Death, ...], folder: str | None, *, is_list: bool) -> str:
    from memcell.view.deaths import deaths_table
    from memcell.view.text import death_report, table_text

    if is_list:
        return table_text(deaths_table(deaths))
    if not deaths:
        return _nothing(boxes, folder)
    older = len(deaths) - 1
    more = f"\n\n{older} more in this folder: memcell postmortem --list {folder}" if older and folder else ""
    return death_report(deaths[0]) + more


def _nothing(boxes: Boxes, folder: str | None) -> str:
    if folder is None:
        return f"no kernel has left a black box in {boxes.place}"
    others = len(boxes.read().deaths)
    elsewhere = f"; {others} in other folders: memcell postmortem --list" if others else ""
    return f"no kernel that was started in {folder} has left a black box in {boxes.place}{elsewhere}"


def _write_page(path: Path, deaths: tuple[Death, ...]) -> None:
    from memcell.view.html import deaths_page

    try:
        path.write_text(deaths_page(deaths), encoding="utf-8", errors="replace")
    except OSError as error:
        raise BlackBoxFolderError(f"cannot write the page {path}: {error.strerror}") from None
    print(f"written: {path}", file=sys.stderr)
