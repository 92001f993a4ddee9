"""Operations on the user's own sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .tls import reject_ssl_socket

if TYPE_CHECKING:
    from .dns import DNSMixin as _Base
else:
    _Base = object

_UNRESOLVED = (socket.AF_INET, socket.AF_INET6)


class SocketsMixin(_Base):
    """Part of Loop."""

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket to ``address``.

        Raises ValueError in debug mode if the socket blocks.
        """
        reject_ssl_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in _UNRESOLVED:
            address = await self._resolve_for(sock, address)
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError):
            await self._sock_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, f"Connect call failed {address}") from None

    async def _resolve_for(self, sock: socket.socket, address: Any) -> Any:
        infos = await self._ensure_resolved(
            address, family=sock.family, type=sock.type, proto=sock.proto
        )
        return infos[0][4]
