"""Queue, LifoQueue and PriorityQueue."""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import re
import types
import weakref
from collections import deque
from functools import partial
from typing import Any

import pytest
from core.support import refs_lost, within

import fastloop

from .support import need, turns

Loop = asyncio.AbstractEventLoop
KINDS = ["Queue", "LifoQueue", "PriorityQueue"]


async def tasks_of(*coros: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(coro) for coro in coros]
    await turns(1)
    return tasks


def filled(lib: Any, kind: str, *items: Any, maxsize: Any = 0) -> Any:
    queue = getattr(lib, kind)(maxsize)
    for item in items:
        queue.put_nowait(item)
    return queue


def shut_down(lib: Any) -> Any:
    return getattr(lib, "QueueShutDown", fastloop.QueueShutDown)


# --- items --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("Queue", [3, 1, 2]), ("LifoQueue", [2, 1, 3]), ("PriorityQueue", [1, 2, 3])],
)
def test_order(loop: Loop, lib: Any, kind: str, expected: list[int]) -> None:
    async def main() -> None:
        queue = filled(lib, kind, 3, 1, 2)
        assert queue.qsize() == 3 and not queue.empty()
        assert [queue.get_nowait() for _ in range(3)] == expected
        assert queue.empty()
        for item in (3, 1, 2):
            assert await queue.put(item) is None
        assert [await queue.get() for _ in range(3)] == expected

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_full_and_empty(lib: Any, kind: str) -> None:
    queue = filled(lib, kind, 1, maxsize=2)
    assert queue.maxsize == 2 and not queue.full()
    queue.put_nowait(item=2)
    assert queue.full()
    with pytest.raises(asyncio.QueueFull) as full:
        queue.put_nowait(3)
    queue.get_nowait(), queue.get_nowait()
    with pytest.raises(asyncio.QueueEmpty) as empty:
        queue.get_nowait()
    assert full.value.args == empty.value.args == ()


@pytest.mark.parametrize("maxsize", [0, -1, -(2**80), math.inf, 2**80, 0.0, False])
def test_no_limit(lib: Any, maxsize: Any) -> None:
    queue = filled(lib, "Queue", *range(100), maxsize=maxsize)
    assert not queue.full() and queue.maxsize == maxsize
    assert f"maxsize={maxsize!r} " in repr(queue)


@pytest.mark.parametrize("maxsize", [1.5, True, 2])
def test_odd_limits(lib: Any, maxsize: Any) -> None:
    queue = lib.Queue(maxsize=maxsize)
    for number in range(3):
        assert queue.full() is (number >= maxsize)
        if not queue.full():
            queue.put_nowait(number)
    assert queue.qsize() == math.ceil(maxsize)


@pytest.mark.parametrize("maxsize", ["1", None])
def test_limit_that_does_not_compare(lib: Any, maxsize: Any) -> None:
    queue = lib.Queue(maxsize)
    with pytest.raises(TypeError, match="not supported between"):
        queue.put_nowait(1)


def test_many_items_come_and_go(lib: Any) -> None:
    """The ring grows, wraps, shrinks."""
    queue, expected = lib.Queue(), deque[int]()
    for count in (3, 50, 5000, 1, 700):
        for number in range(count):
            queue.put_nowait(number)
            expected.append(number)
        for _ in range(count - count // 3):
            assert queue.get_nowait() == expected.popleft()
    while expected:
        assert queue.get_nowait() == expected.popleft()
    assert queue.empty()


def test_any_object_is_an_item(loop: Loop, lib: Any) -> None:
    items = [None, True, (1, 2), ValueError("x"), StopIteration(3), float("nan")]

    async def main() -> None:
        queue = lib.Queue()
        for item in items:
            await queue.put(item)
            assert await queue.get() is item

    loop.run_until_complete(main())


# --- waiting ------------------------------------------------------------------


def test_getters_and_putters_in_order(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue = lib.Queue(1)
        getters = await tasks_of(queue.get(), queue.get(), queue.get())
        assert "_getters[3]" in repr(queue)
        for number in range(3):
            await queue.put(number)
        assert await within(asyncio.gather(*getters)) == [0, 1, 2]
        putters = await tasks_of(*(queue.put(number) for number in range(4)))
        assert "_putters[3]" in repr(queue)
        assert [await within(queue.get()) for _ in range(4)] == [0, 1, 2, 3]
        await asyncio.gather(*putters)

    loop.run_until_complete(main())


def test_who_is_faster_gets_it(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue = lib.Queue()
        first, second = await tasks_of(queue.get(), queue.get())
        queue.put_nowait(1)
        assert queue.get_nowait() == 1  # before the getter that was woken
        await turns(2)
        queue.put_nowait(2)
        assert await within(second) == 2  # it had not lost its place
        queue.put_nowait(3)
        assert await within(first) == 3

    loop.run_until_complete(main())


@pytest.mark.parametrize("looked_at", [False, True])
def test_cancelled_getter_passes_the_item_on(
    loop: Loop, lib: Any, looked_at: bool
) -> None:
    async def main() -> None:
        queue = lib.Queue()
        first, second = await tasks_of(queue.get(), queue.get())
        if looked_at:
            assert len(queue._getters) == 2
        queue.put_nowait(1)
        first.cancel()
        assert await within(second) == 1
        assert first.cancelled() and not queue._getters

    loop.run_until_complete(main())


@pytest.mark.parametrize("looked_at", [False, True])
def test_cancelled_putter_passes_the_room_on(
    loop: Loop, lib: Any, looked_at: bool
) -> None:
    async def main() -> None:
        queue = filled(lib, "Queue", 0, maxsize=1)
        first, second = await tasks_of(queue.put(1), queue.put(2))
        if looked_at:
            assert len(queue._putters) == 2
        queue.get_nowait()
        first.cancel()
        await within(second)
        assert first.cancelled() and queue.get_nowait() == 2

    loop.run_until_complete(main())


def test_pipe(loop: Loop, lib: Any) -> None:
    async def main() -> list[int]:
        queue = lib.Queue(3)

        async def produce() -> None:
            for number in range(200):
                await queue.put(number)
            await queue.put(None)

        task = asyncio.ensure_future(produce())
        got = []
        while (item := await queue.get()) is not None:
            got.append(item)
        await task
        return got

    assert loop.run_until_complete(main()) == list(range(200))


# --- task_done() and join() ---------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_join(loop: Loop, lib: Any, kind: str) -> None:
    async def main() -> None:
        queue = getattr(lib, kind)()
        assert await queue.join() is None
        done = 0

        async def work() -> None:
            nonlocal done
            while True:
                await queue.get()
                await turns(1)
                done += 1
                queue.task_done()

        workers = await tasks_of(*(work() for _ in range(3)))
        for number in range(20):
            queue.put_nowait(number)
        assert " tasks=20" in repr(queue)
        await within(asyncio.gather(queue.join(), queue.join()))
        assert done == 20 and queue._unfinished_tasks == 0
        queue.put_nowait(1)
        (join,) = await tasks_of(queue.join())
        await turns(5)
        assert join.done()
        for worker in workers:
            worker.cancel()

    loop.run_until_complete(main())


def test_task_done_too_often(lib: Any) -> None:
    queue = filled(lib, "Queue", 1)
    queue.task_done()
    with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
        queue.task_done()


def test_finished(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue = lib.Queue()
        assert isinstance(queue._finished, lib.Event)
        assert queue._finished is queue._finished
        assert queue._finished.is_set()
        queue.put_nowait(1)
        assert not queue._finished.is_set()
        (join,) = await tasks_of(queue.join())
        assert len(queue._finished._waiters) == 1
        queue.task_done()
        await within(join)
        assert queue._finished.is_set()
        queue._unfinished_tasks = 3
        queue.task_done()
        assert queue._unfinished_tasks == 2

    loop.run_until_complete(main())


def test_another_event_for_finished(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        for event in (asyncio.Event(), fastloop.Event()):
            queue = lib.Queue()
            queue._finished = event
            queue.put_nowait(1)
            (join,) = await tasks_of(queue.join())
            queue.task_done()
            assert event.is_set()
            await within(join)

    loop.run_until_complete(main())


# --- shutdown() ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("immediate", [False, True])
def test_shutdown(loop: Loop, lib: Any, kind: str, immediate: bool) -> None:
    need(lib, "Queue.shutdown")

    async def main() -> None:
        queue = filled(lib, kind, 1, 2)
        (join,) = await tasks_of(queue.join())
        assert queue.shutdown(immediate=immediate) is None
        assert repr(queue).endswith(" shutdown>")
        for put in (queue.put_nowait, queue.put):
            with pytest.raises(shut_down(lib)):
                await put(3)
        if not immediate:
            assert not join.done()
            assert {await queue.get(), queue.get_nowait()} == {1, 2}
            queue.task_done(), queue.task_done()
        await within(join)
        with pytest.raises(shut_down(lib)):
            queue.get_nowait()
        with pytest.raises(shut_down(lib)):
            await queue.get()
        queue.shutdown()

    loop.run_until_complete(main())


@pytest.mark.parametrize("looked_at", [False, True])
def test_shutdown_wakes_who_waits(loop: Loop, lib: Any, looked_at: bool) -> None:
    need(lib, "Queue.shutdown")

    async def main() -> None:
        empty, full = lib.Queue(), filled(lib, "Queue", 1, maxsize=1)
        tasks = await tasks_of(empty.get(), empty.get(), full.put(2), full.put(3))
        if looked_at:
            assert len(empty._getters) == len(full._putters) == 2
        empty.shutdown()
        full.shutdown()
        for task in tasks:
            with pytest.raises(shut_down(lib)):
                await within(task)
        assert not empty._getters and not full._putters
        assert full.get_nowait() == 1

    loop.run_until_complete(main())


def test_exceptions_are_those_of_asyncio() -> None:
    theirs = getattr(asyncio, "QueueShutDown", None)
    assert theirs in (None, fastloop.QueueShutDown)
    assert issubclass(fastloop.QueueShutDown, Exception)


# --- subclasses ---------------------------------------------------------------


def test_own_container(loop: Loop, lib: Any) -> None:
    class SetQueue(lib.Queue):  # type: ignore[misc]
        """The classic: no item twice."""

        def _init(self, maxsize: int) -> None:
            self.given = maxsize
            self._queue = set()

        def _put(self, item: Any) -> None:
            self._queue.add(item)

        def _get(self) -> Any:
            item = min(self._queue)
            self._queue.remove(item)
            return item

    async def main() -> None:
        queue = SetQueue(3)
        assert queue.given == 3
        (getter,) = await tasks_of(queue.get())
        for item in (3, 1, 3):
            await queue.put(item)
        assert queue.qsize() == 2 and await within(getter) == 1
        assert await queue.get() == 3 and queue.empty()
        assert "_queue" not in repr(queue)

    loop.run_until_complete(main())


def test_container_in_an_attribute_of_its_own(loop: Loop, lib: Any) -> None:
    class Buckets(lib.Queue):  # type: ignore[misc]
        def _init(self, maxsize: int) -> None:
            self.heap: list[Any] = []

        def _put(self, item: Any) -> None:
            heapq.heappush(self.heap, item)

        def _get(self) -> Any:
            return heapq.heappop(self.heap)

        def qsize(self) -> int:
            return len(self.heap)

        def empty(self) -> bool:
            return not self.heap

    async def main() -> None:
        queue = Buckets(2)
        await queue.put(2)
        await queue.put(1)
        assert queue.full()
        (putter,) = await tasks_of(queue.put(0))
        assert not putter.done()
        assert [await queue.get() for _ in range(2)] == [1, 2]
        await within(putter)
        assert await queue.get() == 0

    loop.run_until_complete(main())


def test_put_in_front(loop: Loop, lib: Any) -> None:
    class Undo(lib.Queue):  # type: ignore[misc]
        def _put(self, item: Any) -> None:
            if item == "first":
                self._queue.appendleft(item)
            else:
                super()._put(item)

    async def main() -> None:
        queue = Undo()
        for item in (1, 2, "first"):
            await queue.put(item)
        assert [await queue.get() for _ in range(3)] == ["first", 1, 2]

    loop.run_until_complete(main())


def test_overridden_nowait_methods(loop: Loop, lib: Any) -> None:
    calls: list[Any] = []

    class Mine(lib.Queue):  # type: ignore[misc]
        def put_nowait(self, item: Any) -> None:
            calls.append(("put", item))
            super().put_nowait(item)

        def get_nowait(self) -> Any:
            calls.append("get")
            return super().get_nowait()

        def full(self) -> bool:
            calls.append("full")
            return super().full()  # type: ignore[no-any-return]

        def _wakeup_next(self, waiters: Any) -> None:
            calls.append(len(waiters))
            super()._wakeup_next(waiters)

    async def main() -> None:
        queue = Mine()
        (getter,) = await tasks_of(queue.get())
        await queue.put(5)
        assert await within(getter) == 5
        assert calls == ["full", ("put", 5), "full", 1, "get", 0]

    loop.run_until_complete(main())


def test_patched_instance(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue = lib.Queue()
        queue.empty = lambda: False
        queue.get_nowait = lambda: "patched"
        assert await queue.get() == "patched"
        del queue.get_nowait, queue.empty
        queue.put_nowait(1)
        assert await queue.get() == 1

    loop.run_until_complete(main())


def test_patched_class(loop: Loop, lib: Any, monkeypatch: Any) -> None:
    async def main() -> None:
        queue = filled(lib, "Queue", 1, 2)
        assert await queue.get() == 1
        monkeypatch.setattr(lib.Queue, "get_nowait", lambda self: "patched")
        assert await queue.get() == "patched"
        monkeypatch.undo()
        assert await queue.get() == 2

    loop.run_until_complete(main())


def test_generic(lib: Any) -> None:
    for kind in KINDS:
        assert isinstance(getattr(lib, kind)[int], types.GenericAlias)


# --- attributes that libraries read -------------------------------------------


def test_looking_at_the_items(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue = filled(lib, "Queue", 1, 2, 3)
        items = queue._queue
        assert items == deque([1, 2, 3]) and queue._queue is items
        items.append(4)
        assert queue.qsize() == 4 and await queue.get() == 1
        await queue.put(5)
        assert list(items) == [2, 3, 4, 5]
        items.clear()
        assert queue.empty()
        queue._queue = deque([7])
        assert await queue.get() == 7
        for kind in ("LifoQueue", "PriorityQueue"):
            assert filled(lib, kind, 1, 2)._queue == [1, 2]

    loop.run_until_complete(main())


def test_looking_at_those_who_wait(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue = lib.Queue(1)
        assert queue._getters == queue._putters == deque()
        getters = await tasks_of(queue.get(), queue.get())
        assert len(queue._getters) == 2
        waiting = queue._getters[0]
        queue.put_nowait(1)
        assert len(queue._getters) == 1 and waiting.done()
        assert waiting.result() is None
        stranger = asyncio.get_running_loop().create_future()
        queue._getters.appendleft(stranger)
        await turns(1)
        queue.put_nowait(2)
        assert stranger.done() and not getters[1].done()
        getters[1].cancel()
        await asyncio.gather(*getters, return_exceptions=True)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_reprs_are_equal(kind: str) -> None:
    reprs = []
    for lib in (asyncio, fastloop):
        queue = filled(lib, kind, 1, "x" if kind == "Queue" else 2, maxsize=3)
        before = str(queue)
        assert str(queue) == before
        reprs.append((before, re.sub("0x[0-9a-f]+", "", repr(queue))))
    assert reprs[0] == reprs[1]


def test_recursive_repr(lib: Any) -> None:
    queue = lib.Queue()
    queue.put_nowait(queue)
    with pytest.raises(RecursionError):
        repr(queue)


def test_limit_can_be_changed(lib: Any) -> None:
    queue = filled(lib, "Queue", 1, maxsize=1)
    queue._maxsize = 2
    assert queue.maxsize == 2 and not queue.full()
    with pytest.raises(AttributeError):
        queue.maxsize = 3


# --- items that do evil -------------------------------------------------------


def test_comparison_that_fails(lib: Any) -> None:
    queue = filled(lib, "PriorityQueue", 1)
    with pytest.raises(TypeError, match="'<' not supported"):
        queue.put_nowait("x")
    # as in asyncio, it is in but not counted
    assert queue.qsize() == 2 and queue._unfinished_tasks == 1


def test_comparison_that_changes_the_queue(fast_loop: fastloop.Loop) -> None:
    class Evil:
        def __init__(self, act: Any) -> None:
            self.act = act

        def __lt__(self, other: object) -> bool:
            act, self.act = self.act, None
            if act is not None:
                act()
                gc.collect()
            return False

    queue: Any = fastloop.PriorityQueue()
    acts = [
        lambda: queue._queue.clear(),
        lambda: queue.get_nowait(),
        lambda: queue.__init__(),
        lambda: setattr(queue, "_queue", []),
        lambda: queue.put_nowait(Evil(None)),
        lambda: queue.shutdown(immediate=True),
    ]
    for act in acts:
        for count in (1, 2, 5):
            queue = fastloop.PriorityQueue()
            for _ in range(count):
                queue.put_nowait(Evil(None))
            queue._queue[0].act = act
            for method in (partial(queue.put_nowait, Evil(act)), queue.get_nowait):
                try:
                    method()
                except (IndexError, RuntimeError, asyncio.QueueEmpty):
                    pass
                except fastloop.QueueShutDown:
                    pass
            repr(queue)


def test_finalisers_that_use_the_queue(fast_loop: fastloop.Loop) -> None:
    seen = []

    class Item:
        def __del__(self) -> None:
            seen.append(queue.qsize())
            if not queue._is_shutdown and len(seen) < 50:
                queue.put_nowait(len(seen))

    queue: Any = fastloop.Queue()
    for _ in range(5):
        queue.put_nowait(Item())
    queue.__init__()
    assert len(seen) == 5
    for _ in range(5):
        queue.put_nowait(Item())
    queue._queue = deque()
    assert len(seen) == 10
    for _ in range(3):
        queue.put_nowait(Item())
    queue.shutdown(immediate=True)
    assert len(seen) == 13 and queue.empty()


def test_container_that_does_evil(fast_loop: fastloop.Loop) -> None:
    class Evil(list[Any]):
        def __bool__(self) -> bool:
            queue._queue = deque([1])
            return True

        def __len__(self) -> int:
            queue._queue = deque()
            return 1

        def popleft(self) -> Any:
            queue._queue = Evil()
            return 5

        def append(self, item: Any) -> None:
            queue.__init__()

    queue: Any = fastloop.Queue(2)

    async def main() -> None:
        for _ in range(3):
            queue._queue = Evil()
            assert await queue.get() in (1, 5)
            queue._queue = Evil()
            await queue.put(1)
            queue._queue = Evil()
            queue.qsize()
            queue._queue = Evil()
            repr(queue)

    fast_loop.run_until_complete(main())


# --- memory -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_leaks_nothing(fast_loop: fastloop.Loop, kind: str) -> None:
    async def main() -> None:
        queue = getattr(fastloop, kind)(2)
        tasks = await tasks_of(queue.get(), queue.get(), queue.get())
        for number in range(4):
            await queue.put(number)
        tasks += await tasks_of(queue.put(5), queue.put(6), queue.put(7), queue.join())
        repr(queue), queue._queue, queue._getters, queue._finished
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        queue.shutdown(immediate=True)

    assert refs_lost(lambda: fast_loop.run_until_complete(main())) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_queue_in_itself_is_collected(kind: str) -> None:
    queue = getattr(fastloop, kind)()
    queue.put_nowait(queue)
    queue._finished.queue = queue
    reference = weakref.ref(queue)
    del queue
    gc.collect()
    assert reference() is None


def test_long_chain_of_queues_is_freed() -> None:
    queue = fastloop.Queue[Any]()
    for _ in range(100_000):
        outer = fastloop.Queue[Any]()
        outer.put_nowait(queue)
        queue = outer
    del queue, outer
