"""Small async programs: a strategy that makes them, and what runs them.

A program is plain data, so that hypothesis can make it smaller when it fails.  Running
one gives its trace: every event in the order in which it happened, with the loop's time
and the task that it happened in.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

# (kind, parameter, bodies): a body is a list of steps
Step = tuple[str, int, list[Any]]
Body = list[Step]

TICK = 1 / 64  # of the virtual clock: sums of it are exact
SLEEPS = [ticks * TICK for ticks in (0, 0, 0, 1, 1, 2, 3, 8, 16, 64)]
DELAYS = [1.0, 16 * TICK, 8 * TICK, TICK, 0, -1, None, 2 * TICK, 3 * TICK, 9 * TICK]
QUEUES = ["Queue", "LifoQueue", "PriorityQueue"]
PATIENCE = 4.0  # seconds: after that, what has not ended is cancelled
ROUNDS = 60  # of cancelling

# Before 3.13 asyncio loses permits and notifications; ours does not.
MENDED = sys.version_info >= (3, 13)

# What a program is made of.  Each has some of these groups only, so that its tasks
# meet at the same few things.
ALWAYS = (["sleep", "sleep", "sleep", "cancel", "fail"], ["catch", "spawn", "crowd"])
GROUPS: dict[str, tuple[list[str], list[str]]] = {
    "spawning": (["current"], ["spawn", "eager_cancel"]),
    "gather": ([], ["gather", "shield"]),
    "group": ([], ["group", "one_in_group"]),
    "timeout": (["reschedule"], ["timeout", "timeout_at", "wait_for"]),
    "wait": ([], ["wait", "as_completed"]),
    "lock": (["lock_release"], ["lock", "lock_hold"]),
    "event": (["event_wait", "event_wait", "event_set", "event_clear"], []),
    "queue": (
        ["get", "get", "put", "put", "put_nowait", "get_nowait", "task_done", "join"],
        [],
    ),
    "later": (["later"], []),
    "future": (["future", "future_set", "future_cancel"], []),
}
if MENDED:
    GROUPS["semaphore"] = (["semaphore_release"], ["semaphore", "semaphore_hold"])
    GROUPS["condition"] = (["notify", "condition_wait", "condition_wait"], [])
    GROUPS["queue"][0].append("shutdown")


@dataclass(frozen=True)
class Program:
    tasks: list[Body]
    permits: int
    queue: str
    size: int


class Decoder:
    """Makes a program of bytes.

    hypothesis draws and shrinks bytes much faster than what is nested, and a program of
    a single draw is never a copy of another with one step changed.
    """

    END = (20, 76, 92, 108, 124)  # lower bytes end a body, the more the deeper it is

    def __init__(self, data: bytes) -> None:
        self.data = iter(data)
        self.leaves, self.nodes = list(ALWAYS[0]), list(ALWAYS[1])

    def byte(self, below: int = 256) -> int:
        return next(self.data, 0) * below // 256

    def program(self) -> Program:
        permits, queue, size = self.byte(3), self.byte(3), self.byte(3)
        chosen = {self.byte(len(GROUPS)) for _ in range(3)}
        for number, (leaves, nodes) in enumerate(GROUPS.values()):
            if number in chosen:
                self.leaves += leaves * 2
                self.nodes += nodes * 2
        tasks = [body for _ in range(4) if (body := self.body(0))]
        return Program(tasks, permits, QUEUES[queue], size)

    def body(self, depth: int) -> Body:
        steps: Body = []
        end = self.END[min(depth, 4)]
        while (code := self.byte()) >= end:
            number = self.byte()
            inner = []
            if code % 3 or depth > 4:
                kind = self.leaves[(code // 3) % len(self.leaves)]
            else:
                kind = self.nodes[(code // 3) % len(self.nodes)]
                inner = [self.body(depth + 1) for _ in range(1 + number // 110)]
            steps.append((kind, number % 10, inner))
        return steps


def programs() -> st.SearchStrategy[Program]:
    data = st.binary(min_size=100, max_size=500)
    return data.map(lambda drawn: Decoder(drawn).program())


def has_groups_of_several(tasks: list[Body]) -> bool:
    return any(
        (kind == "group" and len(inner) > 1) or has_groups_of_several(inner)
        for body in tasks
        for kind, _, inner in body
    )


# --- running one ----------------------------------------------------------------------

where: contextvars.ContextVar[str] = contextvars.ContextVar("where")


def describe(exc: BaseException) -> Any:
    """Type, arguments, causes; what is in a group."""
    if isinstance(exc, BaseExceptionGroup):
        return type(exc).__name__, exc.message, list(map(describe, exc.exceptions))
    cause = None if exc.__cause__ is None else describe(exc.__cause__)
    return type(exc).__name__, exc.args, cause


class Run:
    """One run of a program with the primitives of `lib`: each step is a method."""

    def __init__(
        self, program: Program, lib: ModuleType, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.program = program
        self.lib = lib
        self.loop = loop
        self.trace: list[Any] = []
        self.tasks: list[Any] = []
        self.scopes: list[Any] = []
        self.count = 0
        self.began = loop.time()
        loop.set_exception_handler(self.report)

    def log(self, *what: Any) -> None:
        self.trace.append((self.loop.time(), where.get("-"), *what))

    def report(self, loop: Any, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if "never retrieved" not in context["message"]:
            self.log("report", context["message"].partition("<")[0], type(exc).__name__)

    def prepare(self) -> None:
        program, lib = self.program, self.lib
        self.mutex = lib.Lock()
        self.flag = lib.Event()
        self.permits = lib.Semaphore(program.permits)
        self.condition = lib.Condition()
        self.queue = getattr(lib, program.queue)(program.size)
        self.futures = [self.loop.create_future() for _ in range(2)]

    async def main(self) -> None:
        self.prepare()
        for number, body in enumerate(self.program.tasks):
            self.begin(self.run_on(body), f"{number}")
        for round_number in range(ROUNDS):
            await self.lib.sleep(PATIENCE)
            if round_number == 0:
                gc.collect(0)  # what waits for something lives as long as that
            left = [task for task in self.tasks if not task.done()]
            if not left:
                break
            self.log("left", [task.get_name() for task in left])
            for task in left:
                task.cancel("late")
        else:
            self.log("stuck")
        things = (self.mutex, self.flag, self.permits, self.condition, self.queue)
        self.log(*[repr(thing).partition("[")[2] for thing in things])

    # --- tasks

    def start(self, name: str, body: Body, group: Any = None) -> Any:
        return self.begin(self.run(name, body), name, group)

    def begin(self, coro: Any, name: str, group: Any = None) -> Any:
        task = (group or self.lib).create_task(coro, name=name)
        self.tasks.append(task)
        task.add_done_callback(self.ended)
        return task

    def ended(self, task: Any) -> None:
        if task.cancelled():
            self.log(task.get_name(), "was cancelled")
        elif task.exception() is not None:
            self.log(task.get_name(), "failed", describe(task.exception()))
        else:
            self.log(task.get_name(), "gave", task.result(), task.cancelling())

    async def run_on(self, body: Body) -> int:
        """Do step after step, whatever happens."""
        where.set(current().get_name())
        failed = 0
        for step in body:
            try:
                await self.steps([step])
            except (Exception, asyncio.CancelledError):
                failed += 1
                current().uncancel()
        return failed

    async def run(self, name: str, body: Body) -> str:
        where.set(name)
        self.log("begins")
        await self.steps(body)
        return name

    async def steps(self, body: Body) -> None:
        for kind, n, inner in body:
            try:
                result = await getattr(self, kind)(n, inner)
            except (Exception, asyncio.CancelledError) as exc:
                self.log(kind, "raised", describe(exc), cancelling())
                raise
            self.log(kind, n, result, cancelling())

    def names(self, inner: list[Body]) -> list[tuple[str, Body]]:
        self.count += 1
        return [
            (f"{where.get()}.{self.count}{'abc'[i]}", b) for i, b in enumerate(inner)
        ]

    def started(self, inner: list[Body]) -> list[Any]:
        return [self.start(*each) for each in self.names(inner)]

    def coros(self, inner: list[Body]) -> list[Any]:
        return [self.run(*each) for each in self.names(inner)]

    # --- leaves

    async def sleep(self, n: int, inner: Any) -> Any:
        return await self.lib.sleep(SLEEPS[n], n)

    async def cancel(self, n: int, inner: Any) -> Any:
        left = [task for task in self.tasks if not task.done()]
        task = left[n % len(left)]
        return task.get_name(), task.cancel(*([where.get()] if n % 2 else []))

    async def fail(self, n: int, inner: Any) -> None:
        if n > 6:
            kinds = (KeyError, ValueError, asyncio.CancelledError)
            raise kinds[n % 3](where.get())

    async def current(self, n: int, inner: Any) -> Any:
        return current() in self.tasks, current().uncancel() if n > 7 else None

    async def later(self, n: int, inner: Any) -> None:
        actions: list[Callable[[], Any]] = [
            self.flag.set,
            self.tasks[n % len(self.tasks)].cancel,
            self.flag.clear,
            functools.partial(self.attempt, self.queue.put_nowait, n),
        ]
        action = actions[n % 4]
        if n < 3:
            self.loop.call_soon(self.call, n, action)
        else:
            self.loop.call_later(SLEEPS[n], self.call, n, action)

    def call(self, n: int, action: Callable[[], Any]) -> None:
        self.log("called", n, action())

    def attempt(self, action: Callable[..., Any], *args: Any) -> Any:
        try:
            return action(*args)
        except Exception as exc:
            return describe(exc)

    async def future(self, n: int, inner: Any) -> Any:
        future = self.futures[n % 2]
        return await (self.lib.shield(future) if n > 5 else future)

    async def future_set(self, n: int, inner: Any) -> None:
        if not self.futures[n % 2].done():
            self.futures[n % 2].set_result(n)
        self.futures[n % 2] = self.loop.create_future()

    async def future_cancel(self, n: int, inner: Any) -> Any:
        result = self.futures[n % 2].cancel("future")
        self.futures[n % 2] = self.loop.create_future()
        return result

    # --- locks and queues

    async def lock(self, n: int, inner: list[Body]) -> bool:
        async with self.mutex:
            self.log("has the lock")
            await self.steps(inner[0])
        return bool(self.mutex.locked())

    async def lock_hold(self, n: int, inner: list[Body]) -> Any:
        got = await self.mutex.acquire()
        await self.steps(inner[0])
        return got, self.attempt(self.mutex.release)

    async def lock_release(self, n: int, inner: Any) -> Any:
        return self.attempt(self.mutex.release) if n > 6 else self.mutex.locked()

    async def semaphore(self, n: int, inner: list[Body]) -> bool:
        async with self.permits:
            self.log("has a permit")
            await self.steps(inner[0])
        return bool(self.permits.locked())

    async def semaphore_hold(self, n: int, inner: list[Body]) -> Any:
        got = await self.permits.acquire()
        await self.steps(inner[0])
        return got, self.attempt(self.permits.release)

    async def semaphore_release(self, n: int, inner: Any) -> Any:
        return self.attempt(self.permits.release) if n > 5 else None

    async def event_wait(self, n: int, inner: Any) -> Any:
        return await self.flag.wait()

    async def event_set(self, n: int, inner: Any) -> None:
        self.flag.set()

    async def event_clear(self, n: int, inner: Any) -> bool:
        self.flag.clear()
        return bool(self.flag.is_set())

    async def notify(self, n: int, inner: Any) -> Any:
        async with self.condition:
            if n > 7:
                return self.condition.notify_all()
            return self.condition.notify(n % 3)

    async def condition_wait(self, n: int, inner: Any) -> Any:
        async with self.condition:
            return await self.condition.wait()

    async def put(self, n: int, inner: Any) -> Any:
        return await self.queue.put(n)

    async def get(self, n: int, inner: Any) -> Any:
        return await self.queue.get(), self.queue.qsize()

    async def put_nowait(self, n: int, inner: Any) -> Any:
        return self.attempt(self.queue.put_nowait, n), self.queue.full()

    async def get_nowait(self, n: int, inner: Any) -> Any:
        return self.attempt(self.queue.get_nowait), self.queue.empty()

    async def task_done(self, n: int, inner: Any) -> Any:
        return self.attempt(self.queue.task_done)

    async def join(self, n: int, inner: Any) -> Any:
        return await self.queue.join()

    async def shutdown(self, n: int, inner: Any) -> Any:
        return self.queue.shutdown(n == 9) if n > 6 else None

    # --- what holds other steps

    async def catch(self, n: int, inner: list[Body]) -> Any:
        try:
            await self.steps(inner[0])
        except (Exception, asyncio.CancelledError) as exc:
            if self.loop.time() - self.began > PATIENCE * ROUNDS / 2:
                raise
            return describe(exc)
        return None

    async def spawn(self, n: int, inner: list[Body]) -> list[str]:
        return [task.get_name() for task in self.started(inner)]

    async def crowd(self, n: int, inner: list[Body]) -> list[str]:
        """Several tasks that do the same, and meet at the same things."""
        return [task.get_name() for task in self.started(inner[:1] * (2 + n % 3))]

    async def eager_cancel(self, n: int, inner: list[Body]) -> list[bool]:
        """Cancelled before their first step, or right after it."""
        tasks = self.started(inner)
        if n % 2:
            await self.lib.sleep(0)
        return [task.cancel() for task in tasks]

    async def gather(self, n: int, inner: list[Body]) -> Any:
        awaited = self.coros(inner) if n % 2 else self.started(inner)
        if n % 3 == 0:
            awaited.append(awaited[0])
        results = await self.lib.gather(*awaited, return_exceptions=n > 5)
        return [describe(r) if isinstance(r, BaseException) else r for r in results]

    async def shield(self, n: int, inner: list[Body]) -> Any:
        (task,) = self.started(inner[:1])
        return await self.lib.shield(task)

    async def group(self, n: int, inner: list[Body]) -> Any:
        async with self.lib.TaskGroup() as group:
            for name, body in self.names(inner):
                self.start(name, body, group)
            if n > 6:
                await self.steps(inner[0])
            if n == 6 and sys.version_info >= (3, 15):
                group.cancel()

    async def one_in_group(self, n: int, inner: list[Body]) -> Any:
        await self.group(n, inner[:1])

    async def timeout(self, n: int, inner: list[Body]) -> Any:
        return await self.in_scope(self.lib.timeout(DELAYS[n]), inner)

    async def timeout_at(self, n: int, inner: list[Body]) -> Any:
        delay = DELAYS[n]
        when = None if delay is None else self.loop.time() + delay
        return await self.in_scope(self.lib.timeout_at(when), inner)

    async def in_scope(self, scope: Any, inner: list[Body]) -> Any:
        try:
            async with scope:
                self.scopes.append(scope)
                await self.steps(inner[0])
        finally:
            self.log(repr(scope).partition("[")[2], scope.when())
        return scope.expired()

    async def reschedule(self, n: int, inner: Any) -> Any:
        if not self.scopes:
            return None
        delay = DELAYS[n]
        when = None if delay is None else self.loop.time() + delay
        return self.attempt(self.scopes[n % len(self.scopes)].reschedule, when)

    async def wait_for(self, n: int, inner: list[Body]) -> Any:
        make = self.coros if n % 2 else self.started
        (what,) = make(inner[:1])
        return await self.lib.wait_for(what, DELAYS[n])

    async def wait(self, n: int, inner: list[Body]) -> Any:
        modes = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")
        done, pending = await self.lib.wait(
            self.started(inner), return_when=modes[n % 3], timeout=DELAYS[n]
        )
        return sorted(t.get_name() for t in done), sorted(t.get_name() for t in pending)

    async def as_completed(self, n: int, inner: list[Body]) -> Any:
        results = []
        for each in self.lib.as_completed(self.started(inner), timeout=DELAYS[n]):
            results.append(await self.outcome(each))
        return results

    async def outcome(self, awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except Exception as exc:
            return describe(exc)


def current() -> Any:
    return asyncio.current_task()


def cancelling() -> int:
    return int(current().cancelling())
