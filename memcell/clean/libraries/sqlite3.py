"""The pages that SQLite caches for each open connection."""

from __future__ import annotations

from types import ModuleType

from memcell.clean.cleaner import library_cleaner
from memcell.clean.libraries.instances import instances_of


def clear(sqlite3: ModuleType) -> None:
    """Have each open connection of this thread give its page cache back, unless a transaction is in flight.

    Cursors that are being read go on. A database in memory keeps its pages, free ones too: those only a ``VACUUM``
    returns, which may renumber its rows.
    """
    for connection in instances_of(sqlite3.Connection):
        try:
            if not connection.in_transaction:
                connection.execute("PRAGMA shrink_memory")
        except sqlite3.ProgrammingError:  # closed, or of another thread: SQLite refuses those
            continue


CLEANER = library_cleaner(
    "sqlite3", "sqlite3", clear, effect="recompute", about="page caches of open connections; the connections stay"
)
