"""A PostgreSQL server to throw away.

    python tests/postgres.py CMD [arguments]

runs CMD with FASTLOOP_TEST_PG_DSN set to the address of a fresh server, which is gone
when CMD ends; the exit code is that of CMD.  From Python: `with cluster() as dsn: ...`.

The server's programs are looked for in PATH and where Debian keeps them.  The server
does not run as root: when we are root, it runs as the user `postgres`.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DSN_VARIABLE = "FASTLOOP_TEST_PG_DSN"
INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
)
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    "shared_buffers": "16MB",
}


class PostgresError(Exception):
    """There is no PostgreSQL here, or it does not start."""


def find_binaries() -> Path:
    """The folder with initdb and postgres; the newest version if there are several."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(installed, key=version_of, reverse=True)
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise PostgresError("no initdb and postgres in PATH or /usr/lib/postgresql")


def version_of(folder: Path) -> int:
    version = folder.parent.name
    return int(version) if version.isdigit() else 0


def server_account() -> dict[str, Any]:
    """What subprocess needs in order to run something as the server's user."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise PostgresError("we are root and there is no user postgres") from None
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(
    binaries: Path, home: Path, port: int, certificate: Path | None
) -> subprocess.Popen[bytes]:
    """Start the server; returns when it is ready for clients."""
    settings = dict(SETTINGS)
    if certificate is not None:
        own = home / "certificate.pem"  # PostgreSQL is strict about whose it is
        own.write_bytes(certificate.read_bytes())
        own.chmod(0o600)
        if account := server_account():
            os.chown(own, account["user"], account["group"])
        settings |= {"ssl": "on", "ssl_cert_file": str(own), "ssl_key_file": str(own)}
    options = [f"-c{name}={value}" for name, value in settings.items()]
    options += [f"-cunix_socket_directories={home}", f"-p{port}"]
    with open(home / "log", "ab") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", home / "data", *options],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for us alone
            **server_account(),
        )
    status = home / "data" / "postmaster.pid"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        if status.exists() and status.read_text().rstrip().endswith("ready"):
            return server
        time.sleep(0.02)
    stop(server)
    raise PostgresError(f"postgres did not start:\n{(home / 'log').read_text()}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """Fast shutdown; if that takes too long, immediate shutdown."""
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is None:
            server.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=10)


@contextlib.contextmanager
def cluster(certificate: Path | None = None) -> Iterator[str]:
    """Make a cluster, run its server, yield the DSN, and remove all of it.

    With a certificate, and its key in the same file, the server can do TLS.
    """
    binaries = find_binaries()
    account = server_account()
    home = Path(tempfile.mkdtemp(prefix="fastloop-postgres-"))
    try:
        if account:
            os.chown(home, account["user"], account["group"])
        made = subprocess.run(
            [binaries / "initdb", *INITDB_OPTIONS, "--pgdata", home / "data"],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **account,
        )
        if made.returncode:
            raise PostgresError(f"initdb failed:\n{made.stdout}")
        port = free_port()
        server = start(binaries, home, port, certificate)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            stop(server)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: postgres.py CMD [arguments]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    try:
        with cluster() as dsn:
            environment = {**os.environ, DSN_VARIABLE: dsn}
            return subprocess.run(sys.argv[1:], env=environment).returncode
    except PostgresError as exc:
        print(f"postgres.py: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
