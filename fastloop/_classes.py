"""isinstance() of asyncio's own futures, tasks and streams against the native classes.

``patch()`` puts the native classes under asyncio's names, where isinstance() has to go
on accepting both kinds.
"""

from __future__ import annotations

import abc
import asyncio

from . import _core


class _NativeMeta(abc.ABCMeta):
    """The metaclass of the native Future, Task and classes of streams.

    An ABCMeta, so that a class may derive from one of them and from an abstract class;
    subclasses are plain ones in all else.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        stock = _stock_of.get(cls)
        return stock is not None and isinstance(instance, stock)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if type.__subclasscheck__(cls, subclass):
            return True
        stock = _stock_of.get(cls)
        return stock is not None and issubclass(subclass, stock)


_stock_of: dict[type, type] = {
    _core.Future: asyncio.Future,
    _core.Task: asyncio.Task,
    _core.StreamReader: asyncio.StreamReader,
    _core.StreamReaderProtocol: asyncio.StreamReaderProtocol,
    _core.StreamWriter: asyncio.StreamWriter,
}


def hook() -> None:
    """Give the native classes their metaclass; called once, at import."""
    _core.set_metaclass(_NativeMeta)
