"""The cleaners of DuckDB on the real library."""

from __future__ import annotations

from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process

TABLES = """
        import duckdb
        def fill():
            for k in range(10):
                duckdb.execute(f"create table t{k} as select range as i, random()::varchar as s from range(400000)")
        duckdb.execute("select 1").fetchall()
        clean()
        before = process.memory_info().rss
        def level():
            return process.memory_info().rss - before
"""


def test_memory_of_dropped_tables_comes_back_and_the_database_stays():
    held, trimmed, after, rows = in_fresh_process(
        TABLES
        + """
        fill()
        duckdb.execute("create table kept as select 7 as seven")
        for k in range(10):
            duckdb.execute(f"drop table t{k}")
        held = level()
        clean("gc", "trim")
        trimmed = level()
        assert "duckdb" in clean()
        print(json.dumps([held, trimmed, level(), duckdb.execute("select seven from kept").fetchall()]))
        """
    )
    assert held >= 64 * MIB
    assert trimmed >= 0.9 * held, "neither gc nor malloc had it"
    assert after <= 0.15 * held
    assert rows == [[7]]


def test_the_default_connection_closes_only_when_named_and_opens_again():
    held, kept, after, again = in_fresh_process(
        TABLES
        + """
        fill()
        held = level()
        clean()
        kept = duckdb.execute("select count(*) from t0").fetchall()
        clean("duckdb-default-connection")
        print(json.dumps([held, kept, level(), duckdb.execute("select count(*) from duckdb_tables()").fetchall()]))
        """
    )
    assert held >= 64 * MIB
    assert kept == [[400_000]]
    assert after <= 0.15 * held
    assert again == [[0]]


def test_a_transaction_in_flight_is_left_alone_and_named():
    error, rows = in_fresh_process(
        """
        import duckdb
        duckdb.execute("create table t as select 1 as i")
        duckdb.begin()
        duckdb.execute("insert into t values (2)")
        report = runner.clean(["duckdb", "duckdb-default-connection"])
        duckdb.commit()
        print(json.dumps([report.outcomes[0].error, duckdb.execute("select count(*) from t").fetchall()]))
        """
    )
    assert error == (
        "LeftAloneError: the default connection has a transaction in flight; "
        "end it with duckdb.commit() or duckdb.rollback() first"
    )
    assert rows == [[2]]


def test_a_result_that_is_not_read_yet_is_left_alone_and_named():
    error, rows = in_fresh_process(
        """
        import duckdb
        duckdb.execute("select * from range(1000000)")
        report = runner.clean(["duckdb-default-connection"])
        print(json.dumps([report.outcomes[0].error, len(duckdb.fetchall())]))
        """
    )
    assert "connection has an unfinished result from execute()" in error
    assert rows == 1_000_000
