"""The cleaner "sqlite3" on real databases."""

from __future__ import annotations

import sqlite3
import threading

from memcell.clean.libraries.sqlite3 import CLEANER
from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process


def test_page_caches_come_back_and_connections_and_cursors_go_on(tmp_path):
    held, freed, rest = in_fresh_process(
        f"""
        import sqlite3
        connection = sqlite3.connect({str(tmp_path / "pages.db")!r})
        connection.execute("create table blobs (data blob)")
        connection.executemany("insert into blobs values (?)", [(b"x" * 4000,)] * 25_000)
        connection.commit()
        connection.execute("pragma cache_size = -200000")
        clean()
        before = process.memory_info().rss
        connection.execute("select max(substr(data, 3999)) from blobs").fetchall()
        held = process.memory_info().rss - before
        cursor = connection.execute("select 1 from blobs")
        cursor.fetchone()
        freed = clean("sqlite3")["sqlite3"]
        print(json.dumps([held, freed, len(cursor.fetchall())]))
        """
    )
    assert held >= 64 * MIB
    assert freed >= 0.9 * held
    assert rest == 24_999


class _Recorded(sqlite3.Connection):
    """A user's own class of connections."""


def test_only_idle_connections_of_this_thread_are_asked(tmp_path):
    asked: dict[str, list[str]] = {name: [] for name in ("idle", "own class", "in a transaction", "another thread")}

    def connect(name: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / f"{name}.db", factory=kind)
        connection.execute("create table t (i)")
        connection.set_trace_callback(asked[name].append)
        return connection

    others: list[sqlite3.Connection] = []

    def in_another_thread() -> None:
        others.append(connect("another thread"))
        ready.set()
        done.wait(10)
        others[0].close()

    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=in_another_thread)
    thread.start()
    assert ready.wait(10)
    closed = connect("idle")
    closed.close()
    connections = [connect("own class", _Recorded), connect("in a transaction")]
    try:
        connections[1].execute("insert into t values (1)")
        CLEANER.find()()
        assert asked["own class"] == ["PRAGMA shrink_memory"]
        assert not any("shrink" in statement for statement in asked["in a transaction"])
        assert connections[1].in_transaction
        assert asked["another thread"] == []
    finally:
        done.set()
        thread.join()
        for connection in connections:
            connection.close()
