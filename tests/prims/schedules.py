"""Random programs around one primitive, and what happens when they run.

A program is data: made from a seed, it runs on any classes and any loop, and its trace
says in which turn of the loop which task did what.  Equal traces mean equal fairness,
equal wakeups and equal behaviour under cancellation, turn for turn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

Trace = list[tuple[Any, ...]]

IDLE = 12  # turns without an event, after which nothing more will happen


class Run:
    """One run of a program: tasks, turns and the trace."""

    def __init__(self, classes: Any) -> None:
        self.classes = classes
        self.turn = 0
        self.trace: Trace = []
        self.tasks: list[asyncio.Task[None]] = []

    def log(self, *what: Any) -> None:
        self.trace.append((self.turn, *what))

    def tick(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self.tick)

    async def attempt(
        self, who: Any, what: str, action: Callable[[], Awaitable[Any]]
    ) -> bool:
        """Await the action; log its end.  True if it did not fail."""
        self.log(who, what)
        try:
            result = await action()
        except asyncio.CancelledError:
            self.log(who, what, "cancelled")
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
            return False
        except Exception as exc:
            self.log(who, what, type(exc).__name__, str(exc))
            return False
        self.log(who, what, "->", result)
        return True

    def do(self, who: Any, what: str, action: Callable[[], Any]) -> None:
        try:
            self.log(who, what, "->", action())
        except Exception as exc:
            self.log(who, what, type(exc).__name__, str(exc))

    async def pause(self, turns: int) -> None:
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.log("cancelled in a pause")
            asyncio.current_task().uncancel()  # type: ignore[union-attr]


class Program:
    """What a number of tasks do to a primitive, and when they are cancelled."""

    # for each task the steps, each a name and arguments
    steps: list[list[tuple[Any, ...]]]
    # in which turn which task is cancelled
    cancels: list[tuple[int, int]]

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.steps = [
            [self.step() for _ in range(self.random.randint(1, 5))]
            for _ in range(self.random.randint(2, 8))
        ]
        self.cancels = [
            (self.random.randint(0, 20), self.random.randrange(len(self.steps)))
            for _ in range(self.random.choice((0, 1, 3, 8)))
        ]

    def step(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def make(self, classes: Any) -> Any:
        raise NotImplementedError

    async def perform(self, run: Run, who: int, primitive: Any, step: Any) -> None:
        raise NotImplementedError

    def state(self, primitive: Any) -> Any:
        """What can be seen of the primitive in the end."""
        return repr(primitive).partition("[")[2]

    def check(self, primitive: Any) -> None:
        """Fail if somebody waits for what is there."""

    async def worker(self, run: Run, who: int, primitive: Any) -> None:
        for step in self.steps[who]:
            await self.perform(run, who, primitive, step)
        run.log(who, "ends")

    async def main(self, classes: Any) -> Trace:
        run = Run(classes)
        run.tick()
        primitive = self.make(classes)
        run.tasks = [
            asyncio.create_task(self.worker(run, who, primitive))
            for who in range(len(self.steps))
        ]
        for turn in range(21):
            for when, who in self.cancels:
                if when == turn:
                    run.log("cancel", who, run.tasks[who].cancel())
            await asyncio.sleep(0)
        while run.turn - run.trace[-1][0] < IDLE:
            await asyncio.sleep(0)
        self.check(primitive)
        run.log(self.state(primitive))
        while not all(task.done() for task in run.tasks):
            for task in run.tasks:
                task.cancel()
            await asyncio.sleep(0)
        ends = await asyncio.gather(*run.tasks, return_exceptions=True)
        run.log([type(end).__name__ for end in ends], self.state(primitive))
        return run.trace


class LockProgram(Program):
    def step(self) -> tuple[Any, ...]:
        kind = self.random.choice(("hold", "hold", "with", "release"))
        return kind, self.random.randint(0, 3)

    def make(self, classes: Any) -> Any:
        return classes.Lock()

    async def perform(self, run: Run, who: int, lock: Any, step: Any) -> None:
        kind, turns = step
        if kind == "with":

            async def hold() -> None:
                async with lock:
                    run.log(who, "in")
                    await asyncio.sleep(0)

            await run.attempt(who, "with", hold)
        elif kind == "hold":
            if await run.attempt(who, "acquire", lock.acquire):
                await run.pause(turns)
                run.do(who, "release", lock.release)
        else:
            run.log(lock.locked())
            await run.pause(turns)

    def check(self, lock: Any) -> None:
        assert lock.locked() or not waiting(lock._waiters)


class SemaphoreProgram(LockProgram):
    def make(self, classes: Any) -> Any:
        kind = self.random.choice(("Semaphore", "BoundedSemaphore"))
        value = self.random.randint(0, 3)
        return getattr(classes, kind)(value)

    async def perform(self, run: Run, who: int, semaphore: Any, step: Any) -> None:
        kind, turns = step
        if kind == "release":
            run.do(who, "release", semaphore.release)
            await run.pause(turns)
            return
        await super().perform(run, who, semaphore, step)

    def check(self, semaphore: Any) -> None:
        assert semaphore._value == 0 or not waiting(semaphore._waiters)


class EventProgram(Program):
    def step(self) -> tuple[Any, ...]:
        kind = self.random.choice(("wait", "wait", "set", "clear", "pause"))
        return kind, self.random.randint(0, 3)

    def make(self, classes: Any) -> Any:
        return classes.Event()

    async def perform(self, run: Run, who: int, event: Any, step: Any) -> None:
        kind, turns = step
        if kind == "wait":
            await run.attempt(who, "wait", event.wait)
        elif kind == "pause":
            run.log(event.is_set())
            await run.pause(turns)
        else:
            run.do(who, kind, getattr(event, kind))

    def check(self, event: Any) -> None:
        assert not event.is_set() or not waiting(event._waiters)


class ConditionProgram(Program):
    def step(self) -> tuple[Any, ...]:
        kind = self.random.choice(("wait", "wait", "wait_for", "notify", "all", "odd"))
        return kind, self.random.randint(0, 3)

    def make(self, classes: Any) -> Any:
        self.seen = 0
        return classes.Condition()

    async def perform(self, run: Run, who: int, condition: Any, step: Any) -> None:
        kind, n = step

        async def act() -> Any:
            async with condition:
                run.log(who, "in")
                if kind == "wait":
                    return await condition.wait()
                if kind == "wait_for":
                    goal = self.seen + 1
                    return await condition.wait_for(lambda: self.seen >= goal)
                self.seen += n > 1
                return (
                    condition.notify(n) if kind == "notify" else condition.notify_all()
                )

        if kind == "odd":
            run.do(who, "notify", condition.notify)
            await run.pause(n)
        else:
            await run.attempt(who, kind, act)

    def check(self, condition: Any) -> None:
        assert condition.locked() or not waiting(condition._lock._waiters)


class BarrierProgram(Program):
    def step(self) -> tuple[Any, ...]:
        kind = self.random.choice(("wait", "wait", "with", "wait", "reset", "abort"))
        if kind == "abort" and self.random.random() < 0.7:
            kind = "wait"
        return kind, self.random.randint(0, 2)

    def make(self, classes: Any) -> Any:
        return classes.Barrier(self.random.randint(1, 3))

    async def perform(self, run: Run, who: int, barrier: Any, step: Any) -> None:
        kind, turns = step
        await run.pause(turns)
        run.log(barrier.n_waiting, barrier.broken, barrier._count, barrier._state.name)
        if kind != "with":
            await run.attempt(who, kind, getattr(barrier, kind))
            return

        async def meet() -> int:
            async with barrier as index:
                run.log(who, "index", index)
                await asyncio.sleep(0)
                return int(index)

        await run.attempt(who, "with", meet)


class QueueProgram(Program):
    KINDS = (
        *("get", "get", "get", "put", "put", "put", "join"),
        *("put_nowait", "get_nowait", "task_done", "full", "shutdown"),
    )

    def step(self) -> tuple[Any, ...]:
        kind = self.random.choice(self.KINDS)
        if kind == "shutdown" and self.random.random() < 0.8:
            kind = "get"
        return kind, self.random.randint(0, 9)

    def make(self, classes: Any) -> Any:
        kind = self.random.choice(("Queue", "LifoQueue", "PriorityQueue"))
        return getattr(classes, kind)(self.random.choice((0, 1, 1, 2)))

    async def perform(self, run: Run, who: int, queue: Any, step: Any) -> None:
        kind, n = step
        run.log(queue.qsize(), queue.empty(), queue.full())
        if kind in ("get", "join"):
            await run.attempt(who, kind, getattr(queue, kind))
        elif kind == "put":
            await run.attempt(who, kind, lambda: queue.put(n))
        elif kind == "put_nowait":
            run.do(who, kind, lambda: queue.put_nowait(n))
        elif kind == "shutdown":
            if hasattr(asyncio.Queue, "shutdown"):
                run.do(who, kind, lambda: queue.shutdown(n > 5))
        else:
            run.do(who, kind, getattr(queue, kind))

    def state(self, queue: Any) -> Any:
        return str(queue)

    def check(self, queue: Any) -> None:
        assert queue.empty() or not waiting(queue._getters)
        assert queue.full() or not waiting(queue._putters)


def waiting(futures: Any) -> bool:
    return any(not future.done() for future in futures or ())


PROGRAMS: dict[str, type[Program]] = {
    "lock": LockProgram,
    "semaphore": SemaphoreProgram,
    "event": EventProgram,
    "condition": ConditionProgram,
    "barrier": BarrierProgram,
    "queue": QueueProgram,
}
