"""patch(): the native names under asyncio's, and back."""

from __future__ import annotations

import asyncio
import collections.abc
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fastloop
from fastloop import patching

EVENT, LOCK = asyncio.Event, asyncio.Lock
QUEUE, SEMAPHORE = asyncio.Queue, asyncio.Semaphore
STOCK = {
    name: getattr(asyncio, name) for name in patching._NATIVE if hasattr(asyncio, name)
}


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    assert not fastloop.patched()
    yield
    fastloop.unpatch()
    assert {name: getattr(asyncio, name) for name in STOCK} == STOCK


def test_every_name_and_back() -> None:
    fastloop.patch()
    for name in STOCK:
        module = importlib.import_module(patching._NATIVE[name][0])
        native = getattr(fastloop, name)
        # an exception of asyncio's is the same class in both
        assert native is not STOCK[name] or name == "QueueShutDown"
        assert getattr(asyncio, name) is native
        assert getattr(module, name) is native
        assert fastloop.patched(name)
    assert fastloop.patched()
    fastloop.patch()
    fastloop.unpatch()
    assert not fastloop.patched()
    for name in STOCK:
        module = importlib.import_module(patching._NATIVE[name][0])
        assert getattr(asyncio, name) is getattr(module, name) is STOCK[name]
    fastloop.unpatch()


def test_names_that_asyncio_lacks_are_not_added() -> None:
    before = set(vars(asyncio))
    fastloop.patch()
    assert set(vars(asyncio)) == before


def test_only_some() -> None:
    fastloop.patch(only=["gather", "Task"])
    assert asyncio.gather is fastloop.gather
    assert asyncio.Task is fastloop.Task
    assert asyncio.sleep is STOCK["sleep"]
    assert fastloop.patched("gather")
    assert not fastloop.patched("sleep")
    fastloop.patch(only="sleep")
    assert asyncio.sleep is fastloop.sleep


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="no primitive called nonsense, run"):
        fastloop.patch(only=["gather", "run", "nonsense"])
    assert not fastloop.patched()


def test_what_somebody_else_has_put_there_stays() -> None:
    def other() -> None: ...

    fastloop.patch()
    asyncio.gather = other  # type: ignore[assignment]
    fastloop.unpatch()
    assert asyncio.gather is other
    assert asyncio.tasks.gather is STOCK["gather"]
    asyncio.gather = STOCK["gather"]


@pytest.mark.parametrize(
    "factory", [fastloop.new_event_loop, asyncio.SelectorEventLoop]
)
def test_isinstance_of_both_kinds_under_either_name(factory: Any) -> None:
    fastloop.patch()

    class Mine(asyncio.Future[int], collections.abc.Sized):
        def __len__(self) -> int:
            return 3

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stock = STOCK["Task"](asyncio.sleep(0), loop=loop)
        native = asyncio.Task(asyncio.sleep(0))
        assert type(native) is fastloop.Task
        mine = Mine()
        assert len(mine) == 3
        for future in stock, native, mine, STOCK["Future"](loop=loop):
            assert isinstance(future, asyncio.Future)
            assert isinstance(future, STOCK["Future"])
            is_task = future is stock or future is native
            assert isinstance(future, asyncio.Task) is is_task
            assert isinstance(future, STOCK["Task"]) is is_task
            assert isinstance(future, Mine) is (future is mine)
            future.cancel()
        assert not isinstance(1, asyncio.Future)
        assert issubclass(STOCK["Task"], asyncio.Task)
        assert issubclass(asyncio.Task, asyncio.Future)
        assert issubclass(STOCK["Task"], asyncio.Future)
        assert not issubclass(asyncio.Future, asyncio.Task)
        assert not issubclass(STOCK["Future"], asyncio.Task)
        assert not issubclass(STOCK["Future"], Mine)

    loop = factory()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_objects_from_before_work_with_those_made_after(loop: Any) -> None:
    event, lock, queue = EVENT(), LOCK(), QUEUE()
    semaphore = SEMAPHORE(1)

    async def main() -> list[Any]:
        async def consume() -> Any:
            async with lock, semaphore, asyncio.timeout(5):
                await event.wait()
                return await queue.get()

        async with asyncio.TaskGroup() as group:
            consumer = group.create_task(consume())
            await asyncio.sleep(0)
            queue.put_nowait("item")
            event.set()
        stock = STOCK["gather"](asyncio.sleep(0, 1), consumer)
        return await asyncio.gather(stock, STOCK["wait_for"](asyncio.sleep(0, 2), 5))

    fastloop.patch()
    assert loop.run_until_complete(main()) == [[1, "item"], 2]


# --- with the other ways in -----------------------------------------------------------


async def _what_is_patched() -> bool:
    await asyncio.sleep(0)
    return fastloop.patched("gather") and asyncio.gather is fastloop.gather


def test_for_the_time_of_a_run() -> None:
    assert fastloop.run(_what_is_patched()) is True
    assert not fastloop.patched()
    assert fastloop.run(_what_is_patched(), primitives=False) is False
    fastloop.patch(only="sleep")
    assert fastloop.run(_what_is_patched()) is True
    assert fastloop.patched("sleep")
    assert not fastloop.patched("gather")


def test_after_a_run_that_fails() -> None:
    async def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fastloop.run(main())
    assert not fastloop.patched()


def test_runs_that_overlap_in_threads() -> None:
    inside = threading.Barrier(4)
    seen: list[bool] = []

    async def main() -> None:
        inside.wait(10)
        seen.append(await _what_is_patched())

    threads = [threading.Thread(target=fastloop.run, args=[main()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 4
    assert not fastloop.patched()


def test_install_and_uninstall() -> None:
    fastloop.install()
    try:
        assert asyncio.run(_what_is_patched()) is True
        fastloop.install(primitives=False)
        assert asyncio.run(_what_is_patched()) is True
    finally:
        fastloop.uninstall()
    assert not fastloop.patched()
    fastloop.install(primitives=False)
    try:
        assert asyncio.run(_what_is_patched()) is False
    finally:
        fastloop.uninstall()
