"""Ten thousand connections at once, each of which is answered."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from typing import Any

import pytest
from io_support import (
    DEADLINE,
    HOST,
    LOOPS,
    Echo,
    LoopFactory,
    Recorder,
    asleep,
    isolated,
    until,
)

WANTED = 10_000
AT_ONCE = 200
SPARE = 100  # descriptors for everything else


def take_all_descriptors() -> int:
    """Raise the limit of this process; return how many connections it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard - SPARE)


def serve(kind: str) -> None:
    """What the server's process does: print the port, then serve until it is told."""
    take_all_descriptors()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[Echo] = []

        def accept() -> Echo:
            accepted.append(Echo())
            return accepted[-1]

        server = await loop.create_server(accept, HOST, 0, backlog=1000)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        await until(lambda: all(protocol.lost for protocol in accepted))
        server.close()
        await server.wait_closed()
        print(len(accepted), sum(len(protocol.data) for protocol in accepted))

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())


async def talk_to(port: int, count: int) -> int:
    """Open all connections, use each of them twice, close them; returns the bytes."""
    loop = asyncio.get_running_loop()
    made: list[tuple[Any, Recorder]] = []
    limit = asyncio.Semaphore(AT_ONCE)

    async def connect() -> None:
        async with limit:
            made.append(await loop.create_connection(Recorder, HOST, port))

    await asyncio.gather(*[connect() for _ in range(count)])
    assert len({transport.get_extra_info("sockname") for transport, _ in made}) == count
    sent = [b""] * count
    for word in "first", "second":
        for n, (transport, _) in enumerate(made):
            data = b"%s %d;" % (word.encode(), n)
            transport.write(data)
            sent[n] += data
        await until(lambda: all(map(is_answered, made, sent)))
    assert await asleep()
    for transport, _ in made:
        transport.close()
    await until(lambda: all(protocol.lost for _, protocol in made))
    assert all(protocol.lost_with is None for _, protocol in made)
    return sum(map(len, sent))


def is_answered(made: tuple[Any, Recorder], sent: bytes) -> bool:
    return made[1].data == sent


@pytest.mark.timeout(120)
@isolated
def test_ten_thousand_connections(loop_factory: LoopFactory) -> None:
    count = take_all_descriptors()
    kind = next(name for name, factory in LOOPS.items() if factory is loop_factory)
    program = f"import test_many_connections as m; m.serve({kind!r})"
    server = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server, asyncio.Runner(loop_factory=loop_factory) as runner:
        assert server.stdin is not None and server.stdout is not None
        try:
            size = runner.run(talk_to(int(server.stdout.readline()), count))
            told, _ = server.communicate("end\n", timeout=DEADLINE)
        finally:
            server.kill()
    assert told.split() == [str(count), str(size)]
    assert server.returncode == 0
