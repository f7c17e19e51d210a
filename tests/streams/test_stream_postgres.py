"""PostgreSQL as a sink: each epoch's rows once, through crashes at any moment."""

from __future__ import annotations

import asyncio
import secrets
import threading

import numpy as np
import psycopg
import pytest
from simulation import Simulation
from test_stream_laws import disturbed

import eksml.streams as streams
from eksml.errors import CallError, StorageUnavailable
from eksml.storage import URI
from eksml.streams.batch import Batch
from eksml.streams.endpoints.postgres import Postgres
from eksml.streams.sinks.base import Desk
from eksml.testing import PostgresServer


@pytest.fixture(scope="module")
def server():
    with PostgresServer() as found:
        yield found


def do(server, statement):
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(statement)
        return found.fetchall() if found.description else None


def numbers(split, start):
    for number in range(start, 400):
        yield {"key": number % 5, "number": number}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_event_is_a_row_once_through_crashes(server, tmp_path, seed):
    do(server, f"CREATE TABLE events{seed} (key int, number int, total int)")
    graph = (
        streams.generator(numbers, splits=2)
        .key_by("key")
        .reduce({"total": ("number", "sum")})
        .to(streams.postgres(f"events{seed}", server.dsn))
    )
    simulation = Simulation(graph, URI.parse(tmp_path / f"run{seed}"), seed=seed)
    asyncio.run(disturbed(simulation, simulation.rng, (1, 2, 3)))
    counts = do(server, f"SELECT number, count(*) FROM events{seed} GROUP BY number")
    assert sorted(counts) == [(number, 2) for number in range(400)]
    totals = do(server, f"SELECT key, max(total) FROM events{seed} GROUP BY key ORDER BY key")
    assert totals == [(key, 2 * sum(range(key, 400, 5))) for key in range(5)]


def test_rows_of_one_key_are_replaced(server, tmp_path):
    do(server, "CREATE TABLE counts (key int PRIMARY KEY, n bigint, number int)")
    graph = (
        streams.generator(numbers)
        .key_by("key")
        .reduce({"n": "count"})
        .to(streams.postgres("counts", server.dsn, key="key"))
    )
    simulation = Simulation(graph, URI.parse(tmp_path / "run"))
    asyncio.run(disturbed(simulation, simulation.rng, (1,)))
    assert do(server, "SELECT key, n FROM counts ORDER BY key") == [(key, 80) for key in range(5)]


def test_a_zombie_that_wakes_in_the_middle_of_its_epoch_writes_nothing(server, tmp_path):
    do(server, "CREATE TABLE zombie (n int)")
    desk = Desk("to_postgres", 0, URI.parse(tmp_path / "run"), secrets.token_hex(4), 1)
    sink = Postgres("zombie", server.dsn)

    async def work():
        old = await sink.writer(desk)
        await old.write(Batch(np.zeros(2, np.int64), rows=[{"n": 1}, {"n": 2}]))
        token = await old.prepare(4)
        asleep, awake = threading.Event(), threading.Event()
        insert = old._insert

        def sleeping(cursor, table):
            asleep.set()
            awake.wait()
            insert(cursor, table)

        old._insert = sleeping
        table = await old._staged.take(token)
        zombie = asyncio.create_task(asyncio.to_thread(old._transact, 4, 0, table))
        await asyncio.to_thread(asleep.wait)
        new = await sink.writer(desk)
        successor = asyncio.create_task(new.commit(4, token))
        await asyncio.sleep(0.2)  # it waits for the row that the zombie holds
        awake.set()
        await asyncio.gather(zombie, successor)

    asyncio.run(work())
    assert do(server, "SELECT n FROM zombie ORDER BY n") == [(1,), (2,)]


def test_a_table_that_does_not_fit_and_a_database_that_is_not_there_are_told(server, tmp_path):
    desk = Desk("to_postgres", 0, URI.parse(tmp_path / "run"), secrets.token_hex(4), 1)

    async def write(sink):
        writer = await sink.writer(desk)
        await writer.write(Batch(np.zeros(1, np.int64), rows=[{"n": 1}]))
        await writer.commit(1, await writer.prepare(1))

    with pytest.raises(CallError, match="missing"):
        asyncio.run(write(Postgres("missing", server.dsn)))
    with pytest.raises(StorageUnavailable, match="table 't'"):
        asyncio.run(write(Postgres("t", "postgresql://eksml@127.0.0.1:1/postgres")))
