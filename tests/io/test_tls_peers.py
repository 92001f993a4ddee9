"""TLS with other servers and clients that are in use: nginx and PostgreSQL.

(openssl and curl are in test_tls_features.py.)  What is not installed is skipped,
unless FASTLOOP_TEST_ALL=1.  FASTLOOP_TEST_PG_TLS_DSN names a PostgreSQL to use that has
certs/localhost.pem; otherwise one is made for the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib
import os
import runpy
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from io_support import (
    AUTHORITY,
    HOST,
    LOCALHOST,
    OTHER,
    tls_client,
    tls_server,
    turns,
    until,
)
from tls_support import KINDS, VERSIONS, check_engine, loop_of, pinned

ALL = os.environ.get("FASTLOOP_TEST_ALL") == "1"
POSTGRES = Path(__file__).resolve().parent.parent / "postgres.py"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def loop(kind: str) -> Iterator[Any]:
    with loop_of(kind) as made:
        reports: list[Any] = []
        made.set_exception_handler(lambda _, context: reports.append(context))
        yield made
    assert reports == []


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return request.param


def missing(what: str) -> None:
    if ALL:
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


def name_of(version: ssl.TLSVersion) -> str:
    return version.name.replace("_", ".")  # TLSv1.2


# --- nginx ----------------------------------------------------------------------------

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 100m;
    {more}
}}
"""

SERVER = """
    server {{
        listen {host}:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols {protocol};
        ssl_client_certificate {authority};
        ssl_verify_client {verify};
        keepalive_requests 1000;
        location / {{ root {folder}; }}
    }}
"""

PROXY = """
    upstream ours {{ server {host}:{ours}; keepalive 4; }}
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass https://ours;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_protocols {protocol};
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
        }}
    }}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def nginx() -> Any:
    """run_nginx() with the program."""
    path = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if path is None:
        missing("nginx")
    return functools.partial(run_nginx, path)


@contextlib.contextmanager
def run_nginx(path: str, folder: Path, part: str, **settings: Any) -> Iterator[int]:
    """Run nginx with a configuration; yields its port."""
    port = free_port()
    more = part.format(
        host=HOST, port=port, folder=folder, authority=AUTHORITY, **settings
    )
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, more=more))
    # sanitizers are for us only
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    command = [path, "-c", str(config), "-p", str(folder), "-e", f"{folder}/log"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as server:
        try:
            while server.poll() is None:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection((HOST, port)).close()
                    break
            yield port
        finally:
            server.terminate()
            told = server.communicate()[1].decode()
    assert server.returncode in (0, -15), told + (folder / "log").read_text()


async def request(reader: Any, writer: Any, path: str, body: bytes = b"") -> bytes:
    """One request on a connection that stays; returns the body of the answer."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)
    status, headers = await read_head(reader)
    assert status.split()[1] == "200", status
    return await reader.readexactly(int(headers["content-length"]))


async def read_head(reader: Any) -> tuple[str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    fields = [line.partition(":") for line in lines]
    return first, {name.lower(): value.strip() for name, _, value in fields}


def test_client_of_nginx(
    loop: Any, kind: str, nginx: Any, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """Small answers and large ones, many on a connection, several at once."""
    files = {f"/{size}": os.urandom(size) for size in (1, 1000, 100_000, 3_000_000)}
    for name, data in files.items():
        (tmp_path / name[1:]).write_bytes(data)

    async def use(port: int) -> None:
        context = pinned(tls_client(), version)
        reader, writer = await asyncio.open_connection(
            HOST, port, ssl=context, server_hostname="localhost"
        )
        check_engine(writer.transport, kind)
        ssl_object = writer.get_extra_info("ssl_object")
        assert ssl_object.version() == name_of(version)
        for name, data in [*files.items(), *files.items()]:
            assert await request(reader, writer, name) == data
        writer.close()
        await writer.wait_closed()

    async def main(port: int) -> None:
        await asyncio.gather(*[use(port) for _ in range(5)])
        await turns(3)

    with nginx(
        tmp_path,
        SERVER,
        certificate=LOCALHOST,
        protocol=name_of(version),
        verify="off",
    ) as port:
        loop.run_until_complete(main(port))


def test_nginx_asks_for_a_certificate(
    loop: Any, nginx: Any, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"for friends only")

    async def get(port: int, context: ssl.SSLContext) -> bytes:
        reader, writer = await asyncio.open_connection(
            HOST, port, ssl=context, server_hostname="localhost"
        )
        with contextlib.closing(writer):
            writer.write(b"GET /file HTTP/1.0\r\n\r\n")
            status, _ = await read_head(reader)
            return status.encode() + await reader.read()

    async def main(port: int) -> None:
        known = pinned(tls_client(), version)
        known.load_cert_chain(OTHER)
        assert (await get(port, known)).endswith(b"200 OKfor friends only")
        unknown = pinned(tls_client(), version)
        assert b"400 Bad Request" in await get(port, unknown)
        await turns(3)

    with nginx(
        tmp_path,
        SERVER,
        certificate=LOCALHOST,
        protocol=name_of(version),
        verify="on",
    ) as port:
        loop.run_until_complete(main(port))


def test_nginx_with_a_wrong_certificate(
    loop: Any, nginx: Any, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    async def main(port: int) -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await asyncio.open_connection(
                HOST, port, ssl=tls_client(), server_hostname="localhost"
            )
        await turns(3)

    with nginx(
        tmp_path, SERVER, certificate=OTHER, protocol=name_of(version), verify="off"
    ) as port:
        loop.run_until_complete(main(port))


def test_server_behind_nginx(
    loop: Any, kind: str, nginx: Any, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """nginx is the client, which keeps its connections and checks our certificate."""
    connections: list[Any] = []

    async def serve(reader: Any, writer: Any) -> None:
        connections.append(writer)
        check_engine(writer.transport, kind)
        assert writer.get_extra_info("ssl_object").version() == name_of(version)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _, headers = await read_head(reader)
                size = int(headers.get("content-length", 0))
                body = await reader.readexactly(size)
                answer = hashlib.sha256(body).digest() + body[: size // 2]
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
                )
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def use(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        for size in (1, 1000, 100_000, 3_000_000, 10):
            body = os.urandom(size)
            answer = await request(reader, writer, "/", body)
            assert answer == hashlib.sha256(body).digest() + body[: size // 2]
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, 0, ssl=tls_server())
        ours = server.sockets[0].getsockname()[1]
        with nginx(tmp_path, PROXY, ours=ours, protocol=name_of(version)) as port:
            await asyncio.gather(*[use(port) for _ in range(5)])
        assert 1 <= len(connections) < 25  # they were kept
        await until(lambda: all(each.is_closing() for each in connections))
        server.close()
        await turns(3)

    loop.run_until_complete(main())


# --- PostgreSQL -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL that can do TLS."""
    try:
        importlib.import_module("asyncpg")
    except ImportError:
        missing("asyncpg")
    if given := os.environ.get("FASTLOOP_TEST_PG_TLS_DSN"):
        yield given
        return
    helper = runpy.run_path(str(POSTGRES))
    try:
        helper["find_binaries"]()
    except helper["PostgresError"]:
        missing("PostgreSQL")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LD_PRELOAD", raising=False)  # sanitizers are for us only
        with helper["cluster"](Path(LOCALHOST)) as dsn:
            yield dsn.replace(HOST, "localhost")


def test_postgres(loop: Any, version: ssl.TLSVersion, postgres: str) -> None:
    """The connection is upgraded: PostgreSQL is asked for TLS in plain text."""
    asyncpg = importlib.import_module("asyncpg")

    async def use(connection: Any) -> None:
        row = await connection.fetchrow(
            "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        assert tuple(row) == (True, name_of(version))
        assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
        data = os.urandom(3_000_000)
        assert await connection.fetchval("SELECT $1::bytea", data) == data
        rows = await connection.fetch("SELECT n, n * n FROM generate_series(1, 5000) n")
        assert [tuple(row) for row in rows] == [(n, n * n) for n in range(1, 5001)]
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("SELECT 1 / 0")
        # a query is cancelled over a TLS connection of its own
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetchval("SELECT pg_sleep(600)", timeout=0.1)
        assert await connection.fetchval("SELECT 'works'") == "works"

    async def main() -> None:
        context = pinned(tls_client(), version)
        pool = await asyncpg.create_pool(postgres, ssl=context, min_size=4, max_size=4)

        async def borrow() -> None:
            async with pool.acquire() as connection:
                await use(connection)

        await asyncio.gather(*[borrow() for _ in range(8)])
        await pool.close()
        await turns(3)

    loop.run_until_complete(main())


def test_postgres_that_is_not_trusted(loop: Any, postgres: str) -> None:
    asyncpg = importlib.import_module("asyncpg")

    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncpg.connect(postgres, ssl=ssl.create_default_context())
        connection = await asyncpg.connect(postgres, ssl=False)
        assert not await connection.fetchval(
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        await connection.close()
        await turns(3)

    loop.run_until_complete(main())
