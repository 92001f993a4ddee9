"""TLS: start_tls, layers of TLS, and what an SSLContext can do."""

from __future__ import annotations

import _ssl
import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from io_support import (
    AUTHORITY,
    HOST,
    LOCALHOST,
    OTHER,
    Echo,
    Recorder,
    collect_reports,
    descriptors,
    reset,
    tcp_pair,
    tls_client,
    tls_server,
    turns,
    until,
)
from tls_support import (
    KINDS,
    VERSIONS,
    Peer,
    check_engine,
    facing_peer,
    loop_of,
    on_all,
    pinned,
    tls_connected,
)

import fastloop

ALL = os.environ.get("FASTLOOP_TEST_ALL") == "1"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def loop(kind: str) -> Iterator[Any]:
    with loop_of(kind) as made:
        reports: list[Any] = []
        made.set_exception_handler(lambda _, context: reports.append(context))
        yield made
    assert reports == []


# --- start_tls ------------------------------------------------------------------------


def test_start_tls_as_a_client(loop: Any, kind: str) -> None:
    async def main() -> None:
        near, far = tcp_pair()
        raw, protocol = await loop.create_connection(Recorder, sock=near)
        with far:
            peer = Peer(far, tls_server(), True)
            raw.write(b"STARTTLS\n")
            assert await peer.receive_raw() == b"STARTTLS\n"
            task = loop.create_task(peer.handshake())
            tls = await loop.start_tls(
                raw, protocol, tls_client(), server_hostname="localhost"
            )
            await task
            check_engine(tls, kind)
            assert protocol.events == ["made"]  # once, by the plain transport
            assert tls.get_protocol() is protocol
            tls.write(b"secret")
            assert await peer.read(6) == b"secret"
            await peer.write(b"answer")
            await until(lambda: protocol.data == b"answer")
            tls.close()
            await peer.read_all()
            await peer.unwrap()
            await until(lambda: protocol.lost)
            assert protocol.events == ["made", "data", "eof", "lost"]
            assert raw.is_closing() and tls.is_closing()

    loop.run_until_complete(main())


@pytest.mark.parametrize("pipelined", [False, True])
def test_start_tls_as_a_server(loop: Any, kind: str, pipelined: bool) -> None:
    """With the client's first message read, or not, before TLS begins."""
    if kind == "asyncio" and pipelined:
        pytest.skip("asyncio has learnt that in the middle of some releases")

    async def main() -> None:
        near, far = tcp_pair()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        raw, _ = await loop.create_connection(lambda: protocol, sock=near)
        with far:
            peer = Peer(far, tls_client(), False)
            task = None
            await peer.send_raw(b"STARTTLS\n")
            if pipelined:
                task = loop.create_task(peer.handshake())
                await turns(5)
            assert await reader.readline() == b"STARTTLS\n"
            if task is None:
                task = loop.create_task(peer.handshake())
            tls = await loop.start_tls(raw, protocol, tls_server(), server_side=True)
            await task
            check_engine(tls, kind)
            await peer.write(b"data\n")
            assert await reader.readline() == b"data\n"
            tls.abort()
            await turns(3)

    loop.run_until_complete(main())


def test_start_tls_of_a_stream_writer(loop: Any) -> None:
    async def serve(reader: Any, writer: Any) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        await writer.start_tls(tls_server())
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"plain\n")
        assert await reader.readline() == b"plain\n"
        await writer.start_tls(tls_client(), server_hostname="localhost")
        for number in range(10):
            writer.write(b"secret %d" % number)
            assert await reader.readexactly(8) == b"SECRET %d" % number
        writer.close()
        await writer.wait_closed()
        server.close()
        await turns(5)

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_tls_in_tls(loop: Any, kind: str, size: int) -> None:
    async def main() -> None:
        data = os.urandom(size)

        class Upgrading(Echo):
            async def upgrade(self) -> None:
                self.transport = await loop.start_tls(
                    self.transport, self, tls_server(), server_side=True
                )

        async with tls_connected(Recorder, Upgrading) as (client, server):
            outer = client.transport
            task = loop.create_task(server.upgrade())
            inner = await loop.start_tls(
                outer, client, tls_client(), server_hostname="localhost"
            )
            await task
            check_engine(inner, kind)
            assert inner is not outer
            inner.write(data)
            await until(lambda: len(client.data) == size)
            assert client.data == data
            assert inner.get_extra_info("peername") == outer.get_extra_info("peername")
            assert inner.get_extra_info("ssl_object") is not outer.get_extra_info(
                "ssl_object"
            )
            inner.close()
            await until(lambda: client.lost and server.lost)
            assert client.events[-1] == "lost" and client.lost_with is None

    loop.run_until_complete(main())


def test_tls_in_tls_flow_control(loop: Any) -> None:
    class Upgrading(Recorder):
        async def upgrade(self) -> None:
            self.transport = await loop.start_tls(
                self.transport, self, tls_server(), server_side=True
            )

    async def main() -> None:
        async with tls_connected(Recorder, Upgrading) as (client, server):
            task = loop.create_task(server.upgrade())
            inner = await loop.start_tls(
                client.transport, client, tls_client(), server_hostname="localhost"
            )
            await task
            server.transport.pause_reading()
            size = 0
            while "pause" not in client.events:
                inner.write(bytes(100_000))
                size += 100_000
                assert size < 50_000_000
                await asyncio.sleep(0)
            server.transport.resume_reading()
            await until(lambda: len(server.data) == size)
            await until(lambda: client.events[-1] == "resume")

    loop.run_until_complete(main())


def test_start_tls_on_a_foreign_transport(loop: Any) -> None:
    """A transport that is not ours, but says that TLS can be put on it."""

    class Foreign(asyncio.Transport):
        _start_tls_compatible = True

        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def __getattribute__(self, name: str) -> Any:
            if name in ("transport", "_start_tls_compatible", "__class__"):
                return object.__getattribute__(self, name)
            return getattr(self.transport, name)

    async def main() -> None:
        near, far = tcp_pair()
        raw, protocol = await loop.create_connection(Recorder, sock=near)
        with far:
            peer = Peer(far, tls_server(), True)
            task = loop.create_task(peer.handshake())
            tls = await loop.start_tls(
                Foreign(raw), protocol, tls_client(), server_hostname="localhost"
            )
            await task
            assert not isinstance(tls, fastloop.TLSTransport)
            tls.write(b"secret")
            assert await peer.read(6) == b"secret"
            tls.abort()
            await until(lambda: protocol.lost)

    loop.run_until_complete(main())


def test_start_tls_refuses() -> None:
    async def scenario(loop: Any) -> Any:
        answers = []
        near, far = tcp_pair()
        raw, protocol = await loop.create_connection(Recorder, sock=near)
        for transport, context, options in [
            (raw, None, {}),
            (raw, "context", {}),
            (object(), tls_client(), {}),
            (None, tls_client(), {}),
            (raw, tls_client(), {"ssl_handshake_timeout": 0}),
        ]:
            try:
                await loop.start_tls(transport, protocol, context, **options)
            except (TypeError, ValueError) as exc:
                answers.append(type(exc))
        raw.abort()
        far.close()
        await turns(2)
        return answers

    assert len(on_all(scenario)) == 5


def test_tls_transport_is_put_on_one_transport_only() -> None:
    with loop_of("direct") as loop:

        async def main() -> None:
            async with facing_peer() as (protocol, _):
                tls = protocol.transport
                near, far = tcp_pair()
                raw, other = await loop.create_connection(Recorder, sock=near)
                with pytest.raises(RuntimeError):
                    raw.set_protocol(tls)
                with pytest.raises(RuntimeError):
                    tls.set_protocol(tls)
                assert raw.get_protocol() is other
                raw.abort()
                far.close()
                await until(lambda: other.lost)

        loop.run_until_complete(main())


def test_start_tls_fails() -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        near, far = tcp_pair()
        raw, protocol = await loop.create_connection(Recorder, sock=near)
        peer = Peer(far, tls_server(), True)

        async def play() -> None:
            with contextlib.suppress(EOFError, OSError):
                await peer.handshake()
                await peer.read_all()

        task = loop.create_task(play())
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.start_tls(
                raw, protocol, tls_client(), server_hostname="wrong.test"
            )
        await until(lambda: protocol.lost)
        await task
        far.close()
        await turns(2)
        return protocol.events, type(protocol.lost_with), reports

    on_all(scenario)


def test_start_tls_after_a_reset() -> None:
    async def scenario(loop: Any) -> Any:
        near, far = tcp_pair()
        raw, protocol = await loop.create_connection(Recorder, sock=near)
        reset(far)
        with pytest.raises(ConnectionResetError):  # not EPIPE: it is the first write
            await loop.start_tls(raw, protocol, tls_client(), server_hostname=HOST)
        await turns(2)
        return protocol.events, raw.is_closing()

    on_all(scenario)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_start_tls_on_a_transport_that_is_closing(loop: Any, how: str) -> None:
    """It ends at once with a transport that is closed; asyncio returns None."""

    async def main() -> None:
        near, far = tcp_pair()
        raw, protocol = await loop.create_connection(Recorder, sock=near)
        getattr(raw, how)()
        tls = await loop.start_tls(raw, protocol, tls_client(), server_hostname=HOST)
        assert tls is None or tls.is_closing()
        await turns(2)
        assert protocol.events == ["made", "lost"]
        assert far.recv(1) == b""
        far.close()

    loop.run_until_complete(main())


# --- what a context can do ------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_alpn(loop: Any, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = pinned(tls_client(), version), tls_server()
        client.set_alpn_protocols(["h2", "http/1.1"])
        server.set_alpn_protocols(["http/1.1"])
        async with tls_connected(client_context=client, server_context=server) as ends:
            for end in ends:
                ssl_object = end.transport.get_extra_info("ssl_object")
                assert ssl_object.selected_alpn_protocol() == "http/1.1"

    loop.run_until_complete(main())


def test_sni_callback_changes_the_context(loop: Any) -> None:
    asked: list[Any] = []
    other = tls_server(OTHER)

    def choose(ssl_object: Any, name: str | None, context: Any) -> None:
        asked.append((type(ssl_object), name, context))
        if name == "other.test":
            ssl_object.context = other

    async def main() -> None:
        server = tls_server()
        server.sni_callback = choose
        for name in "localhost", "other.test":
            async with tls_connected(
                Recorder, Echo, server_context=server, server_hostname=name
            ) as (client, _):
                cert = client.transport.get_extra_info("peercert")
                assert cert["subject"] == ((("commonName", name),),)
                client.transport.write(b"data")
                await until(lambda: client.data == b"data")
        assert asked == [
            (ssl.SSLObject, name, server) for name in ("localhost", "other.test")
        ]

    loop.run_until_complete(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("answer", ["raise", "alert"])
def test_sni_callback_refuses(answer: str) -> None:
    def refuse(ssl_object: Any, name: str | None, context: Any) -> Any:
        if answer == "raise":
            raise ZeroDivisionError
        return ssl.AlertDescription.ALERT_DESCRIPTION_ACCESS_DENIED

    async def scenario(loop: Any) -> Any:
        server = tls_server()
        server.sni_callback = refuse
        listening = await loop.create_server(Recorder, HOST, 0, ssl=server)
        address = listening.sockets[0].getsockname()
        try:
            await loop.create_connection(
                Recorder, *address, ssl=tls_client(), server_hostname="localhost"
            )
        except OSError as exc:
            return type(exc)
        finally:
            listening.close()
            await turns(3)

    assert on_all(scenario) is not None


def test_sni_callback_that_closes_the_transport() -> None:
    """Whatever is done from inside OpenSSL, nothing breaks."""
    for kind in KINDS[1:]:
        for act in "close", "abort":
            with loop_of(kind) as loop:

                async def main() -> None:
                    server = tls_server()
                    near, far = tcp_pair()
                    peer = Peer(far, tls_client(), False)
                    raw, protocol = await loop.create_connection(Recorder, sock=near)

                    def act_now(*_: Any) -> None:
                        tls = raw.get_protocol()
                        tls.write(b"too early")
                        getattr(tls, act)()  # noqa: B023

                    server.sni_callback = act_now
                    upgrading = loop.create_task(
                        loop.start_tls(raw, protocol, server, server_side=True)
                    )
                    await turns(2)
                    shaking = loop.create_task(peer.handshake())
                    await upgrading
                    await until(lambda: protocol.lost)
                    with contextlib.suppress(EOFError, OSError):
                        await shaking
                    far.close()

                loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_client_certificate(loop: Any, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = pinned(tls_client(), version), tls_server()
        client.load_cert_chain(OTHER)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(AUTHORITY)
        async with tls_connected(
            Recorder, Echo, client_context=client, server_context=server
        ) as (near, far):
            near.transport.write(b"data")
            await until(lambda: near.data == b"data")
            cert = far.transport.get_extra_info("peercert")
            assert cert["subject"] == ((("commonName", "other.test"),),)

    loop.run_until_complete(main())


def test_certificate_after_the_handshake(loop: Any) -> None:
    """A server of TLS 1.3 asks for a certificate when data has flowed already."""

    async def main() -> None:
        ours = pinned(tls_client(), ssl.TLSVersion.TLSv1_3)
        ours.load_cert_chain(OTHER)
        ours.post_handshake_auth = True
        theirs = tls_server()
        theirs.post_handshake_auth = True
        theirs.verify_mode = ssl.CERT_OPTIONAL
        theirs.load_verify_locations(AUTHORITY)
        async with facing_peer(ours=ours, theirs=theirs) as (protocol, peer):
            protocol.transport.write(b"request")
            assert await peer.read(7) == b"request"
            peer.tls.verify_client_post_handshake()
            await peer.write(b"who?")
            await until(lambda: protocol.data == b"who?")
            protocol.transport.write(b"me")
            assert await peer.read(2) == b"me"
            assert peer.tls.getpeercert()["subject"]

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_sessions(loop: Any, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        context, server = pinned(tls_client(), version), tls_server()
        async with tls_connected(
            Recorder, Echo, client_context=context, server_context=server
        ) as (client, _):
            client.transport.write(b"data")
            await until(lambda: client.data)
            ssl_object = client.transport.get_extra_info("ssl_object")
            assert not ssl_object.session_reused
            session = ssl_object.session
        assert session is not None and session.has_ticket

        class Resuming(ssl.SSLObject):
            @classmethod
            def _create(cls, *args: Any, **kwargs: Any) -> Any:
                kwargs["session"] = session
                return ssl.SSLObject._create(*args, **kwargs)

        context.sslobject_class = Resuming
        async with tls_connected(
            Recorder, Echo, client_context=context, server_context=server
        ) as (client, _):
            client.transport.write(b"data")
            await until(lambda: client.data)
            assert client.transport.get_extra_info("ssl_object").session_reused

    loop.run_until_complete(main())


def test_keylog(loop: Any, tmp_path: Path) -> None:
    async def main() -> None:
        context = tls_client()
        context.keylog_filename = str(tmp_path / "keys")
        async with tls_connected(Recorder, Echo, client_context=context) as (client, _):
            client.transport.write(b"data")
            await until(lambda: client.data)

    loop.run_until_complete(main())
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_message_callback(loop: Any) -> None:
    messages: list[Any] = []

    def note(conn: Any, direction: str, *message: Any) -> None:
        messages.append(direction)
        assert isinstance(conn, ssl.SSLObject)

    async def main() -> None:
        context = tls_client()
        context._msg_callback = note  # type: ignore[attr-defined]
        async with tls_connected(Recorder, Echo, client_context=context) as (client, _):
            client.transport.write(b"data")
            await until(lambda: client.data)

    loop.run_until_complete(main())
    assert {"read", "write"} <= set(messages)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_message_callback_that_writes(loop: Any) -> None:
    """A callback of OpenSSL's calls the transport that OpenSSL works for.

    asyncio enters OpenSSL a second time there, and crashes.
    """

    async def main() -> None:
        context = tls_client()
        transport: Any = None
        written = 0

        def write_more(conn: Any, direction: str, *message: Any) -> None:
            nonlocal written
            if transport and direction == "write" and written < 10_000:
                written += 2000
                transport.write(b"m" * 2000)

        context._msg_callback = write_more  # type: ignore[attr-defined]
        async with facing_peer(ours=context) as (protocol, peer):
            transport = protocol.transport
            transport.write(b"d" * 50)
            assert len(await peer.read(10_050)) == 10_050

    loop.run_until_complete(main())


def test_default_context(loop: Any) -> None:
    """ssl=True: a context that trusts the system's authorities, so not ours."""

    async def main() -> None:
        listening = await loop.create_server(Recorder, HOST, 0, ssl=tls_server())
        address = listening.sockets[0].getsockname()
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                Recorder, *address, ssl=True, server_hostname="localhost"
            )
        listening.close()
        await turns(3)

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_of_the_handshake_do_not_stay(version: ssl.TLSVersion) -> None:
    """The ephemeral keys would be a fifth of what an idle connection takes."""
    libssl = ctypes.CDLL(_ssl.__file__)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    libssl.SSL_ctrl.argtypes = [pointer, number, ctypes.c_long, pointer]
    libssl.EVP_PKEY_get1_encoded_public_key.argtypes = [pointer, pointer]
    libssl.EVP_PKEY_get1_encoded_public_key.restype = ctypes.c_size_t
    libssl.EVP_PKEY_free.argtypes = [pointer]
    libssl.CRYPTO_free.argtypes = [pointer, ctypes.c_char_p, number]
    peers, own = 109, 133  # SSL_CTRL_GET_PEER_TMP_KEY, SSL_CTRL_GET_TMP_KEY

    def size(transport: Any, which: int) -> int:
        """Return the length of a key, as it is sent, in bytes."""
        inner = transport.get_extra_info("ssl_object")._sslobj
        ssl_pointer = (pointer * 4).from_address(id(inner))[3]
        key, encoded = pointer(), pointer()
        if libssl.SSL_ctrl(ssl_pointer, which, 0, ctypes.byref(key)) != 1:
            return 0
        answer = libssl.EVP_PKEY_get1_encoded_public_key(key, ctypes.byref(encoded))
        libssl.CRYPTO_free(encoded, None, 0)
        libssl.EVP_PKEY_free(key)
        return answer

    async def main() -> None:
        async with tls_connected(server_context=pinned(tls_server(), version)) as ends:
            sizes = [size(e.transport, w) for e in ends for w in (peers, own)]
            if version == ssl.TLSVersion.TLSv1_3:
                assert sizes == [0] * 4
                libssl.ERR_clear_error()  # there is no key to encode
            else:
                assert max(sizes) > 0  # a renegotiation may look at them
            for end, other in (ends, ends[::-1]):
                end.transport.write(b"hello")
                await until(lambda other=other: other.data == b"hello")

    with loop_of("direct") as loop:
        loop.run_until_complete(main())


# --- cancellation ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[1:])
def test_cancelled_at_random_moments(kind: str) -> None:
    """Connecting, or upgrading, given up at any moment: no descriptor stays open."""
    with loop_of(kind) as loop:
        rng = random.Random(5)
        accepted: list[Any] = []

        class Server(Echo):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                accepted.append(self)

        async def once(server: Any) -> None:
            address = server.sockets[0].getsockname()
            task = loop.create_task(
                loop.create_connection(
                    Recorder, *address, ssl=tls_client(), server_hostname="localhost"
                )
            )
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(rng.choice([0, 0.0005]))
            task.cancel()
            try:
                transport, protocol = await task
            except asyncio.CancelledError:
                return
            transport.abort()
            await until(lambda: protocol.lost)

        async def main() -> None:
            server = await loop.create_server(Server, HOST, 0, ssl=tls_server())
            await once(server)
            await turns()
            before = descriptors()
            for _ in range(100):
                await once(server)
            await until(lambda: all(each.lost for each in accepted))
            await until(lambda: descriptors() <= before)
            server.close()
            await turns(2)

        reports: list[Any] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        loop.run_until_complete(main())
        assert reports == []


# --- other programs -------------------------------------------------------------------


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        if ALL:
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl_client(loop: Any, version: str) -> None:
    """With a key update (TLS 1.3) or a renegotiation (1.2) in between."""
    openssl = program("openssl")

    async def main() -> None:
        protocols: list[Echo] = []
        server = await loop.create_server(
            lambda: protocols.append(Echo()) or protocols[-1],
            HOST,
            0,
            ssl=tls_server(),
        )
        port = server.sockets[0].getsockname()[1]
        command = [openssl, "s_client", "-connect", f"{HOST}:{port}", f"-{version}"]
        command += ["-CAfile", AUTHORITY, "-verify_return_error"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as client:
            assert client.stdin and client.stdout
            client.stdin.write(b"first\n")
            client.stdin.flush()
            await until(lambda: protocols and protocols[0].data == b"first\n")
            if version == "tls1_3":
                client.stdin.write(b"K\n")
                client.stdin.flush()
                await turns(20)
            client.stdin.write(b"xyzzy\n")
            client.stdin.flush()
            await until(lambda: protocols[0].data == b"first\nxyzzy\n")
            client.stdin.write(b"Q\n")
            client.stdin.flush()
            await until(lambda: protocols[0].lost)
            output = client.stdout.read()
        assert b"Verify return code: 0 (ok)" in output or b"Verification: OK" in output
        assert output.count(b"xyzzy") == 1
        server.close()
        await turns(2)

    loop.run_until_complete(main())


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl_server(loop: Any, version: str) -> None:
    openssl = program("openssl")

    async def main() -> None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        command = [openssl, "s_server", "-accept", f"{HOST}:{port}", f"-{version}"]
        command += ["-cert", LOCALHOST, "-key", LOCALHOST, "-rev"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as server:
            assert server.stdout
            transport: Any = None
            while transport is None:
                with contextlib.suppress(ConnectionRefusedError):
                    transport, protocol = await loop.create_connection(
                        Recorder,
                        HOST,
                        port,
                        ssl=tls_client(),
                        server_hostname="localhost",
                    )
                await asyncio.sleep(0.01)
            for number in range(20):
                transport.write(b"%04d\n" % number)
            expected = b"".join((b"%04d" % n)[::-1] + b"\n" for n in range(20))
            await until(lambda: protocol.data == expected)
            transport.write(b"CLOSE\n")
            await until(lambda: protocol.lost)
            assert protocol.lost_with is None
            server.kill()
            server.communicate()

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_curl(loop: Any, size: int) -> None:
    curl = program("curl")
    body = os.urandom(size)

    async def serve(reader: Any, writer: Any) -> None:
        while (await reader.readline()).strip():
            pass
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % size)
        writer.write(body)
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, 0, ssl=tls_server())
        port = server.sockets[0].getsockname()[1]
        command = [curl, "-sS", "--cacert", AUTHORITY, f"https://{HOST}:{port}/"]
        # sanitizers are for us only
        env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        result = await loop.run_in_executor(
            None,
            lambda: subprocess.run(command, capture_output=True, timeout=20, env=env),
        )
        assert result.stderr == b""
        assert result.stdout == body
        server.close()
        await turns(3)

    loop.run_until_complete(main())
