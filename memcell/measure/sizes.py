"""How large objects are with all that they hold, when memory that several of them hold is counted once.

Objects are followed as the garbage collector follows them, which runs no code of theirs; data of libraries outside
Python's objects is told by ``sizes_libraries``. Each object counts for the root that reaches it first: roots count
themselves before what they hold, so an array counts for its own name rather than for a list that has it too.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from memcell.looking import class_module, class_names, module_names, mro, type_name
from memcell.measure.marks import Marks
from memcell.measure.sizes_libraries import Parts, Sizer, library_sizer
from memcell.records.sized import ObjectSize

#: Less than this in common is not worth saying: small constants and configuration are everywhere.
WORTH_SAYING_BYTES = 64 << 10
#: Of what a root holds, the share that makes deleting it pointless if it is all held elsewhere too.
_NEARLY_ALL = 0.9
#: A part in common that is small beside the whole is worth saying from this on: deleting gives nearly all back.
_PART_BYTES = 512 << 10
#: Arrays below this count as part of their object: they are not compared by address.
_SMALL_BLOCK_BYTES = 4 << 10
#: Objects that are counted before the clock is looked at: some two milliseconds.
_SLICE = 2048
#: Containers with more elements are looked through after all others.
_LONG = 1000
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})

_NOBODY = 1
_FLAG_GC = 1 << 14  # Py_TPFLAGS_HAVE_GC
_FLAG_MANAGED_DICT = 1 << 4  # Py_TPFLAGS_MANAGED_DICT: attributes lie in an array outside of the object
_GC_HEADER_BYTES = 16
_DICT_HEADER_BYTES = 16
_POINTER_BYTES = 8

_ATOMS = (int, float, complex, bool, str, bytes, bytearray, range, type(None))
#: What belongs to the program and not to its data.
_PROGRAM = (type, types.ModuleType, types.CodeType, types.BuiltinFunctionType, types.GetSetDescriptorType)


@dataclass(frozen=True, slots=True)
class Root:
    """An object that is to be sized, and the name by which a person knows it. Meant to be dropped soon."""

    name: str
    value: Any


@dataclass(slots=True)
class _Account:
    """What has been counted for one root."""

    bytes: int = 0
    complete: bool = True
    notes: list[str] = field(default_factory=list)
    #: Bytes in common with other accounts: in Python objects, counted only until they are worth saying.
    shared: dict[int, int] = field(default_factory=dict)
    shared_seen: dict[int, set[int]] = field(default_factory=dict)
    #: The accounts whose objects refer to the root itself.
    root_held_by: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How objects of a class are counted."""

    #: The bytes of an object without what it refers to.
    own_size: Callable[[Any], int]
    #: Tells the parts that the garbage collector does not see.
    sizer: Sizer | None
    #: Whether the collector sees nothing in it.
    is_leaf: bool


@dataclass(frozen=True, slots=True)
class _Unseen:
    """What an object refers to unseen by the garbage collector."""

    objects: Iterable[object]


class _Plans(dict[type, "_Plan | None"]):
    """The plan of each class, made when it is first met; None for what belongs to the program."""

    def __missing__(self, kind: type) -> _Plan | None:
        plan = self[kind] = None if issubclass(kind, _PROGRAM) else _make_plan(kind)
        return plan


class Sizing:
    """Sizes objects once, at construction.

    Args:
        roots: The objects; where memory is shared between equals, it counts for the first.
        fences: Objects that are neither counted nor followed, such as the shell. Modules and classes are not either.
        deadline_s: For how long to count, in seconds.
        clock: Returns seconds; for tests.

    Attributes:
        sizes: The sizes, in the order of the roots.
    """

    def __init__(
        self,
        roots: Sequence[Root],
        *,
        fences: Iterable[object] = (),
        deadline_s: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._until = clock() + deadline_s
        self._marks = Marks()
        self._plans = _Plans()
        self._accounts = [_Account() for _ in range(len(roots) + _NOBODY + 1)]
        self._root_of: dict[int, int] = {}
        self._blocks: list[tuple[int, int, int, int]] = []
        for fence in (*fences, *_module_namespaces()):
            self._marks.claim(id(fence), _NOBODY)
        self._count(roots)
        self.sizes = self._settle(roots)

    def owner(self, value: object) -> int | None:
        """The index of the root for which an object counts; None if it was not reached."""
        number = self._marks[id(value)]
        return number - _NOBODY - 1 if number > _NOBODY else None

    def _count(self, roots: Sequence[Root]) -> None:
        todo: deque[tuple[int, Iterator[None]]] = deque()
        for number, root in enumerate(roots, _NOBODY + 1):
            before = self._marks.claim(id(root.value), number)
            if before > _NOBODY:
                self._accounts[number].root_held_by.add(before)
                self._accounts[before].root_held_by.add(number)
            plan = None if before else self._plan_of_root(root.value)
            if plan is not None:
                self._root_of[id(root.value)] = number
                follow = self._add(root.value, plan, number)
                if follow or not plan.is_leaf:
                    todo.append((number, self._follow(root.value, follow, number)))
        # A slice of time for each in turn: when time runs out, only the ones with the most objects are unfinished.
        while todo and self._clock() < self._until:
            number, counting = todo.popleft()
            for _ in counting:
                todo.append((number, counting))
                break
        for number, _ in todo:
            self._accounts[number].complete = False

    def _plan_of_root(self, value: object) -> _Plan | None:
        kind = type(value)
        if issubclass(kind, type) and class_module(cast(type, value)) == "__main__":
            return _make_plan(kind)  # the user's own class: what its attributes hold is data
        return self._plans[kind]

    def _follow(self, root: object, follow: Iterable[object], number: int) -> Iterator[None]:
        """Count all that a root holds, with a pause after each slice of objects.

        Without recursion: structures may be nested as deep as memory is large. Long containers come last, so that of
        two roots that share parts the first gets them, and not each some of them.
        """
        claim, plans, account = self._marks.claim, self._plans, self._accounts[number]
        pending, long = deque[object](), deque[object]()
        _sort_in(root, follow, pending, long)
        visits = 0
        while pending or long:
            # What is written out here runs a million times a second.
            for value in _held((pending or long).popleft()):
                visits += 1
                if visits % _SLICE == 0:
                    yield
                found = plans[type(value)]
                if found is None:
                    continue
                before = claim(id(value), number)
                if before:
                    if before > _NOBODY and before != number:
                        self._note_shared(value, before, number)
                elif found.sizer is not None:
                    _sort_in(value, self._add(value, found, number), pending, long)
                else:
                    account.bytes += found.own_size(value)
                    if not found.is_leaf:
                        (long if _is_long(value) else pending).append(value)

    def _add(self, value: object, plan: _Plan, number: int) -> Iterable[object]:
        """Count an object without what it holds; returns what it holds unseen by the collector."""
        account = self._accounts[number]
        account.bytes += plan.own_size(value)
        if plan.sizer is None:
            return ()
        parts = _parts(plan.sizer, value)
        account.bytes += parts.extra_bytes
        for block in parts.blocks:
            if block.size_bytes < _SMALL_BLOCK_BYTES:
                account.bytes += block.size_bytes
            else:
                self._blocks.append((block.start, block.start + block.size_bytes, len(self._blocks), number))
        if parts.note and parts.note not in account.notes:
            account.notes.append(parts.note)
        return parts.follow

    def _note_shared(self, value: object, owner: int, number: int) -> None:
        """One root's object is held by another root too."""
        if self._root_of.get(id(value)) == owner:
            self._accounts[owner].root_held_by.add(number)
        account = self._accounts[number]
        common_bytes = account.shared.get(owner, 0)
        if common_bytes >= _PART_BYTES:
            account.shared_seen.pop(owner, None)
            return
        seen = account.shared_seen.setdefault(owner, set())
        if id(value) not in seen and (common_bytes < WORTH_SAYING_BYTES or self._clock() < self._until):
            seen.add(id(value))
            account.shared[owner] = common_bytes + self._size_up_to(value, _PART_BYTES)

    def _size_up_to(self, value: object, enough_bytes: int) -> int:
        """The size of an object with what it holds, or more than enough of it."""
        total, seen, pending = 0, {id(value)}, [value]
        while pending and total < enough_bytes:
            held = pending.pop()
            plan = self._plans[type(held)]
            if plan is None or self._marks[id(held)] == _NOBODY:
                continue
            parts = Parts() if plan.sizer is None else _parts(plan.sizer, held)
            total += plan.own_size(held) + parts.extra_bytes + sum(block.size_bytes for block in parts.blocks)
            held_too = itertools.chain(_held(held), parts.follow)
            for one in itertools.islice(held_too, enough_bytes // _GC_HEADER_BYTES):
                if id(one) not in seen:
                    seen.add(id(one))
                    pending.append(one)
        return total

    def _settle(self, roots: Sequence[Root]) -> tuple[ObjectSize, ...]:
        """Divide the blocks, which may overlap, and say who shares what."""
        total_bytes = [account.bytes for account in self._accounts]
        # What each holds, whoever it counts for.
        reach_bytes = [account.bytes + sum(account.shared.values()) for account in self._accounts]
        shared: list[dict[int, int]] = [dict(account.shared) for account in self._accounts]
        for size_bytes, numbers in _clusters(self._blocks):
            total_bytes[numbers[0]] += size_bytes
            for number in numbers:
                reach_bytes[number] += size_bytes
                for other in numbers:
                    if other != number:
                        shared[number][other] = shared[number].get(other, 0) + size_bytes
        for number, sharing in enumerate(shared):  # what was noted by one side only
            for other, size_bytes in list(sharing.items()):
                shared[other].setdefault(number, size_bytes)
        sizes = []
        for number, root in enumerate(roots, _NOBODY + 1):
            account = self._accounts[number]
            owner = self._marks[id(root.value)]
            reach = max(reach_bytes[number], reach_bytes[owner])
            holders = {other for other, common in shared[number].items() if common >= _NEARLY_ALL * reach}
            holders |= account.root_held_by
            worth = reach >= WORTH_SAYING_BYTES
            least = min(_PART_BYTES, max(WORTH_SAYING_BYTES, (1 - _NEARLY_ALL) * reach))
            partly = [n for n, common in shared[number].items() if common >= least and n not in holders]
            sizes.append(
                ObjectSize(
                    name=root.name,
                    type_name=type_name(type(root.value)),
                    size_bytes=total_bytes[number],
                    complete=account.complete and self._accounts[owner].complete,
                    whole_held_by=tuple(roots[n - _NOBODY - 1].name for n in sorted(holders)) if worth else (),
                    part_held_by=tuple(roots[n - _NOBODY - 1].name for n in sorted(partly)),
                    note="; ".join(account.notes),
                )
            )
        return tuple(sizes)


def _clusters(blocks: list[tuple[int, int, int, int]]) -> Iterator[tuple[int, list[int]]]:
    """Blocks that overlap, as one: its bytes, and the numbers that have a part in it, who was first before others."""
    blocks.sort()
    position = 0
    while position < len(blocks):
        start, end, _, _ = blocks[position]
        members = []
        while position < len(blocks) and blocks[position][0] < end:
            end = max(end, blocks[position][1])
            members.append(blocks[position][2:])
            position += 1
        yield end - start, list(dict.fromkeys(number for _, number in sorted(members)))


def _module_namespaces() -> Iterator[object]:
    for module in list(sys.modules.values()):
        names = module_names(module)
        if names:
            yield names


def _is_long(value: Any) -> bool:
    return type(value) in _CONTAINERS and len(value) > _LONG


def _sort_in(value: object, follow: Iterable[object], pending: deque[object], long: deque[object]) -> None:
    (long if _is_long(value) else pending).append(value)
    if follow:
        # A list names a few; what is not one goes through the elements of an array.
        (pending if type(follow) is list else long).append(_Unseen(follow))


def _held(holder: Any) -> Iterable[object]:
    """What an object refers to."""
    kind = type(holder)
    if kind is _Unseen:
        return cast("Iterable[object]", holder.objects)
    if kind is list or kind is tuple:
        return cast("Iterable[object]", holder)
    return gc.get_referents(holder)


def _parts(sizer: Sizer, value: object) -> Parts:
    try:
        return sizer(value)
    except Exception as error:  # foreign code: a deleted buffer, another version of the library
        return Parts(note=f"its data could not be read: {type(error).__name__}")


def _make_plan(kind: type) -> _Plan:
    sizer = library_sizer(kind) if kind not in _ATOMS else None
    is_leaf = not _flags(kind) & _FLAG_GC
    return _Plan(_own_size_of(kind, has_parts=sizer is not None), sizer, is_leaf)


def _own_size_of(kind: type, *, has_parts: bool) -> Callable[[Any], int]:
    # The __sizeof__ of an array may count its data, which is told by its sizer.
    size_of = object.__sizeof__ if has_parts else _c_sizeof(kind)
    has_attributes = bool(_flags(kind) & _FLAG_MANAGED_DICT)
    header_bytes = (_GC_HEADER_BYTES if _flags(kind) & _FLAG_GC else 0) + (_DICT_HEADER_BYTES if has_attributes else 0)

    def own_size(value: Any) -> int:
        try:
            size_bytes: int = size_of(value) + header_bytes
        except Exception:  # code of an extension
            return header_bytes
        if has_attributes:
            size_bytes += _POINTER_BYTES * len(gc.get_referents(value))
        return size_bytes

    return own_size


def _flags(kind: type) -> int:
    return cast(int, type.__dict__["__flags__"].__get__(kind))


def _c_sizeof(kind: type) -> Callable[[Any], int]:
    """The ``__sizeof__`` of a class that is written in C: one of a user could say anything, or raise."""
    for base in mro(kind):
        found = class_names(base).get("__sizeof__")
        if type(found) is types.MethodDescriptorType:
            return cast("Callable[[Any], int]", found)
    return object.__sizeof__
