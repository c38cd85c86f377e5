"""What can be cleaned, and what a clean-up measurably gave back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from memcell.records.fields import fields_of

#: What a user may notice after a cleaner ran. ``none``: nothing. ``recompute``: a cache is gone, which costs time
#: later. ``state``: something the user could miss.
Effect = Literal["none", "recompute", "state"]
CleanerSource = Literal["built-in", "registered", "entry point", "available"]


@dataclass(frozen=True, slots=True)
class CleanerInfo:
    """One line of the list of cleaners.

    ``source`` is ``available`` for a module that has a ``clear_caches()`` of its own and has not registered it:
    memcell lists it and never calls it unasked. ``size_bytes`` is what the cleaner's own ``size`` callable says it
    would free, None without one. ``ready`` is false while the library that it clears is not imported. ``deep`` says
    that ``--deep`` runs it although its effect is ``state``.
    """

    name: str
    effect: Effect
    source: CleanerSource
    owner: str
    ready: bool = True
    size_bytes: int | None = None
    about: str = ""
    deep: bool = False


@dataclass(frozen=True, slots=True)
class CleanOutcome:
    """What one cleaner did.

    ``freed_bytes`` is measured: resident memory before minus after it, negative where it rose, None where the cleaner
    did not run (``error`` says why). A figure within ``noise_bytes`` of zero cannot be told from zero.
    ``objects`` is the number of objects collected, None where nobody counts them.
    """

    name: str
    effect: Effect
    freed_bytes: int | None
    noise_bytes: int = 0
    duration_s: float = 0.0
    objects: int | None = None
    error: str | None = None

    @property
    def is_measurable(self) -> bool:
        """Whether the freed bytes can be told from zero."""
        return self.freed_bytes is not None and abs(self.freed_bytes) > self.noise_bytes


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What one clean-up gave back, measured. ``objects`` is the number of objects the collector found."""

    before_bytes: int
    after_bytes: int
    outcomes: tuple[CleanOutcome, ...] = ()
    duration_s: float = 0.0
    interrupted: bool = False
    note: str = ""

    @property
    def freed_bytes(self) -> int:
        """Resident memory before the clean-up minus after it; negative where it rose."""
        return self.before_bytes - self.after_bytes

    @property
    def objects(self) -> int:
        """The number of objects collected."""
        return sum(outcome.objects or 0 for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the derived ones, as plain values for JSON."""
        return {**dataclasses.asdict(self), "freed_bytes": self.freed_bytes, "objects": self.objects}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CleanReport:
        """The report that ``to_dict`` wrote, also after a way through JSON."""
        outcomes = tuple(CleanOutcome(**outcome) for outcome in values["outcomes"])
        return cls(**{**fields_of(cls, values), "outcomes": outcomes})


@dataclass(frozen=True, slots=True)
class Notice:
    """What memcell did or advises of its own accord, and why; ``report`` is there if it cleaned."""

    why: str
    report: CleanReport | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the user created.

    ``size_bytes`` is approximate: the data of an array or data frame, the object alone, without what it refers to, for
    everything else; None where the object does not tell.
    """

    name: str
    type_name: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModuleOutcome:
    """What becomes of a package or module that was imported since memcell was loaded.

    ``count`` is the number of modules: it and its submodules. ``note`` is the reason why it stays in ``sys.modules``,
    or, for one that is dropped, what keeps it in memory still.
    """

    name: str
    dropped: bool
    note: str = ""
    count: int = 1
