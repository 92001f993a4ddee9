"""The interpreter ends, whatever of a loop is still there: in order, and as quietly as
with asyncio.

Each program runs in a process of its own, on asyncio and on fastloop, and must print
the same and end with the same code.
"""

from __future__ import annotations

import re

import pytest

from .support import run_python

PROGRAMS: dict[str, str] = {}

PROGRAMS["an open loop"] = """
    loop = new_event_loop()
    loop.call_soon(print, "never")
    loop.call_later(1000, print, "never")
    print("end")
    """

PROGRAMS["a loop that is its own attribute"] = """
    loop = new_event_loop()
    loop.me = loop
    loop.call_soon(loop.stop)
    loop.run_forever()
    print("end")
    """

PROGRAMS["pending tasks"] = """
    loop = new_event_loop()
    async def wait():
        try:
            await loop.create_future()
        finally:
            print("closed")
    tasks = [loop.create_task(wait()) for _ in range(3)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    print("end")
    """

PROGRAMS["pending tasks of a closed loop"] = """
    loop = new_event_loop()
    async def wait():
        await loop.create_future()
    tasks = [loop.create_task(wait()) for _ in range(3)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    print("end")
    """

PROGRAMS["a task nobody holds"] = """
    loop = new_event_loop()
    async def wait():
        await loop.create_future()
    task = loop.create_task(wait())
    loop.call_soon(loop.stop)
    loop.run_forever()
    task.self = task
    del task, wait
    """

PROGRAMS["a task that was never started"] = """
    loop = new_event_loop()
    task = loop.create_task(asyncio.sleep(1))
    """

PROGRAMS["a task kept by a module"] = """
    loop = new_event_loop()
    future = loop.create_future()
    future.add_done_callback(lambda _: None)
    async def wait():
        await future
    sys.modules["kept"] = loop.create_task(wait())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    """

PROGRAMS["an exception nobody asked for"] = """
    loop = new_event_loop()
    future = loop.create_future()
    future.set_exception(ValueError("lost"))
    """

PROGRAMS["open connections"] = """
    loop = new_event_loop()
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            transport.write(bytes(1 << 20))
        def connection_lost(self, exc):
            print("lost")
    async def main():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        client = await loop.create_connection(Protocol, *address)
        await asyncio.sleep(0.01)
        return server, client
    keep = loop.run_until_complete(main())
    print("end")
    """

PROGRAMS["open streams, nothing kept"] = """
    async def serve(reader, writer):
        await reader.read()
    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.sleep(0.01)
    loop = new_event_loop()
    loop.run_until_complete(main())
    print("end")
    """

PROGRAMS["watched descriptors"] = """
    import socket
    loop = new_event_loop()
    ours, peer = socket.socketpair()
    loop.add_reader(ours, print)
    loop.add_writer(peer, print, loop)
    ours.close()
    """

PROGRAMS["signal handlers"] = """
    loop = new_event_loop()
    loop.add_signal_handler(signal.SIGTERM, print)
    loop.call_soon(loop.stop)
    loop.run_forever()
    """

PROGRAMS["exit in a callback"] = """
    loop = new_event_loop()
    loop.call_soon(sys.exit, 3)
    loop.call_soon(print, "never")
    loop.run_forever()
    """

PROGRAMS["exit in a task"] = """
    async def main():
        pending = asyncio.ensure_future(asyncio.sleep(100))
        pending._log_destroy_pending = False
        await asyncio.sleep(0)
        sys.exit(4)
    loop = new_event_loop()
    loop.run_until_complete(main())
    """

PROGRAMS["exit in a protocol"] = """
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"x")
        def data_received(self, data):
            sys.exit(5)
    loop = new_event_loop()
    async def main():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        await loop.create_connection(Protocol, *server.sockets[0].getsockname())
        await asyncio.sleep(100)
    task = loop.create_task(main())
    task._log_destroy_pending = False
    loop.run_until_complete(task)
    """

PROGRAMS["hard exit"] = """
    loop = new_event_loop()
    loop.call_soon(os._exit, 6)
    loop.run_forever()
    """

PROGRAMS["a loop that runs at exit"] = """
    import atexit
    loop = new_event_loop()
    @atexit.register
    def end():
        loop.run_until_complete(asyncio.sleep(0.001))
        print("ran")
        loop.close()
    """

PROGRAMS["a loop made by a destructor at exit"] = """
    class Last:
        def __init__(self):
            self.new_event_loop = new_event_loop
        def __del__(self):
            try:
                loop = self.new_event_loop()
                loop.call_soon(loop.stop)
                loop.run_forever()
                loop.close()
            except Exception:
                pass  # asyncio cannot do it any more
    sys.modules["last"] = Last()
    """

PROGRAMS["callbacks held by a thread's locals"] = """
    local = threading.local()
    loop = new_event_loop()
    local.handle = loop.call_later(1000, print)
    local.future = loop.create_future()
    local.iterator = iter(local.future)
    def run():
        local.loop = new_event_loop()
        local.loop.close()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    """

PROGRAMS["an asynchronous generator"] = """
    async def count():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
    generator = count()
    async def main():
        async for _ in generator:
            break
    loop = new_event_loop()
    loop.run_until_complete(main())
    """

PROGRAMS["executor threads at work"] = """
    loop = new_event_loop()
    loop.run_in_executor(None, time.sleep, 0.1)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    print("end")
    """

PROGRAMS["executor threads that answer a loop left open"] = """
    loop = new_event_loop()
    loop.run_in_executor(None, time.sleep, 0.05)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    print("end")
    """

PROGRAMS["threads that call in"] = """
    loop = new_event_loop()
    def call():
        while True:
            try:
                loop.call_soon_threadsafe(int)
            except RuntimeError:
                return
    for _ in range(4):
        threading.Thread(target=call, daemon=True).start()
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    print("end")
    """

PROGRAMS["threads that run busy loops"] = """
    ready = threading.Semaphore(0)
    def run():
        async def tick():
            while True:
                await asyncio.sleep(0)
        loop = new_event_loop()
        loop.call_later(0.01, ready.release)
        loop.run_until_complete(tick())
    for _ in range(3):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(3):
        ready.acquire()
    print("end")
    """

PROGRAMS["threads that run loops which sleep"] = """
    ready = threading.Semaphore(0)
    def run():
        loop = new_event_loop()
        loop.call_soon(ready.release)
        loop.call_later(1000, print)
        loop.run_forever()
    for _ in range(3):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(3):
        ready.acquire()
    time.sleep(0.01)
    print("end")
    """

PROGRAMS["a thread that wakes up while the process ends"] = """
    import atexit
    ready = threading.Event()
    def run():
        loop = new_event_loop()
        loop.call_soon(ready.set)
        for i in range(200):
            loop.call_later(i / 1000, int)
        loop.run_forever()
    threading.Thread(target=run, daemon=True).start()
    ready.wait()
    atexit.register(time.sleep, 0.02)
    class Slow:
        def __del__(self):
            self.sleep(0.05)
    Slow.sleep = time.sleep
    slow = Slow()
    """

PROGRAMS["interrupted by the keyboard"] = """
    async def main():
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(100)
        finally:
            print("cancelled")
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """

PROGRAMS["an exception in the program"] = """
    loop = new_event_loop()
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    print(1 / 0)
    """


def complaints(text: str) -> list[str]:
    """Sorted: the collector decides what goes first.  Without the places that they come
    from, which are lines of either library."""
    return sorted(re.sub(r"^\S+:\d+: ", "", line) for line in text.splitlines())


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_exit(name: str) -> None:
    stock, ours = (
        run_python(PROGRAMS[name], loop=loop) for loop in ("asyncio", "fastloop")
    )
    assert stock.returncode >= 0
    assert (ours.returncode, ours.stdout) == (stock.returncode, stock.stdout)
    assert complaints(ours.stderr) == complaints(stock.stderr)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_exit_in_development_mode(name: str) -> None:
    """What was left open is told, and nothing fails but what needs an import."""
    result = run_python(PROGRAMS[name], options=("-X", "dev"))
    assert 0 <= result.returncode <= 6, result.stderr
    assert "SystemError" not in result.stderr
    # asyncio, too, looks up source lines then
    failures = result.stderr.count("Exception ignored in")
    assert failures <= result.stderr.count("Python is likely shutting down")


@pytest.mark.parametrize("name", ["open connections", "pending tasks", "an open loop"])
def test_exit_without_a_collection(name: str) -> None:
    """All that is left is for the very end of the interpreter."""
    program = "gc.disable()\ngc.freeze()\n" + "\n".join(
        line[4:] for line in PROGRAMS[name].splitlines()
    )
    result = run_python(program)
    assert result.returncode == 0, result.stderr
    assert "end" in result.stdout
