"""What the live view costs while a cell runs, and whether it makes the kernel grow. In real kernels."""

from __future__ import annotations

import time

from benchmarks.figures import median_interval, number, reached, spread
from benchmarks.kernels import MeasuredKernel, measured_kernel
from benchmarks.report import table
from benchmarks.tools import MIB

TITLE = "What the live view costs"

_GOAL_PERCENT, _GOAL_MIB = 1.0, 2.0
_HZ = 5
_UPDATES, _CELLS = 2000, 500
_WARM_UP = 100
_STEPS = 1_000_000
#: At least so many pairs, and more on a noisy machine, until the median is known well or the time is up.
_PAIRS, _AT_MOST_S = 30, 240.0

#: One and the same kernel runs both arms, since two processes may differ by more than what is looked for.
_CONNECT = "%load_ext memcell"
_SHOW = "%memwatch"
_DISCONNECT = "%unload_ext memcell"
_WORK = """
import time
def work(steps):
    began, spent, total = time.perf_counter(), time.process_time(), 0
    for step in range(steps):
        total += step % 7
    return time.perf_counter() - began, time.process_time() - spent
"""
_FIND_VIEW = """
import gc
from memcell.view.live import LiveView
view = next(found for found in gc.get_objects() if isinstance(found, LiveView))
"""
#: In a cell that is running, as the thread does it; the client takes every message.
_UPDATE = """
import time
def update(times):
    began = time.thread_time()
    for _ in range(times):
        view.draw()
    return (time.thread_time() - began) / times
"""
_WATCHED = "%%memwatch\npass"
_LEVELS = """
import gc, psutil
def levels():
    gc.collect()
    return psutil.Process().memory_info().rss, psutil.heap_info().heap_used
"""


def run(quick: bool) -> list[str]:
    return [
        (
            "Real kernels with a client that receives every message. First the time of a pure Python cell: with the"
            f" live view of `%memwatch` at {_HZ} Hz, and after `%unload_ext memcell`, in turns in one kernel, the"
            " difference in pairs. The clock also counts what other processes take from the kernel; processor time"
            " does not, but does not see a thread wait for another. Last what the updates take of the kernel's"
            " processor time on their own."
        ),
        _slow_down(quick),
        (
            "Growth of the kernel in MiB, read after a garbage collection: first in a warm-up, in which widgets,"
            f" matplotlib and fonts are loaded and malloc's heap finds its size ({_WARM_UP} cells, 200 updates), then"
            " beyond it. The updates were drawn one after the other instead of waiting 0.2 s for each; a `%%memwatch`"
            " cell has its line and its picture. Resident memory that grows while the heap in use does not is kept by"
            " malloc, not by memcell."
        ),
        _growth(quick),
    ]


def _slow_down(quick: bool) -> str:
    with measured_kernel(live=True) as kernel:
        kernel.must(_WORK)
        steps = int(_STEPS / kernel.value(f"work({_STEPS})")[0])  # of a second
        _pair(kernel, steps, first="live")  # loads what is loaded once
        wall: list[float] = []
        processor: list[float] = []
        ends = time.monotonic() + (3 if quick else _AT_MOST_S)
        while len(wall) < 2 or (time.monotonic() < ends and not _is_certain(wall)):
            by_wall, by_processor = _pair(kernel, steps, first="bare" if len(wall) % 2 else "live")
            wall.append(by_wall)
            processor.append(by_processor)
        for cell in (_CONNECT, _SHOW, _FIND_VIEW, _UPDATE):
            kernel.must(cell)
        kernel.must(f"update(20); each_s = update({20 if quick else 200})")
        each_s = kernel.value("each_s")
    measured = {f"by the clock, {len(wall)} pairs": wall, "by the kernel's processor time": processor}
    rows = []
    for label, slower in measured.items():
        found, (low, high) = spread(slower), median_interval(slower)
        mark = reached(found.median, _GOAL_PERCENT)
        rows.append([label, found.text(2), f"{number(low, 2)} to {number(high, 2)}", f"≤ {_GOAL_PERCENT:g} %", mark])
    rows.append([f"{_HZ} updates a second of {each_s * 1e3:.2f} ms each", number(each_s * _HZ * 100, 2), "", "", ""])
    return table(["", "slow-down, %", "95 % interval of the median", "goal", "reached"], rows)


def _pair(kernel: MeasuredKernel, steps: int, first: str) -> tuple[float, float]:
    """The slow-down of one pair of cells in per cent: by the clock, and by the processor time of the kernel."""
    took: dict[str, tuple[float, float]] = {}
    for arm in (first, "bare" if first == "live" else "live"):
        if arm == "live":
            kernel.must(_CONNECT)
            kernel.must(_SHOW)
        kernel.must(f"took = work({steps})")
        took[arm] = kernel.value("took")
        if arm == "live":
            kernel.must(_DISCONNECT)
    by_wall, by_processor = ((live / bare - 1) * 100 for live, bare in zip(took["live"], took["bare"], strict=True))
    return by_wall, by_processor


def _is_certain(slower: list[float]) -> bool:
    low, high = median_interval(slower)
    return len(slower) >= _PAIRS and high - low < _GOAL_PERCENT / 2


def _growth(quick: bool) -> str:
    updates, cells, warm_up = (_UPDATES // 20, _CELLS // 50, 10) if quick else (_UPDATES, _CELLS, _WARM_UP)
    in_a_live_view = [_CONNECT, _SHOW, _FIND_VIEW, _UPDATE]
    cases = [
        (f"{updates:,} updates of the view", [*in_a_live_view, "update(200) and None"], f"update({updates})", 1, True),
        (f"{cells} bare cells, no memcell", ["pass"] * warm_up, "pass", cells, False),
        (f"{cells} cells with memcell loaded", [_CONNECT, *["pass"] * warm_up], "pass", cells, False),
        *(
            (f"{cells} `%%memwatch` cells after {first}", [_CONNECT, *[_WATCHED] * first], _WATCHED, cells, True)
            for first in (warm_up // 5, warm_up)
        ),
    ]
    rows = []
    for label, before, cell, times, has_goal in cases:
        warm_up_mib, rss_mib, heap_mib = _grown(before, cell, times)
        goal = [f"± {_GOAL_MIB:g} MiB", reached(abs(rss_mib), _GOAL_MIB)] if has_goal else ["", ""]
        rows.append([label, number(warm_up_mib, 1), number(heap_mib, 2), number(rss_mib, 2), *goal])
    return table(["", "in the warm-up", "heap in use", "resident", "goal", "reached"], rows)


def _grown(warm_up: list[str], cell: str, times: int) -> tuple[float, float, float]:
    """How much a kernel's resident memory grew in the warm-up, then in the cells, and its heap in use, in MiB."""
    with measured_kernel(live=True) as kernel:
        kernel.must(_LEVELS)
        start, _ = kernel.value("levels()")
        for first in warm_up:
            kernel.must(first)
        rss, heap = kernel.value("levels()")
        for _ in range(times):
            kernel.must(cell)
        rss_after, heap_after = kernel.value("levels()")
        return (rss - start) / MIB, (rss_after - rss) / MIB, (heap_after - heap) / MIB
