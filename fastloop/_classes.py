"""isinstance() of asyncio's own futures and tasks against the native classes.

``patch()`` puts the native classes under asyncio's names, where isinstance() has to go
on accepting both kinds.
"""

from __future__ import annotations

import abc
import asyncio

from . import _core


class _FutureMeta(abc.ABCMeta):
    """The metaclass of the native Future and Task.

    An ABCMeta, so that a class may derive from a future and from an abstract class;
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
}


def hook() -> None:
    """Give the native classes their metaclass; called once, at import."""
    _core.set_future_metaclass(_FutureMeta)
