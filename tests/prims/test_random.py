"""Random programs run the same with fastloop's primitives as with asyncio's.

A program is a tree of steps, made from a seed.  While it runs, every event is noted
with the turn of the loop that it happened in; both libraries have to leave the same
trace.  Within a turn the order is not compared: asyncio keeps the children of a group
in sets, whose order is that of addresses.  Where that order decides what happens next,
asyncio has several traces for a program, and ours has to be one of them; or else the
tasks are of subclasses with a hash of their own, which makes the order the same.

No cancellation is lost, and no wakeup: a task that would wait for ever in one of the
two leaves another trace.

    python -m tests.prims.test_random 1000 50000      seeds from, to
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import hashed_tasks

LAST_TURN = 60  # then everything is cancelled, again and again

LEAVES = ["sleep", "sleep", "sleep", "future", "set", "cancel", "cancel", "raise"]
NODES = [
    "gather",
    "gather",
    "group",
    "group",
    "timeout",
    "timeout",
    "wait_for",
    "wait",
    "shield",
    "as_completed",
    "spawn",
    "spawn",
    "catch",
    "catch",
    "reschedule",
]

Step = tuple[Any, ...]


def make_program(seed: int) -> list[Step]:
    """A list of steps: (kind, parameter, list of bodies, each a list of steps)."""
    rng = random.Random(seed)
    left = rng.randint(5, 40)

    def body(depth: int) -> list[Step]:
        return [step(depth) for _ in range(rng.randint(1, 4))]

    def step(depth: int) -> Step:
        nonlocal left
        left -= 1
        if depth > 4 or left < 0 or rng.random() < 0.45:
            return rng.choice(LEAVES), rng.randint(0, 9), []
        kind = rng.choice(NODES)
        single = ("timeout", "wait_for", "shield", "spawn", "catch", "reschedule")
        count = 1 if kind in single else rng.randint(1, 4)
        return kind, rng.randint(0, 9), [body(depth + 1) for _ in range(count)]

    return body(0)


class Interpreter:
    def __init__(self, lib: ModuleType, loop: asyncio.AbstractEventLoop) -> None:
        self.lib = lib
        self.loop = loop
        self.turn = 0
        self.trace: list[Any] = []
        self.tasks: dict[str, Any] = {}
        self.futures = [loop.create_future() for _ in range(4)]

    def note(self, path: str, *what: Any) -> None:
        self.trace.append((self.turn, path, *map(repr, what)))

    def tick(self) -> None:
        self.turn += 1
        if self.turn >= LAST_TURN and self.turn % 10 == 0:
            for name in sorted(self.tasks):
                self.tasks[name].cancel()
        if self.turn < LAST_TURN * 20:
            self.loop.call_soon(self.tick)
        else:
            self.note("stuck")
            self.loop.stop()

    async def task(self, path: str, steps: list[Step]) -> Any:
        self.note(path, "starts")
        try:
            await self.run(path, steps)
        except BaseException as exc:
            self.note(path, "ends with", describe(exc), cancelling())
            raise
        self.note(path, "ends", cancelling())
        return path

    async def run(self, path: str, steps: list[Step]) -> None:
        for number, (kind, n, bodies) in enumerate(steps):
            where = f"{path}.{number}"
            result = await getattr(self, kind)(where, n, bodies)
            self.note(where, kind, result)

    def coros(self, path: str, bodies: list[Any]) -> list[Any]:
        return [self.task(f"{path}{chr(97 + i)}", b) for i, b in enumerate(bodies)]

    def started(self, path: str, bodies: list[Any]) -> list[Any]:
        tasks = []
        for i, coro in enumerate(self.coros(path, bodies)):
            name = f"{path}{chr(97 + i)}"
            self.tasks[name] = self.lib.create_task(coro, name=name)
            tasks.append(self.tasks[name])
        return tasks

    # --- leaves

    async def sleep(self, path: str, n: int, bodies: Any) -> Any:
        for _ in range(n // 3):
            await self.lib.sleep(0)
        return await self.lib.sleep(0, n)

    async def future(self, path: str, n: int, bodies: Any) -> Any:
        future = self.futures[n % 4]
        if future.cancelled():
            self.futures[n % 4] = future = self.loop.create_future()
        return await self.lib.shield(future)

    async def set(self, path: str, n: int, bodies: Any) -> None:
        if not self.futures[n % 4].done():
            self.futures[n % 4].set_result(n)
        self.futures[n % 4] = self.loop.create_future()

    async def cancel(self, path: str, n: int, bodies: Any) -> Any:
        names = sorted(self.tasks)
        if not names:
            return None
        name = names[n % len(names)]
        return name, self.tasks[name].cancel(*([path] if n % 2 else []))

    async def raise_(self, path: str, n: int, bodies: Any) -> None:
        if n > 3:
            raise [KeyError, ValueError, asyncio.CancelledError][n % 3](path)

    # --- nodes

    async def gather(self, path: str, n: int, bodies: Any) -> Any:
        aws = self.coros(path, bodies) if n % 2 else self.started(path, bodies)
        if n % 3 == 0:
            aws.append(aws[0])
        return await self.lib.gather(*aws, return_exceptions=n > 5)

    async def group(self, path: str, n: int, bodies: Any) -> Any:
        async with self.lib.TaskGroup() as group:
            for i, coro in enumerate(self.coros(path, bodies)):
                name = f"{path}{chr(97 + i)}"
                self.tasks[name] = group.create_task(coro, name=name)
            if n > 6:
                await self.run(path + "+", bodies[0])
            if n == 6 and hasattr(group, "cancel") and sys.version_info >= (3, 15):
                group.cancel()

    def delay(self, n: int) -> float | None:
        return [0, -1, 1000, None, 1000][n % 5]

    async def timeout(self, path: str, n: int, bodies: Any) -> Any:
        async with self.lib.timeout(self.delay(n)) as scope:
            await self.run(path, bodies[0])
        return scope.expired()

    async def reschedule(self, path: str, n: int, bodies: Any) -> Any:
        async with self.lib.timeout(self.delay(n)) as scope:
            for _ in range(n // 3):
                await self.lib.sleep(0)
            scope.reschedule([None, self.loop.time() - 1, self.loop.time() + 99][n % 3])
            await self.run(path, bodies[0])
        return scope.expired()

    async def wait_for(self, path: str, n: int, bodies: Any) -> Any:
        (what,) = self.coros(path, bodies) if n % 2 else self.started(path, bodies)
        return await self.lib.wait_for(what, self.delay(n // 2))

    async def wait(self, path: str, n: int, bodies: Any) -> Any:
        modes = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")
        done, pending = await self.lib.wait(
            self.started(path, bodies),
            return_when=modes[n % 3],
            timeout=[None, 1000][n % 2],
        )
        for task in done:
            if not task.cancelled():
                task.exception()
        return sorted(t.get_name() for t in done), sorted(t.get_name() for t in pending)

    async def shield(self, path: str, n: int, bodies: Any) -> Any:
        (task,) = self.started(path, bodies)
        return await self.lib.shield(task)

    async def as_completed(self, path: str, n: int, bodies: Any) -> Any:
        count = 0
        for coro in self.lib.as_completed(self.started(path, bodies)):
            # which one comes first in a turn depends on the order of a set
            with contextlib.suppress(KeyError, ValueError):
                await coro
            count += 1
        return count

    async def spawn(self, path: str, n: int, bodies: Any) -> None:
        self.started(path, bodies)

    async def catch(self, path: str, n: int, bodies: Any) -> Any:
        try:
            await self.run(path, bodies[0])
        except (Exception, asyncio.CancelledError) as exc:
            if self.turn >= LAST_TURN:
                raise
            return describe(exc), cancelling()
        return None


setattr(Interpreter, "raise", Interpreter.raise_)


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def describe(exc: BaseException) -> Any:
    """The type; the tree of a group, sorted, as its order depends on a set's."""
    if isinstance(exc, BaseExceptionGroup):
        return "group", *sorted(map(str, map(describe, exc.exceptions)))
    return type(exc).__name__


def run_program(
    steps: list[Step],
    lib: ModuleType,
    factory: Callable[[], Any],
    tasks: Callable[..., Any] | None = None,
) -> list[Any]:
    loop = factory()
    loop.set_exception_handler(lambda *_: None)
    loop.set_task_factory(tasks)
    interpreter = Interpreter(lib, loop)

    async def main() -> None:
        loop.call_soon(interpreter.tick)
        program = lib.create_task(interpreter.task("main", steps))
        interpreter.tasks["main"] = program
        await asyncio.wait([program])
        if not program.cancelled():
            program.exception()
        for _ in range(LAST_TURN + 20):
            await asyncio.sleep(0)
        interpreter.note("left", len(_others()))

    try:
        loop.run_until_complete(main())
    except RuntimeError as exc:
        interpreter.note("loop", str(exc))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
    return sorted(interpreter.trace)


def _others() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def compare(seed: int, factory: Callable[[], Any] = fastloop.new_event_loop) -> None:
    steps = make_program(seed)
    ours = run_program(steps, fastloop, factory)
    addresses = []
    for attempt in range(40):
        theirs = run_program(steps, asyncio, asyncio.new_event_loop)
        if theirs == ours:
            return
        addresses.append([[] for _ in range(attempt * 7)])
    assert ours == theirs, f"seed {seed}"


def compare_in_order(seed: int) -> None:
    steps = make_program(seed)
    stock = hashed_tasks(asyncio.Task)
    theirs = run_program(steps, asyncio, asyncio.new_event_loop, stock)
    native = hashed_tasks(fastloop.Task)
    ours = run_program(steps, fastloop, fastloop.new_event_loop, native)
    assert ours == theirs, f"seed {seed}"
    # native primitives over asyncio's tasks
    stock = hashed_tasks(asyncio.Task)
    ours = run_program(steps, fastloop, fastloop.new_event_loop, stock)
    assert ours == theirs, f"seed {seed}"


# coroutines that as_completed() leaves behind when one of them raises
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("seed", range(0, 300, 20))
def test_same_trace(seed: int) -> None:
    for number in range(seed, seed + 20):
        compare(number)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("seed", range(10_000, 10_200, 20))
def test_same_trace_in_order(seed: int) -> None:
    for number in range(seed, seed + 20):
        compare_in_order(number)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("seed", range(20_000, 20_100, 20))
def test_same_trace_on_asyncios_loop(seed: int) -> None:
    for number in range(seed, seed + 20):
        compare(number, asyncio.new_event_loop)


if __name__ == "__main__":
    for at in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            compare(at)
            compare_in_order(at)
        except AssertionError:
            print("differs:", at, flush=True)
