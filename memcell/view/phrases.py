"""How the values of a record are worded: the same phrase in a line, a table, a tooltip and a title."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from memcell.records.cleaned import CleanOutcome, Notice
from memcell.records.explained import AllocationSites, FreshReport, RepeatReport, Verdict
from memcell.records.measured import Limit, Run
from memcell.records.sized import NamespaceEntry, NamespaceSizes
from memcell.units import MIB, format_bytes, format_duration, format_round

_BLOCKS = "▁▂▃▄▅▆▇█"
#: Parts of the summary that most runs do not have (children, cleaned) are left out below this.
WORTH_SAYING_BYTES = MIB
#: The level of an idle kernel wavers by some 100 KiB: a curve that spans less than this is drawn low.
_SPARKLINE_SPAN_BYTES = 4 * MIB
_BAR_WIDTH = 20
# Control characters, and the marks that turn the direction of text around for what follows them.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def count(number: int, noun: str, several: str = "") -> str:
    """A number of things: ``1 run``, ``2 runs``; ``several`` where the plural is not the noun with an s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def one_line(text: str, width: int = 80) -> str:
    """Make text of a user fit for one line: no line breaks, no control characters, at most ``width`` characters."""
    line = " ".join(_UNPRINTABLE.sub(" ", _LONE_SURROGATE.sub("\ufffd", text)).split())
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"


def bins(values: Sequence[float], count: int) -> list[float]:
    """The highest value in each of at most ``count`` equal parts of a curve."""
    size = len(values)
    if size <= count:
        return list(values)
    return [max(values[i * size // count : (i + 1) * size // count]) for i in range(count)]


def sparkline(values: Sequence[float], width: int = 16, *, span: float = 0) -> str:
    """Draw a curve in one line of text.

    Args:
        values: The curve; where there are more values than characters, the highest of each part is drawn.
        width: The highest number of characters.
        span: What the full height stands for at least, in the unit of the values, so that noise looks like noise.

    Returns:
        One block character per part, the lowest for a flat curve; an empty string for fewer than two values.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7]), sparkline([5, 5, 5])
    ('▁▂▃▄▅▆▇█', '▁▁▁')
    """
    if len(values) < 2 or width < 1:
        return ""
    tops = bins(values, width)
    low = min(tops)
    height = max(max(tops) - low, span)
    if height <= 0:
        return _BLOCKS[0] * len(tops)
    return "".join(_BLOCKS[round((top - low) / height * (len(_BLOCKS) - 1))] for top in tops)


def run_sparkline(run: Run, width: int = 16) -> str:
    """The curve of a run in one line of text, from the level before; empty for a run too short to sample."""
    if not run.curve_bytes:
        return ""
    return sparkline((run.before_bytes, *run.curve_bytes), width, span=_SPARKLINE_SPAN_BYTES)


def kept(run: Run) -> str:
    """What the run left behind: ``+105.2 MiB kept``, or ``50.0 MiB freed`` where the level fell."""
    signed = format_bytes(run.retained_bytes, sign=True)
    return f"{signed[1:]} freed" if signed.startswith("-") else f"{signed} kept"


def peak(run: Run) -> str:
    """The peak growth: ``+310.0 MiB``, or ``≥ +310.0 MiB`` where only a lower bound is known."""
    bound = "≥ " if run.peak_error_bytes is None else ""
    return bound + format_bytes(run.peak_growth_bytes, sign=True)


def children(run: Run) -> str:
    """What the child processes grew by, and their peak where it was much more; empty for less than 1 MiB."""
    grown = run.children_after_bytes - run.children_before_bytes
    highest = run.children_peak_bytes - run.children_before_bytes
    has_peak = highest >= max(grown, 0) + WORTH_SAYING_BYTES and highest > 1.1 * grown
    peak_text = f"peak {format_bytes(highest, sign=True)}" if has_peak else ""
    if abs(grown) < WORTH_SAYING_BYTES:
        return peak_text
    grown_text = format_bytes(grown, sign=True)
    return f"{grown_text} ({peak_text})" if peak_text else grown_text


def cleaned(run: Run) -> str:
    """What cleaners gave back during the run; empty for less than 1 MiB."""
    return format_bytes(run.cleaned_bytes) if run.cleaned_bytes >= WORTH_SAYING_BYTES else ""


def level(level_bytes: int, limit: Limit | None) -> str:
    """A level beside the limit that applies: ``612 MiB of 24 GiB``, or ``612 MiB`` where none is known."""
    if limit is None or limit.limit_bytes is None:
        return format_round(level_bytes)
    return f"{format_round(level_bytes)} of {format_round(limit.limit_bytes)}"


def limit_use(limit: Limit | None) -> str:
    """The limit and how much of it is in use: ``limit 24 GiB, 25% used``; empty where none is known."""
    if limit is None or not limit.limit_bytes:
        return ""
    words = f"limit {format_round(limit.limit_bytes)}"
    return words if limit.used_bytes is None else f"{words}, {limit.used_bytes / limit.limit_bytes:.0%} used"


def summary_parts(run: Run, limit: Limit | None = None) -> list[str]:
    """The parts of the summary line after the number of the cell, without the sparkline."""
    parts = [kept(run), f"peak {peak(run)}"]
    if grown := children(run):
        parts.append(f"children {grown}")
    if given_back := cleaned(run):
        parts.append(f"cleaned {given_back}")
    if run.device_bytes:
        parts.append(f"GPU {format_round(run.device_bytes)}")
    parts.append(format_duration(run.duration_s))
    if run.outcome != "ok":
        parts.append(run.outcome)
    parts.append(f"kernel {level(run.after_bytes, limit)}")
    return parts


def notice_words(notice: Notice) -> str:
    """What memcell did and why: ``memcell: 80.0 MiB freed, cleaned: this cell has kept 96.0 MiB …``."""
    if notice.report is None:
        return f"memcell: {notice.why}"
    return f"memcell: {format_bytes(max(0, notice.report.freed_bytes))} freed, {notice.why}"


def labels(verdicts: Sequence[Verdict], width: int = 36) -> list[str]:
    """What to call each of several cells; where two would be called the same, with the number of the last run."""
    words = [one_line(verdict.label, width) for verdict in verdicts]
    return [
        label if verdict.number is None or words.count(label) == 1 else f"[{verdict.number}] {label}"
        for verdict, label in zip(verdicts, words, strict=True)
    ]


def per_run(verdict: Verdict) -> str:
    """What a growing cell adds with each run, and where: ``+7.6 MiB``, ``+25.5 MiB children``."""
    if verdict.kind != "growing":
        return ""
    where = "" if verdict.metric == "memory" else f" {verdict.metric}"
    return f"{format_bytes(verdict.bytes_per_run, sign=True)}{where}"


def runs_left(verdict: Verdict) -> str:
    """How many runs until the limit."""
    left = verdict.runs_until_limit
    return "" if left is None else "1 run" if left == 1 else f"{left:,} runs"


def held_by(verdict: Verdict) -> str:
    """The first culprit with how it grew, and who holds the same objects; else the note."""
    if not verdict.culprits:
        return one_line(verdict.note, 120)
    culprit, *others = verdict.holders
    shown = (format_bytes(size) for size in culprit.sizes) if culprit.unit == "bytes" else map(str, culprit.sizes)
    unit = "" if culprit.unit == "bytes" else " entries"
    also = f"; also in {', '.join(one_line(other.name, 80) for other in others)}" if others else ""
    return f"{one_line(culprit.name, 80)}: {' → '.join(shown)}{unit}{also}"


def repeat_outcome(report: RepeatReport) -> str:
    """How many runs there were of how many, why not all, and how long it took."""
    done, number = len(report.runs), len(report.runs) + 1
    times = format_duration(report.duration_s)
    if report.measuring_s >= 0.01:
        times += f", {format_duration(report.measuring_s)} of it to measure what stays"
    if report.outcome == "ok":
        return f"{done} of {report.wanted} runs in {times}"
    before = "no run before it"
    if done:
        before = f"this is about the {'run' if done == 1 else f'{done} runs'} before"
    why = "interrupted" if report.outcome == "interrupted" else "failed"
    error = f" with {one_line(report.error, 100)}" if report.error and why == "failed" else ""
    return f"run {number} of {report.wanted} {why}{error}; {before}; {times}"


def repeat_progress(done: int, wanted: int, kept_bytes: int, *, ended: bool = False) -> str:
    """How far a repeated cell has got: ``▰▰▰▱▱▱▱▱▱▱ run 4 of 10 · +20.0 MiB so far``."""
    filled = done * _BAR_WIDTH // wanted
    words = f"run {done + 1} of {wanted}" if done < wanted else f"{wanted} runs done"
    if ended and done < wanted:
        words = f"stopped in {words}"
    so_far = f" · {format_bytes(kept_bytes, sign=True)} so far" if done and not ended else ""
    return f"{'▰' * filled}{'▱' * (_BAR_WIDTH - filled)} {words}{so_far}"


def fresh_words(report: FreshReport) -> list[str]:
    """What was dropped before it was rebound, what was not and why, and what has no value now."""
    words = []
    if report.dropped:
        dropped = ", ".join(f"{one_line(name, 40)} ({format_bytes(size)})" for name, size in report.dropped)
        words.append(f"memcell --fresh: dropped just before rebinding: {dropped}")
    words += (
        f"memcell --fresh: left {one_line(left.name, 40)}{_in_brackets(left.size_bytes)}: {one_line(left.why, 160)}"
        for left in report.left
    )
    if report.lost:
        words.append(
            f"memcell --fresh: {names(report.lost)} has no value now: the old one was dropped, and the cell failed"
        )
    return words or ["memcell --fresh: nothing of 1 MiB or more was about to be rebound"]


def _in_brackets(size_bytes: int) -> str:
    return f" ({format_bytes(size_bytes)})" if size_bytes else ""


def traced(sites: AllocationSites) -> str:
    """What the allocations that are still held add up to, and who traced them."""
    runs = "this run" if sites.runs == 1 else f"{sites.runs} runs"
    more = f", in {sites.count} places" if sites.count > len(sites.sites) else ""
    words = f"{format_bytes(sites.total_bytes)} allocated in {runs} and still held{more}"
    tracer = f"traced by {sites.tracer}, which costs time and memory too"
    return "; ".join(filter(None, (words, tracer, one_line(sites.note, 160))))


def freed(outcome: CleanOutcome) -> str:
    """What a cleaner gave back, as far as it can be told: ``80.0 MiB``, ``below 0.3 MiB``, ``+1.5 MiB more``."""
    if outcome.freed_bytes is None:
        return "not run"
    if outcome.freed_bytes and not outcome.is_measurable:
        # Rounded up to the decimal that is shown: a bound rounded down would be too low.
        return f"below {math.ceil(outcome.noise_bytes / MIB * 10) / 10:.1f} MiB"
    if outcome.freed_bytes < 0:
        return f"{format_bytes(-outcome.freed_bytes, sign=True)} more"
    return format_bytes(outcome.freed_bytes)


def object_size(size_bytes: int, *, complete: bool) -> str:
    """A size, or a lower bound of one: ``≥ 512.0 MiB``."""
    return ("" if complete else "≥ ") + format_bytes(size_bytes)


def names(several: Sequence[str], shown: int = 3) -> str:
    """A few of many names: ``a, b, c and 4 more``."""
    words = ", ".join(one_line(name, 60) for name in several[:shown])
    return words if len(several) <= shown else f"{words} and {len(several) - shown} more"


def del_helps(entry: NamespaceEntry) -> str:
    """Whether ``del`` gives a variable's memory back, or what does where it is none."""
    if entry.freed_by_del is None:
        return f"no: {entry.freed_by}"
    return {"all": "yes", "part": "partly", "nothing": "no"}[entry.freed_by_del]


def namespace_total(sizes: NamespaceSizes) -> str:
    """What all variables hold, how much of the process that explains, and what was not counted."""
    total = object_size(sizes.total_bytes, complete=not sizes.uncounted)
    parts = [f"{total} in {count(sizes.count, 'variable')} and what the shell keeps"]
    if sizes.rss_bytes:
        share = f"{sizes.total_bytes / sizes.rss_bytes:.0%} of the kernel's {format_round(sizes.rss_bytes)}"
        # Pages that were never written to, or are swapped out, are not resident.
        parts.append(
            f"more than the kernel's resident {format_round(sizes.rss_bytes)}"
            if sizes.total_bytes > sizes.rss_bytes
            else share
        )
    if sizes.uncounted:
        parts.append(f"not counted to the end: {names(sizes.uncounted)}")
    if not sizes.holders_complete:
        parts.append("the search for holders ran out of time")
    return "; ".join(parts)
