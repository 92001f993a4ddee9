"""Names to addresses and back."""

from __future__ import annotations

import _socket
import socket
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from ._core import getaddrinfo_numeric

if TYPE_CHECKING:
    from .executor import ExecutorMixin as _Base
else:
    _Base = object

# (family, type, proto, canonname, sockaddr)
AddrInfo = tuple[Any, Any, int, str, Any]


def _of_stdlib(name: str) -> Any:
    """Return what the socket module defines, None if it was replaced before us."""
    function = getattr(socket, name)
    if function is getattr(_socket, name) or (
        getattr(function, "__globals__", None) is vars(socket)
    ):
        return function
    return None


_stdlib_getaddrinfo = _of_stdlib("getaddrinfo")
_stdlib_getnameinfo = _of_stdlib("getnameinfo")
_NUMERIC_ONLY = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

_PROTOCOL_OF: dict[int, int] = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}
_PROTOCOLS = (0, *_PROTOCOL_OF.values())
_NUMERIC_FAMILIES = (socket.AF_INET, *([socket.AF_INET6] if socket.has_ipv6 else []))


def _numeric_info(
    host: Any,
    port: Any,
    family: int,
    type: int,
    proto: int,
    flowinfo: int = 0,
    scopeid: int = 0,
) -> AddrInfo | None:
    """Return the address of a host that is a number already, else None."""
    if host is None or proto not in _PROTOCOLS or type not in _PROTOCOL_OF:
        return None
    try:
        port = 0 if port is None or port in ("", b"") else int(port)
        text = host.decode("ascii") if isinstance(host, bytes) else host
    except (TypeError, ValueError):
        return None
    if "%" in text:
        return None  # an interface, to be looked up
    for candidate in _NUMERIC_FAMILIES if family == socket.AF_UNSPEC else (family,):
        try:
            socket.inet_pton(candidate, text)
        except OSError:
            continue
        address: tuple[Any, ...] = (text, port)
        if candidate == socket.AF_INET6:
            address += (flowinfo, scopeid)
        return candidate, type, _PROTOCOL_OF[type], "", address
    return None


class DNSMixin(_Base):
    """Part of Loop."""

    async def _ensure_resolved(
        self,
        address: Any,
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddrInfo]:
        """Return what getaddrinfo() finds, which is not asked about numbers."""
        host, port = address[:2]
        info = _numeric_info(host, port, family, type, proto, *address[2:])
        if info is not None:
            return [info]
        return await self.getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """``socket.getaddrinfo()`` without blocking.

        A numeric host is answered at once, anything else by the default executor.
        """
        if self.get_debug():
            return await self.run_in_executor(
                None, self._getaddrinfo_debug, host, port, family, type, proto, flags
            )
        # whoever has replaced socket.getaddrinfo expects to be asked
        if socket.getaddrinfo is _stdlib_getaddrinfo:
            found = getaddrinfo_numeric(host, port, family, type, proto, flags)
            if found is not None:
                return found
        return await self.run_in_executor(
            None, socket.getaddrinfo, host, port, family, type, proto, flags
        )

    def _getaddrinfo_debug(
        self, host: Any, port: Any, family: int, type: int, proto: int, flags: int
    ) -> list[Any]:
        """Runs in the executor: look up, and log what took long."""
        words = [f"{host}:{port!r}"]
        if family:
            words.append(f"family={family!r}")
        if type:
            words.append(f"type={type!r}")
        if proto:
            words.append(f"proto={proto!r}")
        if flags:
            words.append(f"flags={flags!r}")
        what = ", ".join(words)
        logger.debug("Get address info %s", what)
        began = self.time()
        found = socket.getaddrinfo(host, port, family, type, proto, flags)
        took = self.time() - began
        message = f"Getting address info {what} took {took * 1e3:.3f}ms: {found!r}"
        if took >= self.slow_callback_duration:
            logger.info(message)
        else:
            logger.debug(message)
        return found

    async def getnameinfo(
        self, sockaddr: tuple[Any, ...], flags: int = 0
    ) -> tuple[str, str]:
        """``socket.getnameinfo()`` without blocking.

        At once if ``flags`` ask for numbers only, else by the default executor.
        """
        if (
            isinstance(flags, int)
            and flags & _NUMERIC_ONLY == _NUMERIC_ONLY
            and socket.getnameinfo is _stdlib_getnameinfo
        ):
            return _stdlib_getnameinfo(sockaddr, flags)
        return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)
