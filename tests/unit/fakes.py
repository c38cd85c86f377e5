"""A process whose memory is what a test says, and a clock that a test moves."""

from __future__ import annotations

from memcell.records.measured import Curve, Sample
from memcell.units import MIB


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


class FakeReader:
    """Levels in MiB; ``grow`` moves the level and the mark as an allocation would."""

    def __init__(self, level: int = 100, *, exact: bool = True) -> None:
        self.level = level
        self.mark = level
        self.exact = exact

    def grow(self, mib: int) -> None:
        self.level += mib
        self.mark = max(self.mark, self.level)

    def spike(self, mib: int) -> None:
        self.grow(mib)
        self.grow(-mib)

    def rss(self) -> int:
        return self.level * MIB

    def heap(self) -> int | None:
        return None

    def sample(self) -> Sample:
        return Sample(self.rss(), anon_bytes=self.rss())

    def read(self, *, heap: bool = False) -> tuple[Sample, int | None]:
        return self.sample(), self.peak()

    def reset_peak(self) -> bool:
        self.mark = self.level
        return self.exact

    def peak(self) -> int | None:
        return self.mark * MIB if self.exact else None

    def error_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


class FakeSampler:
    """Gives back the curve that a test set, in MiB per slice of 0.1 s."""

    pid = None
    notes = None

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.levels: tuple[int, ...] = ()
        self.children: tuple[int, ...] = ()

    def begin(self, interval_s: float) -> None:
        self.begun += 1

    def end(self) -> None:
        self.ended += 1

    def curve(self) -> Curve:
        children = self.children or (0,) * len(self.levels)
        return Curve(0.1, tuple(x * MIB for x in self.levels), tuple(x * MIB for x in children))

    def close(self) -> None:
        pass

    forget = close


class FakeChildren:
    def __init__(self) -> None:
        self.mib = 0

    def level(self, *, thorough: bool = False, after: bool = False) -> int:
        return self.mib * MIB

    def count(self) -> int:
        return int(self.mib > 0)

    def close(self) -> None:
        pass
