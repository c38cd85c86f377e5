"""How the death of a process is worded: one line, a report, a table of several, and what to try next."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from memcell.records.deaths import Death, LastRun
from memcell.units import format_bytes, format_duration, format_round
from memcell.view.last_minute import highest_bytes
from memcell.view.phrases import WORTH_SAYING_BYTES, one_line, sparkline
from memcell.view.tables import Table, column

#: Above this part of the limit a death has to do with memory, whoever ended the process.
_NEAR_LIMIT = 0.85
#: Where a cell that is run again is to be stopped.
_ADVISED_LIMIT = 0.9
_SOURCE_LINES = 40
_LINE_CHARACTERS = 160
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CRASHES = {
    "SIGSEGV": "crashed with SIGSEGV: C code touched memory that is not its own",
    "SIGBUS": "crashed with SIGBUS: a mapped file was cut short, or shared memory (/dev/shm) is full",
    "SIGABRT": "ended by SIGABRT: C code gave up, as some libraries do after a failed allocation",
    "SIGILL": "crashed with SIGILL: C code was built for another processor, or is broken",
    "SIGFPE": "crashed with SIGFPE: C code divided by zero",
}


def death_line(death: Death, now: float | None = None) -> str:
    """A death in one line: ``the last kernel here died in cell [3] at 7.8 GiB of 8 GiB, …``."""
    at = level(death)
    return f"the last kernel here died {where(death)}{f' at {at}' if at else ''}, {ago(death, now)}; it {cause(death)}"


def cause(death: Death) -> str:
    """What ended the process, as far as that is known; goes after ``it``."""
    if death.oom == "yes":
        return "was killed by the out-of-memory killer"
    if death.oom == "likely":
        return "was probably killed by the out-of-memory killer, which ended a process on this host just then"
    if death.exit_status is not None:
        return f"ended itself with status {death.exit_status} and without a clean-up, as os._exit() does"
    if death.signal in _CRASHES:
        return _CRASHES[death.signal]
    untold = " (whether by the out-of-memory killer cannot be read here)" if death.oom == "unknown" else ""
    if death.signal == "SIGKILL":
        if untold:
            return f"was killed with SIGKILL{untold}"
        who = "a watchdog such as systemd-oomd or a scheduler may" if is_near_limit(death) else "somebody has"
        sent = "have sent SIGKILL" if is_near_limit(death) else "sent SIGKILL"
        return f"was killed, but not by the system's out-of-memory killer: {who} {sent}"
    if death.signal is not None:
        return f"was ended by {one_line(death.signal, 20)}"
    return f"ended, and nobody tells how{untold}"


def who(death: Death) -> str:
    """What has died."""
    return "process" if death.run is not None and death.run.is_block else "kernel"


def where(death: Death) -> str:
    """In which run it died, or after which."""
    run = death.run
    if run is None:
        return "before its first run"
    if death.is_running:
        return f"in {_what(run)}"
    idle = format_duration(max(0.0, death.died - (death.ended or death.died)))
    return f"between runs, {idle} after {_what(run)} had ended"


def level(death: Death) -> str:
    """The last level that was seen and the limit: ``7.8 GiB of 8 GiB``; empty where nothing was sampled."""
    if not death.levels:
        return ""
    seen = format_round(death.levels[-1])
    limit_bytes = death.run.limit_bytes if death.run else None
    return seen if limit_bytes is None else f"{seen} of {format_round(limit_bytes)}"


def is_near_limit(death: Death) -> bool:
    """Whether memory was nearly all used."""
    limit_bytes = death.run.limit_bytes if death.run else None
    return limit_bytes is not None and highest_bytes(death) >= _NEAR_LIMIT * limit_bytes


def ago(death: Death, now: float | None = None) -> str:
    """How long ago it died."""
    passed = (time.time() if now is None else now) - death.died
    if passed >= 2 * 86400:
        return f"{passed / 86400:.0f} days ago"
    return f"{format_duration(max(1.0, round(passed)))} ago".replace(".00", "")


def moment(death: Death) -> str:
    """When it died, by the clock of who reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(death.died))


def facts(death: Death) -> list[tuple[str, str]]:
    """What is known, as names and words."""
    run = death.run
    found = [("when", moment(death))]
    if run is not None and death.is_running:
        found.append(("running for", format_duration(max(0.0, death.died - run.started))))
    found.append(("cause", f"it {cause(death)}"))
    if death.levels:
        found.append(("memory", _memory(death)))
    elif run is not None:
        found.append(("memory", f"{format_bytes(run.before_bytes)} when the run began; it was too short for a sample"))
    if run is not None and run.limit_bytes is not None:
        found.append(("limit", f"{format_bytes(run.limit_bytes)} ({one_line(run.limit_source, 60)})"))
    if run is not None and run.kept_bytes:
        found.append(("earlier runs", _earlier(run)))
    if run is not None and run.bytes_per_run is not None:
        held = f", held by {one_line(run.culprit)}" if run.culprit else ""
        found.append(("%memleaks", f"growing, {format_bytes(run.bytes_per_run, sign=True)} per run{held}"))
    if death.notebook:
        found.append(("notebook", one_line(death.notebook, _LINE_CHARACTERS)))
    found.append(("folder", one_line(death.folder, _LINE_CHARACTERS)))
    return found


def source_lines(run: LastRun) -> list[str]:
    """The source to show, fit for a terminal; the last line says what is left out."""
    lines = [_UNPRINTABLE.sub("\ufffd", line.expandtabs(4)) for line in run.source.rstrip().split("\n")]
    shown = [
        line if len(line) <= _LINE_CHARACTERS else line[: _LINE_CHARACTERS - 1] + "…" for line in lines[:_SOURCE_LINES]
    ]
    if len(lines) > _SOURCE_LINES or run.source_characters > len(run.source):
        shown.append(f"… (the cell has {run.source_characters:,} characters)")
    return shown


def advice(death: Death) -> list[tuple[str, str]]:
    """What to try next: what to type, and what it does."""
    run = death.run
    if run is None:
        return []
    found = []
    of_memory = death.oom in ("yes", "likely") or is_near_limit(death)
    if death.is_running and of_memory and not run.is_block:
        fatal = min(filter(None, (run.limit_bytes, highest_bytes(death))), default=run.before_bytes)
        size = f"{max(1, int(_ADVISED_LIMIT * fatal / 1e6))}MB"
        found.append((f"%%memwatch --limit {size}", "above the cell: stops it with an error before the kernel dies"))
    if death.is_running and not run.is_block and (of_memory or death.signal != "SIGKILL"):
        found.append(("%%memwatch --isolate", "above the cell: runs it in a child; if that dies, your variables stay"))
    if any(size >= WORTH_SAYING_BYTES for size in run.kept_bytes):
        found.append(("%memleaks", "after two runs or more: says whether the cell leaks, and what holds it"))
    if of_memory:
        found.append(("%memtop", "before the cell: shows what holds memory already"))
        found.append(("%memclean", "before the cell: gives back what caches hold"))
    return found


def deaths_table(deaths: Sequence[Death], now: float | None = None) -> Table:
    """One row a death, the latest first."""
    columns = (
        column("died", (ago(death, now) for death in deaths), figures=True),
        column("in", (_short_where(death) for death in deaths)),
        column("memory", (level(death) for death in deaths), figures=True),
        column("curve", (sparkline(death.levels, 12) for death in deaths)),
        column("ended by", (_short_cause(death) for death in deaths)),
        column("cell", (_first_line(death) for death in deaths)),
        column("folder", (one_line(death.folder, 60) for death in deaths), prose=True),
    )
    return Table(columns if deaths else (), () if deaths else ("no kernel has died",))


def _what(run: LastRun) -> str:
    return f"the block {one_line(run.cell, 40)!r} (run {run.number})" if run.is_block else f"cell [{run.number}]"


def _short_where(death: Death) -> str:
    if death.run is None:
        return ""
    return f"{'' if death.is_running else 'after '}[{death.run.number}]"


def _short_cause(death: Death) -> str:
    if death.oom in ("yes", "likely"):
        return f"out-of-memory killer{'' if death.oom == 'yes' else '?'}"
    if death.exit_status is not None:
        return f"status {death.exit_status}"
    return one_line(death.signal or "unknown", 20)


def _first_line(death: Death) -> str:
    return one_line(death.run.source.lstrip().partition("\n")[0], 36) if death.run else ""


def _memory(death: Death) -> str:
    seen = f"{format_bytes(death.levels[-1])} {format_duration(-death.times_s[-1])} before the end"
    highest = highest_bytes(death)
    if highest > death.levels[-1] + WORTH_SAYING_BYTES:
        seen += f", at most {format_bytes(highest)} in the last minute"
    children = death.children_bytes[-1] if death.children_bytes else 0
    if children >= WORTH_SAYING_BYTES:
        seen += f" ({format_bytes(children)} of it in child processes)"
    if death.run is not None and death.is_running:
        grown = death.levels[-1] - death.run.before_bytes
        seen += f"; {format_bytes(grown, sign=True)} since the run began"
    return seen


def _earlier(run: LastRun) -> str:
    kept = ", ".join(format_bytes(size, sign=True) for size in run.kept_bytes)
    peak = max(run.peak_growth_bytes, default=0)
    return f"kept {kept}; their highest peak was {format_bytes(peak, sign=True)}"
