"""One instance of an expensive object per arguments, for all who ask, also after its cell was run again."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

from memcell.errors import InvalidSettingError
from memcell.records import SharedInfo

logger = logging.getLogger("memcell")

Parameters = ParamSpec("Parameters")
Built = TypeVar("Built")


@dataclass(slots=True)
class _Entry:
    """One instance, or one that is being built."""

    lock: threading.RLock
    value: Any = None
    is_built: bool = False
    built_at: float = 0.0
    built_bytes: int = 0
    hits: int = 0
    cell: int | None = None


class _Group:
    """The instances of one function, under whatever definition of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.digest = b""
        self.entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.on_release: Callable[[Any], object] | None = None

    def release(self, keys: list[Hashable] | None = None) -> int:
        """Let go of instances, all by default, and tell each to whoever wants to know. Returns how many."""
        with self.lock:
            chosen = list(self.entries) if keys is None else keys
            entries = [self.entries.pop(key) for key in chosen if key in self.entries]
            on_release = self.on_release
        built = [entry for entry in entries if entry.is_built]
        for entry in built:
            value, entry.value = entry.value, None
            if on_release is not None:
                try:
                    on_release(value)
                except Exception as error:
                    logger.warning("memcell: on_release of %s failed: %s: %s", self.name, type(error).__name__, error)
        return len(built)


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
        self._groups: dict[str, _Group] = {}
        self._of_closures: weakref.WeakSet[_Group] = weakref.WeakSet()

    def share(
        self,
        function: Callable[Parameters, Built],
        *,
        ttl: float | None = None,
        max_entries: int | None = None,
        on_release: Callable[[Built], object] | None = None,
    ) -> Shared[Parameters, Built]:
        """See ``memcell.shared``."""
        name = _name(function)
        if not isinstance(function, FunctionType):
            raise InvalidSettingError(f"shared: {name} must be a function that builds the object")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise InvalidSettingError(f"shared: {name} is async or a generator; share a plain function that returns")
        for what, value in (("ttl", ttl), ("max_entries", max_entries)):
            if value is not None and value <= 0:
                raise InvalidSettingError(f"shared: {what} of {name} must be above 0, not {value!r}")
        with self._lock:
            if function.__closure__:
                # Two closures of one text may build different things: they never stand for one another, and what
                # one has built goes with it.
                group = _Group(name)
                self._of_closures.add(group)
            else:
                group = self._groups.setdefault(name, _Group(name))
        return Shared(self, group, function, ttl, max_entries, on_release)

    def infos(self) -> list[SharedInfo]:
        """What is held, one record per function that has built something."""
        groups = self._all()
        now = self._clock()
        infos = []
        for group in groups:
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
        """Release all instances of a function; returns how many. An unknown name has none."""
        return sum(group.release() for group in self._all() if group.name == name)

    def forget_parent(self) -> None:
        """In a forked child: keep what is built; locks and half-built instances were another thread's."""
        self._lock = threading.Lock()
        for group in self._all():
            group.lock = threading.RLock()
            group.entries = OrderedDict((key, entry) for key, entry in group.entries.items() if entry.is_built)
            for entry in group.entries.values():
                entry.lock = threading.RLock()

    def _all(self) -> list[_Group]:
        with self._lock:
            return [*self._groups.values(), *self._of_closures]

    def build(self, entry: _Entry, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Build an instance, and note what it took. The measurement is that of the process: others may add to it."""
        before = self._rss()
        value = function(*args, **kwargs)
        entry.value = value
        entry.built_bytes = max(0, self._rss() - before)
        entry.built_at = self._clock()
        entry.cell = self._cell()
        entry.is_built = True

    def has_expired(self, entry: _Entry, ttl: float | None) -> bool:
        """Whether an instance is older than it may be."""
        return entry.is_built and ttl is not None and self._clock() - entry.built_at > ttl


class Shared(Generic[Parameters, Built]):
    """A shared function: calling it returns the one instance for these arguments, built when it is first wanted."""

    def __init__(
        self,
        table: SharedTable,
        group: _Group,
        function: Callable[Parameters, Built],
        ttl: float | None,
        max_entries: int | None,
        on_release: Callable[[Built], object] | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self._table = table
        self._group = group
        self._function = function
        self._signature = inspect.signature(function)
        self._digest = _digest(function)
        self._ttl = ttl
        self._max_entries = max_entries
        self._on_release = on_release

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Built:
        key = self._key(args, kwargs)
        while True:
            entry = self._entry(key)
            with entry.lock:
                if self._table.has_expired(entry, self._ttl):
                    self._group.release([key])
                    continue
                if entry.is_built:
                    entry.hits += 1
                else:
                    try:
                        self._table.build(entry, self._function, args, kwargs)
                    except BaseException:
                        with self._group.lock:  # the next caller tries again
                            if self._group.entries.get(key) is entry:
                                del self._group.entries[key]
                        raise
                value: Built = entry.value
                break
        self._evict()
        return value

    def clear(self) -> int:
        """Release all instances; returns how many. Who still holds one keeps it, and the next call builds another."""
        return self._group.release()

    def _entry(self, key: Hashable) -> _Entry:
        group = self._group
        with group.lock:
            if group.digest != self._digest:
                # The function was edited: what the old text built goes before the new is built, or both would be there.
                group.release()
                group.digest = self._digest
            group.on_release = self._on_release
            entry = group.entries.get(key)
            if entry is None:
                entry = group.entries[key] = _Entry(threading.RLock())
            group.entries.move_to_end(key)
            return entry

    def _evict(self) -> None:
        if self._max_entries is not None:
            with self._group.lock:
                surplus = len(self._group.entries) - self._max_entries
                oldest = [key for key, entry in self._group.entries.items() if entry.is_built][: max(0, surplus)]
            self._group.release(oldest)

    def _key(self, args: Any, kwargs: Any) -> Hashable:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = tuple((name, _frozen(value)) for name, value in bound.arguments.items())
        try:
            hash(key)
        except TypeError:
            culprit = next(name for name, value in key if not _is_hashable(value))
            raise InvalidSettingError(
                f"shared: argument {culprit!r} of {self._group.name} is not hashable and cannot tell instances apart;"
                " pass text, numbers, tuples or frozen objects"
            ) from None
        return key


def _frozen(value: Any) -> Any:
    """*args and **kwargs as what can be a key."""
    if type(value) is dict:
        return tuple(sorted(value.items(), key=lambda item: str(item[0])))
    return value


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _name(function: object) -> str:
    module = getattr(function, "__module__", None) or "__main__"
    name = getattr(function, "__qualname__", type(function).__name__)
    return str(name) if module == "__main__" else f"{module}.{name}"


def _digest(function: Callable[..., Any]) -> bytes:
    """What changes when the text of a function does, comments and place aside."""
    digest = hashlib.blake2b(digest_size=16)

    def feed(code: CodeType) -> None:
        digest.update(code.co_code)
        digest.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                feed(constant)
            elif isinstance(constant, frozenset):
                digest.update(repr(sorted(map(repr, constant))).encode())
            else:
                digest.update(repr(constant).encode())

    feed(function.__code__)
    digest.update(repr((function.__defaults__, function.__kwdefaults__)).encode())
    return digest.digest()
