"""isinstance() for user subclasses of the native futures, tasks and streams.

``isinstance(obj, cls)`` falls back on ``obj.__class__``.  For our own types that
is asyncio's class; for a subclass it has to be the subclass to whoever uses it and a
subclass of asyncio's to isinstance(): a shadow, which derives from asyncio's class
and otherwise stands for the user's.
"""

from __future__ import annotations

import asyncio
from typing import Any


class _Shadow(type):
    """A class that compares equal to the one it shadows and forwards to it."""

    _real: type

    def __getattribute__(cls, name: str) -> Any:
        if name in ("_real", "__mro__", "__bases__", "__class__", "__dict__"):
            return super().__getattribute__(name)
        return getattr(super().__getattribute__("_real"), name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._real(*args, **kwargs)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls._real

    def __hash__(cls) -> int:
        return hash(cls._real)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls._real)

    def __repr__(cls) -> str:
        return repr(cls._real)


# asyncio's class for what has such a method; patch() puts others under the names
_STOCK: dict[str, type] = {
    "get_coro": asyncio.Task,
    "readuntil": asyncio.StreamReader,
    "can_write_eof": asyncio.StreamWriter,
    "_get_close_waiter": asyncio.StreamReaderProtocol,
    "add_done_callback": asyncio.Future,
}


def class_for_isinstance(cls: type) -> type:
    """Return what ``__class__`` answers for instances of a subclass ``cls``.

    Each class keeps its shadow itself: they refer to each other, and a registry that
    held one would keep both for ever.
    """
    shadow: type | None = cls.__dict__.get("_fastloop_shadow")
    if shadow is None:
        base = next(stock for name, stock in _STOCK.items() if hasattr(cls, name))
        shadow = _Shadow(cls.__name__, (base,), {"__slots__": (), "_real": cls})
        type.__setattr__(cls, "_fastloop_shadow", shadow)
    return shadow
