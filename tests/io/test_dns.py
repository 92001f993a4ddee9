"""getaddrinfo() and getnameinfo(): the answers of the socket module, in every case.

Nothing here asks a name server.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from io_support import HOST, Loop, LoopFactory, call, isolated, outcome, run_python

import fastloop

NUMERIC: list[Any] = [
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "1.2.3.4",
    "127.1",
    "1.2.3",
    "1.2",
    "1",
    "0",
    "2130706433",
    "0x7f.1",
    "0X7F.0.0.1",
    "0x7f000001",
    "0177.0.0.01",
    "01.02.03.04",
    "::",
    "::1",
    "0:0:0:0:0:0:0:1",
    "2001:DB8::1",
    "2001:db8:0:0:0:0:0:0",
    "::ffff:1.2.3.4",
    "::1.2.3.4",
    "64:ff9b::1.2.3.4",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "fe80::1%99",
    "fe80::1%4294967295",
    "ff02::1%lo",
    b"127.0.0.1",
    b"::1",
    b"127.1",
    "\uff11\uff12\uff17.0.0.1",  # full-width digits
    "127\u30020\u30020\u30021",  # ideographic full stops
    None,
]
# what a name server might be asked for, if it were not forbidden
ODD: list[Any] = [
    "",
    " ",
    " 127.0.0.1",
    "127.0.0.1 ",
    "127.0.0.1\n",
    "127.0.0.1.",
    "1.2.3.4.5",
    "1..2",
    ".1",
    "256.1.1.1",
    "1.2.3.256",
    "1.2.65536",
    "4294967296",
    "08.1.1.1",
    "0x",
    "0xg",
    "x",
    "-1",
    "+1",
    "1e3",
    "face",
    "dead.beef",
    ":",
    ":::",
    "1:2",
    "1:2:3:4:5:6:7:8:9",
    "::g",
    "[::1]",
    "::1/128",
    "::1%",
    "::1%lo",
    "%lo",
    "fe80::1%no such interface",
    "fe80::1%lo%lo",
    "127.0.0.1%lo",
    "a" * 79,
    "1" * 79,
    "1" * 80,
    "1" * 300,
    "1.2.3.4\0",
    "1.2.3.4\0x",
    b"1.2.3.4\0x",
    b"",
    b"\xff",
    "\u0661.1.1.1",  # Arabic digits
    "\ud800",
    bytearray(b"127.0.0.1"),
    memoryview(b"127.0.0.1"),
    127,
    1.5,
    [],
    object,
]
PORTS: list[Any] = [
    None,
    0,
    1,
    80,
    65535,
    65536,
    70000,
    -1,
    -65536,
    2**31,
    2**40,
    2**63 - 1,
    2**63,
    -(2**63),
    2**100,
    "0",
    "80",
    "080",
    " 80",
    "80 ",
    "65536",
    "-1",
    "",
    "http",
    "https",
    "no such service",
    b"80",
    b"http",
    "\uff18\uff10",
    "80\0",
    True,
    80.0,
    [],
    bytearray(b"80"),
]
FAMILIES: list[Any] = [
    0,
    socket.AF_INET,
    socket.AF_INET6,
    socket.AF_UNIX,
    int(socket.AF_INET),
    -1,
    12345,
]
TYPES: list[Any] = [
    0,
    socket.SOCK_STREAM,
    socket.SOCK_DGRAM,
    socket.SOCK_RAW,
    int(socket.SOCK_STREAM),
    77,
    -1,
]
PROTOS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 255, -1]
FLAGS: list[Any] = [
    0,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_V4MAPPED,
    socket.AI_V4MAPPED | socket.AI_ALL,
    socket.AI_ADDRCONFIG,
    socket.AI_PASSIVE | socket.AI_CANONNAME | socket.AI_NUMERICSERV,
    1 << 20,
    -1,
]

Case = tuple[Any, Any, Any, Any, Any, Any]


def no_names(flags: Any) -> Any:
    return flags | socket.AI_NUMERICHOST


def cases() -> Iterable[Case]:
    """Each pair of parameters in full; of everything together, a sample."""
    yield from itertools.product(NUMERIC, PORTS, [0], [0], [0], [0])
    yield from itertools.product(NUMERIC, [80], FAMILIES, TYPES, [0], [0])
    yield from itertools.product(NUMERIC, [80], FAMILIES, [0], [0], FLAGS)
    yield from itertools.product(["127.0.0.1", "::1"], [80], [0], TYPES, PROTOS, [0])
    forbidden = [socket.AI_NUMERICHOST]
    yield from itertools.product(
        ODD, [None, 80, "80"], FAMILIES[:3], [1], [0], forbidden
    )
    rng = random.Random(1)
    everything = [NUMERIC + ODD, PORTS, FAMILIES, TYPES, PROTOS]
    for _ in range(4000):
        yield *map(rng.choice, everything), no_names(rng.choice(FLAGS))  # type: ignore[misc]


def strict(answer: Any) -> Any:
    """Such that an int is not taken for a member of an enum."""
    return repr(answer)


def test_getaddrinfo_answers_as_the_socket_module(fast_loop: Loop) -> None:
    async def main() -> None:
        wrong = []
        for host, port, *numbers in cases():
            names = "family", "type", "proto", "flags"
            keywords = dict(zip(names, numbers, strict=True))
            answer = await outcome(fast_loop.getaddrinfo(host, port, **keywords))
            expected = call(socket.getaddrinfo, host, port, **keywords)
            if strict(answer) != strict(expected):
                wrong.append(((host, port, keywords), answer, expected))
        assert wrong == []
        await fast_loop.shutdown_default_executor()

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("number", [2**31, 2**32, 2**32 + socket.AF_INET, 2**64])
@pytest.mark.parametrize("name", ["family", "type", "proto", "flags"])
def test_numbers_that_do_not_fit(fast_loop: Loop, name: str, number: int) -> None:
    """They are not cut to what fits."""

    async def main() -> None:
        keywords = {name: number}
        answer = await outcome(fast_loop.getaddrinfo(HOST, 80, **keywords))
        assert answer == call(socket.getaddrinfo, HOST, 80, **keywords)
        await fast_loop.shutdown_default_executor()

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("wrong", ["2", None, 2.0, []], ids=repr)
@pytest.mark.parametrize("name", ["family", "type", "proto", "flags"])
def test_what_is_no_number(fast_loop: Loop, name: str, wrong: Any) -> None:
    async def main() -> None:
        keywords = {name: wrong}
        answer = await outcome(fast_loop.getaddrinfo(HOST, 80, **keywords))
        assert answer == call(socket.getaddrinfo, HOST, 80, **keywords)
        await fast_loop.shutdown_default_executor()

    fast_loop.run_until_complete(main())


def test_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)

    async def main() -> None:
        for host, port in itertools.product(["127.1", "::1", b"::1"], [80, "80", None]):
            answer = await outcome(loop.getaddrinfo(host, port))
            assert strict(answer) == strict(socket.getaddrinfo(host, port))
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_options_are_keywords(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await loop.getaddrinfo(HOST, 80, socket.AF_INET)  # type: ignore[misc]
        with pytest.raises(TypeError):
            await loop.getaddrinfo(HOST)  # type: ignore[call-arg]

    loop.run_until_complete(main())


# --- getnameinfo() ------------------------------------------------------------------

ADDRESSES: list[Any] = [
    ("127.0.0.1", 80),
    ("127.1", 80),
    ("0.0.0.0", 0),
    ("::1", 80),
    ("::1", 80, 0, 0),
    ("fe80::1", 80, 0, 1),
    ("fe80::1%lo", 80, 0, 0),
    ("::ffff:1.2.3.4", 80),
    ("127.0.0.1", 65535),
    ("127.0.0.1", 65536),
    ("127.0.0.1", -1),
    ("127.0.0.1", 80, 0, 0),
    ("127.0.0.1",),
    ("::1", 80, 1 << 20, 0),
    ("::1", 80, 0, 0, 0),
    (b"127.0.0.1", 80),
    ("127.0.0.1", "80"),
    (None, 80),
    (127, 80),
    (),
    ["127.0.0.1", 80],
    "127.0.0.1",
    None,
]
NAME_FLAGS: list[Any] = [
    socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
    socket.NI_NUMERICHOST,
    socket.NI_NUMERICHOST | socket.NI_DGRAM,
    socket.NI_NUMERICHOST | socket.NI_NUMERICSERV | socket.NI_NAMEREQD,
    -1,
    2**40,
    "2",
    None,
]


def test_getnameinfo_answers_as_the_socket_module(fast_loop: Loop) -> None:
    async def main() -> None:
        wrong = []
        for address, flags in itertools.product(ADDRESSES, NAME_FLAGS):
            answer = await outcome(fast_loop.getnameinfo(address, flags))
            expected = call(socket.getnameinfo, address, flags)
            if answer != expected:
                wrong.append((address, flags, answer, expected))
        assert wrong == []
        await fast_loop.shutdown_default_executor()

    fast_loop.run_until_complete(main())


# --- who does the work --------------------------------------------------------------


class CountingExecutor(concurrent.futures.ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(1)
        self.submitted: list[Any] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.submitted.append((function, args))
        return super().submit(function, *args, **kwargs)


def test_numbers_need_no_thread(fast_loop: Loop) -> None:
    executor = CountingExecutor()
    fast_loop.set_default_executor(executor)

    async def main() -> None:
        before = threading.active_count()
        for host, port in itertools.product(NUMERIC[:32], [None, 0, 80]):
            await outcome(fast_loop.getaddrinfo(host, port))
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        await fast_loop.getnameinfo((HOST, 80), numeric)
        assert executor.submitted == []
        assert threading.active_count() == before
        await fast_loop.shutdown_default_executor()

    fast_loop.run_until_complete(main())


def test_connecting_to_numbers_needs_no_thread(loop: Loop) -> None:
    executor = CountingExecutor()
    loop.set_default_executor(executor)

    async def main(debug: bool) -> None:
        loop.set_debug(debug)
        server = await loop.create_server(asyncio.Protocol, HOST, 0)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
        server.close()
        await asyncio.sleep(0.01)
        assert executor.submitted == []

    loop.run_until_complete(main(debug=False))
    loop.run_until_complete(main(debug=True))
    loop.run_until_complete(loop.shutdown_default_executor())


NAMES: list[Any] = [("localhost", 80), (HOST, "http"), (None, "80"), ("x", None)]


def test_names_are_for_the_default_executor(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = CountingExecutor()
    loop.set_default_executor(executor)
    forbidden = {"flags": socket.AI_NUMERICHOST}

    async def main() -> None:
        for host, port in NAMES:
            await outcome(loop.getaddrinfo(host, port, **forbidden))
        assert [args[:2] for _, args in executor.submitted] == NAMES
        executor.submitted.clear()
        await loop.getnameinfo((HOST, 80), socket.NI_NUMERICHOST)
        assert len(executor.submitted) == 1
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


@pytest.mark.parametrize("host", ["name.test", HOST, None])
def test_replaced_function_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, host: Any
) -> None:
    asked: list[Any] = []

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, threading.current_thread()))
        return ["answer"]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        assert await loop.getaddrinfo(host, 80, proto=6) == ["answer"]
        [(args, thread)] = asked
        assert args[:2] == (host, 80)
        assert thread is not threading.main_thread()
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_replaced_getnameinfo_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: ("answer", args))
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

    async def main() -> None:
        for flags in 0, numeric:
            expected = ("answer", ((HOST, 80), flags))
            assert await loop.getnameinfo((HOST, 80), flags) == expected
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


EARLY = """
import socket
socket.getaddrinfo = lambda *args, **kwargs: ["answer"]
socket.getnameinfo = lambda *args: ("answer", "")
import asyncio, fastloop

async def main():
    loop = asyncio.get_running_loop()
    print(await loop.getaddrinfo("127.0.0.1", 80))
    print(await loop.getnameinfo(("127.0.0.1", 80), 3))

fastloop.run(main())
"""


def test_function_replaced_before_the_import_is_called() -> None:
    """Whoever patches the socket module does so as early as they can."""
    result = run_python("-c", EARLY)
    assert result.stderr == ""
    assert result.stdout == "['answer']\n('answer', '')\n"


def test_overridden_method_is_called(loop: Loop) -> None:
    """By create_connection() and create_server(), for names."""
    asked: list[Any] = []

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]

    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, "a.test", 0)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(asyncio.Protocol, "b.test", port)
        transport.abort()
        server.close()
        await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    assert asked[:1] == ["a.test"]
    assert "b.test" in asked


@isolated
def test_audit_event(loop_factory: LoopFactory) -> None:
    """A hook hears of every lookup, once."""
    heard: list[Any] = []

    def hook(event: str, args: Any) -> None:
        if event == "socket.getaddrinfo":
            heard.append(args)

    sys.addaudithook(hook)
    loop = loop_factory()

    async def main() -> None:
        lookups: list[Callable[[], Any]] = [
            lambda: loop.getaddrinfo(HOST, 80),
            lambda: loop.getaddrinfo("::1", None, family=socket.AF_INET6),
            lambda: loop.getaddrinfo(HOST, "80"),
            lambda: loop.getaddrinfo("1.2.3.4.5", 80, flags=socket.AI_NUMERICHOST),
            lambda: loop.getaddrinfo(HOST, 80, family=socket.AF_INET6),
        ]
        for lookup in lookups:
            await outcome(lookup())
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()
    assert [args[:3] for args in heard] == [
        (HOST, 80, 0),
        ("::1", None, socket.AF_INET6),
        (HOST, "80", 0),
        ("1.2.3.4.5", 80, 0),
        (HOST, 80, socket.AF_INET6),
    ], heard


@isolated
def test_audit_hook_may_refuse() -> None:
    def hook(event: str, args: Any) -> None:
        if event == "socket.getaddrinfo" and args[0] == "1.2.3.4":
            raise PermissionError("no lookups here")

    sys.addaudithook(hook)
    loop = fastloop.new_event_loop()
    with pytest.raises(PermissionError, match="no lookups here"):
        loop.run_until_complete(loop.getaddrinfo("1.2.3.4", 80))
    loop.close()
