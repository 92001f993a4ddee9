"""Lock, and what all primitives share: binding, subclasses, coroutines, reprs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import re
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any
from unittest import mock

import pytest
from core.support import only_fastloop, refs_lost, within

import fastloop

from .support import turns

Loop = asyncio.AbstractEventLoop

# what makes one of each, by name
MAKERS: dict[str, Any] = {
    "Lock": lambda c: c.Lock(),
    "Event": lambda c: c.Event(),
    "Condition": lambda c: c.Condition(),
    "Semaphore": lambda c: c.Semaphore(0),
    "BoundedSemaphore": lambda c: c.BoundedSemaphore(2),
    "Barrier": lambda c: c.Barrier(2),
    "Queue": lambda c: c.Queue(1),
    "LifoQueue": lambda c: c.LifoQueue(),
    "PriorityQueue": lambda c: c.PriorityQueue(),
}


def blocking(primitive: Any) -> Awaitable[Any]:
    """Something of a new primitive that has to wait."""
    name = type(primitive).__name__
    if name == "Lock":
        primitive._locked = True
        return primitive.acquire()
    if name in ("Semaphore", "BoundedSemaphore"):
        primitive._value = 0
        return primitive.acquire()
    if name in ("Event", "Barrier"):
        return primitive.wait()
    if name == "Condition":

        async def wait() -> None:
            async with primitive:
                await primitive.wait()

        return wait()
    return primitive.get()


def strip(text: str) -> str:
    """A repr without module and address."""
    return re.sub(
        r" (object )?at 0x[0-9a-f]+", "", re.sub(r"[\w.]+\.(\w+)", r"\1", text)
    )


async def waiters(count: int, make: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(make()) for _ in range(count)]
    await turns(1)
    return tasks


# --- Lock ---------------------------------------------------------------------


def test_lock_states(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        assert not lock.locked()
        assert await lock.acquire() is True
        assert lock.locked() and strip(repr(lock)) == "<Lock [locked]>"
        assert lock.release() is None
        async with lock as nothing:
            assert nothing is None and lock.locked()
        assert strip(repr(lock)) == "<Lock [unlocked]>"
        with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
            lock.release()

    loop.run_until_complete(main())


def test_lock_is_fair(loop: Loop, lib: Any) -> None:
    async def main() -> list[int]:
        lock = lib.Lock()
        order: list[int] = []

        async def worker(number: int) -> None:
            for _ in range(2):
                async with lock:
                    order.append(number)

        await lock.acquire()
        tasks = [asyncio.ensure_future(worker(n)) for n in range(4)]
        await turns(2)
        assert strip(repr(lock)) == "<Lock [locked, waiters:4]>"
        lock.release()
        # free, but promised to the first who waits
        late = asyncio.ensure_future(worker(9))
        await asyncio.gather(late, *tasks)
        return order

    assert loop.run_until_complete(main()) == [0, 1, 2, 3, 0, 9, 1, 2, 3, 9]


def test_cancelled_waiter_passes_the_lock_on(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        await lock.acquire()
        first, second = await waiters(2, lock.acquire)
        lock.release()
        first.cancel()  # it was woken already
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await within(second)
        assert lock.locked()

    loop.run_until_complete(main())


def test_lock_is_taken_past_cancelled_waiters(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        await lock.acquire()
        (task,) = await waiters(1, lock.acquire)
        task.cancel()
        lock.release()  # the waiter is still in the list
        await lock.acquire()
        assert lock._waiters[0].cancelled()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lock.locked() and not lock._waiters

    loop.run_until_complete(main())


def test_body_of_async_with_fails(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        with pytest.raises(ZeroDivisionError):
            async with lock:
                raise ZeroDivisionError
        assert not lock.locked()
        async with lock:
            lock.release()
            await lock.acquire()
        with pytest.raises(RuntimeError, match="not acquired"):
            async with lock:
                lock.release()

    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "Condition"])
def test_exit_takes_three_arguments(lib: Any, name: str) -> None:
    primitive = getattr(lib, name)()
    with pytest.raises(TypeError, match="argument"):
        primitive.__aexit__(None)


# --- all of them: the loop ----------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_bound_to_the_loop_it_first_waits_on(loop: Loop, lib: Any, name: str) -> None:
    primitive = MAKERS[name](lib)
    assert primitive._loop is None

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(blocking(primitive), 0.001)

    loop.run_until_complete(wait())
    bound = primitive._cond if name == "Barrier" else primitive
    assert bound._loop is loop

    async def wait_elsewhere() -> None:
        text = "is bound to a different event loop"
        with pytest.raises(RuntimeError, match=text) as info:
            await blocking(primitive)
        assert str(info.value).startswith(repr(bound).partition("[")[0])

    for make in (asyncio.new_event_loop, fastloop.new_event_loop):
        other = make()
        other.run_until_complete(wait_elsewhere())
        other.close()


@pytest.mark.parametrize("name", MAKERS)
def test_without_a_loop(lib: Any, name: str) -> None:
    primitive = MAKERS[name](lib)
    coro = blocking(primitive)
    with pytest.raises(AttributeError, match=r"'NoneType' .* 'create_future'"):
        coro.send(None)  # type: ignore[attr-defined]


def test_nothing_to_wait_for_needs_no_loop(lib: Any) -> None:
    for coro in (lib.Lock().acquire(), lib.Semaphore().acquire()):
        with pytest.raises(StopIteration) as info:
            coro.send(None)
        assert info.value.value is True


def test_get_loop_may_be_overridden(loop: Loop, lib: Any) -> None:
    asked = []

    class Mine(lib.Event):  # type: ignore[misc]
        def _get_loop(self) -> Loop:
            asked.append(self)
            return super()._get_loop()  # type: ignore[no-any-return]

    async def main() -> None:
        event = Mine()
        (task,) = await waiters(1, event.wait)
        event.set()
        assert await task is True
        assert asked == [event]

    loop.run_until_complete(main())


# --- all of them: what they return --------------------------------------------


def coroutines(lib: Any) -> list[Coroutine[Any, Any, Any]]:
    queue, barrier = lib.Queue(), lib.Barrier(1)
    condition = lib.Condition()
    return [
        lib.Lock().acquire(),
        lib.Lock().__aenter__(),
        lib.Event().wait(),
        lib.Semaphore().acquire(),
        condition.acquire(),
        condition.wait(),
        condition.wait_for(bool),
        barrier.wait(),
        barrier.reset(),
        barrier.abort(),
        queue.get(),
        queue.put(1),
        queue.join(),
    ]


def test_they_pass_for_coroutines(lib: Any) -> None:
    for coro in coroutines(lib):
        assert asyncio.iscoroutine(coro)
        assert isinstance(coro, Coroutine)
        assert inspect.isawaitable(coro)
        coro.close()


def test_their_names_are_those_of_asyncio() -> None:
    for mine, theirs in zip(coroutines(fastloop), coroutines(asyncio), strict=True):
        assert mine.__qualname__ == theirs.__qualname__
        assert mine.__name__ == theirs.__name__
        assert strip(repr(mine)) == strip(repr(theirs))
        mine.close()
        theirs.close()


def test_never_awaited(lib: Any) -> None:
    for coro in coroutines(lib):
        name = coro.__qualname__
        coro.close()
        with pytest.warns(RuntimeWarning, match=f"coroutine '{name}' was never"):
            for other in coroutines(lib):
                if other.__qualname__ == name:
                    del other
                else:
                    other.close()
            gc.collect()


def test_lazily_started(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock, queue = lib.Lock(), lib.Queue()
        acquire, put = lock.acquire(), queue.put(1)
        assert not lock.locked() and queue.empty()
        await put
        await acquire
        assert lock.locked() and queue.qsize() == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            await acquire

    loop.run_until_complete(main())


def test_stop_iterations_that_were_kept(loop: Loop, lib: Any) -> None:
    """What a StopIteration carries is not changed by those that come after it."""

    def take(queue: Any) -> StopIteration:
        with pytest.raises(StopIteration) as info:
            queue.get().send(None)
        return info.value

    async def main() -> None:
        queue = lib.Queue()
        for item in ("a", "b", "c", (), None, "d"):
            queue.put_nowait(item)
        kept = take(queue)
        arguments = take(queue).args
        gc.collect()
        assert [await queue.get() for _ in range(3)] == ["c", (), None]
        assert (kept.value, kept.args, arguments) == ("a", ("a",), ("b",))
        assert take(queue).args == ("d",)

    loop.run_until_complete(main())


def test_tasks_of_them(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        queue, event = lib.Queue(), lib.Event()
        get = asyncio.create_task(queue.get(), name="getter")
        wait = asyncio.create_task(event.wait())
        await turns(1)
        assert not get.done() and not wait.done()
        assert "Queue.get()" in repr(get)
        queue.put_nowait("x")
        event.set()
        assert await asyncio.gather(get, wait, queue.put("y")) == ["x", True, None]
        assert await asyncio.wait_for(queue.get(), 1) == "y"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 0.001)
        assert queue._getters == deque()

    loop.run_until_complete(main())


def test_closed_while_it_waits(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        for name in ("Lock", "Event", "Semaphore", "Queue"):
            primitive = MAKERS[name](lib)
            coro: Any = blocking(primitive)
            coro.send(None)
            where = "_getters" if name == "Queue" else "_waiters"
            coro.close()
            assert len(getattr(primitive, where)) == 0

    loop.run_until_complete(main())


def test_dropped_while_it_waits(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        for name in ("Lock", "Event", "Semaphore", "Queue", "Condition"):
            primitive = MAKERS[name](lib)
            coro: Any = blocking(primitive)
            coro.send(None)
            del coro
            gc.collect()
            where = "_getters" if name == "Queue" else "_waiters"
            assert len(getattr(primitive, where)) == 0

    loop.run_until_complete(main())


def test_another_exception_is_thrown_in(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        for name in ("Lock", "Event", "Semaphore", "Queue"):
            primitive = MAKERS[name](lib)
            coro: Any = blocking(primitive)
            coro.send(None)
            with pytest.raises(ZeroDivisionError):
                coro.throw(ZeroDivisionError())
            where = "_getters" if name == "Queue" else "_waiters"
            assert len(getattr(primitive, where)) == 0

    loop.run_until_complete(main())


# --- all of them: as lib ------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_repr(name: str) -> None:
    assert strip(repr(MAKERS[name](fastloop))) == strip(repr(MAKERS[name](asyncio)))


@pytest.mark.parametrize("name", MAKERS)
def test_attributes_and_references(lib: Any, name: str) -> None:
    primitive = MAKERS[name](lib)
    primitive.label = "mine"
    assert vars(primitive)["label"] == "mine"
    reference = weakref.ref(primitive)
    del primitive
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("name", MAKERS)
def test_arguments(lib: Any, name: str) -> None:
    cls = getattr(lib, name)
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword"):
        cls(loop=None)
    with pytest.raises(TypeError):
        cls(1, 2, 3)


@pytest.mark.parametrize("name", MAKERS)
def test_made_without_init(name: str) -> None:
    """No state at all must not crash."""
    cls = getattr(fastloop, name)
    primitive = cls.__new__(cls)
    with contextlib.suppress(AttributeError):
        repr(primitive)
    for attribute in dir(primitive):
        getattr(primitive, attribute, None)
    for method in ("acquire", "wait", "get", "join", "reset"):
        if hasattr(primitive, method):
            coro = getattr(primitive, method)()
            with pytest.raises((StopIteration, AttributeError, RuntimeError)):
                coro.send(None)
    gc.collect()


@pytest.mark.parametrize("name", MAKERS)
def test_initialised_again(loop: Loop, lib: Any, name: str) -> None:
    async def main() -> None:
        primitive = MAKERS[name](lib)
        task = asyncio.ensure_future(blocking(primitive))
        await turns(1)
        arguments = (2,) if name == "Barrier" else ()
        primitive.__init__(*arguments)
        task.cancel()
        assert len(await asyncio.gather(task, return_exceptions=True)) == 1

    loop.run_until_complete(main())


def test_overriding_acquire_and_release(loop: Loop, lib: Any) -> None:
    for name in ("Lock", "Semaphore", "BoundedSemaphore"):
        calls = []

        class Mine(getattr(lib, name)):  # type: ignore[misc]
            async def acquire(self) -> bool:
                calls.append("acquire")  # noqa: B023
                return await super().acquire()  # type: ignore[no-any-return]

            def release(self) -> None:
                calls.append("release")  # noqa: B023
                super().release()

        async def main() -> None:
            async with Mine():
                pass

        loop.run_until_complete(main())
        assert calls == ["acquire", "release"]


def test_class_patched(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        with mock.patch.object(lib.Lock, "release") as release:
            lock = lib.Lock()
            async with lock:
                pass
            assert release.called and lock.locked()
        lock.release()
        async with lock:
            assert lock.locked()
        assert not lock.locked()

    loop.run_until_complete(main())


def test_instance_patched(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        with mock.patch.object(lock, "_wake_up_first") as wake:
            await lock.acquire()
            (task,) = await waiters(1, lock.acquire)
            lock.release()
            await turns(2)
            assert wake.called and not task.done()
        lock._wake_up_first()
        assert await within(task)

    loop.run_until_complete(main())


# --- attributes that libraries read -------------------------------------------


def test_lock_attributes(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        assert lock._waiters is None and lock._locked is False
        await lock.acquire()
        assert lock._locked is True and lock._waiters is None
        tasks = await waiters(3, lock.acquire)
        seen = lock._waiters
        assert isinstance(seen, deque) and len(seen) == 3
        assert not any(future.done() for future in seen)
        assert lock._waiters is seen
        lock.release()
        assert seen[0].done() and seen[0].result() is True
        assert await tasks[0]
        assert len(seen) == 2
        tasks[1].cancel()
        await turns(1)
        assert len(seen) == 1
        lock.release()
        assert await within(tasks[2])
        assert not seen

    loop.run_until_complete(main())


def test_a_future_put_among_the_waiters(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        await lock.acquire()
        tasks = await waiters(1, lock.acquire)
        stranger = asyncio.get_running_loop().create_future()
        lock._waiters.appendleft(stranger)
        lock.release()
        assert stranger.result() is True
        lock._waiters.popleft()
        lock._wake_up_first()
        assert await within(tasks[0])

    loop.run_until_complete(main())


# --- memory -------------------------------------------------------------------


def test_waiting_leaks_nothing(fast_loop: Loop) -> None:
    async def round_trip(name: str) -> None:
        primitive = MAKERS[name](fastloop)
        tasks = [asyncio.ensure_future(blocking(MAKERS[name](fastloop))) for _ in "ab"]
        tasks.append(asyncio.ensure_future(blocking(primitive)))
        await turns(2)
        repr(primitive)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    for name in MAKERS:

        def make() -> None:
            fast_loop.run_until_complete(round_trip(name))  # noqa: B023

        assert refs_lost(make) <= 1, name


@pytest.mark.parametrize("name", MAKERS)
def test_cycles_are_collected(fast_loop: Loop, name: str) -> None:
    async def main() -> weakref.ref[Any]:
        primitive = MAKERS[name](fastloop)
        primitive.me = primitive
        primitive.coro = blocking(primitive)
        primitive.coro.send(None)
        if name.endswith("Queue"):
            primitive.put_nowait(primitive)
        else:
            getattr(primitive, "_waiters", None)
        return weakref.ref(primitive)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = fast_loop.run_until_complete(main())
        gc.collect()
        gc.collect()
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tasks_of_a_dropped_loop_are_collected() -> None:
    """Waiters, primitive, tasks and loop make one large cycle."""

    async def main(keep: list[Any]) -> None:
        for name in MAKERS:
            primitive = MAKERS[name](fastloop)
            task = asyncio.ensure_future(blocking(primitive))
            primitive.task = task
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            keep.append(weakref.ref(primitive))
        await turns(2)

    loop = fastloop.new_event_loop()
    references: list[Any] = []
    loop.run_until_complete(main(references))
    loop.close()
    del loop
    gc.collect()
    gc.collect()
    assert [reference() for reference in references] == [None] * len(MAKERS)


# --- loops that do something else ---------------------------------------------


def test_loop_that_makes_its_own_futures(fast_loop: fastloop.Loop) -> None:
    made = []

    class Mine(asyncio.Future):  # type: ignore[type-arg]
        pass

    def create_future() -> asyncio.Future[Any]:
        made.append(Mine(loop=fast_loop))
        return made[-1]

    async def main() -> None:
        fast_loop.create_future = create_future  # type: ignore[method-assign]
        for name in MAKERS:
            if name == "Barrier":
                continue
            (task,) = await waiters(1, lambda: blocking(MAKERS[name](fastloop)))  # noqa: B023
            await turns(1)
            assert made
            task.cancel()
            await asyncio.wait([task])
        lock = fastloop.Lock()
        await lock.acquire()
        tasks = await waiters(2, lock.acquire)
        lock.release()
        assert await within(tasks[0])
        tasks[1].cancel()
        await asyncio.wait(tasks)

    fast_loop.run_until_complete(main())


def test_tasks_of_asyncio_on_our_loop(fast_loop: fastloop.Loop) -> None:
    fast_loop.set_task_factory(fastloop.asyncio_task_factory)

    async def main() -> None:
        lock, queue = fastloop.Lock(), fastloop.Queue(1)
        await lock.acquire()
        tasks = await waiters(2, lock.acquire)
        lock.release()
        assert await within(tasks[0])
        tasks[1].cancel()
        (getter,) = await waiters(1, queue.get)
        await queue.put(5)
        assert await getter == 5

    fast_loop.run_until_complete(main())


def test_debug_mode(loop: Loop, lib: Any) -> None:
    loop.set_debug(True)

    async def main() -> None:
        lock = lib.Lock()
        await lock.acquire()
        tasks = await waiters(3, lock.acquire)
        lock.release()
        assert await within(tasks[0])
        tasks[1].cancel()
        lock.release()
        assert await within(tasks[2])

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        loop.set_task_factory(asyncio.eager_task_factory)
        lock = lib.Lock()
        assert asyncio.create_task(lock.acquire()).done()
        task = asyncio.create_task(lock.acquire())
        assert not task.done()
        lock.release()
        assert await within(task)

    loop.run_until_complete(main())


def test_subclass_whose_methods_do_evil(fast_loop: fastloop.Loop) -> None:
    """An overridden method that undoes what the lock is about to do."""

    class Evil(fastloop.Lock):
        def _wake_up_first(self) -> None:
            self.__init__()  # type: ignore[misc]
            gc.collect()

    async def main() -> None:
        lock = Evil()
        await lock.acquire()
        tasks = await waiters(3, lock.acquire)
        tasks[0].cancel()
        lock.release()
        await turns(3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    fast_loop.run_until_complete(main())


def test_deque_that_does_evil(fast_loop: fastloop.Loop) -> None:
    class Evil(deque):  # type: ignore[type-arg]
        def append(self, future: Any) -> None:
            lock._waiters = None
            raise MemoryError

        def remove(self, future: Any) -> None:
            lock._waiters = deque()
            gc.collect()
            super().remove(future)

    async def main() -> None:
        lock._waiters = Evil()
        await lock.acquire()
        with pytest.raises(MemoryError):
            await lock.acquire()
        tasks = await waiters(2, lock.acquire)
        lock._waiters = Evil(lock._waiters)
        lock.release()
        await turns(2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    lock = fastloop.Lock()
    fast_loop.run_until_complete(main())


def test_only_ours(loop: Loop) -> None:
    """Where nothing is to be waited for, no future and no coroutine is made."""
    only_fastloop(loop, "asyncio makes a coroutine")

    async def main() -> None:
        lock, queue, event = fastloop.Lock(), fastloop.Queue(), fastloop.Event()
        event.set()
        with mock.patch.object(loop, "create_future") as create_future:
            async with lock:
                await queue.put(1)
                await queue.get()
                await event.wait()
            assert not create_future.called
        assert lock._waiters is None

    loop.run_until_complete(main())
