"""Two hundred isolated cells in a row, twenty of them crashing in ways of their own, and what isolation costs.

``python -m benchmarks.isolate [--quick] [--gib 0.1 1 4] [--write]``. The kernel is watched from outside: its level,
its descriptors, and the processes that its cells started, which an environment variable marks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import number, reached
from benchmarks.kernels import MeasuredKernel, measured_kernel
from benchmarks.reclaim_page import mib
from benchmarks.report import KERNEL, provenance, put_between, table
from memcell.units import GIB, MIB

PAGE = Path(__file__).parents[1] / "docs" / "isolate.md"
_BEGIN, _END = "<!-- measured:begin -->", "<!-- measured:end -->"

GOAL_BYTES = 5 * MIB
CELLS, QUICK_CELLS = 200, 80
#: The level is compared with that after this many cells: the first ones load what all need.
_WARM = 20
_MARK = "MEMCELL_BENCHMARK_ISOLATE"

_SETUP = f"""
%load_ext memcell
import ctypes, mmap, os, resource, signal, subprocess, sys, tempfile, threading, time
import matplotlib.pyplot as plt
import numpy as np
os.environ["{_MARK}"] = "1"
base = np.ones(20 * 2**20 // 8)
class Bomb:
    def __reduce__(self):
        os._exit(9)
def dive():
    dive()
"""
#: A kernel opens some descriptors of its own with the first flood of output, isolated or not, and with the first text
#: that comes by each of the descriptors 1 and 2.
_FLOOD = "os.write(1, b'1'); os.write(2, b'2')\nfor number in range(3000): print('x' * 1000)"
#: A cell that grows lets memcell count the containers of all modules, and it keeps some MiB for that from then on.
_GROWING = "hoard = [*globals().get('hoard', ()), np.ones(2**21)]"
#: What most cells do, in turns.
_ORDINARY = (
    "block = bytearray(b'x') * (64 << 20)",
    "for number in range(200): print('line', number)",
    "display(base[:3]); base.sum()",
    "plt.plot(base[:100])",
    "base[:] = 2",
    "subprocess.Popen(['sleep', '600']); None",
    "thread = threading.Thread(target=time.sleep, args=(600,)); thread.start()",
    "await __import__('asyncio').sleep(0.01)",
    "%time sum(range(1000))",
)
#: Larger than glibc's highest threshold: smaller arrays may come to lie in the heap, and hold free memory below them.
_KEEPING = "kept = np.arange(8_000_000)"
#: Each ends its process, or the cell, in another way; the second is what the kernel has to say.
CRASHES = (
    ("ctypes.string_at(0)", "SIGSEGV"),
    ("ctypes.memset(1, 0, 1)", "SIGSEGV"),
    ("os.abort()", "SIGABRT"),
    ("os._exit(0)", "exit code 0"),
    ("os._exit(3)", "exit code 3"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ("os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    ("os.kill(os.getpid(), signal.SIGFPE)", "SIGFPE"),
    ("os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
    ("os.killpg(0, signal.SIGHUP)", "SIGHUP"),
    (
        (
            "file = tempfile.TemporaryFile()\nfile.truncate(99)\npage = mmap.mmap(file.fileno(), 99)\n"
            "file.truncate(0)\npage[0]"
        ),
        "SIGBUS",
    ),
    ("ctypes.CDLL(None).free(ctypes.c_void_p(id(base) + 8))", "SIG"),
    ("threading.Thread(target=ctypes.string_at, args=(0,)).start(); time.sleep(9)", "SIGSEGV"),
    ("if os.fork() == 0: time.sleep(600)\nos._exit(5)", "exit code 5"),
    ("kept = Bomb()", "exit code 9"),
    ("for number in range(10**6):\n    print('x' * 1000)\n    if number == 500: os.abort()", "SIGABRT"),
    ("resource.setrlimit(resource.RLIMIT_DATA, (2**28, 2**28))\nblock = bytearray(2**30)", "MemoryError"),
    ("signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(9)", "SIGALRM"),
    ("1 / 0", "ZeroDivisionError"),
    ("sys.exit(4)", "SystemExit"),
)


@dataclass(frozen=True)
class Row:
    """What 200 isolated cells did to their kernel: levels in bytes, descriptors, processes that are left."""

    cells: int
    crashes: int
    mistold: tuple[str, ...]
    warm_bytes: int
    last_bytes: int
    descriptors_grown: int
    left: int
    first_value: float

    @property
    def growth_bytes(self) -> int:
        return self.last_bytes - self.warm_bytes


def in_a_row(cells: int, crashes: int = len(CRASHES)) -> Row:
    """Run isolated cells, every tenth or so of which crashes."""
    with measured_kernel() as kernel:
        kernel.must(_SETUP)
        kernel.must(_FLOOD)
        for _ in range(6):
            kernel.must(_GROWING)
        kernel.must("del hoard")
        mistold: list[str] = []
        warm_bytes = warm_descriptors = 0
        step, crashed = cells // crashes, 0
        for index in range(cells):
            if index % step == step - 1 and crashed < crashes:
                code, says = CRASHES[crashed]
                crashed += 1
                result = kernel.run(f"%%memwatch --isolate -q --keep kept\n{code}")
                told = f"{result.error}\n{''.join(result.contents('error')[0]['traceback'])}" if result.error else ""
                if result.status != "error" or says not in told:
                    mistold.append(f"{code!r}: {result.status} {result.error}")
            elif index % 5 == 4:
                kernel.must(f"%%memwatch --isolate -q --keep kept\n{_KEEPING}")
            else:
                kernel.must(f"%%memwatch --isolate -q\n{_ORDINARY[index % len(_ORDINARY)]}")
            if index == _WARM - 1:
                warm_bytes, warm_descriptors = _tidy_level(kernel), _descriptors(kernel)
        return Row(
            cells=cells,
            crashes=crashed,
            mistold=tuple(mistold),
            warm_bytes=warm_bytes,
            last_bytes=_tidy_level(kernel),
            descriptors_grown=_descriptors(kernel) - warm_descriptors,
            left=_left(kernel),
            first_value=float(kernel.value("float(base[0])")),
        )


def _tidy_level(kernel: MeasuredKernel) -> int:
    kernel.must("%memclean -q out gc trim")  # IPython keeps every text that a cell prints, isolated or not
    return kernel.rss_bytes()


def _descriptors(kernel: MeasuredKernel) -> int:
    return len(list(Path(f"/proc/{kernel.pid}/fd").iterdir()))


def _left(kernel: MeasuredKernel) -> int:
    """The processes that cells started, orphans too; zombies and children of the kernel count as well."""
    marked = 0
    for process in psutil.process_iter():
        try:
            marked += process.pid != kernel.pid and process.environ().get(_MARK) == "1"
        except psutil.Error:
            continue
    return marked + len(psutil.Process(kernel.pid).children())


@dataclass(frozen=True)
class Cost:
    """What isolation costs in a kernel with a namespace of some size: medians in seconds."""

    gib: float
    plain_s: float
    isolated_s: float
    written_s: float
    kept_s: float


_SIZED = """
import numpy as np
namespace = [np.ones(2**17) for _ in range({pieces})]
"""


def cost(gib: float, rounds: int) -> Cost:
    """Time an empty cell, one that writes to 100 MiB of the namespace, and one that brings 500 MB back."""
    with measured_kernel() as kernel:
        kernel.must("%load_ext memcell")
        kernel.must(_SIZED.format(pieces=round(gib * GIB / MIB)))
        kernel.must("%%memwatch -q --isolate\npass")

        def took(magic: str, code: str) -> float:
            times = []
            for _ in range(rounds):
                began = time.perf_counter()
                kernel.must(f"{magic}\n{code}")
                times.append(time.perf_counter() - began)
            return statistics.median(times)

        return Cost(
            gib=gib,
            plain_s=took("%%memwatch -q", "pass"),
            isolated_s=took("%%memwatch -q --isolate", "pass"),
            written_s=took("%%memwatch -q --isolate", "for piece in namespace[:100]: piece[:] = 2"),
            kept_s=took("%%memwatch -q --isolate --keep kept", "kept = np.ones(500_000_000 // 8)"),
        )


def section(row: Row, costs: Sequence[Cost]) -> str:
    """The part of the page that is measured."""
    is_flat = abs(row.growth_bytes) <= GOAL_BYTES
    facts = [
        [
            "the kernel's level, MiB",
            f"{mib(row.warm_bytes)} → {mib(row.last_bytes)}",
            f"± {mib(GOAL_BYTES)}",
            "yes" if is_flat else "**no**",
        ],
        ["descriptors", f"{row.descriptors_grown:+d}", "0", reached(row.descriptors_grown, 0)],
        ["processes left", str(row.left), "0", reached(row.left, 0)],
        ["crashes told wrongly or not at all", str(len(row.mistold)), "0", reached(len(row.mistold), 0)],
        [
            "the kernel's own array, which cells wrote to",
            "unchanged" if row.first_value == 1 else "**changed**",
            "unchanged",
            "yes" if row.first_value == 1 else "**no**",
        ],
    ]
    sizes = [
        [
            f"{cost.gib:g} GiB",
            *(number(seconds * 1e3) for seconds in (cost.plain_s, cost.isolated_s, cost.written_s, cost.kept_s)),
        ]
        for cost in costs
    ]
    return f"""## {row.cells} isolated cells in a row

{row.crashes} of them crash, each in another way: {", ".join(_ways())}.
The others print, plot, allocate 64 MiB, overwrite an array of the kernel's, start threads and processes that they leave
behind, or bring back 64 MB. From cell {_WARM} to the last, each time after `%memclean out gc trim` (IPython keeps every
text that a cell prints, isolated or not):

{table(["what", "measured", "goal", "reached"], facts)}

## What it costs

An empty cell as it is and isolated, one that writes to 100 MiB of the namespace (whose pages are copied then), and one
that brings 500 MB back, in milliseconds (medians), for namespaces of numpy arrays of 1 MiB each.

{table(["namespace", "empty, not isolated", "empty", "writes to 100 MiB", "brings 500 MB back"], sizes)}

{provenance("benchmarks.isolate --write", [*KERNEL, "numpy"])}"""


def _ways() -> list[str]:
    ways = dict.fromkeys(says for _, says in CRASHES if says != "SIG")
    return [f"`{way}`" if way[0].isupper() else way for way in ways]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isolate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CELLS} cells, and no costs")
    parser.add_argument("--gib", type=float, nargs="+", default=[0.1, 1, 4], help="the sizes of namespaces")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/isolate.md")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick measures too little to be written down; leave one of the two out")
    row = in_a_row(QUICK_CELLS if options.quick else CELLS)
    text = section(row, [] if options.quick else [cost(gib, 5) for gib in options.gib])
    print(text)
    for mistold in row.mistold:
        print("told wrongly:", mistold)
    if options.write:
        put_between(PAGE, _BEGIN, _END, text)


if __name__ == "__main__":
    main()
