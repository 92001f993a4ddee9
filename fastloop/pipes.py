"""connect_read_pipe() and connect_write_pipe()."""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ._core import LoopBase as _Base
    from ._core import ReadPipeTransport, WritePipeTransport
else:
    _Base = object

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


class PipesMixin(_Base):
    """Part of Loop."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[ReadPipeTransport, _ProtocolT]:
        """Read from ``pipe``: a file or socket object of a pipe, a FIFO, a socket or
        a character device.

        Returns ``(transport, protocol)``.  The transport makes the descriptor
        non-blocking, and closes the object in the end.  Raises ValueError for
        anything else, a regular file above all.
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = self._open_read_pipe(pipe, protocol, waiter)
        await self._pipe_connected("Read", transport, protocol, waiter)
        return transport, protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[WritePipeTransport, _ProtocolT]:
        """Write to ``pipe``; the rest is as with ``connect_read_pipe()``."""
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = self._open_write_pipe(pipe, protocol, waiter)
        await self._pipe_connected("Write", transport, protocol, waiter)
        return transport, protocol

    async def _pipe_connected(
        self, kind: str, transport: Any, protocol: Any, waiter: asyncio.Future[None]
    ) -> None:
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        if self.get_debug():
            fd = transport._fileno
            message = "%s pipe %r connected: (%r, %r)"
            logger.debug(message, kind, fd, transport, protocol)
