"""The worker processes that loky, alone or within joblib, keeps between two parallel calls."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.left_alone import LeftAloneError


def clear(reusable_executor: ModuleType) -> None:
    """End the workers of the executor, if there is one. The next parallel call starts others.

    Raises:
        LeftAloneError: It has work to do; waiting for that could take for ever.
    """
    executor = _executor(reusable_executor)
    if executor is None or executor._flags.shutdown:
        return
    if executor._pending_work_items:
        raise LeftAloneError(
            f"{len(executor._pending_work_items)} tasks are not done yet; to drop them: "
            f"{reusable_executor.__name__.rpartition('.')[0]}.get_reusable_executor().shutdown(kill_workers=True)"
        )
    executor.shutdown(wait=True)


def _executor(reusable_executor: ModuleType) -> Any:
    """The executor, which from loky 3.7 on each thread has for itself; joblib 1.6 brings an older loky along."""
    storage = vars(reusable_executor).get("_executor_storage")
    return reusable_executor._executor if storage is None else storage.executor


JOBLIB = library_cleaner(
    "joblib",
    "joblib.externals.loky.reusable_executor",
    clear,
    effect="state",
    about="ends the idle worker processes that joblib keeps: memory of theirs, not of the kernel",
)
LOKY = library_cleaner(
    "loky",
    "loky.reusable_executor",
    clear,
    effect="state",
    about="ends the idle worker processes that loky keeps: memory of theirs, not of the kernel",
)
