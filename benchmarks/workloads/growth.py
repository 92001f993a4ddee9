"""The cost of growth: an operation among more and more others."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from ..workload import Loop, Timed, register, served
from .network import Echo, protocol

FAMILY = "growth"
LARGE = 100_000


def grown(title: str, sizes: tuple[int, ...], **options: Any) -> Any:
    """Register the function, `function(size, loop, n)`, for each of the sizes.

    It returns the seconds that count.
    """

    def decorate(function: Any) -> Any:
        for size in sizes:
            register(
                Timed(
                    name=f"{function.__name__}_{size}",
                    title=title.format(f"{size:,}"),
                    family=FAMILY,
                    function=partial(function, size),
                    size=size,
                    own_clock=True,
                    limit=240,
                    **{key: make(size) for key, make in options.items()},
                )
            )
        return function

    return decorate


def decades(first: int, last: int) -> tuple[int, ...]:
    return tuple(10**i for i in range(first, last + 1))


@grown("switch among {} tasks", decades(2, 6), each=lambda size: size)
async def switch_among(size: int, loop: Loop, n: int) -> float:
    end = False

    async def spin() -> None:
        while not end:
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(spin()) for _ in range(size)]
    for _ in range(3):
        await asyncio.sleep(0)
    began = time.process_time()
    for _ in range(n):
        await asyncio.sleep(0)
    took = time.process_time() - began
    end = True
    await asyncio.gather(*tasks)
    return took


@grown("gather of {} tasks, 3 sleep(0) each", decades(2, 5), each=lambda size: 3 * size)
async def gather_of(size: int, loop: Loop, n: int) -> float:
    async def thrice() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    began = time.process_time()
    for _ in range(n):
        await asyncio.gather(*[thrice() for _ in range(size)])
    return time.process_time() - began


def timers_at_once(size: int) -> int:
    """Enough for the caches to be warm where it is done but once."""
    return 100 if size < LARGE else 20_000


@grown("timer set and cancelled among {}", decades(2, 6), each=timers_at_once)
def timer_among(size: int, loop: Loop, n: int) -> float:
    def nothing() -> None:
        pass

    others = [loop.call_later(1000 + i * 7919 % size, nothing) for i in range(size)]
    began = time.process_time()
    for _ in range(n):
        for i in range(timers_at_once(size)):
            loop.call_later(1000 + i * 104729 % size, nothing).cancel()
    took = time.process_time() - began
    for other in others:
        other.cancel()
    return took


for size in decades(1, 4):
    served(
        f"connections_{size}",
        f"TCP echo, 1 KiB, {size:,} connections",
        FAMILY,
        partial(protocol, Echo),
        connections=size,
        size=size,
        floor="tcp",
    )
