"""Made-up series of runs whose truth is known: a small model of a process, re-running one cell.

The model has what real processes have: noise at every reading, garbage that waits for the collector, memory that
the allocator keeps, other cells in between, clean-ups, warm-ups. It asks ``is_suspicious`` after each run, as the
session does, and collects and trims where the answer is yes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from memcell.explain.growth import is_suspicious
from memcell.records.explained import Metric
from memcell.records.measured import Run
from memcell.units import MIB


@dataclass(slots=True)
class Cell:
    """What a made-up cell does in each run (``run`` counts from 1), in MiB."""

    kept: Callable[[int], float] = lambda run: 0.0
    noise: float = 0.0
    walk: float = 0.0
    garbage: float = 0.0
    collected_every: int = 0
    slack: float = 0.0
    pages: float = 0.0
    untouched: float = 0.0
    others: Callable[[int], float] | None = None
    cleaned_every: int = 0
    cleaned_inside: bool = False
    past_malloc: bool = False
    hidden_room: float = 0.0
    metric: Metric = "memory"
    settles: bool = True
    detailed: bool = True


@dataclass(frozen=True, slots=True)
class Truth:
    """A series and what should be said of it: ``rate`` is MiB per run, 0 where it is no leak."""

    name: str
    rate: float
    runs: list[Run]
    settled: int
    metric: Metric = "memory"


@dataclass(slots=True)
class _Process:
    cell: Cell
    random: random.Random
    base: float = 80.0
    held: float = 0.0
    walked: float = 0.0
    garbage: float = 0.0
    slack: float = 0.0
    pages: float = 0.0
    untouched: float = 0.0
    elsewhere: float = 0.0
    number: int = 0
    runs: list[Run] = field(default_factory=list)

    def read(self) -> dict[str, int | None]:
        cell = self.cell
        noise = self.random.uniform(-cell.noise, cell.noise) + self.random.uniform(-0.01, 0.01)
        memory = self.held if cell.metric == "memory" else 0.0
        shared = self.held if cell.metric == "shared memory" else 0.0
        in_use = memory + self.garbage + self.walked + self.elsewhere
        anon = self.base + max(in_use - cell.hidden_room, 0.0) + self.slack + noise
        heap = 20.0 + noise + self.untouched + (0.0 if cell.past_malloc else in_use)
        file = 40.0 + self.pages
        levels: dict[str, float | None] = {"rss": anon + file + shared, "anon": anon, "file": file, "shmem": shared}
        levels["heap"] = heap
        if not cell.detailed:
            levels = {"rss": levels["rss"], "anon": None, "file": None, "shmem": None, "heap": None}
        return {name: None if level is None else round(level * MIB) for name, level in levels.items()}

    def collect(self) -> None:
        self.garbage = self.slack = 0.0
        self.cell.hidden_room = 0.0

    def run(self, count: int) -> None:
        cell = self.cell
        if count > 1:
            self.between(count)
        self.number += 1
        before, children_before = self.read(), self.held if cell.metric == "children" else 0.0
        self.held = max(0.0, self.held + cell.kept(count))
        self.walked += self.random.gauss(0.0, cell.walk) if cell.walk else 0.0
        self.garbage += cell.garbage
        if cell.collected_every and count % cell.collected_every == 0:
            self.garbage = 0.0
        self.slack += cell.slack
        self.pages += cell.pages
        self.untouched += cell.untouched
        cleaned = 0.0
        if cell.cleaned_inside and cell.cleaned_every and count % cell.cleaned_every == 0:
            cleaned, self.held = self.held, 0.0
        after, children_after = self.read(), self.held if cell.metric == "children" else 0.0
        values: dict[str, int | None] = {}
        for name in ("anon", "file", "shmem", "heap"):
            values |= {f"{name}_before_bytes": before[name], f"{name}_after_bytes": after[name]}
        make = {
            "before_bytes": before["rss"],
            "after_bytes": after["rss"],
            "children_before_bytes": round(children_before * MIB),
            "children_after_bytes": round(children_after * MIB),
            "device_bytes": round(self.held * MIB) if cell.metric == "device" else None,
            "cleaned_bytes": round(cleaned * MIB),
            **values,
        }
        run = make_run(self.number, **make)
        if cell.settles and is_suspicious([*self.runs, run]):
            self.collect()
            run = make_run(self.number, **make, settled_bytes=self.read()["rss"])
        self.runs.append(run)

    def between(self, count: int) -> None:
        cell = self.cell
        if cell.others is not None:
            self.number += 1
            self.elsewhere += cell.others(count)
        if cell.cleaned_every and not cell.cleaned_inside and count % cell.cleaned_every == 0:
            self.held = 0.0


def make_run(number: int, **values: object) -> Run:
    """A run of one cell; without values it moved nothing."""
    fields: dict[str, object] = {
        "cell": "cell-a",
        "source_hash": "hash",
        "source_line": "work()",
        "started": 1000.0 + number,
        "duration_s": 0.1,
        "before_bytes": 100 * MIB,
        "after_bytes": 100 * MIB,
        "peak_bytes": 100 * MIB,
        "peak_method": "high-water",
        "outcome": "ok",
    }
    return Run(number=number, **{**fields, **values})  # type: ignore[arg-type]


def simulate(cell: Cell, count: int, source: random.Random) -> list[Run]:
    """The runs of a made-up cell."""
    process = _Process(cell, source)
    for number in range(1, count + 1):
        process.run(number)
    return process.runs


def warm_up(source: random.Random) -> Callable[[int], float]:
    """What the first runs keep beside the rest: nothing, one big step, or several runs of less and less."""
    shape = source.choice(["none", "first", "decaying"])
    if shape == "first":
        first = source.uniform(5, 120)
        return lambda run: first if run == 1 else 0.0
    if shape == "decaying":
        size, ratio, length = source.uniform(5, 80), source.uniform(0.2, 0.5), source.randint(2, 4)
        return lambda run: size * ratio ** (run - 1) if run <= length else 0.0
    return lambda run: 0.0


def leaks(source: random.Random, each: int) -> Iterator[Truth]:
    """Cells that grow, ``each`` of every kind."""
    for name in LEAKS:
        for _ in range(each):
            yield _leak(name, source)


def others(source: random.Random, each: int) -> Iterator[Truth]:
    """Cells that do not grow, ``each`` of every kind."""
    for name in OTHERS:
        for _ in range(each):
            yield _other(name, source)


LEAKS = (
    "plain", "jittery", "small", "loud", "warm", "cleaned between", "cleaned inside", "garbage too", "others between",
    "arenas", "in freed heap", "children", "shared memory", "device", "raw only", "no details", "late",
)  # fmt: skip


def _leak(name: str, source: random.Random) -> Truth:
    rate, count = math.exp(source.uniform(math.log(0.4), math.log(200))), 12
    jitter, extra = 0.05, lambda run: 0.0
    cell = Cell()
    match name:
        case "jittery":
            jitter = source.uniform(0.2, 0.6)
        case "small":
            rate, cell.noise = source.uniform(0.4, 0.6), 0.05
            count = 10
        case "loud":
            rate, cell.noise, count = source.uniform(2, 6), source.uniform(5, 20), 30
        case "warm":
            rate, extra = source.uniform(0.5, 20), warm_up(source)
        case "cleaned between":
            cell.cleaned_every, count = source.randint(3, 6), 16
        case "cleaned inside":
            cell.cleaned_every, cell.cleaned_inside, count = source.randint(2, 6), True, 16
        case "garbage too":
            cell.garbage, cell.collected_every = source.uniform(0, 3) * rate, source.choice([0, 3, 5])
        case "others between":
            cell.others = lambda run: source.expovariate(1 / 40)
        case "arenas":
            rate, cell.past_malloc = source.uniform(0.5, 4), True
            extra = lambda run: math.floor(run * rate) - math.floor((run - 1) * rate) - rate  # noqa: E731
            jitter = 0.0
        case "in freed heap":
            rate, cell.hidden_room = source.uniform(1, 20), source.uniform(50, 300)
        case "children" | "shared memory" | "device":
            cell.metric = name  # type: ignore[assignment]
        case "raw only":
            cell.settles = False
        case "no details":
            cell.detailed = False
        case "late":
            count = 24
            cell.kept = _jittered(rate, jitter, source, from_run=12)
            return _truth(name, rate, cell, count, source)
        case _:
            pass
    steady = _jittered(rate, jitter, source)
    cell.kept = lambda run: steady(run) + extra(run)
    return _truth(name, rate, cell, count, source)


def _jittered(rate: float, jitter: float, source: random.Random, from_run: int = 1) -> Callable[[int], float]:
    return lambda run: rate * source.uniform(1 - jitter, 1 + jitter) if run >= from_run else 0.0


OTHERS = (
    "steady", "murmur", "noise", "loud noise", "walk", "one-time", "late step", "bounded cache", "saturating",
    "saw-tooth", "cycles", "cycles and noise", "cycles and others", "slack", "pages", "untouched", "others grow",
    "children once", "raw noise", "no details", "warm-up and noise",
)  # fmt: skip


def _other(name: str, source: random.Random) -> Truth:
    count = source.choice([8, 12, 20, 30])
    cell = Cell()
    size = source.uniform(5, 200)
    match name:
        case "murmur":
            cell.kept = lambda run: source.uniform(0.0, 0.06)
        case "noise":
            cell.noise = source.uniform(0.1, 5)
        case "loud noise":
            cell.noise = source.uniform(5, 20)
        case "raw noise":
            cell.noise, cell.settles = source.uniform(1, 20), False
        case "walk":
            cell.walk = source.uniform(0.1, 4)
        case "one-time":
            cell.noise, cell.kept = source.uniform(0, 1), lambda run: size if run == 1 else 0.0
        case "late step":
            at, cell.noise = source.randint(2, count - 3), source.uniform(0, 1)
            cell.kept = lambda run: size if run == at else 0.0
        case "bounded cache":
            entries, cell.noise = source.randint(2, count // 2), source.uniform(0, 0.3)
            cell.kept = lambda run: size / entries if run <= entries else 0.0
        case "saturating":
            ratio = source.uniform(0.2, 0.6)
            cell.kept = lambda run: size * (1 - ratio) * ratio ** (run - 1)
        case "saw-tooth":
            period, step = source.randint(2, 6), source.uniform(1, 40)
            cell.kept = lambda run: -step * (period - 1) if run % period == 0 else step
        case "cycles":
            cell.garbage, cell.collected_every = source.uniform(1, 40), source.choice([0, 0, 4, 9])
        case "cycles and noise":
            cell.garbage, cell.noise = source.uniform(1, 40), source.uniform(1, 10)
        case "cycles and others":
            cell.garbage, cell.others = source.uniform(1, 40), lambda run: source.expovariate(1 / 40)
        case "slack":
            cell.slack = source.uniform(0.5, 20)
        case "pages":
            cell.pages = source.uniform(1, 100)
        case "untouched":
            cell.untouched = source.uniform(1, 40)
        case "others grow":
            cell.noise, cell.others = source.uniform(0, 2), lambda run: source.uniform(0, 100)
        case "children once":
            cell.metric, cell.kept = "children", lambda run: size if run == 1 else 0.0
        case "no details":
            cell.detailed, cell.noise = False, source.uniform(0, 10)
        case "warm-up and noise":
            cell.kept, cell.noise = warm_up(source), source.uniform(1, 20)
        case _:
            pass
    return _truth(name, 0.0, cell, count, source)


def _truth(name: str, rate: float, cell: Cell, count: int, source: random.Random) -> Truth:
    metric = cell.metric
    runs = simulate(cell, count, source)
    return Truth(name, rate, runs, sum(run.settled_bytes is not None for run in runs), metric)
