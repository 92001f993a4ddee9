"""What becomes of a failing bind().

It changed between patch releases of asyncio: do as the running one does.
"""

from __future__ import annotations

from asyncio.base_events import BaseEventLoop
from typing import Any

_NUMBER_IN_WORDS = (
    "strerror" not in BaseEventLoop._connect_sock.__code__.co_names  # type: ignore[attr-defined]
)
# Whether create_server() leaves out an address that this machine does not have.
LEAVES_OUT = "EADDRNOTAVAIL" in BaseEventLoop.create_server.__code__.co_names


def bind_error(exc: OSError, address: Any) -> OSError:
    """Return the error that tells which ``address`` could not be bound."""
    words = str(exc) if _NUMBER_IN_WORDS else exc.strerror or str(exc)
    return OSError(
        exc.errno,
        f"error while attempting to bind on address {address!r}: {words.lower()}",
    )
