"""asyncio as it was written in the days of Python 3.6.

No asyncio.run(), no TaskGroup: a loop that is made, set, run until something stops
it, run again, and closed by hand.  Programs like this one are still everywhere.
"""

import asyncio


class Clock:
    """Ticks by call_later() and stops the loop after a number of ticks."""

    def __init__(self, loop, ticks):
        self.loop = loop
        self.left = ticks
        self.history = []

    def start(self):
        self.handle = self.loop.call_later(0.01, self.tick)

    def tick(self):
        self.left -= 1
        self.history.append("tick" if self.left % 2 else "tock")
        if self.left:
            self.start()
        else:
            self.loop.stop()


async def greet(name, turns):
    for _ in range(turns):
        await asyncio.sleep(0)
    return f"hello {name}"


async def numbers():
    try:
        for n in range(1000):
            yield n
            await asyncio.sleep(0)
    finally:
        print("numbers() was closed")


async def take_some(generator):
    async for n in generator:
        if n == 3:
            return n


async def heartbeat():
    try:
        while True:
            await asyncio.sleep(0.01)
    finally:
        print("the heart stops")


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"hello " + data)
        self.transport.close()


async def ask(host, port, name):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(name.encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


def run_until_stopped(loop):
    clock = Clock(loop, 6)
    clock.start()
    cancelled = loop.call_later(0.02, print, "this is never printed")
    cancelled.cancel()
    loop.run_forever()
    print("stopped after:", *clock.history)

    loop.call_soon(print, "stop() before run_forever() lets one turn pass")
    loop.call_soon(loop.call_soon, print, "and this waits for the next run")
    loop.stop()
    loop.run_forever()
    print("stopped")
    loop.run_until_complete(asyncio.sleep(0))


def run_until_complete(loop):
    print(loop.run_until_complete(greet("you", 1)))
    names = ["ann", "bob", "carol"]
    print(loop.run_until_complete(asyncio.gather(*(greet(n, len(n)) for n in names))))

    future = loop.create_future()
    loop.call_later(0.01, future.set_result, "from a callback")
    print(loop.run_until_complete(future))

    task = loop.create_task(greet("stranger", 10**9))
    loop.call_later(0.01, task.cancel)
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        print("cancelled:", task.cancelled())

    first = asyncio.ensure_future(greet("early bird", 2), loop=loop)
    second = asyncio.ensure_future(greet("late riser", 50), loop=loop)
    done, pending = loop.run_until_complete(
        asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    )
    print("done:", [task.result() for task in done], "pending:", len(pending))
    print("later:", loop.run_until_complete(second))

    loop.call_soon(loop.stop)
    try:
        loop.run_until_complete(loop.create_future())
    except RuntimeError as exc:
        print("stopped too early:", exc)


def serve(loop):
    coroutine = loop.create_server(Greeter, "127.0.0.1", 0)
    server = loop.run_until_complete(coroutine)
    host, port = server.sockets[0].getsockname()
    visits = [ask(host, port, f"visitor {n}") for n in range(3)]
    print(loop.run_until_complete(asyncio.gather(*visits)))
    server.close()
    loop.run_until_complete(server.wait_closed())


def main():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    print("the current loop:", asyncio.get_event_loop() is loop)
    generator = numbers()
    heart = loop.create_task(heartbeat())
    try:
        run_until_stopped(loop)
        run_until_complete(loop)
        work = loop.run_in_executor(None, sum, [1, 2, 3])
        print("summed in a thread:", loop.run_until_complete(work))
        serve(loop)
        loop.run_until_complete(take_some(generator))
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        ends = asyncio.gather(*pending, return_exceptions=True)
        print("still pending at the end:", len(loop.run_until_complete(ends)))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    print("the heart stopped:", heart.cancelled())
    print("running:", loop.is_running(), "closed:", loop.is_closed())
    try:
        loop.call_soon(print)
    except RuntimeError as exc:
        print(exc)

    other = asyncio.new_event_loop()
    print("another loop:", other.run_until_complete(greet("again", 1)))
    other.close()
    asyncio.set_event_loop(None)


if __name__ == "__main__":
    main()
