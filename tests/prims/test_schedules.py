"""Random schedules: the primitives do, turn for turn, what asyncio's do.

No wakeup is lost to a cancellation: each program checks in the end that nobody waits
for what is there.  ``python -m tests.prims.test_schedules 100000`` runs more of them.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import pytest

import fastloop

from .schedules import PROGRAMS, Trace

SEEDS = 50

# 3.13 has mended lost and late wakeups of these, and ours are mended everywhere
MENDED = ["semaphore", "condition", "barrier"]
COMPARED = [
    name for name in PROGRAMS if sys.version_info >= (3, 13) or name not in MENDED
]

OURS = [
    pytest.param(fastloop.new_event_loop, id="fastloop"),
    pytest.param(asyncio.new_event_loop, id="asyncio"),
]


def trace_of(name: str, seed: int, classes: Any, loop: Any) -> Trace:
    program = PROGRAMS[name](seed)
    program.random = random.Random(seed)  # for make()
    return loop.run_until_complete(program.main(classes))


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("make_loop", OURS)
def test_traces_are_equal(name: str, make_loop: Any) -> None:
    theirs, ours = asyncio.new_event_loop(), make_loop()
    try:
        for seed in range(SEEDS):
            expected = trace_of(name, seed, asyncio, theirs)
            assert trace_of(name, seed, fastloop, ours) == expected, seed
    finally:
        theirs.close()
        ours.close()


@pytest.mark.parametrize("name", MENDED)
@pytest.mark.parametrize("make_loop", OURS)
def test_no_wakeup_is_lost(name: str, make_loop: Any) -> None:
    loop = make_loop()
    try:
        for seed in range(1000, 1000 + SEEDS):
            trace_of(name, seed, fastloop, loop)
    finally:
        loop.close()


def main() -> None:
    """Compare so many programs, and say where they differ."""
    first, count = 10_000, int(sys.argv[1])
    for name in COMPARED:
        theirs, ours = asyncio.new_event_loop(), fastloop.new_event_loop()
        for seed in range(first, first + count):
            expected = trace_of(name, seed, asyncio, theirs)
            got = trace_of(name, seed, fastloop, ours)
            if got != expected:
                print(f"{name} {seed}:", *zip(expected, got, strict=False), sep="\n")
                raise SystemExit(1)
        theirs.close()
        ours.close()
        print(f"{name}: {count} programs, no difference")


if __name__ == "__main__":
    main()
