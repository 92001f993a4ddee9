"""Structured concurrency: task groups, except*, timeouts, cancel and uncancel.

Each function is one lesson, and prints what happened to whom.
"""

import asyncio


async def succeed(value: str, turns: int = 1) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fail(exc: Exception, turns: int = 1) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise exc


async def wait_forever(name: str, log: list[str]) -> None:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        log.append(f"{name} cancelled")
        raise
    finally:
        log.append(f"{name} cleaned up")


async def all_is_well() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(succeed(f"task {n}", n)) for n in range(5)]
        late = group.create_task(add_from_within(group))
    print("results:", [task.result() for task in tasks], late.result().result())


async def add_from_within(group: asyncio.TaskGroup) -> asyncio.Task[str]:
    await asyncio.sleep(0)
    return group.create_task(succeed("a late guest"))


async def one_fails() -> None:
    """The first failure cancels the siblings; all failures are reported together."""
    log: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_forever("first", log))
            group.create_task(fail(ValueError("bad value")))
            group.create_task(fail(KeyError("bad key")))
            group.create_task(wait_forever("last", log))
            await wait_forever("body", log)
    except* ValueError as errors:
        print("values:", [str(exc) for exc in errors.exceptions])
    except* KeyError as errors:
        print("keys:", [str(exc) for exc in errors.exceptions])
    print(*sorted(log), sep="; ")  # a group cancels its tasks in any order


async def nested_groups() -> None:
    """An inner group can fail while the outer one goes on, or bring it down."""
    async with asyncio.TaskGroup() as outer:
        survivor = outer.create_task(succeed("the outer task survived", 10))
        try:
            async with asyncio.TaskGroup() as inner:
                inner.create_task(fail(OSError("inner trouble")))
        except* OSError as errors:
            print("inner:", errors.exceptions)
    print(survivor.result())

    async def inner_group() -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(fail(TypeError("deep down")))
            inner.create_task(fail(OSError("deep down too")))

    try:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(inner_group(), name="inner")
            outer.create_task(asyncio.sleep(60))
    except* TypeError as errors:
        print("a tree of types:", show(errors))
    except* OSError as errors:
        print("a tree of OS errors:", show(errors))


def show(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        return f"[{', '.join(show(child) for child in exc.exceptions)}]"
    return repr(exc)


async def timeouts() -> None:
    log: list[str] = []
    try:
        async with asyncio.timeout(0.02):
            async with asyncio.TaskGroup() as group:
                group.create_task(wait_forever("in time", log))
    except TimeoutError:
        print("the group ran out of time:", log)

    async with asyncio.timeout(None) as scope:
        scope.reschedule(asyncio.get_running_loop().time() + 60)
        await succeed("soon")
    print("enough time, expired:", scope.expired())

    try:
        async with asyncio.timeout(0.01) as outer:
            async with asyncio.timeout(60) as inner:
                await asyncio.sleep(60)
    except TimeoutError:
        print("outer expired:", outer.expired(), "inner expired:", inner.expired())

    try:
        await asyncio.wait_for(wait_forever("wait_for", log), 0.01)
    except TimeoutError as exc:
        print("wait_for timed out, cause:", type(exc.__cause__).__name__, log[-2:])


async def cancelled_from_outside() -> None:
    log: list[str] = []

    async def family() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_forever("child", log))
            group.create_task(wait_forever("other child", log))

    task = asyncio.create_task(family())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print("cancel:", task.cancel("home time"), "requests:", task.cancelling())
    try:
        await task
    except asyncio.CancelledError as exc:
        print("cancelled:", task.cancelled(), exc.args, sorted(log))
    print("cancel again:", task.cancel())


async def uncancel() -> None:
    """A task may answer a request to cancel by finishing something first."""

    async def stubborn() -> str:
        me = asyncio.current_task()
        assert me is not None
        refused = 0
        while refused < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError as exc:
                refused += 1
                before = me.cancelling()
                print(f"refused {exc.args}: {before} -> {me.uncancel()}")
        async with asyncio.TaskGroup() as group:  # works again after uncancel()
            child = group.create_task(succeed("finished after all", 3))
        return child.result()

    task = asyncio.create_task(stubborn())
    for message in ("please", "now"):
        await asyncio.sleep(0)
        task.cancel(message)
        await asyncio.sleep(0)
    print(await task, "- still to answer:", task.cancelling())


async def main() -> None:
    await all_is_well()
    await one_fails()
    await nested_groups()
    await timeouts()
    await cancelled_from_outside()
    await uncancel()


if __name__ == "__main__":
    asyncio.run(main())
