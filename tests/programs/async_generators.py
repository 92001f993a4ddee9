"""Async generators, and who closes them when nobody finishes them.

It is aclosing(), or the loop when the garbage collector finds one, or the loop at its
end.  Also: generators that are fed with values, and asynchronous comprehensions.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, AsyncIterator

keep_alive: list[AsyncGenerator[int, None]] = []


async def count(
    name: str, closed: asyncio.Event | None = None
) -> AsyncGenerator[int, None]:
    number = 0
    try:
        while True:
            yield number
            await asyncio.sleep(0)
            number += 1
    finally:
        await asyncio.sleep(0)  # cleaning up may wait, too
        print(f"  {name} closed")
        if closed is not None:
            closed.set()


async def take(iterator: AsyncIterator[int], amount: int) -> list[int]:
    taken: list[int] = []
    async for item in iterator:
        taken.append(item)
        if len(taken) == amount:
            break
    return taken


async def closing() -> None:
    async with contextlib.aclosing(count("closed by aclosing")) as numbers:
        print("taken:", await take(numbers, 3))
        print("and on:", await take(numbers, 2))
    print("after aclosing:", [n async for n in numbers])

    closed = asyncio.Event()
    numbers = count("closed by the loop's finaliser", closed)
    print("taken:", await take(numbers, 2))
    del numbers
    gc.collect()
    await asyncio.wait_for(closed.wait(), 5)

    left_to_the_end = count("closed at the end of the loop")
    print("taken:", await take(left_to_the_end, 1))
    keep_alive.append(left_to_the_end)


async def averager() -> AsyncGenerator[float, float]:
    """Values go in by asend() and errors by athrow()."""
    total, amount = 0.0, 0
    while True:
        try:
            value = yield total / amount if amount else 0.0
            await asyncio.sleep(0)
            total, amount = total + value, amount + 1
        except ValueError:
            total, amount = 0.0, 0


async def sending() -> None:
    average = averager()
    await anext(average)
    print("averages:", [await average.asend(n) for n in (1, 2, 6)])
    print("reset:", await average.athrow(ValueError), await average.asend(5))
    await average.aclose()
    print("afterwards:", await anext(average, "nothing"))

    numbers = count("the busy one")
    await anext(numbers)
    print("two at once:", await asyncio.gather(step(numbers), step(numbers)))
    await numbers.aclose()


async def step(numbers: AsyncIterator[int]) -> str:
    try:
        return str(await anext(numbers))
    except RuntimeError as exc:
        return type(exc).__name__


async def comprehensions() -> None:
    async def letters(word: str) -> AsyncIterator[str]:
        for letter in word:
            await asyncio.sleep(0)
            yield letter

    pairs = {a: [b async for b in letters("xy")] async for a in letters("ab")}
    print("nested:", pairs)
    print("filtered:", [a async for a in letters("loops") if await is_vowel(a)])


async def is_vowel(letter: str) -> bool:
    await asyncio.sleep(0)
    return letter in "aeiou"


async def main() -> None:
    await closing()
    await sending()
    await comprehensions()
    print("main is done")


if __name__ == "__main__":
    asyncio.run(main())
    print("the loop is closed")
