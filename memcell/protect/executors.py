"""Executors in a forked child. The threads that carry out the work of those that it inherits stayed in the parent.

What is given to them in the child would wait for ever. An executor of threads gets new ones there. One of processes
cannot: its pipes are the parent's too. It refuses work in one line instead, and loky, which keeps an executor for all
its users (joblib, scikit-learn), makes another. That one is shut down when the child ends: it would leave semaphores
and shared memory in the system otherwise, since exit handlers do not run there.

Everything here is looked up in what is loaded, by names that the libraries do not promise: what is not as expected is
left as it is.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, TypeAlias

#: An executor, and what makes it fit for the child.
Inherited: TypeAlias = "tuple[Any, Callable[[Any], None]]"

_REFUSAL = "this executor was made before this process was forked, and its workers stayed there; make another one here"
_LOKYS = ("loky", "joblib.externals.loky")
#: How long an executor of loky's may take to end its workers: 10 ms are usual.
_SHUT_DOWN_S = 2.0
#: The thread of a multiprocessing queue.
_FEEDER = "QueueFeederThread"
_JOBLIB_EXIT_HANDLER = "TemporaryResourcesManager.register_folder_finalizer.<locals>._cleanup"


def find_executors() -> list[Inherited]:
    """The executors of this process that have threads. Called before the fork: some Pythons forget them in a child."""
    found: list[Inherited] = []
    with contextlib.suppress(AttributeError):
        found += ((executor, _give_new_threads) for executor in _executors_of_threads())
    with contextlib.suppress(AttributeError):
        found += ((pool, _close_pool) for pool in _pools())
    with contextlib.suppress(AttributeError):
        found += (
            (executor, _refuse_work if library == "concurrent.futures" else _refuse_work_of_loky)
            for library, module in (("concurrent.futures", "process"), *((loky, "process_executor") for loky in _LOKYS))
            for executor in _executors_of_processes(sys.modules.get(f"{library}.{module}"))
        )
    return found


def renew(inherited: Sequence[Inherited]) -> None:
    """In the forked child: let no executor wait for threads that are not here.

    Args:
        inherited: What was found before the fork. It is to be kept alive: an executor that goes tells its manager so,
            by a pipe that is the parent's.
    """
    for executor, adapt in inherited:
        with contextlib.suppress(AttributeError):
            adapt(executor)
    for loky in _LOKYS:
        with contextlib.suppress(AttributeError):
            _forget_reusable(sys.modules.get(f"{loky}.reusable_executor"))
            _forget_tracker(sys.modules.get(f"{loky}.backend.resource_tracker"))


def shut_down_own(inherited: Sequence[Inherited]) -> None:
    """In the forked child, at its end: let the executors that it had from loky remove what they have in the system.

    Args:
        inherited: What was found before the fork, which is none of its business.
    """
    theirs = {id(executor) for executor, _ in inherited}
    own = [
        executor
        for loky in _LOKYS
        for executor in _executors_of_processes(sys.modules.get(f"{loky}.process_executor"))
        if id(executor) not in theirs
    ]
    if not own:
        return

    def shut_down() -> None:
        for executor in own:
            with contextlib.suppress(Exception):  # its workers may have died: the trackers clean up then
                getattr(executor, "terminate", executor.shutdown)(kill_workers=True)  # that of joblib has folders too
        for clean in _joblib_exit_handlers():
            with contextlib.suppress(Exception):  # as above
                clean()
        for feeder in threading.enumerate():
            if feeder.name == _FEEDER:
                feeder.join(_SHUT_DOWN_S)  # it has semaphores too

    # In a thread, because one with a broken queue could wait for ever.
    thread = threading.Thread(target=shut_down, name="memcell-shut-down", daemon=True)
    thread.start()
    thread.join(_SHUT_DOWN_S)
    for loky in _LOKYS:
        with contextlib.suppress(AttributeError):
            _forget_reusable(sys.modules.get(f"{loky}.reusable_executor"))
    own.clear()
    gc.collect()  # semaphores go with the objects that have them


def _joblib_exit_handlers() -> list[Any]:
    """What joblib registered for the end of this process: each removes a folder.

    Those of the parent are frozen, and so not found.
    """
    return [
        found
        for found in gc.get_objects()
        if type(found) is FunctionType and found.__qualname__ == _JOBLIB_EXIT_HANDLER
    ]


def _executors_of_threads() -> Iterator[Any]:
    module = sys.modules.get("concurrent.futures.thread")
    for reference in module._threads_queues.keyrefs() if module is not None else ():
        # A worker thread has a weak reference to its executor as its first argument while it lives.
        executor = getattr(reference(), "_args", (lambda: None,))[0]()
        if executor is not None:
            yield executor


def _executors_of_processes(module: Any) -> Iterator[Any]:
    for reference in module._threads_wakeups.keyrefs() if module is not None else ():
        executor = getattr(reference(), "executor_reference", lambda: None)()
        if executor is not None:
            yield executor


def _pools() -> Iterator[Any]:
    if "multiprocessing.pool" not in sys.modules:
        return
    for finalizer in list(sys.modules["multiprocessing.util"]._finalizer_registry.values()):
        owner = (getattr(finalizer, "_weakref", None) or (lambda: None))()
        if isinstance(owner, sys.modules["multiprocessing.pool"].Pool):
            yield owner


def _give_new_threads(executor: Any) -> None:
    executor._threads = set()
    executor._work_queue = queue.SimpleQueue()  # what waits in the old one is the parent's to do
    executor._idle_semaphore = threading.Semaphore(0)
    executor._shutdown_lock = threading.Lock()


def _close_pool(pool: Any) -> None:
    pool._state = sys.modules["multiprocessing.pool"].TERMINATE


def _refuse_work(executor: Any) -> None:
    executor._broken = _REFUSAL
    executor._shutdown_lock = threading.Lock()


def _refuse_work_of_loky(executor: Any) -> None:
    executor._flags.broken = sys.modules["concurrent.futures.process"].BrokenProcessPool(_REFUSAL)
    executor._flags.shutdown_lock = executor._shutdown_lock = threading.Lock()


def _forget_reusable(module: Any) -> None:
    """Let loky make an executor of this process's own when it is next asked for one."""
    if module is None:
        return
    module._executor_lock = threading.RLock()
    storage = getattr(module, "_executor_storage", None)  # from loky 3.6 on: one for each thread
    if storage is not None:
        storage.executor = storage.executor_kwargs = None
    else:
        module._executor = module._executor_kwargs = None


def _forget_tracker(module: Any) -> None:
    """Let loky start a tracker of this process's own, which removes what is left when this process ends."""
    if module is None:
        return
    tracker = module._resource_tracker
    descriptor = tracker._fd
    type(tracker).__init__(tracker)
    if descriptor is not None:  # later versions do all of this
        with contextlib.suppress(OSError):
            os.close(descriptor)
