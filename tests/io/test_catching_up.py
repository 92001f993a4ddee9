"""What much data has made ready runs before the next stream is read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from io_support import Loop, Recorder, isolated, opened, run_until

import fastloop

SMALL, LARGE = 1000, 100_000  # less and more than is delivered in one go


class Noting(Recorder):
    """Notes what it gets and, in a callback and in a task, that this was used."""

    def __init__(self, name: str, log: list[str], use: Callable[[], None]) -> None:
        super().__init__()
        self.name, self.log, self.use = name, log, use

    def data_received(self, data: bytes) -> None:
        assert asyncio.current_task() is None
        super().data_received(data)
        self.log.append(f"{self.name} got {len(data)}")
        self.transport.write(b"answer")
        loop = asyncio.get_running_loop()
        loop.call_soon(self.use_it)
        self.task = loop.create_task(self.use_in_task())

    def use_it(self) -> None:
        self.log.append(f"{self.name} used it")
        self.use()

    async def use_in_task(self) -> None:
        assert asyncio.current_task() is self.task
        self.log.append(f"{self.name}'s task")


class Two:
    """Two connections, a and b, whose data comes in one poll."""

    def __init__(self, loop: Loop, use: Callable[[], None] = lambda: None) -> None:
        self.loop = loop
        self.log: list[str] = []
        self.peers = []
        self.protocols = []
        for name in "ab":
            ours, peer = socket.socketpair()
            for sock in ours, peer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGE)
            peer.setblocking(False)
            _, protocol = loop.run_until_complete(
                loop.create_unix_connection(
                    lambda name=name: Noting(name, self.log, use), sock=ours
                )
            )
            self.peers.append(peer)
            self.protocols.append(protocol)

    def send(self, size: int) -> None:
        for peer in self.peers:
            assert peer.send(bytes(size)) == size

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        run_until(self.loop, lambda: all(p.lost for p in self.protocols))


@contextlib.contextmanager
def two(loop: Loop, **options: Any) -> Iterator[Two]:
    with contextlib.closing(Two(loop, **options)) as connections:
        yield connections


def uses(name: str) -> list[str]:
    return [f"{name} used it", f"{name}'s task"]


@pytest.mark.parametrize("debug", [False, True])
def test_order(fast_loop: Loop, debug: bool) -> None:
    fast_loop.set_debug(debug)
    with two(fast_loop) as connections:
        log = connections.log
        connections.send(LARGE)
        run_until(fast_loop, lambda: len(log) == 6)
        a, b = f"a got {LARGE}", f"b got {LARGE}"
        assert log == [a, *uses("a"), b, *uses("b")]
        log.clear()
        connections.send(SMALL)
        run_until(fast_loop, lambda: len(log) == 6)
        a, b = f"a got {SMALL}", f"b got {SMALL}"
        assert log == [a, b, *uses("a"), *uses("b")]


def test_what_is_ready_already_keeps_its_place(fast_loop: Loop) -> None:
    with two(fast_loop) as connections:
        log = connections.log
        connections.send(LARGE)
        fast_loop.call_soon(log.append, "scheduled before")
        run_until(fast_loop, lambda: len(log) == 7)
        assert log[1:4] == ["scheduled before", *uses("a")]


def test_stop_within_a_poll(fast_loop: Loop) -> None:
    """The run ends with what was ready; the rest is for the next one."""
    with two(fast_loop, use=fast_loop.stop) as connections:
        log = connections.log
        connections.send(LARGE)
        fast_loop.run_forever()
        assert log == [f"a got {LARGE}", *uses("a")]
        assert connections.peers[0].recv(100) == b"answer"
        fast_loop.run_forever()
        assert log[3:] == [f"b got {LARGE}", *uses("b")]
        assert connections.peers[1].recv(100) == b"answer"


def test_run_that_ends_within_a_poll(fast_loop: Loop) -> None:
    """What a callback that ends the run leaves behind is for the next one."""

    def use() -> None:
        raise SystemExit(3)

    with two(fast_loop, use=use) as connections:
        log = connections.log
        connections.send(LARGE)
        with pytest.raises(SystemExit):
            fast_loop.run_forever()
        assert log == [f"a got {LARGE}", "a used it"]
        assert connections.peers[0].recv(100) == b"answer"
        with pytest.raises(SystemExit):
            fast_loop.run_forever()
        assert log[2:] == [f"b got {LARGE}", "a's task", "b used it"]
        assert connections.peers[1].recv(100) == b"answer"


def test_connection_closed_within_a_poll(fast_loop: Loop) -> None:
    """Of b by what a has made ready: nothing is read from it."""
    connections: Two

    def use() -> None:
        connections.protocols[1].transport.abort()

    with two(fast_loop, use=use) as connections:
        connections.send(LARGE)
        run_until(fast_loop, lambda: connections.protocols[1].lost)
        assert connections.log == [f"a got {LARGE}", *uses("a")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")
@isolated
def test_fork_within_a_poll() -> None:
    """A child that returns into the loop of its parent takes no data from it."""
    children = []
    loop = opened(fastloop.new_event_loop())

    def use() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            children.append(os.fork())
        if not children[-1]:
            signal.alarm(60)

    with two(loop, use=use) as connections:
        connections.send(LARGE)
        try:
            run_until(loop, lambda: len(connections.log) == 6)
        except RuntimeError as exc:
            assert "parent process" in str(exc)
            os._exit(77 if f"b got {LARGE}" in connections.log else 78)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        assert list(map(os.waitstatus_to_exitcode, statuses)) == [78, 77]
    loop.close()
