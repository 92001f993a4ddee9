"""A tour of asyncpg against a real PostgreSQL.

The server's address comes from FASTLOOP_TEST_PG_DSN.  Shown are a pool, a temporary
table, prepared statements, transactions and savepoints, a cursor, COPY both ways,
LISTEN and NOTIFY, and a query that is cancelled while the server is busy with it.
"""

import asyncio
import io
import os
import sys

try:
    import asyncpg
except ImportError as exc:
    print(f"{exc.name} is not installed", file=sys.stderr)
    raise SystemExit(77) from None

DSN = os.environ.get("FASTLOOP_TEST_PG_DSN")


async def tables_and_statements(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "CREATE TEMP TABLE fruit (id serial PRIMARY KEY, name text, price numeric(8,2))"
    )
    rows = [(f"fruit {n}", n / 4) for n in range(1000)]
    await connection.executemany(
        "INSERT INTO fruit (name, price) VALUES ($1, $2)", rows
    )
    row = await connection.fetchrow("SELECT count(*) AS n, sum(price) AS s FROM fruit")
    print("inserted:", row["n"], "worth:", row["s"])

    statement = await connection.prepare("SELECT name FROM fruit WHERE id = $1")
    print("prepared:", [await statement.fetchval(n) for n in (1, 10, 100)])
    try:
        await connection.execute("INSERT INTO fruit (id, name) VALUES (1, 'twice')")
    except asyncpg.UniqueViolationError as exc:
        print("not twice:", exc.sqlstate)


async def transactions(connection: asyncpg.Connection) -> None:
    async def count() -> int:
        return await connection.fetchval("SELECT count(*) FROM fruit")

    async with connection.transaction():
        await connection.execute("DELETE FROM fruit WHERE id > 900")
    print("after a commit:", await count())

    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM fruit")
            print("inside:", await count())
            raise LookupError("changed my mind")
    except LookupError as exc:
        print("rolled back:", await count(), "because:", exc)

    async with connection.transaction():
        await connection.execute("DELETE FROM fruit WHERE id > 800")
        savepoint = connection.transaction()
        await savepoint.start()
        await connection.execute("DELETE FROM fruit WHERE id > 700")
        await savepoint.rollback()
    print("after a savepoint:", await count())

    async with connection.transaction():
        cursor = connection.cursor("SELECT price FROM fruit ORDER BY id", prefetch=50)
        print("by cursor:", sum([record["price"] async for record in cursor]))


async def copy(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TEMP TABLE points (x int, y int)")
    records = [(n, n * n) for n in range(5000)]
    status = await connection.copy_records_to_table("points", records=records)
    print("copied in:", status)
    out = io.BytesIO()
    status = await connection.copy_from_query(
        "SELECT x, y FROM points WHERE x % 2 = $1 ORDER BY x",
        0,
        output=out,
        format="csv",
    )
    print("copied out:", status, "lines:", out.getvalue().count(b"\n"))


async def notifications(pool: asyncpg.Pool) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def listener(connection: object, pid: int, channel: str, payload: str) -> None:
        heard.put_nowait(f"{channel}: {payload}")

    async with pool.acquire() as hears, pool.acquire() as speaks:
        await hears.add_listener("news", listener)
        for n in range(3):
            await speaks.execute("SELECT pg_notify('news', $1)", f"number {n}")
        for _ in range(3):
            print("heard", await asyncio.wait_for(heard.get(), 5))
        await hears.remove_listener("news", listener)


async def cancellation(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        try:
            await asyncio.wait_for(connection.fetch("SELECT pg_sleep(30)"), 0.2)
        except TimeoutError:
            print("pg_sleep was cut short by wait_for")
        print("the connection lives on:", await connection.fetchval("SELECT 6 * 7"))

        task = asyncio.create_task(connection.fetch("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            print("pg_sleep was cut short by a cancellation")
        try:
            await connection.fetch("SELECT pg_sleep(30)", timeout=0.2)
        except TimeoutError:
            print("pg_sleep was cut short by asyncpg's own timeout")
        print("and still:", await connection.fetchval("SELECT 'alive'"))


async def in_parallel(pool: asyncpg.Pool) -> None:
    """A hundred queries over the four connections of the pool."""

    async def query(n: int) -> int:
        sql = "SELECT sum(i) FROM generate_series(1, $1::int) AS i"
        return await pool.fetchval(sql, n)

    sums = await asyncio.gather(*(query(n) for n in range(1, 101)))
    print("in parallel:", len(sums), "total:", sum(sums))
    print("pool within its size:", pool.get_size() <= 4)


async def main(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=2, max_size=4) as pool:
        async with pool.acquire() as connection:
            await tables_and_statements(connection)
            await transactions(connection)
            await copy(connection)
        await notifications(pool)
        await cancellation(pool)
        await in_parallel(pool)


if __name__ == "__main__":
    if not DSN:
        print("FASTLOOP_TEST_PG_DSN is not set", file=sys.stderr)
        raise SystemExit(77)
    asyncio.run(main(DSN))
