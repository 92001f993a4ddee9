"""What several tests of the primitives use."""

from __future__ import annotations

import asyncio
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
