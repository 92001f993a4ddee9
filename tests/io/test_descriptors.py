"""Thousands of operations, each cancelled at a random await, leave no descriptor.

Every call that opens, uses or closes a descriptor is seen by a library that is
preloaded (watch_descriptors.c): a number that was closed is a decoy's from then on, and
who touches it is caught.  cancelling.py is what runs with it.

With FASTLOOP_TEST_ALL=1 ten thousand of each kind are cancelled.  FASTLOOP_TEST_SEED
runs again what has failed.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from io_support import run_python

ALL = os.environ.get("FASTLOOP_TEST_ALL") == "1"
COUNT = 10_000 if ALL else 200
TIMEOUT = 600 if ALL else 100  # of what takes a minute, or a second
HERE = Path(__file__).resolve().parent

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library"),
    pytest.mark.timeout(TIMEOUT + 20),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that watches descriptors, compiled."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    if shutil.which(compiler[0]) is None:
        if ALL:
            pytest.fail(f"there is no {compiler[0]}")
        pytest.skip(f"there is no {compiler[0]}")
    path = str(tmp_path_factory.mktemp("watch") / "watch.so")
    source = str(HERE / "watch_descriptors.c")
    options = "-std=gnu11 -O1 -fPIC -shared -fno-builtin -Wall -Wextra -Werror"
    command = [*compiler, *options.split(), source, "-o", path, "-ldl", "-lpthread"]
    # sanitizers are for us only
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.run(command, check=True, env=env)
    return path


def run_watched(library: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    preloaded = f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()
    return run_python(*arguments, timeout=TIMEOUT, LD_PRELOAD=preloaded)


# --- the detector -------------------------------------------------------------------

PROLOGUE = """
import os, socket, sys
from cancelling import Watch
watch = Watch(sys.argv[1])
watch.begin()
sock = socket.socket()
number = sock.fileno()
"""


@pytest.mark.parametrize(
    ("misdeed", "told"),
    [
        ("os.close(number); os.close(number)", "closed a second time"),
        ("os.close(number); sock.close()", "closed a second time"),
        ("sock.close(); os.write(number, b'x')", "write({}): used after it"),
        ("os.close(number); sock.setblocking(False)", "used after it was closed"),
        ("os.close(number); sock.listen()", "listen({}): used after it was closed"),
        ("os.close(12345)", "is not open"),
        ("os.dup(number); sys.exit(str(watch.left()))", "fcntl"),
        ("os.dup(number); watch.end()", "AssertionError"),
    ],
)
def test_misdeed_is_caught(library: str, misdeed: str, told: str) -> None:
    code = f"{PROLOGUE}{misdeed}\nos._exit(0)"
    result = run_watched(library, "-c", code, library)
    assert result.returncode
    assert told.partition("{")[0] in result.stderr
    assert told.partition("}")[2] in result.stderr


def test_good_deeds_are_counted(library: str) -> None:
    code = f"""{PROLOGUE}
sock.bind(("127.0.0.1", 0))
sock.listen()
before = watch.calls("close")
for _ in range(10_000):
    os.close(os.dup(0))
assert watch.calls("close") - before == 10_000
client = socket.create_connection(sock.getsockname())
accepted, _ = sock.accept()
assert set(watch.left()) == {{s.fileno() for s in (sock, client, accepted)}}
for each in sock, client, accepted:
    each.close()
assert watch.left() == {{}}
assert [watch.calls(name) for name in ("listen", "connect")] == [1, 1]
watch.end()
"""
    result = run_watched(library, "-c", code, library)
    if result.returncode or result.stderr:
        pytest.fail(result.stderr)


# --- the evidence -------------------------------------------------------------------


@pytest.mark.parametrize("what", ["connects", "accepts", "handshakes", "processes"])
def test_cancelled_at_random_awaits(library: str, what: str) -> None:
    seed = os.environ.get("FASTLOOP_TEST_SEED") or str(random.getrandbits(32))
    program = str(HERE / "cancelling.py")
    result = run_watched(library, program, library, "fastloop", what, str(COUNT), seed)
    if result.returncode or result.stderr:
        pytest.fail(f"FASTLOOP_TEST_SEED={seed}: {result.stdout}\n{result.stderr}")
    told = json.loads(result.stdout)
    assert told["ended"]["cancelled"] >= COUNT
    assert told["calls"] >= COUNT / 10  # it was looked at what is meant
    if ALL:  # each way, at each of its first awaits
        missed = {
            (way, number)
            for way, awaits in told["awaits"].items()
            for number in range(min(awaits, 2))
        } - {(way, number) for way, number in told["cancelled"]}
        assert missed == set()


# --- the garbage collector ------------------------------------------------------------

FORGETTING = """
import asyncio, gc, os, socket, sys, warnings
import fastloop
from cancelling import Watch
from io_support import HOST, Recorder, run_once, tcp_pair, turns

warnings.simplefilter("ignore", ResourceWarning)


class Unfinished(fastloop.Loop):
    def __del__(self):
        pass


class Datagrams(asyncio.DatagramProtocol):
    pass


async def take_over():
    ours, peer = tcp_pair()
    transport, protocol = await asyncio.get_running_loop().create_connection(
        Recorder, sock=ours
    )
    protocol.cycle = [transport, ours, peer]


async def ask_for_the_socket():
    ours, peer = tcp_pair()
    transport, protocol = await asyncio.get_running_loop().create_connection(
        Recorder, sock=ours
    )
    protocol.cycle = [transport.get_extra_info("socket"), transport, peer]


async def bind():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, sock=sock
    )
    protocol.cycle = [sock, transport, protocol]


async def serve():
    server = await asyncio.get_running_loop().create_server(Recorder, HOST, 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await turns()


async def open_pipes():
    loop = asyncio.get_running_loop()
    for number, mode, connect in zip(
        os.pipe(), ("rb", "wb"), (loop.connect_read_pipe, loop.connect_write_pipe)
    ):
        transport, protocol = await connect(Recorder, os.fdopen(number, mode, 0))
        protocol.cycle = [transport, protocol]


async def watch_sockets():
    a, b = socket.socketpair()
    asyncio.get_running_loop().add_reader(a, print, a, b)
    asyncio.get_running_loop().add_writer(b, print, a, b)


def forget(make, scene):
    made = make()
    made.run_until_complete(scene())


scenes = take_over, ask_for_the_socket, bind, serve, open_pipes, watch_sockets
first = fastloop.new_event_loop()  # libuv keeps a pipe for good
first.run_until_complete(asyncio.sleep(0.001))
first.close()
watch = Watch(sys.argv[1])
watch.begin()
gc.disable()
for make in fastloop.Loop, Unfinished:
    for scene in scenes:
        forget(make, scene)
        gc.collect()
        gc.collect()
        assert not watch.left(), (scene, watch.left())
for scene in scenes:  # all in one
    forget(fastloop.Loop, scene)
gc.collect()
gc.collect()
assert not watch.left(), watch.left()
watch.end()
"""


def test_loops_that_are_forgotten(library: str) -> None:
    """Finalisers of loop and sockets run in any order; each number is closed once."""
    result = run_watched(library, "-c", FORGETTING, library)
    if result.returncode or result.stderr:
        pytest.fail(result.stderr)
