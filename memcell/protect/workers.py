"""``memcell.isolated``: a function that runs in worker processes, which are replaced before they grow old or large.

A worker is a fork of this process, or a new interpreter where forking is not safe. What it caches, imports or breaks
goes with it; a crash is the error of one call.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
import types
import weakref
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Generic, ParamSpec, TypeVar

from memcell.errors import (
    InvalidSettingError,
    InvalidSizeError,
    IsolatedTimeoutError,
    IsolatedWorkerDied,
    IsolationError,
    error_words,
)
from memcell.protect.definition import name_of
from memcell.protect.isolate import (
    end_words,
    fork_hazard,
    out_of_memory_kills,
    require_cloudpickle,
)
from memcell.protect.isolated_process import fork, spawn
from memcell.protect.parcel import KnownNames, Packed, StandIn, pack, receive, send, unpack
from memcell.protect.serving import is_worker, serve_forked
from memcell.units import parse_size

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_RETIRE_S = 5.0
#: How often a call that waits for its answer looks whether the worker still lives.
_LOOK_S = 0.5


class RemoteTraceback(Exception):  # noqa: N818 - the cause of an error, not one
    """Where an error of an isolated function happened, as text: its frames are gone."""


class Isolated(StandIn, Generic[Parameters, Result]):
    """A function whose calls run in worker processes. A context manager; ``close()`` ends the workers.

    In a worker a call is a plain one: the process is an isolated one already.

    Args:
        function: The function.
        memory_of: The memory of a process by its pid, in bytes.
        max_runs: After so many calls a worker is replaced.
        max_growth: So is one that has grown by more than this since it began.
        workers: How many calls run at once; more wait.
        timeout: Seconds that one call may take.
    """

    def __init__(
        self,
        function: Callable[Parameters, Result],
        memory_of: Callable[[int], int],
        *,
        max_runs: int | None = 20,
        max_growth: int | str | None = "500MB",
        workers: int = 1,
        timeout: float | None = None,
    ) -> None:
        self.name = name_of(function)
        if not callable(function):
            raise InvalidSettingError(f"isolated: {self.name} is not a function")
        _require_number(f"max_runs of {self.name}", 1 if max_runs is None else max_runs, Integral)
        _require_number(f"workers of {self.name}", workers, Integral)
        _require_number(f"timeout of {self.name}", 1 if timeout is None else timeout, Real)
        functools.update_wrapper(self, function)
        self._function = function
        self._memory_of = memory_of
        self._max_runs = max_runs
        self._max_growth_bytes = None if max_growth is None else _read_size(f"max_growth of {self.name}", max_growth)
        self._timeout = timeout
        self._count = workers
        self._is_closed = False
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._workers = set[_Worker]()  # idle and busy ones
        weakref.finalize(self, _end_at_once, self._workers).atexit = False  # a cell that is run again makes another one
        self._starting = 0
        _pools.add(self)

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if is_worker():
            return self._function(*args, **kwargs)
        worker = self._take()
        try:
            answer = worker.call((args, kwargs), self._timeout)
        except BaseException:
            self._give_back(worker, is_usable=worker.is_idle)
            raise
        self._give_back(worker, is_usable=not self._is_worn(worker))
        result: Result = answer()
        return result

    def close(self) -> None:
        """End the workers: idle ones now, busy ones after their call. May be called twice; no call works afterwards."""
        with self._changed:
            self._is_closed = True
        self.recycle()

    def recycle(self) -> None:
        """End the workers that have nothing to do. The next call gets a new one."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._workers.difference_update(idle)
            self._changed.notify_all()
        for worker in idle:
            worker.retire()

    def collect_ended(self) -> None:
        """Take note of workers that somebody ended while they had nothing to do."""
        with self._changed:
            ended = [worker for worker in self._idle if worker.process.has_ended()]
            self._idle = [worker for worker in self._idle if worker not in ended]
            self._workers.difference_update(ended)
        for worker in ended:
            worker.process.close()

    @property
    def pids(self) -> list[int]:
        """Those of the workers."""
        return [worker.process.pid for worker in list(self._workers)]

    def forget_parent(self) -> None:
        """In a forked child: the workers are the parent's; a call here starts one of its own."""
        for worker in self._workers:
            worker.process.forget()
        self._changed = threading.Condition()
        self._idle, self._starting = [], 0
        self._workers.clear()

    def __enter__(self) -> Isolated[Parameters, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<isolated function {self.name}>"

    def __reduce__(self) -> str:
        return str(getattr(self._function, "__qualname__", self.name))  # pickled by its name, as functions are

    def by_value(self) -> tuple[Any, ...]:
        """Reduce it, for a process that does not have it: there it is another one with the same options."""
        options: dict[str, Any] = {
            "max_runs": self._max_runs,
            "max_growth": self._max_growth_bytes,
            "workers": self._count,
            "timeout": self._timeout,
        }
        return functools.partial(Isolated, **options), (self._function, self._memory_of)

    def _take(self) -> _Worker:
        with self._changed:
            while not self._is_closed and not self._idle and len(self._workers) + self._starting >= self._count:
                self._changed.wait()
            if self._is_closed:
                raise IsolationError(f"{self.name} is closed; make it anew with memcell.isolated")
            while self._idle:
                worker = self._idle.pop()
                if not worker.process.has_ended():
                    return worker
                self._workers.discard(worker)
                worker.process.close()  # somebody ended it while it had nothing to do
            self._starting += 1
        started: _Worker | None = None
        try:
            started = _Worker(self.name, self._function, self._memory_of)
            return started
        finally:
            with self._changed:
                self._starting -= 1
                if started is not None:
                    self._workers.add(started)
                self._changed.notify()

    def _give_back(self, worker: _Worker, *, is_usable: bool) -> None:
        if not is_usable:
            worker.retire()
        with self._changed:
            is_kept = is_usable and not self._is_closed
            if is_kept:
                self._idle.append(worker)
            else:
                self._workers.discard(worker)
            self._changed.notify()
        if is_usable and not is_kept:
            worker.retire()

    def _is_worn(self, worker: _Worker) -> bool:
        if self._max_runs is not None and worker.runs >= self._max_runs:
            return True
        return self._max_growth_bytes is not None and worker.growth_bytes() > self._max_growth_bytes


def _read_size(what: str, size: int | str) -> int:
    try:
        return parse_size(size)
    except InvalidSizeError as error:
        raise InvalidSizeError(f"isolated: {what}: {error}") from None


def _require_number(what: str, value: object, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        words = "a whole number" if kind is Integral else "a number of seconds"
        raise InvalidSettingError(f"isolated: {what} must be {words}, not {type(value).__name__}")
    if not value > 0:  # type: ignore[operator]  # the abstract numbers cannot be compared, their kinds can
        raise InvalidSettingError(f"isolated: {what} must be above 0, not {value!r}")


class _Worker:
    """One worker process, seen from here. Only one thread at a time has it."""

    def __init__(self, name: str, function: Callable[..., Any], memory_of: Callable[[int], int]) -> None:
        self._name = name
        self._memory_of = memory_of
        self._kills_before = out_of_memory_kills()
        self.runs = 0
        self.is_idle = False
        hazard = fork_hazard()
        if hazard is None:
            self._is_known: Callable[[object], bool] = KnownNames()
            self.process = fork(functools.partial(serve_forked, function))
            packed_function = None
        else:
            require_cloudpickle(f"isolated: {name} runs in a new interpreter, since {hazard}")
            self._is_known = _is_never_known
            packed_function = self._pack("itself", function)
            self.process = spawn("memcell.protect.serving:serve_spawned")
        try:
            if packed_function is not None:
                send(self.process.connection, packed_function)
            self._receive(None)()
        except BaseException:
            self.process.close()
            raise
        self.is_idle = True
        self._first_bytes = memory_of(self.process.pid)

    def call(self, arguments: Any, timeout: float | None) -> Callable[[], Any]:
        """Let it work; returns what returns or raises as the function did."""
        packed = self._pack("its arguments", arguments)
        self._kills_before = out_of_memory_kills()
        self.is_idle = False
        try:
            send(self.process.connection, packed)
        except OSError:
            raise self._death() from None
        answer = self._receive(timeout)
        self.runs += 1
        self.is_idle = True
        return answer

    def growth_bytes(self) -> int:
        """How much it has grown since it began."""
        return self._memory_of(self.process.pid) - self._first_bytes

    def retire(self) -> None:
        """End it: in order if it has nothing to do, else at once."""
        if self.is_idle:
            with contextlib.suppress(OSError):
                send(self.process.connection, None)
            ends = time.monotonic() + _RETIRE_S
            while not self.process.has_ended() and time.monotonic() < ends:
                time.sleep(0.002)
        self.process.close()

    def _pack(self, what: str, value: object) -> Packed:
        try:
            return pack(value, self._is_known)
        except Exception as error:
            raise IsolationError(f"isolated: {self._name} cannot be sent {what}: {error_words(error)}") from None

    def _receive(self, timeout: float | None) -> Callable[[], Any]:
        connection, began = self.process.connection, time.monotonic()
        try:
            while not connection.poll(_left(timeout, began)):
                if timeout is not None and time.monotonic() - began >= timeout:
                    raise IsolatedTimeoutError(
                        f"isolated: {self._name} took longer than {timeout:g} s; its worker was ended"
                    )
                if self.process.has_ended() and not connection.poll():
                    raise EOFError
            kind, *rest = receive(connection)
        except (EOFError, ConnectionError):
            raise self._death() from None
        return functools.partial(_ANSWERS[kind], self._name, *rest)

    def _death(self) -> IsolatedWorkerDied:
        self.process.kill()
        words = end_words(self.process.close(), out_of_memory=out_of_memory_kills() > self._kills_before)
        return IsolatedWorkerDied(
            f"isolated: the worker of {self._name} {words}; this process is intact, and the next call gets a new worker"
        )


def _left(timeout: float | None, began: float) -> float:
    return _LOOK_S if timeout is None else max(0.0, min(_LOOK_S, timeout - (time.monotonic() - began)))


def _is_never_known(_: object) -> bool:
    return False


# What an answer means, in this process.


def _value(name: str, packed: Packed) -> Any:
    try:
        return unpack(packed)
    except Exception as error:
        raise IsolationError(f"isolated: the result of {name} cannot be read here: {error_words(error)}") from None


def _error(name: str, packed: Packed | None, summary: str, trace: str) -> Any:
    error: BaseException
    try:
        if packed is None:
            raise TypeError
        error = unpack(packed)
    except Exception:
        error = IsolationError(f"isolated: {name} raised {summary}")
    raise error from RemoteTraceback(f"\n{trace}")


def _refusal(name: str, reason: str) -> Any:
    raise IsolationError(f"isolated: {name} {reason}")


_ANSWERS: dict[str, Callable[..., Any]] = {"value": _value, "error": _error, "refusal": _refusal}


# All isolated functions of this process.

_pools: weakref.WeakSet[Isolated[Any, Any]] = weakref.WeakSet()


def collect_ended() -> None:
    """Let no worker that was ended from outside stay as a zombie until its function is next called."""
    for pool in list(_pools):
        pool.collect_ended()


def _end_at_once(workers: set[_Worker]) -> None:
    """The function is gone, and with it whoever could ask them for anything."""
    for worker in workers:
        worker.process.close()


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget_parent()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
