"""Work outside of the loop's thread, and calls back into it.

Processes for what computes, threads for what blocks, run_coroutine_threadsafe and
call_soon_threadsafe for threads that want something of the loop; and who sees which
context variables.
"""

import asyncio
import contextvars
import multiprocessing
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def count_primes(limit: int) -> int:
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def divide(a: int, b: int) -> float:
    return a / b


async def processes() -> None:
    loop = asyncio.get_running_loop()
    spawn = multiprocessing.get_context("spawn")
    for name, context in (("default", None), ("spawned", spawn)):
        with ProcessPoolExecutor(max_workers=2, mp_context=context) as pool:
            limits = (10, 100, 1000, 5000)
            counts = await asyncio.gather(
                *(loop.run_in_executor(pool, count_primes, limit) for limit in limits)
            )
            print(f"primes by {name} processes:", counts)
            try:
                await loop.run_in_executor(pool, divide, 1, 0)
            except ZeroDivisionError as exc:
                print("a worker failed:", exc)


async def threads() -> None:
    """Threads overlap: eight that meet at a barrier have to run at the same time."""
    loop = asyncio.get_running_loop()
    barrier = threading.Barrier(8)

    def meet(n: int) -> int:
        barrier.wait(timeout=10)
        return n

    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="mine") as pool:
        met = await asyncio.gather(
            *(loop.run_in_executor(pool, meet, n) for n in range(8))
        )
        name = await loop.run_in_executor(pool, lambda: threading.current_thread().name)
    print("met:", met, "in a thread of my pool:", name.startswith("mine"))

    loop.set_default_executor(ThreadPoolExecutor(max_workers=4))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await asyncio.to_thread(time.sleep, 0.1)
    ticking.cancel()
    print("the loop went on meanwhile:", ticks > 1)

    results = await asyncio.gather(
        *(asyncio.to_thread(divide, 12, n) for n in range(4)), return_exceptions=True
    )
    print("to_thread:", results)


async def context() -> None:
    """to_thread carries the caller's context along, run_in_executor does not."""
    loop = asyncio.get_running_loop()

    async def who(name: str) -> tuple[str, str]:
        user.set(name)
        return await asyncio.to_thread(user.get), await loop.run_in_executor(
            None, user.get
        )

    print("users:", await asyncio.gather(who("ann"), who("bob")))
    print("outside:", user.get())
    copied = contextvars.copy_context()
    copied.run(user.set, "carol")
    print("by hand:", await loop.run_in_executor(None, copied.run, user.get))


async def into_the_loop() -> None:
    """Threads hand coroutines and callbacks to the loop, a thousand of each."""
    loop = asyncio.get_running_loop()
    home = threading.get_ident()
    total = calls = strangers = 0
    done = asyncio.Event()

    async def add(n: int) -> int:
        nonlocal total, strangers
        await asyncio.sleep(0)
        total += n
        strangers += threading.get_ident() != home
        return n

    def called() -> None:
        nonlocal calls
        calls += 1
        if calls == 1000:
            done.set()

    def visitor(n: int) -> int:
        futures = []
        for i in range(250):
            loop.call_soon_threadsafe(called)
            futures.append(asyncio.run_coroutine_threadsafe(add(i), loop))
        return sum(future.result(timeout=10) for future in futures)

    sums = await asyncio.gather(*(asyncio.to_thread(visitor, n) for n in range(4)))
    await done.wait()
    print("sums:", sums, "total:", total, "calls:", calls, "strangers:", strangers)

    async def sleep_long() -> None:
        await asyncio.sleep(60)

    def impatient() -> str:
        future: Future[None] = asyncio.run_coroutine_threadsafe(sleep_long(), loop)
        try:
            future.result(timeout=0.05)
        except TimeoutError:
            return f"gave up, cancelled: {future.cancel()}"
        return "an answer"

    print("impatient thread:", await asyncio.to_thread(impatient))


def a_loop_in_every_thread() -> None:
    """asyncio.run() in several threads at once: the loops do not meet."""

    async def main(n: int) -> int:
        values = await asyncio.gather(*(asyncio.sleep(0.001, n) for _ in range(20)))
        return sum(values)

    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda n: asyncio.run(main(n)), range(4)))
    print("a loop in every thread:", sums)


async def main() -> None:
    await processes()  # first, while there are no threads to fork beside
    await threads()
    await context()
    await into_the_loop()


if __name__ == "__main__":
    asyncio.run(main())
    a_loop_in_every_thread()
