"""What is said about memory limits: why a run was stopped, that one is near, and what ``%memlimit`` shows."""

from __future__ import annotations

from memcell.records.protected import LimitInfo, Stop
from memcell.units import format_bytes, format_limit, format_round
from memcell.view.phrases import WORTH_SAYING_BYTES, object_size, one_line

_SHOWN = 3
LIMIT_NOTES = {
    "host": "of a machine: a cell is stopped only once there is no swap left either",
    "no watcher": "no process watches this one, so no cell is stopped; memcell only warns and cleans between cells",
}
#: Why a run ends with another error than the one that is raised in it.
_REASONS = (
    (MemoryError, "C code kept the interpreter, so that an allocation was refused"),
    (KeyboardInterrupt, "C code kept the interpreter, or waited, so that Ctrl-C was sent"),
)
_CANCELLED = "it waited in the event loop, so that its task was cancelled"


def stop_message(stop: Stop) -> str:
    """The message of ``MemoryLimitExceeded``: what was used of which limit, what holds it, and what to try."""
    grown = format_bytes(max(0, stop.grown_bytes))
    return "\n".join([f"{_use(stop)} in use; what ran has grown by {grown} and was stopped", *_details(stop)])


def end_message(stop: Stop, error: BaseException | None, peak_growth_bytes: int) -> str:
    """What is said below a run that was to be stopped and did not end with ``MemoryLimitExceeded``.

    Args:
        stop: Why it was to be stopped.
        error: What it ended with; None if with nothing.
        peak_growth_bytes: How far memory had grown at the run's peak.
    """
    if error is not None:
        reason = next((words for kinds, words in _REASONS if isinstance(error, kinds)), None)
        if type(error).__name__ == "CancelledError":  # asyncio's, which takes 10 ms to import
            reason = _CANCELLED
        if reason is None:
            return stop_message(stop)
        name = type(error).__name__.lstrip("_")
        return f"{stop_message(stop)}\nit ends with {name} instead of MemoryLimitExceeded because {reason}"
    if stop.is_raised:
        return f"the code caught the error and went on: {stop_message(stop)}"
    # From the level before the run, as nearly as it is known: others may use the same limit.
    above = stop.used_bytes - stop.grown_bytes + max(stop.grown_bytes, peak_growth_bytes) - stop.limit_bytes
    if above <= 0:
        words = f"the run came to its end before it was stopped; {_use(stop)} in use"
    else:
        words = (
            "one call of C code could not be stopped in time: the limit of"
            f" {format_limit(stop.limit_bytes)} ({stop.source}) was passed by {format_bytes(above)}"
        )
    return "\n".join([words, *_details(stop)])


def _use(stop: Stop) -> str:
    return f"{format_bytes(stop.used_bytes)} of {format_limit(stop.limit_bytes)} ({stop.source})"


def _details(stop: Stop) -> list[str]:
    """What holds the memory, and what to try."""
    parts = []
    if stop.children_bytes >= WORTH_SAYING_BYTES:
        parts.append(f"child processes hold {format_bytes(stop.children_bytes)} of it; %memprocs lists them")
    large = [variable for variable in stop.largest if variable.size_bytes >= WORTH_SAYING_BYTES]
    if large:
        sizes = (
            f"{one_line(variable.name, 60)} {object_size(variable.size_bytes, complete=variable.complete)}"
            for variable in large[:_SHOWN]
        )
        parts.append(f"largest variables: {', '.join(sizes)}")
    parts.append(
        "try %memtop (what is large), %memclean (caches), %%memwatch --isolate (in a process of its own), or a higher"
        " limit with %memlimit"
    )
    return parts


def near_message(used_bytes: int, limit_bytes: int, source: str) -> str:
    """That a limit is near: ``740 MiB of 1 GiB (%memlimit), 72%, in use during the run``."""
    return (
        f"{format_round(used_bytes)} of {format_round(limit_bytes)} ({source}), {used_bytes / limit_bytes:.0%},"
        " in use during the run"
    )


def limit_lines(info: LimitInfo) -> list[str]:
    """What ``%memlimit`` shows."""
    limit = info.limit
    if limit.limit_bytes is None:
        return [f"memory limit: none ({limit.source}); this kernel uses {format_bytes(info.own_bytes)}"]
    used = limit.used_bytes
    use = "" if used is None else f"; {format_bytes(used)} ({used / limit.limit_bytes:.0%}) in use"
    lines = [f"memory limit: {format_limit(limit.limit_bytes)} ({limit.source}){use}"]
    if used is None or abs(used - info.own_bytes) >= WORTH_SAYING_BYTES:
        lines.append(f"this kernel and its children: {format_bytes(info.own_bytes)} that cannot be dropped")
    steps = (
        ("warns", info.warn_bytes),
        ("cleans", info.clean_bytes),
        ("stops the cell that grows", info.stop_bytes),
    )
    said = (f"{what} at {format_bytes(at)} ({at / limit.limit_bytes:.0%})" for what, at in steps if at is not None)
    lines.append(f"memcell {', '.join(said)}")
    if info.note:
        lines.append(info.note)
    return lines
