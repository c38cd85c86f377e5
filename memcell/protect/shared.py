"""One instance of an expensive object per arguments, for all who ask, also after its cell was run again.

Two locks, always taken in this order: that of an entry while its instance is built, then that of its group for a
moment. Nothing of the user's runs under the lock of a group.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import threading
import time
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar

from memcell.errors import InvalidSettingError
from memcell.protect.definition import digest_of, name_of
from memcell.records.protected import SharedInfo

logger = logging.getLogger("memcell")

Parameters = ParamSpec("Parameters")
Built = TypeVar("Built")

#: How often a thread that waits for another's build looks whether the two wait for one another.
_LOOK_FOR_DEADLOCK_S = 0.5


class _Entry:
    """One instance, or one that is being built."""

    __slots__ = ("builder", "built_at", "built_bytes", "cell", "hits", "is_built", "lock", "on_release", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.builder: int | None = None
        self.value: Any = None
        self.is_built = False
        self.built_at = 0.0
        self.built_bytes = 0
        self.hits = 0
        self.cell: int | None = None
        self.on_release: Callable[[Any], object] | None = None


class _Group:
    """The instances of one function, under whatever definition of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.definition: Shared[Any, Any] | None = None  # the newest that was called; None while nothing is held

    def enter(self, key: Hashable) -> _Entry:
        """The entry of a key, made if there is none, and now the one asked for the latest."""
        with self.lock:
            entry = self.entries.setdefault(key, _Entry())
            self.entries.move_to_end(key)
            return entry

    def has(self, key: Hashable, entry: _Entry) -> bool:
        """Whether the entry still stands."""
        with self.lock:
            return self.entries.get(key) is entry

    def discard(self, key: Hashable, entry: _Entry) -> None:
        """Take out an entry if it still stands."""
        with self.lock:
            if self.entries.get(key) is entry:
                del self.entries[key]
                self._forget_if_empty()

    def drop(self, is_wanted: Callable[[_Entry], bool] | None = None) -> list[_Entry]:
        """Take out instances, all by default. What is being built stays."""
        with self.lock:
            built = [(key, entry) for key, entry in self.entries.items() if entry.is_built]
            gone = {key: entry for key, entry in built if is_wanted is None or is_wanted(entry)}
            for key in gone:
                del self.entries[key]
            self._forget_if_empty()
        return list(gone.values())

    def drop_surplus(self, max_entries: int) -> list[_Entry]:
        """Take out the instances beyond so many that were not asked for the longest."""
        with self.lock:
            built = [(key, entry) for key, entry in self.entries.items() if entry.is_built]
            gone = built[: max(0, len(built) - max_entries)]
            for key, _ in gone:
                del self.entries[key]
        return [entry for _, entry in gone]

    def _forget_if_empty(self) -> None:
        # The next call has its group looked up again, and the table lists it again.
        if not self.entries:
            self.definition = None


class SharedTable:
    """All shared functions of a process. The session owns the one that is used.

    Args:
        rss: Reads resident memory, to measure what building an instance took.
        cell: The number of the cell that runs, None outside cells.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        rss: Callable[[], int],
        cell: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rss = rss
        self._cell = cell
        self._clock = clock
        self._lock = threading.Lock()
        self._groups: list[_Group] = []
        self._of_closures: weakref.WeakSet[_Group] = weakref.WeakSet()
        self._waiting: dict[int, _Entry] = {}

    def share(
        self,
        function: Callable[Parameters, Built],
        *,
        ttl: float | None = None,
        max_entries: int | None = None,
        on_release: Callable[[Built], object] | None = None,
    ) -> Shared[Parameters, Built]:
        """See ``memcell.shared``."""
        name = name_of(function)
        if not isinstance(function, types.FunctionType):
            raise InvalidSettingError(f"shared: {name} must be a function that builds the object")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise InvalidSettingError(f"shared: {name} is async or a generator; share a plain function that returns")
        for what, value in (("ttl", ttl), ("max_entries", max_entries)):
            if value is not None and not value > 0:
                raise InvalidSettingError(f"shared: {what} of {name} must be above 0, not {value!r}")
        return Shared(self, function, ttl, max_entries, on_release)

    def infos(self) -> list[SharedInfo]:
        """What is held, one record per function that has built something."""
        self.sweep()
        now, infos = self._clock(), []
        for group in self._all():
            with group.lock:
                built = [entry for entry in group.entries.values() if entry.is_built]
            if built:
                infos.append(
                    SharedInfo(
                        name=group.name,
                        entries=len(built),
                        size_bytes=sum(entry.built_bytes for entry in built),
                        age_s=now - min(entry.built_at for entry in built),
                        hits=sum(entry.hits for entry in built),
                        cell=built[-1].cell,
                    )
                )
        return infos

    def clear(self, name: str) -> int:
        """Release all instances of the functions of this name; returns how many."""
        return sum(self.release(group, group.drop()) for group in self._all() if group.name == name)

    def sweep(self) -> None:
        """Release what is older than its ``ttl``, also what nobody asks for any more."""
        for group in self._all():
            definition = group.definition
            if definition is not None and definition.ttl is not None:
                self.release(group, group.drop(functools.partial(self.is_older, ttl=definition.ttl)))

    def forget_parent(self) -> None:
        """In a forked child: keep what is built; locks and half-built instances were another thread's."""
        self._lock = threading.Lock()
        self._waiting.clear()
        for group in self._all():
            group.lock = threading.Lock()
            group.entries = OrderedDict((key, entry) for key, entry in group.entries.items() if entry.is_built)
            for entry in group.entries.values():
                entry.lock = threading.Lock()

    # What a shared function asks for.

    def group_of(self, definition: Shared[Any, Any]) -> _Group:
        """The group that this definition builds into; what an edited text built is released first."""
        with self._lock:
            group = definition.group or self._find(definition) or _Group(definition.name)
            with group.lock:
                last, edited = group.definition, []
                if last is None or last.digest == definition.digest:
                    if last is None or last.serial < definition.serial:
                        group.definition = definition
                elif last.serial < definition.serial:
                    group.definition, edited = definition, list(group.entries.values())
                    group.entries.clear()
                else:  # somebody still uses the text from before an edit: what it builds is its own
                    group = _Group(definition.name)
                    group.definition = definition
            definition.group = group
            # One without entries may be about to get one: whoever has its definition is between here and enter().
            self._groups = [known for known in self._groups if known.definition is not None and known is not group]
            if definition.function.__closure__:
                self._of_closures.add(group)
            else:
                self._groups.append(group)
        self.release(group, edited)
        return group

    def is_older(self, entry: _Entry, ttl: float | None) -> bool:
        """Whether an instance is older than it may be."""
        return ttl is not None and entry.is_built and self._clock() - entry.built_at > ttl

    def release(self, group: _Group, entries: Iterable[_Entry]) -> int:
        """Tell whoever wants to know that instances are let go of; returns how many."""
        built = [entry for entry in entries if entry.is_built]
        for entry in built:
            if entry.on_release is not None:
                try:
                    entry.on_release(entry.value)
                except BaseException as error:  # also SystemExit: the others have to be told too
                    kind = type(error).__name__
                    logger.warning("memcell: on_release of %s failed: %s: %s", group.name, kind, error)
        return len(built)

    def acquire(self, entry: _Entry, name: str) -> None:
        """Take the lock of an entry, unless the thread that holds it waits for this one."""
        me = threading.get_ident()
        if entry.builder == me:
            raise InvalidSettingError(
                f"shared: {name} asks for the very instance that it is building; break the circle"
            )
        if entry.lock.acquire(blocking=False):
            return
        self._waiting[me] = entry
        try:
            while not entry.lock.acquire(timeout=_LOOK_FOR_DEADLOCK_S):
                builder = entry.builder
                while builder in self._waiting:
                    builder = self._waiting[builder].builder
                    if builder == me:
                        raise InvalidSettingError(
                            f"shared: {name} and another shared function build through one another in two threads;"
                            " let one of them take the other's object as an argument"
                        )
        finally:
            del self._waiting[me]

    def build(self, entry: _Entry, definition: Shared[Any, Any], args: Any, kwargs: Any) -> None:
        """Build an instance, and note what it took. The measurement is that of the process: others may add to it."""
        before = self._rss()
        entry.builder = threading.get_ident()
        try:
            entry.value = definition.function(*args, **kwargs)
        finally:
            entry.builder = None
        entry.built_bytes = max(0, self._rss() - before)
        entry.built_at = self._clock()
        entry.cell = self._cell()
        entry.on_release = definition.on_release
        entry.is_built = True

    def _find(self, definition: Shared[Any, Any]) -> _Group | None:
        if definition.function.__closure__:
            return None  # two closures of one text may build different things
        for group in self._groups:
            known = group.definition
            # Scripts that are all __main__ have globals of their own.
            if (
                group.name == definition.name
                and known is not None
                and known.function.__globals__ is definition.function.__globals__
            ):
                return group
        return None

    def _all(self) -> list[_Group]:
        with self._lock:
            return [*self._groups, *self._of_closures]


class Shared(Generic[Parameters, Built]):
    """A shared function: calling it returns the one instance for these arguments, built when it is first wanted."""

    _serials = itertools.count()

    def __init__(
        self,
        table: SharedTable,
        function: types.FunctionType,
        ttl: float | None,
        max_entries: int | None,
        on_release: Callable[[Any], object] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.name = name_of(function)
        self.function = function
        self.digest = digest_of(function)
        self.serial = next(self._serials)
        self.ttl = ttl
        self.on_release = on_release
        self.group: _Group | None = None
        self._table = table
        self._max_entries = max_entries
        self._signature = inspect.signature(function)

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Built:
        key = self._key(args, kwargs)
        table = self._table
        while True:
            group = self.group
            if group is None or group.definition is not self:
                group = table.group_of(self)
            entry = group.enter(key)
            table.acquire(entry, self.name)
            try:
                if not group.has(key, entry):
                    continue  # it was released while we waited for it
                if table.is_older(entry, self.ttl):
                    group.discard(key, entry)
                    table.release(group, [entry])
                    continue
                if entry.is_built:
                    entry.hits += 1
                else:
                    try:
                        table.build(entry, self, args, kwargs)
                    except BaseException:
                        group.discard(key, entry)  # the next caller tries again
                        raise
                value: Built = entry.value
                break
            finally:
                entry.lock.release()
        if self._max_entries is not None:
            table.release(group, group.drop_surplus(self._max_entries))
        return value

    def clear(self) -> int:
        """Release all instances; returns how many. Who still holds one keeps it, and the next call builds another."""
        group = self.group or self._table.group_of(self)
        return self._table.release(group, group.drop())

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        # As a method: the object that it is called on is one of the arguments, and is held with what it built.
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<shared function {self.name}>"

    def __reduce__(self) -> str:
        return self.function.__qualname__  # pickled by its name, as functions are

    def __copy__(self) -> Shared[Parameters, Built]:
        return self

    def __deepcopy__(self, memo: object) -> Shared[Parameters, Built]:
        return self

    def _key(self, args: Any, kwargs: Any) -> Hashable:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = []
        for name, value in bound.arguments.items():
            if self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                value = tuple((word, type(value[word]), value[word]) for word in sorted(value))
            try:
                hash(value)
            except TypeError:
                raise InvalidSettingError(
                    f"shared: argument {name!r} of {self.name} is not hashable and cannot tell instances apart;"
                    " pass text, numbers, tuples or frozen objects"
                ) from None
            key.append((name, type(value), value))  # 1, 1.0 and True are equal, and may build different things
        return tuple(key)
