"""The cleaners of SQLAlchemy on the real library, with SQLite behind it."""

from __future__ import annotations

import pytest

from memcell.units import MIB
from tests.libraries.fresh import in_fresh_process

MODEL = """
        import sqlalchemy as sa
        from sqlalchemy import orm
        class Base(orm.DeclarativeBase):
            pass
        class Row(Base):
            __tablename__ = "row"
            id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
            data: orm.Mapped[bytes]
        def make_engine(url):
            engine = sa.create_engine(url)
            Base.metadata.create_all(engine)
            return engine
        def fill(engine, count, size):
            with engine.begin() as connection:
                connection.execute(sa.insert(Row), [{"data": b"x" * size} for _ in range(count)])
        def outcome(name):
            return runner.clean([name]).outcomes[0]
"""


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'rows.db'}"


def test_values_of_a_clean_session_go_and_load_again(url):
    held, freed, error, length = in_fresh_process(
        MODEL
        + f"""
        engine = make_engine({url!r})
        fill(engine, 10_000, 8000)
        clean()
        before = process.memory_info().rss
        session = orm.Session(engine, expire_on_commit=False)
        rows = session.scalars(sa.select(Row)).all()
        session.commit()
        held = process.memory_info().rss - before
        result = outcome("sqlalchemy-sessions")
        print(json.dumps([held, result.freed_bytes, result.error, len(rows[5].data)]))
        """
    )
    assert held >= 72 * MIB
    assert freed >= 0.8 * held
    assert error is None
    assert length == 8000


def test_sessions_with_something_in_flight_are_left_alone_and_named(url):
    error, pending, changed, saved = in_fresh_process(
        MODEL
        + f"""
        engine = make_engine({url!r})
        fill(engine, 2, 10)
        idle = orm.Session(engine)
        new = orm.Session(engine)
        new.add(Row(data=b"new"))
        new_in_transaction = new.in_transaction()
        dirty = orm.Session(engine, expire_on_commit=False)
        row = dirty.get(Row, 1)
        dirty.commit()
        row.data = b"dirty"
        flying = orm.Session(engine)
        flying.get(Row, 2)
        result = outcome("sqlalchemy-sessions")
        pending, changed = len(new.new), row.data.decode()
        flying.rollback()
        new.commit()
        dirty.commit()
        with orm.Session(engine) as session:
            saved = sorted(row.data.decode() for row in session.scalars(sa.select(Row)))
        print(json.dumps([result.error, pending, changed, saved]))
        """
    )
    assert error.startswith("LeftAloneError: 3 of 4 sessions left alone: ")
    assert error.endswith("; to have them cleaned too, commit() or rollback() first")
    assert pending == 1
    assert changed == "dirty"
    assert saved == ["dirty", "new", "xxxxxxxxxx"]


def test_idle_connections_close_and_those_in_use_go_on(url):
    held, freed, pool, rows, statements = in_fresh_process(
        MODEL
        + f"""
        engine = make_engine({url!r})
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("pragma cache_size = -40000"))
        fill(engine, 5000, 4000)
        engine.dispose()
        clean()
        before = process.memory_info().rss
        connections = [engine.connect() for _ in range(5)]
        for connection in connections:
            connection.execute(sa.text("select max(substr(data, 3999)) from row")).all()
        in_use = connections.pop()
        in_use.execute(sa.insert(Row), [{{"data": b"not committed"}}])
        for connection in connections:
            connection.close()
        idle = engine.pool.checkedin()
        held = process.memory_info().rss - before
        freed = clean("sqlalchemy")["sqlalchemy"]
        in_use.commit()
        count = engine.connect().execute(sa.text("select count(*) from row")).scalar()
        print(json.dumps([held, freed, [idle, engine.pool.checkedin()], count, len(engine._compiled_cache)]))
        """
    )
    assert held >= 80 * MIB
    assert freed >= 0.6 * held
    assert pool == [4, 0]
    assert rows == 5001
    assert statements <= 1


@pytest.mark.parametrize(
    "memory",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:shared?mode=memory&cache=shared&uri=true"],
)
def test_databases_in_memory_survive(memory):
    rows = in_fresh_process(
        MODEL
        + f"""
        from sqlalchemy.pool import QueuePool
        engines = [sa.create_engine({memory!r}), sa.create_engine({memory!r}, poolclass=QueuePool)]
        counts = []
        for engine in engines:
            Base.metadata.create_all(engine)
            fill(engine, 3, 10)
        clean()
        clean("sqlalchemy-sessions", "sqlalchemy")
        for engine in engines:
            with engine.connect() as connection:
                counts.append(connection.execute(sa.text("select count(*) from row")).scalar())
        print(json.dumps(counts))
        """
    )
    assert all(count >= 3 for count in rows)
