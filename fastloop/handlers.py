"""Exception handlers: where exceptions go that nobody waits for."""

from __future__ import annotations

import asyncio
import traceback
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from ._core import LoopBase as _Base
else:
    _Base = object

Context: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[asyncio.AbstractEventLoop, Context], object]

_TRACEBACKS = {
    "source_traceback": "Object created at (most recent call last):\n",
    "handle_traceback": "Handle created at (most recent call last):\n",
}


def _describe(key: str, value: Any) -> str:
    if key in _TRACEBACKS:
        text = "".join(traceback.format_list(value))
        return f"{key}: {_TRACEBACKS[key]}{text.rstrip()}"
    return f"{key}: {value!r}"


def _context_of(context: Context) -> Any:
    """Return the contextvars.Context that the failing thing ran in, or None."""
    for key in ("task", "future", "handle"):
        thing = context.get(key)
        if thing is not None:
            return thing.get_context() if hasattr(thing, "get_context") else None
    return None


class ExceptionHandlerMixin(_Base):
    """Part of Loop."""

    _exception_handler: Handler | None

    def get_exception_handler(self) -> Handler | None:
        """Return the handler that was set, or None."""
        return getattr(self, "_exception_handler", None)  # unset: not initialised

    def set_exception_handler(self, handler: Handler | None) -> None:
        """Let ``handler(loop, context)`` take what nobody waits for; None: log it.

        Raises TypeError if it cannot be called.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: Context) -> None:
        """Log the message, the exception, and what else the context tells."""
        message = context.get("message") or "Unhandled exception in event loop"
        lines = [message]
        if "source_traceback" not in context:
            traceback_of_handle = getattr(
                self._current_handle, "_source_traceback", None
            )
            if traceback_of_handle:
                context["handle_traceback"] = traceback_of_handle
        for key in sorted(context):
            if key not in ("message", "exception"):
                lines.append(_describe(key, context[key]))
        exc = context.get("exception")
        exc_info = (type(exc), exc, exc.__traceback__) if exc is not None else False
        logger.error("\n".join(lines), exc_info=exc_info)

    def call_exception_handler(self, context: Context) -> None:
        """Hand ``context`` to the handler that was set, or to the default one.

        The keys are those of ``asyncio.loop.call_exception_handler``.  A handler
        that fails is reported itself; KeyboardInterrupt and SystemExit pass.
        """
        handler = getattr(self, "_exception_handler", None)
        if handler is None:
            self._handle_by_default(context, "Exception in default exception handler")
            return
        try:
            ctx = _context_of(context)
            if hasattr(ctx, "run"):
                ctx.run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._handle_by_default(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": exc,
                    "context": context,
                },
                "Exception in default exception handler while handling an "
                "unexpected error in custom exception handler",
            )

    def _handle_by_default(self, context: Context, complaint: str) -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(complaint, exc_info=True)
