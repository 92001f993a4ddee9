"""The programs on the other core that clients are timed against."""

from __future__ import annotations

import contextlib
import os
import runpy
from collections.abc import Callable, Iterator
from typing import Any

from . import native
from .measure import LOAD_CORE, first_line, pinned, running
from .place import ROOT

DSN = "FASTLOOP_TEST_PG_DSN"


@contextlib.contextmanager
def http() -> Iterator[str | None]:
    """A web server in C; yields its port."""
    try:
        program = native.floor()
    except native.CannotCompileError:
        yield None
        return
    with running(pinned(LOAD_CORE, [str(program), "http"])) as process:
        yield first_line(process)


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """The PostgreSQL that the environment names, or a throw-away one; its address."""
    if os.environ.get(DSN):
        yield os.environ[DSN]
        return
    helper = runpy.run_path(str(ROOT / "tests" / "postgres.py"))
    with contextlib.ExitStack() as stack:
        # all processes of the server inherit the core
        before = os.sched_getaffinity(0)
        if LOAD_CORE is not None:
            os.sched_setaffinity(0, {LOAD_CORE})
        try:
            dsn = stack.enter_context(helper["cluster"]())
        except helper["PostgresError"]:
            dsn = None
        finally:
            os.sched_setaffinity(0, before)
        yield dsn


PEERS: dict[str, Callable[[], Any]] = {"http": http, "postgres": postgres}
