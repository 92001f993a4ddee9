"""Objects that are used again: how many are kept."""

from __future__ import annotations

import asyncio
import gc
import sys

from fastloop import Loop

BURST = 50_000
KEPT = 8192  # of each type, for good


def nothing() -> None:
    pass


def test_the_memory_of_a_burst_is_given_back(fast_loop: Loop) -> None:
    async def calm() -> None:
        while sys.getallocatedblocks() - before > 3 * KEPT:
            await asyncio.sleep(0.01)

    async def yielding() -> None:
        await asyncio.sleep(0)

    async def burst() -> None:
        for _ in range(BURST):
            fast_loop.call_soon(nothing)
        await asyncio.gather(*(yielding() for _ in range(BURST)))

    fast_loop.run_until_complete(yielding())
    gc.collect()
    before = sys.getallocatedblocks()
    fast_loop.run_until_complete(burst())
    gc.collect()
    fast_loop.run_until_complete(asyncio.wait_for(calm(), 30))
