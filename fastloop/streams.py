"""Streams: what makes a reader and a writer for a connection, on any event loop.

Reader, writer and protocol are C (``src/prims/``); this runs once per connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ._core import StreamReader, StreamReaderProtocol, StreamWriter

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]

_DEFAULT_LIMIT = 2**16

_ClientConnected: TypeAlias = Callable[
    [StreamReader, StreamWriter], Awaitable[None] | None
]


def _client(
    limit: int, loop: asyncio.AbstractEventLoop
) -> tuple[StreamReader, StreamReaderProtocol]:
    reader = StreamReader(limit=limit, loop=loop)
    return reader, StreamReaderProtocol(reader, loop=loop)


def _server(
    client_connected_cb: _ClientConnected, limit: int, loop: asyncio.AbstractEventLoop
) -> Callable[[], StreamReaderProtocol]:
    def factory() -> StreamReaderProtocol:
        reader = StreamReader(limit=limit, loop=loop)
        return StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return factory


async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a TCP server; return a reader and a writer.

    ``limit`` is the reader's, in bytes.  Everything else goes to
    ``loop.create_connection()``, whose errors are raised.
    """
    loop: Any = asyncio.get_running_loop()
    reader, protocol = _client(limit, loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: _ClientConnected,
    host: str | list[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Start a TCP server that calls back with a reader and a writer per connection.

    ``client_connected_cb`` is a function or a coroutine function, which runs in a task.
    ``limit`` is the readers', in bytes.  Everything else goes to
    ``loop.create_server()``, whose server is returned and whose errors are raised.
    """
    loop: Any = asyncio.get_running_loop()
    factory = _server(client_connected_cb, limit, loop)
    server: asyncio.Server = await loop.create_server(factory, host, port, **kwds)
    return server


async def open_unix_connection(
    path: StrPath | None = None, *, limit: int = _DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connect to a Unix socket; return a reader and a writer.

    Everything but ``limit`` goes to ``loop.create_unix_connection()``.
    """
    loop: Any = asyncio.get_running_loop()
    reader, protocol = _client(limit, loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    client_connected_cb: _ClientConnected,
    path: StrPath | None = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Start a server on a Unix socket; otherwise like start_server().

    Everything but ``limit`` goes to ``loop.create_unix_server()``.
    """
    loop: Any = asyncio.get_running_loop()
    factory = _server(client_connected_cb, limit, loop)
    server: asyncio.Server = await loop.create_unix_server(factory, path, **kwds)
    return server
