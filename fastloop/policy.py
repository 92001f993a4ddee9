"""The event loop policy, for programs that choose their loop through it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from .loop import Loop
from .patching import patch, unpatch

# The default policy of the running Python, found without the deprecation warnings
# that its public name gives from 3.14 on.
if TYPE_CHECKING:
    _DefaultPolicy = asyncio.DefaultEventLoopPolicy
elif sys.version_info >= (3, 14):
    from asyncio.unix_events import _DefaultEventLoopPolicy as _DefaultPolicy
else:
    from asyncio.unix_events import _UnixDefaultEventLoopPolicy as _DefaultPolicy


class EventLoopPolicy(_DefaultPolicy):
    """The default policy of this Python, with fastloop's loops.

    ``get_event_loop()`` creates, warns and raises exactly as the default policy of
    the running Python does.  See "Policies" in the asyncio documentation.
    """

    _loop_factory = Loop

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new ``Loop``."""
        return Loop()


def _set_policy(policy: asyncio.AbstractEventLoopPolicy | None) -> None:
    if sys.version_info >= (3, 14):
        asyncio.events._set_event_loop_policy(policy)
    else:
        asyncio.set_event_loop_policy(policy)


def install(*, primitives: bool = True) -> None:
    """Make fastloop's loop the default of ``asyncio.run()`` and all who ask asyncio.

    With ``primitives``, asyncio's names mean fastloop's, too: see ``patch()``.
    """
    _set_policy(EventLoopPolicy())
    if primitives:
        patch()


def uninstall() -> None:
    """Undo ``install()`` and ``patch()``: asyncio is its own again."""
    _set_policy(None)
    unpatch()
