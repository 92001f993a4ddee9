"""Pools of workers around queues.

Four ways to organise the work: a bounded queue with join() and cancelled workers,
jobs by priority, producers and consumers that end with poison pills, and workers
that give a job back when they are cancelled in the middle of it.
"""

import asyncio
import itertools
from collections.abc import Iterable


async def join_and_cancel() -> None:
    """A bounded queue slows the producer; join() tells when all is done."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=5)
    squares: list[int] = []
    failed: list[int] = []
    fullest = 0

    async def worker() -> None:
        while True:
            number = await queue.get()
            try:
                await asyncio.sleep(0.001)
                if number % 10 == 7:
                    raise ValueError(number)
                squares.append(number * number)
            except ValueError:
                failed.append(number)
            finally:
                queue.task_done()

    workers = [asyncio.create_task(worker(), name=f"worker {n}") for n in range(8)]
    for number in range(100):
        await queue.put(number)
        fullest = max(fullest, queue.qsize())
    await queue.join()
    print("squares:", len(squares), "sum:", sum(squares), "failed:", sorted(failed))
    print("never more than maxsize:", fullest <= 5, "empty now:", queue.empty())

    for task in workers:
        task.cancel("no more work")
    await asyncio.wait(workers)
    print("cancelled:", sorted(task.get_name() for task in workers if task.cancelled()))
    try:
        queue.task_done()
    except ValueError as exc:
        print("once too often:", exc)


async def by_priority() -> None:
    """The most urgent job first; among equals, the one that came first."""
    queue: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
    ticket = itertools.count()
    jobs = [(3, "sweep"), (1, "fire"), (2, "mail"), (1, "flood"), (3, "dust")]
    for priority, name in jobs:
        queue.put_nowait((priority, next(ticket), name))

    async def worker() -> None:
        while True:
            priority, _, name = await queue.get()
            print(f"  {priority} {name}")
            if name == "fire":
                queue.put_nowait((0, next(ticket), "evacuate"))
            await asyncio.sleep(0)
            queue.task_done()

    print("by priority:")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker())
        await queue.join()
        task.cancel()

    stack: asyncio.LifoQueue[str] = asyncio.LifoQueue(maxsize=3)
    for plate in ("first", "second", "third"):
        stack.put_nowait(plate)
    try:
        stack.put_nowait("fourth")
    except asyncio.QueueFull:
        print("the stack is full")
    print("last in, first out:", [stack.get_nowait() for _ in range(3)])
    try:
        stack.get_nowait()
    except asyncio.QueueEmpty:
        print("the stack is empty")


async def poison_pills() -> None:
    """Three producers, four consumers; a None for each consumer ends the work."""
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=2)

    async def produce(name: str, items: Iterable[int]) -> None:
        for item in items:
            await queue.put(f"{name}{item}")
            await asyncio.sleep(0)

    async def consume() -> list[str]:
        eaten = []
        while (item := await queue.get()) is not None:
            await asyncio.sleep(0)
            eaten.append(item)
        return eaten

    consumers = [asyncio.create_task(consume()) for _ in range(4)]
    await asyncio.gather(
        produce("a", range(20)), produce("b", range(30)), produce("c", range(10))
    )
    for _ in consumers:
        await queue.put(None)
    meals = await asyncio.gather(*consumers)
    items = sorted(itertools.chain.from_iterable(meals))
    print("eaten:", len(items), "different:", len(set(items)), "last:", items[-1])
    print("shared out as:", [len(meal) for meal in meals])


async def give_back() -> None:
    """A worker that is cancelled in the middle of a job puts the job back."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    log: list[str] = []
    never = asyncio.Event()

    async def worker(name: str, *, gets_stuck: bool = False) -> None:
        while True:
            job = await queue.get()
            try:
                if gets_stuck:
                    await never.wait()
                log.append(f"{name} did {job}")
            except asyncio.CancelledError:
                log.append(f"{name} gave back {job}")
                queue.put_nowait(job)
                raise
            finally:
                queue.task_done()

    for job in ("wash", "dry"):
        queue.put_nowait(job)
    stuck = asyncio.create_task(worker("slow hand", gets_stuck=True))
    idle = asyncio.create_task(worker("spare hand", gets_stuck=True))
    third = asyncio.create_task(worker("third hand"))
    await asyncio.sleep(0)
    idle.cancel()
    stuck.cancel()
    await queue.join()
    third.cancel()
    ends = await asyncio.gather(stuck, idle, third, return_exceptions=True)
    print(*sorted(log), sep="\n")
    print("ends:", [type(end).__name__ for end in ends])


async def main() -> None:
    await join_and_cancel()
    await by_priority()
    await poison_pills()
    await give_back()


if __name__ == "__main__":
    asyncio.run(main())
