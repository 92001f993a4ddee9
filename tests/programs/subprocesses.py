"""Processes and pipes: what programs do with asyncio.subprocess.

A pipeline of processes, many at once with a limit, one that is talked to line by line,
a timeout that kills, signals and exit codes, a shell, files as standard streams, a
protocol of one's own, and a pipe that the program makes and uses itself.
"""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

LINES = b"".join(b"line %d\n" % number for number in range(20_000))
CHAT = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print("you said", line.strip(), flush=True)
print("bye", file=sys.stderr)
sys.exit(3)
"""


async def output_of(*command: str, data: bytes | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL if data is None else PIPE, stdout=PIPE
    )
    output, _ = await process.communicate(data)
    assert process.returncode == 0, process.returncode
    return output


async def pipeline() -> None:
    """Three processes joined by pipes, fed and read at the same time."""
    first, second = os.pipe(), os.pipe()
    source = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=first[1])
    middle = await asyncio.create_subprocess_exec(
        "grep", "7", stdin=first[0], stdout=second[1]
    )
    last = await asyncio.create_subprocess_exec(
        "wc", "-l", stdin=second[0], stdout=PIPE
    )
    for fd in *first, *second:
        os.close(fd)
    results = await asyncio.gather(source.communicate(LINES), last.communicate())
    await middle.wait()
    expected = sum(b"7" in line for line in LINES.splitlines())
    print("pipeline:", int(results[1][0]) == expected, middle.returncode)


async def many() -> None:
    limit = asyncio.Semaphore(10)

    async def one(number: int) -> int:
        async with limit:
            return int(await output_of("sh", "-c", f"echo {number * number}"))

    squares = await asyncio.gather(*[one(number) for number in range(60)])
    print("many:", sum(squares))


async def talk() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHAT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    print("it is", (await process.stdout.readline()).decode().strip())
    for word in b"hello", b"goodbye":
        process.stdin.write(word + b"\n")
        await process.stdin.drain()
        print((await process.stdout.readline()).decode().strip())
    process.stdin.close()
    await process.stdin.wait_closed()
    print((await process.stderr.read()).decode().strip(), await process.wait())


async def timeout() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        async with asyncio.timeout(0.1):
            await process.wait()
    except TimeoutError:
        process.kill()
        print("timeout:", await process.wait() == -signal.SIGKILL)
    process = await asyncio.create_subprocess_shell("kill -TERM $$; sleep 60")
    print("killed itself:", await process.wait() == -signal.SIGTERM)
    try:
        await asyncio.create_subprocess_exec("no-such-program")
    except FileNotFoundError as exc:
        print("not found:", exc.filename)


async def streams() -> None:
    with tempfile.TemporaryFile() as file:
        process = await asyncio.create_subprocess_shell(
            "cat; echo and this >&2", stdin=PIPE, stdout=file, stderr=STDOUT
        )
        await process.communicate(b"this ")
        file.seek(0)
        print("in the file:", file.read())
    environment = {**os.environ, "COLOUR": "blue"}
    process = await asyncio.create_subprocess_shell(
        "echo $COLOUR in $PWD", stdout=PIPE, env=environment, cwd="/"
    )
    print((await process.communicate())[0].decode().strip())


class Collector(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.output: dict[int, bytes] = {1: b"", 2: b""}
        self.ended: asyncio.Future[None] = asyncio.Future()

    def connection_made(self, transport: asyncio.SubprocessTransport) -> None:  # type: ignore
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(None)


async def protocol() -> None:
    loop = asyncio.get_running_loop()
    transport, collector = await loop.subprocess_exec(
        Collector, "sh", "-c", "tr a-z A-Z; echo complaint >&2; exit 5"
    )
    stdin: asyncio.WriteTransport = transport.get_pipe_transport(0)  # type: ignore
    stdin.writelines([b"some ", b"words"])
    stdin.write_eof()
    await collector.ended
    print("protocol:", collector.output, transport.get_returncode())
    transport.close()


async def own_pipe() -> None:
    loop = asyncio.get_running_loop()
    read_fd, write_fd = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
    )
    transport, flow = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(write_fd, "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, flow, None, loop)

    async def produce() -> None:
        for start in range(0, len(LINES), 10_000):
            writer.write(LINES[start : start + 10_000])
            await writer.drain()
        writer.close()

    _, received = await asyncio.gather(produce(), reader.read())
    print("own pipe:", received == LINES)


async def main() -> None:
    for part in pipeline, many, talk, timeout, streams, protocol, own_pipe:
        await part()


if __name__ == "__main__":
    asyncio.run(main())
