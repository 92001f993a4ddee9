"""The programs in C: compiled when first needed."""

from __future__ import annotations

import functools
import importlib
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from .place import BUILD, HERE


class CannotCompileError(Exception):
    """There is no compiler, or a library's headers are missing."""


def compiler() -> list[str]:
    name = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shlex.split(name)


def compile_c(source: str, program: str, *options: str) -> Path:
    """Compile a file of this folder, unless that is done; return the program's path."""
    target = BUILD / program
    code = HERE / source
    newest = max(path.stat().st_mtime_ns for path in (code, *HERE.glob("*.h")))
    if target.exists() and target.stat().st_mtime_ns > newest:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    command = [*compiler(), "-O2", str(code), "-o", str(partial), *options]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError:
        raise CannotCompileError(
            f"it takes a C compiler, and there is no {command[0]}: install gcc or "
            "clang, or name yours in the variable CC"
        ) from None
    if done.returncode != 0:
        raise CannotCompileError(f"{source} does not compile: {reason(done.stdout)}")
    partial.replace(target)  # others may be starting it
    return target


def reason(said: str) -> str:
    """The first error of a compiler: a header or a library is not there, mostly."""
    errors = [line for line in said.splitlines() if "error" in line or "cannot" in line]
    return (errors or said.splitlines() or ["silently"])[0].strip()


@functools.cache
def load() -> Path:
    """The clients; with TLS where OpenSSL's headers are."""
    tls = ["-DWITH_TLS", "-lssl", "-lcrypto"]
    try:
        return compile_c("load.c", f"load-tls-{libc()}", *tls)
    except CannotCompileError:
        return compile_c("load.c", f"load-{libc()}")


def has_tls() -> bool:
    return load().name.startswith("load-tls-")


@functools.cache
def floor() -> Path:
    """The servers on libuv alone."""
    try:
        words = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "libuv"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        raise CannotCompileError("no libuv found by pkg-config") from None
    return compile_c("floor.c", f"floor-{libc()}", *shlex.split(words))


@functools.cache
def floor_tls() -> Path:
    """The server on OpenSSL and epoll alone."""
    return compile_c("floor_tls.c", f"floor-tls-{libc()}", "-lssl", "-lcrypto")


@functools.cache
def bare() -> Path:
    """The loops in C around CPython's calls: an extension module."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    include = sysconfig.get_path("include")
    return compile_c(
        "bare.c", f"{libc()}/bare{suffix}", "-shared", "-fPIC", f"-I{include}"
    )


@functools.cache
def import_bare() -> Any:
    sys.path.insert(0, str(bare().parent))
    return importlib.import_module("bare")


def libc() -> str:
    """A name for the C library: one checkout may be used from several systems."""
    try:
        return "-".join((os.confstr("CS_GNU_LIBC_VERSION") or "").split())
    except (ValueError, OSError):
        return sys.platform
