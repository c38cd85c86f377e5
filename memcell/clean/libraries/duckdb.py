"""What DuckDB keeps: the free memory of its allocator, and the database behind ``duckdb.sql()``."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import Stage, library_cleaner
from memcell.clean.libraries.left_alone import LeftAloneError


def release_pool(duckdb: ModuleType) -> None:
    """Have DuckDB's allocator return its free pages: dropping tables or deleting results alone returns none.

    A database does that when it is closed, for the whole process. So an empty one of our own is opened and closed,
    which takes 5 ms and touches none of the user's.
    """
    duckdb.connect(":memory:").close()


def close_default_connection(duckdb: ModuleType) -> None:
    """Close the connection of ``duckdb.sql()``, and with it the tables in its memory. The next use opens a new one.

    Raises:
        LeftAloneError: It has a transaction in flight.
    """
    connection = duckdb.default_connection()
    # Without a transaction each statement has one of its own. Asking by another BEGIN would be no question: DuckDB
    # refuses it and drops what the transaction has done so far.
    first, second = (connection.sql("SELECT txid_current()").fetchall() for _ in range(2))
    if first == second:
        raise LeftAloneError(
            "the default connection has a transaction in flight; end it with duckdb.commit() or duckdb.rollback() first"
        )
    connection.close()


POOL = library_cleaner(
    "duckdb", "duckdb", release_pool, effect="none", stage=Stage.POOLS, about="free memory in DuckDB's own allocator"
)
# Of effect "state", and not for a deep clean-up: the tables of a database in memory are the user's data.
DEFAULT_CONNECTION = library_cleaner(
    "duckdb-default-connection",
    "duckdb",
    close_default_connection,
    effect="state",
    about="closes the database behind duckdb.sql(), tables in memory included",
)
