"""Looking for events before sleeping: how long, how often, and nothing is missed."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from .support import Loop

USUAL = 50e-6


def test_duration(fast_loop: Any) -> None:
    assert fast_loop.spin_duration == pytest.approx(USUAL)
    for seconds in 0, 0.001, 0.0005, True * 0.0, 1e-9:
        fast_loop.spin_duration = seconds
        assert fast_loop.spin_duration == pytest.approx(seconds)


@pytest.mark.parametrize("wrong", [-1, -1e-9, 0.0011, float("nan"), float("inf")])
def test_durations_out_of_range(fast_loop: Any, wrong: float) -> None:
    with pytest.raises(ValueError, match=r"from 0 to 0\.001 seconds"):
        fast_loop.spin_duration = wrong
    assert fast_loop.spin_duration == pytest.approx(USUAL)


def test_what_is_no_duration(fast_loop: Any) -> None:
    with pytest.raises(TypeError):
        fast_loop.spin_duration = "long"
    with pytest.raises(AttributeError):
        del fast_loop.spin_duration
    assert fast_loop.spin_duration == pytest.approx(USUAL)


@pytest.mark.parametrize("said", ["0", "0.0005", ""])
def test_environment(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    import fastloop

    monkeypatch.setenv("FASTLOOP_SPIN", said)
    loop: Any = fastloop.new_event_loop()
    try:
        assert loop.spin_duration == pytest.approx(float(said or USUAL))
    finally:
        loop.close()


@pytest.mark.parametrize("said", ["1", "-1", "long", "nan"])
def test_environment_that_is_no_duration(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    import fastloop

    monkeypatch.setenv("FASTLOOP_SPIN", said)
    with pytest.raises(ValueError, match=f"FASTLOOP_SPIN.*seconds.*{said!r}"):
        fastloop.new_event_loop()


@pytest.mark.parametrize("seconds", [0, USUAL, 0.001])
def test_all_that_ends_a_sleep(fast_loop: Any, seconds: float) -> None:
    """Timers, sockets, other threads: each in time, in every order."""
    loop: Loop = fast_loop
    fast_loop.spin_duration = seconds
    done: list[str] = []

    async def timers() -> None:
        for delay in (0, 0.00002, 0.00008, 0.00015, 0.0006, 0.0025) * 10:
            began = loop.time()
            await asyncio.sleep(delay)
            assert loop.time() - began >= delay
        done.append("timers")

    async def threads() -> None:
        for i in range(200):
            assert await loop.run_in_executor(None, lambda i=i: i) == i
        done.append("threads")

    async def sockets() -> None:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            for i in range(200):
                other.send(bytes([i]))
                assert await loop.sock_recv(one, 10) == bytes([i])
        done.append("sockets")

    async def main() -> None:
        for each in timers, threads, sockets:
            await asyncio.wait_for(each(), 30)
        await asyncio.wait_for(asyncio.gather(timers(), threads(), sockets()), 30)

    loop.run_until_complete(main())
    assert done[:3] == ["timers", "threads", "sockets"]
    assert len(done) == 6


SLEEPING = """
import asyncio, fastloop

async def main():
    for _ in range(300):
        await asyncio.sleep({})

fastloop.run(main())
"""


@pytest.mark.parametrize("seconds", [0, 0.0001])
def test_attempts_in_vain_become_rare(
    strace: Callable[..., str], seconds: float
) -> None:
    calls = strace(
        "epoll_wait,epoll_pwait",
        SLEEPING.format(0.002),
        env={"FASTLOOP_SPIN": str(seconds)},
    )
    # the timeouts, in milliseconds
    polls = re.findall(r"epoll_p?wait\(\d+, .*, \d+, (-?\d+)[,)]", calls)
    assert sum(timeout != "0" for timeout in polls) >= 150, calls
    attempts = sum(
        before == "0" and timeout != "0"
        for before, timeout in itertools.pairwise(polls)
    )
    # a loop that wakes up late polls, too, before it runs what is due
    assert attempts <= 30
    assert attempts > (1 if seconds else -1)


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_what_is_shorter_is_not_slept(
    strace: Callable[..., str], seconds: float
) -> None:
    """A sleep that looking for so long can fill is one look."""
    environment = {"FASTLOOP_SPIN": str(seconds)}
    calls = strace("ppoll", SLEEPING.format(0.0008), env=environment)
    if seconds:
        assert "ppoll" not in calls
    else:
        assert calls.count("ppoll") >= 150
