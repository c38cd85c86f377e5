"""Processes to tables of text: those that cells started, those that dead kernels left, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from memcell.records.protected import ChildProcess, EndOutcome
from memcell.units import format_bytes, format_duration
from memcell.view.phrases import count, one_line
from memcell.view.tables import Column, Table, column, with_content

_COMMAND_LENGTH = 70
_ENDINGS = {"terminated": "ended", "killed": "killed", "gone": "had ended already", "left": "still there"}


def children(found: Sequence[ChildProcess], orphans: Sequence[ChildProcess] = (), *, dry_run: bool = False) -> Table:
    """The processes of this session, and those of dead kernels; in a dry run, what a clean-up would do with them."""
    shown = [*found, *orphans]
    columns = with_content(
        *_columns(shown),
        column("would be ended" if dry_run else "", map(_plan if dry_run else _remark, shown), prose=True),
    )
    if dry_run:
        ended = [child for child in found if _plan(child) == "yes"]
        return Table(columns, (f"{_count(ended)} would be ended; nothing was signalled",))
    if not shown:
        return Table((), ("no cell of this session started a process that is still there",))
    lines = [f"{_count(found)} of this session: {_memory(found)}"] if found else []
    if orphans:
        lines.append(
            f"{_count(orphans)} of kernels that have died: {_memory(orphans)}; memcell orphans --kill ends them"
        )
    lines.append("%memprocs --kill PID ends one with all that it started")
    return Table(columns, tuple(lines))


def orphans(found: Sequence[ChildProcess]) -> Table:
    """The processes that dead kernels left, for a shell."""
    if not found:
        return Table((), ("no kernel that has died left a process",))
    columns = with_content(*_columns(found), column("", map(_remark, found), prose=True))
    return Table(columns, (f"{_count(found)}: {_memory(found)}; memcell orphans --kill ends them",))


def ended(outcomes: Sequence[EndOutcome], left: Sequence[ChildProcess] = ()) -> Table:
    """What became of processes that were to be ended, and which of the session are still there."""
    columns = with_content(
        column("pid", (str(outcome.pid) for outcome in outcomes), figures=True),
        column("memory", (format_bytes(outcome.memory_bytes) for outcome in outcomes), figures=True),
        column("", (_ENDINGS[outcome.ending] for outcome in outcomes)),
        column("time", (_duration(outcome) for outcome in outcomes), figures=True),
        column("command", (_shown(outcome.command) for outcome in outcomes)),
        column("why", (one_line(outcome.why, 100) for outcome in outcomes), prose=True),
    )
    done = [outcome for outcome in outcomes if outcome.ending in ("terminated", "killed")]
    freed_bytes = sum(outcome.memory_bytes for outcome in done)
    lines = [f"{_count(done)} ended" + (f": {format_bytes(freed_bytes)} of theirs given back" if done else "")]
    detached = [str(child.pid) for child in left if child.detached]
    if detached:
        lines.append(f"detached on purpose, so left: {', '.join(detached)}; %memprocs --kill PID ends one")
    return Table(columns if outcomes else (), tuple(lines))


def orphans_words(found: Sequence[ChildProcess]) -> str:
    """What dead kernels left, in one line, with the next step."""
    kernels = len({child.kernel for child in found})
    whose = "a kernel that has" if kernels == 1 else f"{kernels} kernels that have"
    verb = "is" if len(found) == 1 else "are"
    return (
        f"{_count(found)} of {whose} died {verb} still there, {_memory(found)}:"
        " %memprocs lists them, memcell orphans --kill ends them"
    )


def left_words(left: Sequence[ChildProcess]) -> str:
    """The processes that stay when a kernel ends, in one line."""
    named = ", ".join(f"{child.pid} ({one_line(child.command, 60)})" for child in left)
    return f"memcell: {_count(left)} of this kernel left running: {named}; memcell orphans lists them"


def _columns(found: Sequence[ChildProcess]) -> tuple[Column, ...]:
    return (
        column("pid", (str(child.pid) for child in found), figures=True),
        column("memory", (format_bytes(child.memory_bytes) for child in found), figures=True),
        column("age", (format_duration(child.age_s) for child in found), figures=True),
        column("cell", ("" if child.cell is None else f"[{child.cell}]" for child in found), figures=True),
        column("command", (_shown(child.command) for child in found)),
    )


def _shown(command: str) -> str:
    """A command that fits into a column: without the folder of its program."""
    program, space, rest = command.partition(" ")
    return one_line(program.rpartition("/")[2] + space + rest, _COMMAND_LENGTH)


def _plan(child: ChildProcess) -> str:
    return f"no: {_remark(child)}" if child.detached or child.state == "ended" else "yes"


def _remark(child: ChildProcess) -> str:
    """What a person should know of one process beside its figures."""
    remarks = []
    if child.kernel is not None:
        remarks.append(f"of kernel {child.kernel}, which has died")
    if child.state == "ended":
        remarks.append("a zombie: p.wait() or p.poll() in its cell takes it away")
    elif child.state == "stopped":
        remarks.append("stopped")
    if child.detached:
        remarks.append("detached on purpose")
    return "; ".join(remarks)


def _duration(outcome: EndOutcome) -> str:
    return format_duration(outcome.duration_s) if outcome.duration_s else ""


def _count(found: Sequence[object]) -> str:
    return count(len(found), "process", "processes")


def _memory(found: Sequence[ChildProcess]) -> str:
    return format_bytes(sum(child.memory_bytes for child in found))
