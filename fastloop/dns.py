"""Names to addresses and back."""

from __future__ import annotations

import socket
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from ._core import getaddrinfo_numeric

if TYPE_CHECKING:
    from .executor import ExecutorMixin as _Base
else:
    _Base = object

_stdlib_getaddrinfo = socket.getaddrinfo
_stdlib_getnameinfo = socket.getnameinfo
_NUMERIC_ONLY = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class DNSMixin(_Base):
    """Part of Loop."""

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
            flags & _NUMERIC_ONLY == _NUMERIC_ONLY
            and socket.getnameinfo is _stdlib_getnameinfo
        ):
            return socket.getnameinfo(sockaddr, flags)
        return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)
