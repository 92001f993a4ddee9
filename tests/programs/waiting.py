"""Waiting for several things at once.

gather(), wait() in its three modes, as_completed() and wait_for(); and shield(), for
work that has to go on when the one who waits for it is cancelled.
"""

import asyncio


async def after(delay: float, name: str) -> str:
    await asyncio.sleep(delay)
    if name == "odd":
        raise ArithmeticError(name)
    return name


async def all_together() -> None:
    """gather() gives the results in the order in which they were asked for."""
    jobs = (after(0.002, "slow"), after(0, "odd"), after(0.001, "fast"))
    print("gathered:", await asyncio.gather(*jobs, return_exceptions=True))
    try:
        await asyncio.gather(after(0, "odd"), after(0, "even"))
    except ArithmeticError as exc:
        print("without return_exceptions the first error comes out:", exc)


async def as_they_come() -> None:
    jobs = [after(0.03, "last"), after(0.01, "fast"), after(0.02, "odd")]
    for next_done in asyncio.as_completed(jobs, timeout=5):
        try:
            print("completed:", await next_done)
        except ArithmeticError as exc:
            print("completed with an error:", exc)

    patient, hopeless = after(0.001, "soon"), after(60, "never")
    try:
        for next_done in asyncio.as_completed([patient, hopeless], timeout=0.2):
            print("completed:", await next_done)
    except TimeoutError:
        print("and one was not completed in time")


async def until_some_are_done() -> None:
    """wait() gives sets of what is done and what is not, and raises nothing."""
    loop = asyncio.get_running_loop()

    def finish(futures: dict[str, asyncio.Future[str]], name: str) -> None:
        if name == "bad":
            futures[name].set_exception(ArithmeticError("bad"))
        else:
            futures[name].set_result(name)

    for mode, finishing in (
        (asyncio.FIRST_COMPLETED, ["good"]),
        (asyncio.FIRST_EXCEPTION, ["good", "bad"]),
        (asyncio.ALL_COMPLETED, ["good", "bad", "late"]),
    ):
        futures: dict[str, asyncio.Future[str]] = {
            name: loop.create_future() for name in ("good", "bad", "late")
        }
        for name in finishing:
            loop.call_soon(finish, futures, name)
        done, pending = await asyncio.wait(futures.values(), return_when=mode)
        print(f"{mode}:", [name for name in futures if futures[name] in done])
        errors = [future.exception() for future in done]
        print("  errors:", [error for error in errors if error])
    done, pending = await asyncio.wait([loop.create_future()], timeout=0.01)
    print("with a timeout:", len(done), len(pending))


async def no_longer_than() -> None:
    print("wait_for:", await asyncio.wait_for(after(0.001, "fast"), timeout=5))
    task = asyncio.create_task(after(60, "slow"))
    try:
        await asyncio.wait_for(task, timeout=0.01)
    except TimeoutError:
        print("wait_for gave up, cancelled what it waited for:", task.cancelled())
    try:
        await asyncio.wait_for(after(60, "slow"), timeout=0)
    except TimeoutError:
        print("wait_for did not wait at all")


async def shielded() -> None:
    """The one who waits can be cancelled without harm to what it waits for."""
    release = asyncio.Event()

    async def precious() -> str:
        await release.wait()
        return "inner result"

    async def careful() -> str:
        return await asyncio.shield(inner)

    inner = asyncio.create_task(precious())
    outer = asyncio.create_task(careful())
    await asyncio.sleep(0)
    outer.cancel()
    try:
        await outer
    except asyncio.CancelledError:
        print("outer cancelled, inner done:", inner.done())
    release.set()
    print("inner went on:", await inner)


async def main() -> None:
    await all_together()
    await as_they_come()
    await until_some_are_done()
    await no_longer_than()
    await shielded()


if __name__ == "__main__":
    asyncio.run(main())
