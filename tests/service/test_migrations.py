"""The migrated schema and the models agree; migrating is repeatable and safe for replicas that start together."""

import asyncio
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from service.database.engine import Database, alembic_config
from service.database.migrations import points_v1
from service.database.tables import Base, Event, Experiment, Trial
from service.metrics.chunks import build
from service.metrics.codec import decode
from service.metrics.points import Points, series_key
from service.metrics.reading import raw_points


async def differences(database: Database) -> list[Any]:
    def compare(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)

    async with database.connect() as connection:
        found = await connection.run_sync(compare)
    flat = [change for entry in found for change in (entry if isinstance(entry, list) else [entry])]
    # Defaults are compared by their values, and a random one never equals itself.
    return [change for change in flat if change[:4] != ("modify_default", None, "installation", "key")]


async def _tables(database: Database) -> set[str]:
    async with database.connect() as connection:
        return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))


async def test_models_and_migrated_schema_agree(database: Database) -> None:
    assert await differences(database) == []
    assert await _tables(database) == {*Base.metadata.tables, "alembic_version"}


async def test_a_missing_index_or_column_would_be_noticed(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("DROP INDEX ix_experiments_due"))
        await session.execute(text("ALTER TABLE trials ALTER COLUMN epoch TYPE bigint"))
    assert [change[0] for change in await differences(database)] == ["add_index", "modify_type"]


def test_revisions_are_numbered() -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    # By that the service knows a schema as one of ours (database/check.py), even one that a later version made.
    assert revisions == [f"{number:04d}" for number in range(len(revisions), 0, -1)]


async def test_migrating_twice_is_harmless_and_keeps_what_is_there(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    await database.migrate()
    async with database.connect() as connection:
        key = (await connection.execute(text("SELECT key FROM installation"))).scalar_one()
    await database.migrate()
    async with database.connect() as connection:
        assert (await connection.execute(text("SELECT key FROM installation"))).scalar_one() == key
    await database.close()


async def test_replicas_that_start_together_migrate_once(empty_database_url: str) -> None:
    replicas = [Database(empty_database_url) for _ in range(4)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(replica.migrate() for replica in replicas))
    assert await differences(replicas[0]) == []
    async with replicas[0].connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM installation"))).scalar_one() == 1
    for replica in replicas:
        await replica.close()


async def test_every_installation_has_a_key_of_its_own(database: Database, empty_database_url: str) -> None:
    other = Database(empty_database_url)
    await other.migrate()
    keys = set()
    for one in (database, other):
        async with one.connect() as connection:
            keys.add((await connection.execute(text("SELECT key FROM installation"))).scalar_one())
    await other.close()
    assert len(keys) == 2


def test_migrations_are_one_line_from_the_first() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())
    assert len(scripts.get_heads()) == 1
    assert scripts.get_bases() == ["0001"]


async def test_points_of_the_first_schema_become_chunks(empty_database_url: str) -> None:
    """A database of the first release with two long series, live events, and points whose trial is gone."""
    database = Database(empty_database_url)
    await _upgrade_to(database, "0001")
    async with database.transaction() as session:
        for statement in (
            (
                "INSERT INTO experiments (name, owner, spec, spec_text, metric, mode, trial_count, seq)"
                " VALUES ('a', 'a', '{}', '', 'h_r', 'max', 2, 7)"
            ),
            "INSERT INTO trials (experiment_id, number, params) VALUES (1, 0, '{}'), (1, 1, '{}')",
            "INSERT INTO metrics (name) VALUES ('loss'), ('h_r')",
            (
                "INSERT INTO points SELECT t, m, s * 3, s / 390.0, 1700000000 + s * 0.25,"
                " CASE WHEN s = 77 THEN 'NaN' WHEN s = 78 THEN 'Infinity' ELSE sin(s) END"
                " FROM generate_series(0, 69999) s, (VALUES (1, 1), (2, 2), (99, 1)) AS series (t, m)"
            ),
            (
                "INSERT INTO events (experiment_id, seq, kind, payload)"
                " VALUES (1, 5, 'experiment', '{}'), (1, 6, 'points', '{\"series\": []}')"
            ),
        ):
            await session.execute(text(statement))
    await database.migrate()
    assert await differences(database) == []
    async with database.snapshot() as session:
        experiment = await session.get_one(Experiment, 1)
        trials = (await session.scalars(select(Trial))).all()
        batches = [part async for part in raw_points(session, experiment, trials)]
        kinds = (await session.scalars(select(Event.kind))).all()
    points = Points.concat(batches)
    assert (experiment.seq, experiment.merged_seq, kinds) == (7, 6, ["experiment"])
    steps = np.arange(70_000)
    values = np.sin(steps)
    values[77], values[78] = np.nan, np.inf
    for key in (series_key(0, 1), series_key(1, 2)):
        found = points[points.series == key]
        np.testing.assert_array_equal(found.step, steps * 3)
        np.testing.assert_array_equal(found.time, 1.7e9 + steps * 0.25)
        np.testing.assert_allclose(found.value, values, rtol=1e-15)
        np.testing.assert_allclose(found.epoch, steps / 390, rtol=1e-6)
    assert len(points) == 140_000
    await database.close()


async def _upgrade_to(database: Database, revision: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with database.connect() as connection:
        await connection.run_sync(upgrade)
        await connection.commit()


@pytest.mark.parametrize("count", [1, 2, 127, 300, 10_000])
def test_migration_0003_writes_chunks_as_the_service_reads_them(count: int) -> None:
    random = np.random.default_rng(count)
    step, value = np.cumsum(random.integers(1, 9, count)), random.normal(size=count)
    value[random.random(count) < 0.1], value[random.random(count) < 0.1] = np.nan, np.inf
    points = Points.of(0, step, step / 390, 1.7e9 + step * 0.05, value)
    rows = list(zip(*(c.tolist() for c in (points.step, points.epoch, points.time, points.value)), strict=True))
    for frozen, present in zip(points_v1.chunks(rows), build(points), strict=True):
        body = frozen.pop("body")
        assert frozen == {name: getattr(present, name) for name in frozen}
        for found, expected in zip(vars(decode(body, 0)).values(), vars(decode(present.body, 0)).values(), strict=True):
            assert np.array_equal(found, expected, equal_nan=True)
