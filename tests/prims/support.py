"""What several tests of the primitives use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


def need(lib: ModuleType, name: str) -> None:
    """Skip where the running asyncio lacks what fastloop has on every version."""
    thing: Any = lib
    for part in name.split("."):
        if not hasattr(thing, part):
            pytest.skip(f"asyncio of this Python has no {name}")
        thing = getattr(thing, part)


async def outcome(awaitable: Any) -> Any:
    """What awaiting gives: ("result", ...) or the exception's type and arguments."""
    try:
        return "result", await awaitable
    except BaseException as exc:
        return type(exc).__name__, exc.args


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def give(value: Any, after: int = 0) -> Any:
    await turns(after)
    return value


async def fail(exc: BaseException, after: int = 0) -> None:
    await turns(after)
    raise exc


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def hashed_tasks(task_class: type) -> Callable[..., Any]:
    """A task factory: sets of these tasks are in the same order each time."""
    count = 0

    class HashedTask(task_class):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nonlocal count
            count += 1
            self.number = count
            super().__init__(*args, **kwargs)

        def __hash__(self) -> int:
            return int(self.number)

        def __eq__(self, other: object) -> bool:
            return self is other

    return lambda loop, coro, **kwargs: HashedTask(coro, loop=loop, **kwargs)
