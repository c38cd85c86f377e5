"""The idle connections that urllib3, and requests through it, keep for the next request to the same host."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.instances import instances_of


def clear(poolmanager: ModuleType) -> None:
    """Empty the pools of all sessions: idle connections close, those in use do when their response has been read."""
    for manager in instances_of(poolmanager.PoolManager):
        manager.clear()


CLEANER = library_cleaner(
    "urllib3", "urllib3.poolmanager", clear, effect="recompute", about="idle connections of urllib3 and requests"
)
