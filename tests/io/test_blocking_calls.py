"""Programs may be run with tools that fail them for calls that block in a loop.

Where asyncio makes such calls itself, the tools forgive it and know it by the names of
its files: what passes on asyncio has to pass here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from io_support import HOST, Loop, LoopFactory, Recorder, isolated, until

FORGIVEN = {
    "read": {"subprocess_exec", "subprocess_shell"},
    "stat": {"create_unix_server", "_stop_serving"},
    "unlink": {"_stop_serving"},
    "sendfile": {"sendfile", "_sock_sendfile_native_impl"},
}


def _is_forgiven(name: str) -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if "asyncio" in code.co_filename and code.co_name in FORGIVEN[name]:
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def blocking_calls() -> Iterator[list[str]]:
    """Yield a list of those that are made under a running loop."""
    seen: list[str] = []

    def watched(name: str, actual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if asyncio._get_running_loop() is not None and not _is_forgiven(name):
                seen.append(name)
            return actual(*args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for name in FORGIVEN:
            call = watched(name, getattr(os, name))
            stack.enter_context(mock.patch.object(os, name, call))
        yield seen


def test_tool_sees_calls(loop: Loop) -> None:
    async def main() -> None:
        os.stat(".")

    with blocking_calls() as seen:
        loop.run_until_complete(main())
    assert seen == ["stat"]


@isolated
def test_starting_a_process(loop_factory: LoopFactory) -> None:
    loop = loop_factory()

    async def main() -> None:
        # preexec_fn: the way that reads the child's errors, on every version
        proc = await asyncio.create_subprocess_exec("true", preexec_fn=os.getpid)
        assert asyncio.get_running_loop() is loop
        assert await proc.wait() == 0
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/nowhere", preexec_fn=os.getpid)
        assert asyncio.get_running_loop() is loop

    with blocking_calls() as seen:
        loop.run_until_complete(main())
    assert seen == []
    loop.close()


def test_listening_at_a_path(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "listening")
        for _ in range(2):
            server = await loop.create_unix_server(Recorder, path)
            server.close()
            await server.wait_closed()

    with blocking_calls() as seen:
        loop.run_until_complete(main())
    assert seen == []


def test_sending_a_file(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data" * 1000)
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    async def main() -> None:
        server = await loop.create_server(factory, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(asyncio.Protocol, HOST, port)
        with open(path, "rb") as file:
            assert await loop.sendfile(transport, file) == 4000
        transport.close()
        await until(lambda: protocols and protocols[0].lost)
        assert bytes(protocols[0].data) == b"data" * 1000
        server.close()
        await server.wait_closed()

    with blocking_calls() as seen:
        loop.run_until_complete(main())
    assert seen == []
