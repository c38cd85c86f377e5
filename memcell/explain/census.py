"""A census: how large everything is that has a name, at one moment. It keeps no reference to what it looked at.

The walk goes from what a person can type, the user's variables and the modules that are imported, along attributes to
containers, caches and data. Two censuses tell what grew in between; only what grew keeps its name, everything else is
two numbers.
"""

from __future__ import annotations

import gc
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import BuiltinFunctionType
from typing import Any

from memcell import looking
from memcell.explain.containers import common_class, identity_of_first, newest
from memcell.explain.names import module_in, own_variables
from memcell.explain.pids import holders_of
from memcell.explain.walk import Found, Unit, Walk
from memcell.explain.wholes import Whole, wholes

#: How many of the entries that were added are weighed; the others are taken to be alike.
_WEIGHED = 200
#: How many things that grew are kept, and how many types.
_KEPT = 200
_KEPT_TYPES = 20
#: What stands for the kind in the key of a whole: the class of what a name is bound to may change.
_WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Grown:
    """Something with a name that is larger than at the census before.

    Attributes:
        name: How to type it.
        kind: What it is.
        unit: What ``before`` and ``after`` count.
        added_bytes: What the added entries hold, as far as it can be seen; None where they were not looked at.
        opaque: They may hold memory of C that cannot be seen.
        holds: The dotted name of the class of what was added, if all is of one; of a process, that of its holder.
        of: The dotted name of the class of the object that it is a part of, where that is a library's.
        whole: It is all that the name holds, as the garbage collector sees it.
        rebound: Another object has the name now.
        module: The module that it is found in; empty for the user's.
        imports: What to import before the name, and memcell's, can be typed.
    """

    name: str
    kind: str
    unit: Unit
    before: int
    after: int
    added_bytes: int | None = None
    opaque: bool = False
    holds: str = ""
    module: str = ""
    imports: tuple[str, ...] = ()
    of: str = ""
    whole: bool = False
    rebound: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """What was there at one moment, and what of it had grown since the census before.

    Attributes:
        grown: What had grown; empty without a census before.
        types: Classes of which there are more live objects than before: name, number before and after.
        duration_s: What the census cost.
        not_looked_at: What it left out, and why; empty if nothing.
        sizes: A hash of each name and the size, without the name, and what tells whether a name is bound to something
            else than before. ``counts`` is the same for classes.
        looked_at: How many stores and variables were counted.
    """

    grown: tuple[Grown, ...]
    types: tuple[tuple[str, int, int], ...]
    duration_s: float
    not_looked_at: tuple[str, ...]
    sizes: Sizes
    counts: Sizes
    looked_at: int


class Sizes:
    """Sizes by name, without the names: 16 bytes each. Python's own hash is the same as long as the process lives."""

    __slots__ = ("_hashes", "_values")

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._hashes = array("q", [hash(name) for name in sizes])
        self._values = array("Q", sizes.values())

    def __len__(self) -> int:
        return len(self._values)

    def nbytes(self) -> int:
        """The memory that this takes."""
        return sys.getsizeof(self._hashes) + sys.getsizeof(self._values)

    def by_hash(self) -> dict[int, int]:
        """The sizes by the hash of their names, to be looked up in."""
        return dict(zip(self._hashes, self._values, strict=True))


def take_census(
    names: Mapping[str, Any],
    *,
    hidden: Mapping[str, Any] | None = None,
    places: Mapping[str, object] | None = None,
    children: Mapping[int, int] | None = None,
    previous: Census | None = None,
    modules: Mapping[str, object] | None = None,
    deadline_s: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Census:
    """Count everything that has a name.

    Args:
        names: The user's variables.
        hidden: What the shell itself put among them, by name; a name bound to something else is the user's.
        places: Objects that no attribute leads to, by the name to show: the shell's own stores.
        children: The memory of child processes in bytes, by pid.
        previous: The census before: what grew since is named and weighed.
        modules: The modules to look into; all that are imported by default.
        deadline_s: How long it may take; what is left then is not looked at.
        clock: Returns seconds; for tests.
    """
    began = clock()
    walk = Walk(clock, began + deadline_s * 0.7)
    for name, place in (places or {}).items():
        walk.add(place, name, 1)
    walk.loggers()
    walk.variables(names, hidden or {})
    walk.modules(names, sys.modules if modules is None else modules)
    walk.finish()
    sizes = {found.key: found.size for found in walk.found}
    looked_at = len(sizes)
    sizes.update({_first_key(found.name): first for found in walk.found if (first := _first(found)) is not None})
    sizes.update({_identity_key(found.name): id(found.value) for found in walk.found if not found.module})
    known = previous.sizes.by_hash() if previous is not None else {}
    grown = []
    measured = wholes(
        own_variables(names, hidden or {}), walk.lent, walk.tops, lambda: clock() >= began + deadline_s * 0.8
    )
    for found in (*_processes(names, children or {}), *_exit_callbacks(), *_as_grown(measured)):
        key = f"{found.name}, {_WHOLE if found.whole else found.kind}"
        sizes[key] = found.after
        level = known.get(hash(key), found.after)
        if found.after > level:
            added_bytes = found.after - level if found.unit == "bytes" else None
            grown.append(replace(found, before=level, added_bytes=added_bytes))
    grown += _weigh_grown(walk, known, names, clock, began + deadline_s * 0.9)
    live: Counter[str] = Counter()
    if clock() < began + deadline_s * 0.9:
        live = _live_objects()
    else:
        walk.left_out.append("the numbers of live objects: no time was left")
    before = previous.counts.by_hash() if previous is not None else {}
    more = [
        (name, before[hash(name)], number) for name, number in live.items() if number > before.get(hash(name), number)
    ]
    left_out = tuple(walk.left_out)
    walk.forget()
    return Census(
        grown=tuple(grown[:_KEPT]),
        types=tuple(sorted(more, key=lambda one: one[1] - one[2])[:_KEPT_TYPES]),
        duration_s=clock() - began,
        not_looked_at=left_out,
        sizes=Sizes(sizes),
        counts=Sizes(live),
        looked_at=looked_at,
    )


def _weigh_grown(
    walk: Walk, known: Mapping[int, int], names: Mapping[str, Any], clock: Callable[[], float], until: float
) -> list[Grown]:
    """What is larger than it was, with the bytes that were added; the newest entries are weighed."""
    grown: dict[str, Grown] = {}
    unweighed = 0
    for found in walk.found:
        before = known.get(hash(found.key), found.size)
        if found.size <= before:
            continue
        added, opaque, holds = None, True, ""
        if found.unit == "bytes":
            added, opaque = found.size - before, False
        elif clock() < until:
            number = found.size - before
            is_in_front = known.get(hash(_first_key(found.name))) not in (None, _first(found))
            new = newest(found.value, min(number, _WEIGHED), is_in_front=is_in_front)
            if new:
                weight = walk.scale.weigh(new)
                added, opaque = int(weight.seen_bytes * max(1.0, number / _WEIGHED)), weight.opaque
                holds = common_class(new)
        else:
            unweighed += 1
        one = Grown(
            name=found.name,
            kind=found.kind,
            unit=found.unit,
            before=before,
            after=found.size,
            added_bytes=added,
            opaque=opaque,
            holds=holds,
            module=found.module,
            imports=_imports(found.module, names),
            of=found.of,
            rebound=known.get(hash(_identity_key(found.name))) not in (None, id(found.value)),
        )
        # What is inside a container may have grown more than by the entries that it got itself.
        other = grown.get(found.name)
        if other is None or (other.added_bytes or 0) < (added or 0):
            grown[found.name] = one
    if unweighed:
        walk.left_out.append(f"the weight of {unweighed} containers that grew: no time was left")
    return sorted(grown.values(), key=lambda one: (-(one.added_bytes or 0), -(one.after - one.before)))


def _first_key(name: str) -> str:
    return f"{name}, first"


def _identity_key(name: str) -> str:
    return f"{name}, itself"


def _first(found: Found) -> int | None:
    """The identity of the first entry of a list of the user's: by it is known at which end a list has grown."""
    return None if found.module or found.filled else identity_of_first(found.value)


def _exit_callbacks() -> Iterator[Grown]:
    count = looking.module_names(sys.modules.get("atexit")).get("_ncallbacks")  # CPython's own, for its tests
    if type(count) is BuiltinFunctionType:
        yield Grown("atexit", "functions to call at exit", "entries", 0, count(), None, opaque=True)


def _processes(names: Mapping[str, Any], children: Mapping[int, int]) -> Iterator[Grown]:
    holders = holders_of(names, children) if children else {}
    for pid, size_bytes in children.items():
        name, kind = holders.get(pid, (f"process {pid}", ""))
        yield Grown(name, f"child process {pid}", "bytes", 0, size_bytes, None, holds=kind)


def _as_grown(measured: Iterable[Whole]) -> Iterator[Grown]:
    for one in measured:
        yield Grown(one.name, one.kind, "bytes", 0, one.size_bytes, whole=True, module=module_in(one.name))


def _imports(module: str, names: Mapping[str, Any]) -> tuple[str, ...]:
    """What a line that clears a store of this module, through memcell, has to import first."""
    if not module:
        return ()
    tops = {one: one.partition(".")[0] for one in ("memcell", module)}
    return tuple(one for one, top in tops.items() if names.get(top) is not sys.modules.get(top))


def _live_objects() -> Counter[str]:
    """How many objects of each class the garbage collector knows; by name, since a cell makes its classes anew."""
    kinds = list(map(type, gc.get_objects()))
    by_identity = dict(zip(map(id, kinds), kinds, strict=True))  # a metaclass may say that classes have no hash
    numbers: Counter[str] = Counter()
    for identity, number in Counter(map(id, kinds)).items():
        kind = by_identity[identity]
        if looking.class_module(kind).partition(".")[0] != "memcell":
            numbers[looking.class_name(kind)] += number
    return numbers
