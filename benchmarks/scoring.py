"""What counts as a right answer about a cell whose behaviour is known: strictly, in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: The verdicts that fit a label exactly. What only the first run keeps may be called a warm-up or not.
KINDS = {
    "leak": ("growing",),
    "warm-up": ("warming",),
    "one-time": ("warming", "steady"),
    "steady": ("steady",),
    "noisy": ("noisy",),
}
_METRICS = {"rss": "memory", "children": "children", "shmem": "shared memory"}
_TOLERANCE = 0.25
#: A culprit that is described and not named: memory that no Python object holds.
_DESCRIBED = re.compile(r"\w+ \(.*\)")


@dataclass(frozen=True)
class Score:
    """How right the answers about one case are.

    Attributes:
        is_leak: Whether it is one.
        says_leak: Whether the last verdict is ``growing``.
        is_exact: Whether the last verdict is the kind that fits the label.
        metric_right: Whether the growth is said to be where it is; True where none is.
        rate_right: Whether the rate is right within a quarter; None where it is not known.
        culprit: Whether the first culprit is the known holder, by its whole name or the last part of it; None where
            the holder is not known, or there is no leak.
        first_right: The run after which a leak was first called one; 0 if never, and where it is none.
        alarms: After how many runs a cell that does not leak was called a leak.
    """

    is_leak: bool
    says_leak: bool
    is_exact: bool
    metric_right: bool
    rate_right: bool | None
    culprit: Literal["exact", "last part", "wrong"] | None
    first_right: int
    alarms: int

    @property
    def is_right(self) -> bool:
        return self.is_leak == self.says_leak


def score(case: Mapping[str, Any], verdicts: Sequence[Mapping[str, Any] | None]) -> Score:
    """Compare what was said after successive runs with what is known of the cell."""
    last = verdicts[-1] or {}
    is_leak, says_leak = case["label"] == "leak", last.get("kind") == "growing"
    growing_at = [number for number, one in enumerate(verdicts, 1) if one and one["kind"] == "growing"]
    rate = last.get("bytes_per_run", 0) / 2**20
    return Score(
        is_leak=is_leak,
        says_leak=says_leak,
        is_exact=last.get("kind") in KINDS[case["label"]],
        metric_right=not is_leak or (says_leak and last["metric"] == _METRICS[case["metric"]]),
        rate_right=abs(rate - case["mb"]) <= _TOLERANCE * case["mb"] if is_leak and case["mb"] else None,
        culprit=_judged(case, last) if is_leak and case["culprit"] is not None else None,
        first_right=growing_at[0] if is_leak and growing_at else 0,
        alarms=0 if is_leak else len(growing_at),
    )


def of_no_leak(scores: Sequence[Score]) -> list[Score]:
    return [one for one in scores if not one.is_leak]


def _judged(case: Mapping[str, Any], verdict: Mapping[str, Any]) -> Literal["exact", "last part", "wrong"]:
    if verdict.get("kind") != "growing":
        return "wrong"
    names = [one["name"] for one in verdict["culprits"]]
    if not case["culprit"] or _DESCRIBED.fullmatch(case["culprit"]):
        return "wrong" if names or "native" not in verdict["note"] else "exact"
    right = (case["culprit"], *case.get("also", ()))
    if names and names[0] in right:
        return "exact"
    is_near = bool(names) and _last_part(names[0]) in map(_last_part, right)
    return "last part" if is_near else "wrong"


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]
