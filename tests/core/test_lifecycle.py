"""Objects at the edges of their lives: never initialised, initialised twice, copied,
dropped with whatever they hold.

Futures and tasks on their own are in test_futures.py and test_tasks.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import os
import pickle
import signal
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastloop
from fastloop import _core
from fastloop.primitives import NATIVE

from .support import (
    Loop,
    LoopFactory,
    collect_reports,
    next_turns,
    only_fastloop,
    run_once,
    run_python,
    run_turns,
    within,
)

# what programs make, subclass and patch: tests/prims has these
PRIMITIVES = {name for name, (_, value) in NATIVE.items() if isinstance(value, type)}
NATIVE_TYPES = {
    name: value
    for name, value in vars(_core).items()
    if isinstance(value, type) and name not in PRIMITIVES
}
# what has a __new__() of its own; the others come from their makers only
MAKEABLE = {
    "Future": fastloop.Future,
    "Task": fastloop.Task,
    "LoopBase": _core.LoopBase,
    "ServerBase": _core.ServerBase,
    "Loop": fastloop.Loop,
    "Server": fastloop.Server,
}


def nothing(*args: object) -> None:
    pass


async def waits_for(awaitable: Any) -> Any:
    return await awaitable


async def gone(server: Any) -> None:
    """Wait until the server's connections are, which 3.11's wait_closed() does not."""
    await within(server.wait_closed())
    for count in "_connection_count", "_active_count":
        while getattr(server, count, 0):
            await asyncio.sleep(0.001)
    await next_turns(3)


# --- never initialised ---------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(NATIVE_TYPES) - set(MAKEABLE)))
def test_what_cannot_be_made_by_hand(name: str) -> None:
    """Not by calling the type, by its __new__, by object's or through a subclass."""
    native = NATIVE_TYPES[name]
    for make in (
        lambda: native(),
        lambda: native.__new__(native),
        lambda: object.__new__(native),
        lambda: type("Sub", (native,), {})(),
        lambda: type("Sub", (native,), {"__new__": object.__new__})(),
        lambda: type("Sub", (native, asyncio.Future), {})(),
    ):
        with pytest.raises(TypeError):
            make()


# what a method may be given, so that some call gets past the check of arguments
_INERT = """
    from fastloop import _core
    import inspect, socket

    kind, subclass = {kind!r}, {subclass!r}
    cls = getattr(fastloop, kind, None) or getattr(_core, kind)
    if subclass:
        cls = type("Sub", (cls,), {{}})
    loop = fastloop.new_event_loop()
    ready = loop.call_soon(print)
    later = loop.call_later(100, print)
    sock, other = socket.socketpair()
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)

    async def coroutine():
        pass

    def nothing(*args, **kwargs):
        pass

    def arguments():
        inert = cls.__new__(cls)
        yield from [
            (), (None,), (nothing,), (0,), (-1,), (10 ** 30,), ("name",), (b"x",),
            (1.0, nothing), (nothing, 1, 2, 3, 4), (sock, nothing), (sock,),
            (signal.SIGUSR1, nothing), (signal.SIGUSR1,), (None, nothing),
            (ValueError,), (ValueError(1),), (ready,), (later,), (loop,), (inert,),
            (inert, inert), (loop.create_future(),), ([inert],), (dict(message="m"),),
            (sock, asyncio.Protocol(), None, None), (nothing, "127.0.0.1", 1),
            (None,) * 4, (None,) * 6,
        ]
        yield (coroutine(),)

    def attempt(function, *args):
        try:
            result = function(*args)
        except StopIteration:
            pass
        except Exception as exc:
            assert not isinstance(exc, (SystemError, MemoryError)), (name, exc)
            told = str(exc) or isinstance(exc, NotImplementedError)
            assert told or name[0] == "_", (name, exc)
        except asyncio.CancelledError:
            pass
        else:
            if inspect.iscoroutine(result):
                attempt(result.send, None)
                result.close()
        for arg in args:
            if inspect.iscoroutine(arg):
                arg.close()

    # __init__ has tests of its own; the rest is object's
    names = sorted(set(dir(cls)) - set(dir(object)))
    assert {{"set_result", "_transports", "call_soon"}} & set(names)
    for name in names:
        for value in (None, True, nothing, "x", []):
            inert = cls.__new__(cls)
            attempt(setattr, inert, name, value)
        attempt(delattr, inert, name)
        for args in arguments():
            inert = cls.__new__(cls)
            attempt(getattr, inert, name)
            attempt(lambda *args: getattr(inert, name)(*args), *args)
    # all on one object
    inert = cls.__new__(cls)
    for name in names:
        for args in arguments():
            attempt(lambda *args: getattr(inert, name)(*args), *args)
    for use in (repr, str, hash, iter, len, bool, weakref.ref, asyncio.isfuture,
                asyncio.all_tasks, asyncio.current_task, inert.__eq__, inert.__lt__,
                asyncio.iscoroutine, asyncio.ensure_future, gc.get_referents):
        attempt(use, inert)
    attempt(lambda: inert < inert)
    attempt(isinstance, inert, (asyncio.Task, asyncio.AbstractEventLoop))
    assert asyncio._get_running_loop() is None
    assert signal.set_wakeup_fd(-1) == wakeup_fd
    del inert
    gc.collect()
    loop.close()
    print("alive")
"""


@pytest.mark.parametrize("subclass", [False, True])
@pytest.mark.parametrize("kind", sorted(MAKEABLE))
def test_nothing_breaks_an_inert_object(kind: str, subclass: bool) -> None:
    """Every attribute got, set, deleted and called, with all sorts of arguments."""
    result = run_python(
        _INERT.format(kind=kind, subclass=subclass), options=("-W", "ignore")
    )
    assert (result.returncode, result.stdout[-6:]) == (0, "alive\n"), result.stderr


@pytest.mark.parametrize("cls", [fastloop.Loop, _core.LoopBase])
def test_an_inert_loop_says_what_it_lacks(cls: Any) -> None:
    loop = cls.__new__(cls)
    for use in (
        lambda: loop.call_soon(nothing),
        lambda: loop.call_later(1, nothing),
        lambda: loop.call_at(1, nothing),
        lambda: loop.call_soon_threadsafe(nothing),
        lambda: loop.create_future(),
        lambda: loop.add_reader(0, nothing),
        lambda: loop.add_writer(0, nothing),
        lambda: loop._run(),
    ):
        with pytest.raises(RuntimeError, match="Event loop is not initialized"):
            use()
    assert not loop.is_running()
    assert loop.is_closed()
    assert not loop.get_debug()
    assert loop.get_task_factory() is None
    loop.stop()


def test_an_inert_loop_can_be_initialised() -> None:
    loop = fastloop.Loop.__new__(fastloop.Loop)
    with pytest.raises(RuntimeError):
        loop.call_soon(nothing)
    loop.__init__()  # type: ignore[misc]
    assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
    loop.close()


@pytest.mark.parametrize("later", [False, True])
def test_futures_and_tasks_of_an_inert_loop(later: bool) -> None:
    """They take it for a loop that is not ours; it may become one."""
    loop: Any = fastloop.Loop.__new__(fastloop.Loop)
    future: Any = fastloop.Future(loop=loop)
    future.add_done_callback(nothing)
    coro = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="not initialized"):
        fastloop.Task(coro, loop=loop)
    coro.close()
    if later:
        loop.__init__()
        future.set_result(1)
        assert loop.run_until_complete(future) == 1
        loop.close()
    else:
        with pytest.raises(RuntimeError, match="not initialized"):
            future.set_result(1)
    del future, loop
    gc.collect()


def test_awaiting_inert_futures(loop: Loop, loop_factory: LoopFactory) -> None:
    """Ours on asyncio's loop and on our own: an error, and the loop goes on."""
    for cls in (fastloop.Future, fastloop.Task):
        for wait in (
            waits_for,
            lambda future: waits_for(asyncio.shield(future)),
            lambda future: asyncio.wait_for(future, 1),
            lambda future: waits_for(asyncio.gather(future)),
        ):
            inert = cls.__new__(cls)
            with pytest.raises(RuntimeError, match="not initialized"):
                loop.run_until_complete(wait(inert))
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


def test_yielding_an_inert_future(loop: Loop) -> None:
    """From an __await__ of one's own, past all checks."""
    reports = collect_reports(loop)

    class Yields:
        def __init__(self, value: object) -> None:
            self.value = value

        def __await__(self) -> Iterator[Any]:
            yield self.value

    for cls in (fastloop.Future, fastloop.Task):
        task: Any = loop.create_task(waits_for(Yields(cls.__new__(cls))))
        task._log_destroy_pending = False
        run_turns(loop, 3)
        assert not task.done()  # as on asyncio: nothing can wake it
        (report,) = reports
        assert str(report["exception"]) == "Future object is not initialized."
        reports.clear()


def test_a_listener_of_inert_things(fast_loop: fastloop.Loop) -> None:
    context = contextvars.copy_context()
    server = _core.ServerBase.__new__(_core.ServerBase)
    inert = _core.LoopBase.__new__(_core.LoopBase)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listener = _core.Listener(inert, server, listening, nothing, 1, context)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="not initialized"):
            listener.start()
        listener.stop()
        listener.resume()
        assert listener.loop is inert
        ref = weakref.ref(server)
        del listener, server
        gc.collect()
        assert ref() is None


def test_a_connection_to_an_inert_server(fast_loop: fastloop.Loop) -> None:
    """Its part in Python was never made: that is told, and harms nothing."""
    server = fastloop.Server.__new__(fastloop.Server)
    context = contextvars.copy_context()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        listener = _core.Listener(
            fast_loop, server, listening, asyncio.Protocol, 1, context
        )
        listener.start()
        peer = socket.create_connection(listening.getsockname())
        unraisable: list[Any] = []
        hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
        try:
            while server._connection_count == 0:
                run_once(fast_loop)
            (transport,) = server._transports()
            peer.close()
            while server._connection_count == 1:
                run_once(fast_loop)
        finally:
            sys.unraisablehook = hook
        assert [u.exc_type for u in unraisable] == [AttributeError]
        unraisable.clear()
        assert transport.is_closing()
        listener.stop()


@pytest.mark.parametrize(
    "arguments",
    [
        (None, None, None),
        (asyncio.Protocol(), 1, None),
        (asyncio.Protocol(), None, 1),
        (asyncio.Protocol(), None, object()),
    ],
)
def test_a_transport_of_wrong_things(
    fast_loop: fastloop.Loop, arguments: tuple[Any, Any, Any]
) -> None:
    """The private function beneath create_connection(): wrong use never crashes."""
    reports = collect_reports(fast_loop)
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with peer:
        try:
            transport = fast_loop._open_transport(ours, *arguments)
        except TypeError:
            ours.close()
        else:
            with contextlib.suppress(AttributeError):
                fast_loop.run_until_complete(next_turns(3))
            transport.abort()
            fast_loop.run_until_complete(next_turns(3))
    reports.clear()


# --- initialised twice ---------------------------------------------------------------


def test_init_of_a_loop_again(fast_loop: fastloop.Loop) -> None:
    """Before, while and after it runs; it stays what it was."""
    seen: list[int] = []

    def again() -> None:
        with pytest.raises(RuntimeError, match="already initialized"):
            fast_loop.__init__()  # type: ignore[misc]
        seen.append(1)

    fast_loop.call_soon(seen.append, 0)
    again()
    fast_loop.call_soon(again)
    run_once(fast_loop)
    assert seen == [1, 0, 1]
    assert fast_loop.run_until_complete(asyncio.sleep(0, "runs")) == "runs"
    fast_loop.close()
    again()
    assert fast_loop.is_closed()


def test_init_of_a_loop_with_arguments() -> None:
    with pytest.raises(TypeError, match="takes no arguments"):
        _core.LoopBase(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        fastloop.Loop(selector=None)  # type: ignore[call-arg]


def test_init_of_a_server_again(fast_loop: fastloop.Loop) -> None:
    """As with asyncio: it forgets what it had, which goes on until the loop ends."""

    async def main() -> None:
        server = await fast_loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        (sock,) = server._sockets
        server.__init__(fast_loop, [sock], asyncio.Protocol, 10)  # type: ignore[misc]
        assert not server.is_serving()
        await server.start_serving()
        transport, _ = await fast_loop.create_connection(
            asyncio.Protocol, *sock.getsockname()
        )
        while server._connection_count == 0:
            await asyncio.sleep(0.001)
        transport.close()
        server.close()
        await gone(server)

    fast_loop.run_until_complete(main())


def test_init_of_a_task_from_inside_itself(fast_loop: fastloop.Loop) -> None:
    async def again() -> str:
        task: Any = asyncio.current_task()
        coro = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already initialized"):
            task.__init__(coro, loop=fast_loop)
        coro.close()
        return task.get_name()

    task = fast_loop.create_task(again(), name="one")
    assert fast_loop.run_until_complete(task) == "one"


# --- subclasses ----------------------------------------------------------------------


def test_a_loop_that_forgets_to_initialise_its_base() -> None:
    class Forgetful(fastloop.Loop):
        def __init__(self) -> None:
            pass

    loop = Forgetful()
    with pytest.raises(RuntimeError, match="not initialized"):
        loop.run_forever()
    loop.close()
    assert loop.is_closed()


def test_a_loop_with_more_of_everything() -> None:
    class Mixin:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.mixed = True

    class Mine(Mixin, fastloop.Loop):
        __slots__ = ("extra",)

        def __init__(self, extra: object) -> None:
            super().__init__()
            self.extra = extra

        def time(self) -> float:
            return super().time() + 1000

        def create_future(self) -> Any:
            future: Any = super().create_future()
            future.mine = True
            return future

    loop = Mine("extra")
    assert (loop.extra, loop.mixed) == ("extra", True)
    assert loop.create_future().mine
    assert loop.run_until_complete(asyncio.sleep(0.001, "slept")) == "slept"
    loop.close()
    ref = weakref.ref(loop)
    loop.extra = loop
    del loop
    gc.collect()
    assert ref() is None


def test_a_loop_that_survives_its_destructor(fast_loop: fastloop.Loop) -> None:
    survivors: list[Any] = []

    class Survivor(fastloop.Loop):
        def __del__(self) -> None:
            survivors.append(self)

    Survivor()
    (loop,) = survivors
    assert loop.run_until_complete(asyncio.sleep(0, "runs")) == "runs"
    loop.close()
    del loop
    survivors.clear()
    gc.collect()
    assert not survivors


def test_a_task_that_survives_its_destructor(loop: Loop) -> None:
    survivors: list[Any] = []
    base: Any = fastloop.Task if isinstance(loop, fastloop.Loop) else asyncio.Task

    class Survivor(base):
        def __del__(self) -> None:
            survivors.append(self)

    async def work() -> str:
        await asyncio.sleep(0)
        return "worked"

    task = Survivor(work(), loop=loop)
    assert loop.run_until_complete(task) == "worked"
    del task
    gc.collect()
    (task,) = survivors
    assert task.result() == "worked"
    assert task.get_loop() is loop


@pytest.mark.parametrize("inside", [False, True])
def test_both_kinds_cannot_be_mixed_in_one_class(inside: bool) -> None:
    """Their layouts differ: Python refuses, whichever comes first."""
    ours, theirs = (fastloop.Task, asyncio.Task)
    if inside:
        ours, theirs = theirs, ours
    with pytest.raises(TypeError):
        type("Both", (ours, theirs), {})
    with pytest.raises(TypeError):
        type("Both", (fastloop.Loop, fastloop.Task), {})


@pytest.mark.parametrize("name", sorted(NATIVE_TYPES))
def test_types_cannot_be_changed(name: str) -> None:
    native = NATIVE_TYPES[name]
    if name.endswith("Transport"):
        pytest.skip("a subclass of a class in Python, which can be changed, too")
    with pytest.raises(TypeError):
        native.attribute = 1
    with pytest.raises(TypeError):
        native.__init__ = nothing


def test_an_object_cannot_change_its_class(fast_loop: fastloop.Loop) -> None:
    class Empty:
        pass

    class Mine(fastloop.Future[Any]):
        __slots__ = ()

    future: Any = fast_loop.create_future()
    for thing in (
        future,
        fast_loop.create_task(asyncio.sleep(0)),
        fast_loop.call_soon(nothing),
        fast_loop.call_later(1, nothing),
    ):
        for cls in (Empty, Mine, asyncio.Future, fastloop.Task, fastloop.Future):
            with pytest.raises((AttributeError, TypeError)):
                thing.__class__ = cls
            with pytest.raises(TypeError):
                object.__dict__["__class__"].__set__(thing, cls)
    run_turns(fast_loop, 2)


# --- copies --------------------------------------------------------------------------

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_can_be_pickled(loop: Loop, protocol: int) -> None:

    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        future = loop.create_future()
        timer = loop.call_later(100, nothing)
        for thing in (
            future,
            iter(future),
            asyncio.current_task(),
            loop.call_soon(nothing, 1),
            timer,
            transport,
            server,
            loop,
        ):
            with pytest.raises((TypeError, pickle.PicklingError)):
                pickle.dumps(thing, protocol)
        timer.cancel()
        transport.close()
        server.close()
        await gone(server)

    loop.run_until_complete(main())
    run_once(loop)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_nothing_can_be_copied(
    fast_loop: fastloop.Loop, copier: Callable[[object], object]
) -> None:
    """Loops, handles and transports of asyncio can, and then share what they own."""

    class MyFuture(fastloop.Future[Any]):
        pass

    class MyLoop(fastloop.Loop):
        pass

    async def main() -> None:
        server = await fast_loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, _ = await fast_loop.create_connection(asyncio.Protocol, *address)
        future = fast_loop.create_future()
        read_end, write_end = os.pipe()
        reading, _ = await fast_loop.connect_read_pipe(
            asyncio.Protocol,
            open(read_end, "rb", 0),  # noqa: SIM115
        )
        writing, _ = await fast_loop.connect_write_pipe(
            asyncio.Protocol,
            open(write_end, "wb", 0),  # noqa: SIM115
        )
        timer = fast_loop.call_later(100, nothing)
        my_loop = MyLoop()
        for thing in (
            future,
            iter(future),
            MyFuture(loop=fast_loop),
            asyncio.current_task(),
            fast_loop.call_soon(nothing, 1),
            timer,
            transport,
            reading,
            writing,
            server,
            fast_loop,
            my_loop,
        ):
            with pytest.raises(TypeError):
                copier(thing)
            for protocol in PROTOCOLS:
                with pytest.raises((TypeError, AttributeError)):
                    pickle.dumps(thing, protocol)
        timer.cancel()
        my_loop.close()
        transport.close()
        reading.close()
        writing.close()
        server.close()
        await gone(server)

    fast_loop.run_until_complete(main())
    run_turns(fast_loop, 3)


@pytest.mark.parametrize("name", sorted(set(NATIVE_TYPES) & set(fastloop.__all__)))
def test_the_types_themselves_can_be_pickled(name: str) -> None:
    native = getattr(fastloop, name)
    assert pickle.loads(pickle.dumps(native)) is native
    assert copy.deepcopy(native) is native


# --- signals and other globals --------------------------------------------------------


def test_a_loop_that_is_dropped_gives_signals_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    loop = fastloop.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, nothing)
    run_once(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == wakeup_fd
    signal.set_wakeup_fd(wakeup_fd)


def test_a_warning_about_an_open_loop(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


@pytest.mark.parametrize("name", ["time", "is_closed", "is_running", "get_debug"])
def test_what_a_closed_loop_answers(loop: Loop, name: str) -> None:
    before = getattr(loop, name)()
    loop.close()
    after = getattr(loop, name)()
    assert type(after) is type(before)


def test_closing_while_a_future_dies(loop: Loop) -> None:
    """The destructor of what is dropped uses the loop that drops it."""
    only_fastloop(loop, "asyncio closes in another order")
    seen: list[str] = []

    class Dying:
        def __del__(self) -> None:
            for use in (
                lambda: loop.call_soon(nothing),
                lambda: loop.create_task(asyncio.sleep(0)),
                lambda: loop.run_forever(),
                lambda: loop.add_reader(0, nothing),
            ):
                try:
                    use()
                except RuntimeError as exc:
                    seen.append(str(exc))
            loop.close()
            loop.stop()
            gc.collect()

    loop.call_soon(nothing, Dying())
    loop.call_later(100, nothing, Dying())
    with pytest.warns(RuntimeWarning, match="never awaited"):
        loop.close()
    assert seen == ["Event loop is closed"] * 8
