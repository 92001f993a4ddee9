"""Native tasks in ``asyncio.all_tasks()``.

asyncio collects tasks from a WeakSet that was created long before fastloop was
imported and that other modules may hold.  So the set stays the same object and
changes its class: iterating it also yields the native tasks, which are linked in a
list of their own and cost nothing to register.
"""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import os
import sys
import weakref
from collections.abc import Iterator
from typing import Any

from . import _core


class _TaskSet(weakref.WeakSet[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield from _core.native_tasks()


def _asyncio_task_sets() -> Iterator[weakref.WeakSet[Any]]:
    """Yield the sets that all_tasks() of this Python iterates."""
    tasks: Any = asyncio.tasks
    if sys.version_info < (3, 12):
        yield tasks._all_tasks
        return
    yield tasks._scheduled_tasks
    if sys.version_info >= (3, 14):
        # the accelerator has a set of its own, without a name
        import _asyncio

        for referent in gc.get_referents(_asyncio):
            if type(referent) is weakref.WeakSet:
                yield referent


def _hook_awaited_by() -> None:
    """Let gather(), TaskGroup and others record who awaits a native future."""
    futures: Any = asyncio.futures
    for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
        record = getattr(_core, name)
        for module, alias in (
            (asyncio, name),
            (futures, name),
            (futures, f"_c_{name}"),
        ):
            setattr(module, alias, record)


def _hook_iscoroutine() -> None:
    """Let asyncio.iscoroutine() tell quickly that a native future is none."""
    coroutines: Any = asyncio.coroutines
    kinds = getattr(coroutines, "_COROUTINE_TYPES", ())
    coroutines._COROUTINE_TYPES = tuple(
        _core.coroutine_kind if kind is collections.abc.Coroutine else kind
        for kind in kinds
    )


def hook() -> None:
    """Make asyncio's registries aware of native tasks; called once, at import."""
    for task_set in _asyncio_task_sets():
        task_set.__class__ = _TaskSet
    _hook_iscoroutine()
    if sys.version_info >= (3, 14):
        _hook_awaited_by()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_core.after_fork)
