"""Cold work of the native streams, once per connection or less: see ``_support``."""

from __future__ import annotations

import asyncio
import sys
import warnings
from asyncio import coroutines, streams
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    from ._core import StreamReader, StreamReaderProtocol, StreamWriter

_DEFAULT_LIMIT = 2**16


def _stock_methods() -> tuple[Any, ...] | None:
    """What the C code does for asyncio's streams, if that is what asyncio does.

    None if somebody has put functions of their own into asyncio's classes.
    """
    source = getattr(streams, "__file__", None)
    reader, protocol = asyncio.StreamReader, asyncio.StreamReaderProtocol
    found = [
        (protocol, "data_received"),
        (protocol, "_stream_reader"),
        (reader, "feed_data"),
        (reader, "_wakeup_waiter"),
    ]
    methods = [cls.__dict__.get(name) for cls, name in found]
    for method in methods:
        function = method.fget if isinstance(method, property) else method
        code = getattr(function, "__code__", None)
        if code is None or code.co_filename != source:
            return None
    return tuple(methods)


stream_stock_methods = _stock_methods()


def stream_reader_repr(reader: StreamReader, size: int) -> str:
    info = ["StreamReader"]
    if size:
        info.append(f"{size} bytes")
    if reader._eof:
        info.append("eof")
    if reader._limit != _DEFAULT_LIMIT:
        info.append(f"limit={reader._limit}")
    if reader._waiter:
        info.append(f"waiter={reader._waiter!r}")
    if reader._exception:
        info.append(f"exception={reader._exception!r}")
    if reader._transport:
        info.append(f"transport={reader._transport!r}")
    if reader._paused:
        info.append("paused")
    return f"<{' '.join(info)}>"


def stream_writer_repr(writer: StreamWriter) -> str:
    info = [type(writer).__name__, f"transport={writer._transport!r}"]
    if writer._reader is not None:
        info.append(f"reader={writer._reader!r}")
    return f"<{' '.join(info)}>"


def stream_separators(separator: Any) -> Any:
    """Check what readuntil() was given: bytes, or a list with the shortest first."""
    found = sorted(separator, key=len) if isinstance(separator, tuple) else [separator]
    if not found:
        raise ValueError("Separator should contain at least one element")
    if len(found[0]) == 0:
        raise ValueError("Separator should be at least one-byte string")
    return found


def stream_debug(protocol: object, what: str) -> None:
    logger.debug("%r %s writing", protocol, what)


def stream_rejected(
    protocol: StreamReaderProtocol, transport: asyncio.Transport
) -> None:
    """Nobody waits any more for the connection that is made."""
    context: dict[str, Any] = {
        "message": (
            "An open stream was garbage collected prior to establishing network "
            'connection; call "stream.close()" explicitly.'
        )
    }
    if protocol._source_traceback:
        context["source_traceback"] = protocol._source_traceback
    protocol._loop.call_exception_handler(context)
    transport.abort()


# whether the protocol keeps the writer, as asyncio's does up to 3.12
_KEEPS_WRITER = sys.version_info < (3, 13)


def stream_client_connected(
    protocol: StreamReaderProtocol,
    transport: asyncio.Transport,
    reader: StreamReader | None,
    writer: StreamWriter,
) -> None:
    """Call what the server was started with; run its coroutine in a task."""
    loop = protocol._loop

    def unhandled(exc: BaseException) -> None:
        loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": exc,
                "transport": transport,
            }
        )
        transport.close()

    def done(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            transport.close()
            return
        exc = task.exception()
        if exc is not None:
            unhandled(exc)

    if _KEEPS_WRITER:
        protocol._stream_writer = writer
    try:
        result = protocol._client_connected_cb(reader, writer)  # type: ignore[misc]
    except Exception as exc:
        unhandled(exc)
        return
    if coroutines.iscoroutine(result):
        protocol._task = loop.create_task(result)
        protocol._task.add_done_callback(done)


def stream_unclosed(writer: StreamWriter) -> None:
    """A writer is dropped whose transport is open."""
    if writer._loop.is_closed():
        warnings.warn("loop is closed", ResourceWarning, stacklevel=2)
    else:
        writer.close()
        warnings.warn(f"unclosed {writer!r}", ResourceWarning, stacklevel=2)


async def stream_start_tls(
    writer: StreamWriter,
    sslcontext: ssl.SSLContext,
    server_hostname: str | None,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> None:
    """Upgrade the connection of a writer."""
    loop: Any = writer._loop
    protocol = writer._protocol
    server_side = protocol._client_connected_cb is not None
    await writer.drain()
    transport = await loop.start_tls(
        writer._transport,
        protocol,
        sslcontext,
        server_side=server_side,
        server_hostname=server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    writer._transport = transport
    replace = getattr(protocol, "_replace_transport", None)
    if replace is not None:
        replace(transport)
    else:  # asyncio's own protocol, up to 3.12
        protocol._replace_writer(writer)


stream_start_tls.__name__ = "start_tls"
stream_start_tls.__qualname__ = "StreamWriter.start_tls"
