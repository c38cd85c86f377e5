"""What SQLAlchemy keeps: values of loaded objects, and in each engine compiled statements and idle connections.

A session refers weakly to objects without changes, so it is the user's own list of rows that keeps them. Expiring the
session drops their values. It comes before the engines, which then find the connections that are in nobody's use.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import ModuleType
from typing import Any

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.instances import instances_of
from memcell.clean.libraries.left_alone import LeftAloneError

_EMBEDDED = frozenset({"duckdb", "sqlite"})


def expire_sessions(session_module: ModuleType) -> None:
    """Drop the loaded values of all objects of sessions in which nothing is going on; they are loaded again on use.

    Raises:
        LeftAloneError: Sessions have a transaction in flight or changes that are not in the database yet.
    """
    sessions = list(session_module._sessions.values())
    left_alone = Counter[str]()
    for session in sessions:
        reason = _in_use(session)
        if reason:
            left_alone[reason] += 1
        else:
            session.expire_all()
    if left_alone:
        reasons = ", ".join(f"{count} with {reason}" for reason, count in left_alone.items())
        raise LeftAloneError(
            f"{left_alone.total()} of {len(sessions)} sessions left alone: {reasons}; "
            "to have them cleaned too, commit() or rollback() first"
        )


def release_engines(engine_module: ModuleType) -> None:
    """Forget compiled statements and close the idle connections in pools; connections in use stay as they are."""
    pools: Any = sys.modules["sqlalchemy.pool.impl"]
    for engine in instances_of(engine_module.Engine):
        # An engine made by execution_options() shares all it has with the engine behind it.
        if type(engine) is not engine_module.Engine:
            continue
        engine.clear_compiled_cache()
        # Pools of other kinds hold databases in memory, connections of other threads or of an event loop.
        if type(engine.pool) is pools.QueuePool and engine.pool.checkedin() and not _is_in_memory(engine):
            engine.dispose()


def _in_use(session: Any) -> str | None:
    asyncio: Any = sys.modules.get("sqlalchemy.ext.asyncio.session")
    if session.in_transaction():
        return "a transaction in flight"
    if session.new or session.dirty or session.deleted:
        return "changes not flushed"
    if asyncio is not None and asyncio.async_session(session) is not None:
        return "an AsyncSession, which cannot load values on use"
    return None


def _is_in_memory(engine: Any) -> bool:
    """Whether closing its connections could be the end of the database."""
    return engine.dialect.name in _EMBEDDED and (not engine.url.database or "memory" in str(engine.url))


SESSIONS = library_cleaner(
    "sqlalchemy-sessions",
    "sqlalchemy.orm.session",
    expire_sessions,
    effect="state",
    about="loaded values of sessions without a transaction or changes; they are loaded again on use",
)
ENGINES = library_cleaner(
    "sqlalchemy",
    "sqlalchemy.engine.base",
    release_engines,
    effect="recompute",
    about="compiled statements, and idle connections in pools",
)
