"""Objects of libraries that own worker processes: told to stop, they stop their workers and start no new ones.

A ``multiprocessing.Pool`` and a dask cluster replace a worker that was killed, so that signals alone never come to an
end. Told is only who owns a process that is to be ended: a forked child has copies of its parent's objects, whose
workers are none of its business.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple


class _Owner(NamedTuple):
    """A class of a library: which pids an object of it owns, and how it is told to stop."""

    module: str
    name: str
    pids: Callable[[Any], Iterable[int | None]]
    stop: Callable[[Any, float], object]


_OWNERS = (
    _Owner(
        "memcell.protect.workers", "Isolated", lambda function: function.pids, lambda function, _: function.recycle()
    ),
    _Owner(
        "multiprocessing.pool",
        "Pool",
        lambda pool: [worker.pid for worker in pool._pool],
        lambda pool, _: pool.terminate(),
    ),
    _Owner(
        "concurrent.futures.process",
        "ProcessPoolExecutor",
        lambda executor: executor._processes or (),
        lambda executor, _: executor.shutdown(wait=False, cancel_futures=True),
    ),
    *(
        _Owner(
            module,
            "ProcessPoolExecutor",
            lambda executor: executor._processes or (),
            lambda executor, _: executor.shutdown(wait=False, kill_workers=True),
        )
        for module in ("loky.process_executor", "joblib.externals.loky.process_executor")
    ),
    _Owner(
        "distributed.deploy.spec",
        "SpecCluster",
        lambda cluster: [getattr(worker, "pid", None) for worker in cluster.workers.values()],
        lambda cluster, timeout_s: cluster.close(timeout=timeout_s),
    ),
)


def stop_owners(pids: Collection[int], timeout_s: float) -> bool:
    """Tell the owners of these processes to stop, and wait for that, but no longer than a given time.

    What an owner raises is its own affair: its processes are signalled afterwards in any case.

    Returns:
        Whether there are any.
    """
    owners = list(_find(frozenset(pids)))
    if not owners:
        return False

    def stop() -> None:
        for owner, found in owners:
            with contextlib.suppress(Exception):
                owner.stop(found, timeout_s)

    # In a thread, because a pool with a broken queue can wait for ever.
    thread = threading.Thread(target=stop, name="memcell-stop-owners", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return True


def _find(pids: frozenset[int]) -> Iterator[tuple[_Owner, Any]]:
    known = [
        (owner, getattr(module, owner.name))
        for owner in _OWNERS
        if (module := sys.modules.get(owner.module)) is not None and hasattr(module, owner.name)
    ]
    if not known:
        return
    for found in gc.get_objects():
        for owner, kind in known:
            # By its type, and not isinstance(), which asks a proxy for its __class__.
            if issubclass(type(found), kind) and not pids.isdisjoint(_pids_of(owner, found)):
                yield owner, found


def _pids_of(owner: _Owner, found: Any) -> set[int]:
    try:
        return {pid for pid in owner.pids(found) if pid is not None}
    except Exception:  # another version of the library, or an object that is closed already
        return set()
