"""Sending files: over sockets and over transports."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import socket
import sys
from asyncio import constants, transports, unix_events
from typing import TYPE_CHECKING, Any

from ._support import call_forgiven
from .tls import reject_ssl_socket

if TYPE_CHECKING:
    from .sockets import SocketsMixin as _Base
else:
    _Base = object

_Mode: Any = constants._SendfileMode
_SOCKET_BLOCK: int = constants.SENDFILE_FALLBACK_READBUFFER_SIZE
_TRANSPORT_BLOCK = 16384
_MOST = sys.maxsize // 2 + 1  # that a system call takes where addresses have 32 bits

# Before 3.14 a file is left alone when nothing of it was sent, and read from where
# it is when offset is 0; the release that changed both dropped a parameter.
_POSITION_IS_SET_ALWAYS = (
    "total_sent"
    not in inspect.signature(
        unix_events._UnixSelectorEventLoop._sock_sendfile_update_filepos  # type: ignore[attr-defined]
    ).parameters
)


def _check_arguments(
    sock: socket.socket, file: Any, offset: object, count: object
) -> None:
    """Raise what asyncio raises for arguments that cannot be."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        message = f"count must be a positive integer (got {count!r})"
        if not isinstance(count, int):
            raise TypeError(message)
        if count <= 0:
            raise ValueError(message)
    message = f"offset must be a non-negative integer (got {offset!r})"
    if not isinstance(offset, int):
        raise TypeError(message)
    if offset < 0:
        raise ValueError(message)


def _seek_to_start(file: Any, offset: int) -> None:
    if hasattr(file, "seek") if _POSITION_IS_SET_ALWAYS else offset:
        file.seek(offset)


def _failure(exc: OSError, sent: int, waited: bool) -> Exception:
    """Return what to raise for a system call that has failed."""
    if not sent:
        # say a file that is no file: the fallback will do
        return asyncio.SendfileNotAvailableError("os.sendfile call failed")
    if waited and exc.errno == errno.ENOTCONN:
        return ConnectionError("socket is not connected", errno.ENOTCONN)
    return exc


class _FallbackProtocol(asyncio.Protocol):
    """Stands in for a transport's protocol while a file is written through it."""

    def __init__(self, transport: Any) -> None:
        if not isinstance(
            transport,
            transports._FlowControlMixin,
        ) and not hasattr(type(transport), "_protocol_paused"):
            raise TypeError("transport should be _FlowControlMixin instance")
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._was_paused = transport._protocol_paused
        self._writable: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if self._was_paused:
            self.pause_writing()

    async def drain(self) -> None:
        """Wait until more may be written."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._writable is not None:
            await self._writable

    def restore(self) -> None:
        """Give the transport back to its protocol."""
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)  # it is not lost
        if self._was_reading:
            self._transport.resume_reading()
        if self._writable is not None:
            self._writable.cancel()
        if self._was_paused:
            self._protocol.resume_writing()

    def connection_made(self, transport: Any) -> None:
        raise RuntimeError(
            "Invalid state: connection should have been established already."
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_exception(
                exc or ConnectionError("Connection is closed by peer")
            )
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")


class SendfileMixin(_Base):
    """Part of Loop."""

    # --- sockets ----------------------------------------------------------------

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file, opened in binary mode, over a stream socket.

        Returns how many bytes were sent: from ``offset`` to the end, or ``count``.
        The file's position is then behind the last one.  Where ``os.sendfile()``
        cannot be used the file is read and sent, or, without ``fallback``,
        SendfileNotAvailableError raised.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        reject_ssl_socket(sock)
        _check_arguments(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        if not hasattr(os, "sendfile"):
            raise asyncio.SendfileNotAvailableError("os.sendfile() is not available")
        try:
            source = file.fileno()
            size = os.fstat(source).st_size
        except (AttributeError, OSError):  # io.UnsupportedOperation is one
            raise asyncio.SendfileNotAvailableError("not a regular file") from None
        if not (count or size):
            return 0
        sent = 0
        waited = False
        try:
            while count is None or sent < count:
                wanted = size if count is None else count - sent
                try:
                    step = call_forgiven(
                        os.sendfile,
                        sock.fileno(),
                        source,
                        offset + sent,
                        min(wanted, _MOST),
                    )
                except (BlockingIOError, InterruptedError):
                    step = None
                except OSError as exc:
                    failure = _failure(exc, sent, waited)
                    raise failure from (None if failure is exc else exc)
                if step == 0:
                    break
                sent += step or 0
                if count is None or sent < count:
                    # also after a success: others have their turn meanwhile
                    await self._sock_writable(sock)
                    waited = True
                    if sock.fileno() < 0:
                        raise ConnectionError("Connection is closed")
        finally:
            if sent or _POSITION_IS_SET_ALWAYS:
                os.lseek(source, offset + sent, os.SEEK_SET)
        return sent

    async def _sock_sendfile_fallback(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        _seek_to_start(file, offset)
        buffer = memoryview(bytearray(min(count or _SOCKET_BLOCK, _SOCKET_BLOCK)))
        sent = 0
        try:
            while count is None or sent < count:
                room = buffer if count is None else buffer[: count - sent]
                read = await self.run_in_executor(None, file.readinto, room)
                if not read:
                    break
                await self.sock_sendall(sock, buffer[:read])
                sent += read
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)

    # --- transports -------------------------------------------------------------

    async def sendfile(
        self,
        transport: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file, opened in binary mode, over a transport.

        Returns how many bytes were sent: from ``offset`` to the end, or ``count``.
        The file's position is then behind the last one.  Where ``os.sendfile()``
        cannot be used, as with TLS, the file is read and written, or, without
        ``fallback``, an exception raised.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", _Mode.UNSUPPORTED)
        if mode is _Mode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is _Mode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not "
                f"supported for transport {transport!r}"
            )
        return await self._sendfile_fallback(transport, file, offset, count)

    async def _sendfile_native(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        empty = transport._make_empty_waiter()
        resume = transport.is_reading()
        transport.pause_reading()
        try:
            await empty
            return await self.sock_sendfile(
                transport.get_extra_info("socket")._sock,
                file,
                offset,
                count,
                fallback=False,
            )
        finally:
            transport._reset_empty_waiter()
            if resume:
                transport.resume_reading()

    async def _sendfile_fallback(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        _seek_to_start(file, offset)
        buffer = memoryview(bytearray(min(count or _TRANSPORT_BLOCK, _TRANSPORT_BLOCK)))
        sent = 0
        protocol = _FallbackProtocol(transport)
        try:
            while count is None or sent < count:
                room = buffer if count is None else buffer[: count - sent]
                read = await self.run_in_executor(None, file.readinto, room)
                if not read:
                    break
                transport.write(buffer[:read])
                await protocol.drain()
                sent += read
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)
            protocol.restore()
