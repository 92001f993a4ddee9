"""Builds fastloop._core, the one C extension of the project.

Everything else about the package is declared in pyproject.toml.  The build
reads these environment variables:

FASTLOOP_DEBUG=1             assertions, consistency checks, tiny limits, -O0
FASTLOOP_SANITIZE=LIST       compile with -fsanitize=LIST
FASTLOOP_COVERAGE=1          compile for gcov
FASTLOOP_WERROR=1            turn the project's warnings into errors
FASTLOOP_PORTABLE=1          leave out what only Linux has (to test the rest)
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

LIBUV_MINIMUM = "1.44"

PACKAGES = {
    "libuv": "libuv1-dev (Debian), libuv-devel (Fedora), libuv-dev (Alpine), "
    "libuv (Homebrew)",
    "pkg-config": "pkg-config (Debian), pkgconf-pkg-config (Fedora), "
    "pkgconf (Alpine), pkgconf (Homebrew)",
    "a C compiler": "gcc (Debian), gcc (Fedora), gcc musl-dev (Alpine), "
    "gcc (Homebrew)",
    "the Python headers": "python3-dev (Debian), python3-devel (Fedora), "
    "python3-dev (Alpine), python (Homebrew)",
}

WARNINGS = """
    -Wall -Wextra -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes
    -Wold-style-definition -Wpointer-arith -Wvla -Wformat=2
    -Wimplicit-fallthrough -Wconversion -Wsign-conversion -Wdouble-promotion
    -Wnull-dereference
""".split()


def flag(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def missing(what: str, detail: str = "") -> SystemExit:
    found = f" ({detail})" if detail else ""
    return SystemExit(f"fastloop needs {what}{found}: install {PACKAGES[what]}")


def pkg_config(*args: str) -> subprocess.CompletedProcess[str]:
    command = [*shlex.split(os.environ.get("PKG_CONFIG", "pkg-config")), *args]
    try:
        return subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise missing("pkg-config") from None


def libuv_flags() -> tuple[list[str], list[str]]:
    pkg_config("--version")
    if pkg_config("--exists", "libuv").returncode != 0:
        raise missing("libuv")
    if pkg_config(f"--atleast-version={LIBUV_MINIMUM}", "libuv").returncode != 0:
        version = pkg_config("--modversion", "libuv").stdout.strip()
        raise missing("libuv", f"{LIBUV_MINIMUM} or newer, found {version}")
    # the headers as system headers: their warnings are not ours
    cflags = shlex.split(pkg_config("--cflags", "libuv").stdout)
    cflags = [f"-isystem{f[2:]}" if f.startswith("-I") else f for f in cflags]
    return cflags, shlex.split(pkg_config("--libs", "libuv").stdout)


def check_tools(compiler: list[str]) -> None:
    try:
        subprocess.run([*compiler, "--version"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise missing("a C compiler", " ".join(compiler)) from None
    include = sysconfig.get_path("include")
    platinclude = sysconfig.get_path("platinclude")
    if not any(Path(d, "Python.h").exists() for d in (include, platinclude)):
        raise missing("the Python headers", include)


class BuildExt(build_ext):
    """Compiles the sources in parallel, with the flags of the chosen mode."""

    def build_extension(self, ext: Extension) -> None:
        compiler = self.compiler.compiler_so[:1]  # type: ignore[attr-defined]
        check_tools(compiler)
        cflags, libs = libuv_flags()
        # Python's own headers come as -I: make them system headers too
        self.compiler.compiler_so = [
            f"-isystem{word[2:]}" if word.startswith("-I/") else word
            for word in self.compiler.compiler_so
        ]
        includes = [*self.compiler.include_dirs, *self.include_dirs]
        self.compiler.include_dirs = []
        self.include_dirs = []
        ext.extra_compile_args += [f"-isystem{d}" for d in includes] + cflags
        ext.extra_link_args += libs

        original = self.compiler._compile

        def compile_all(*args: object, **kwargs: object) -> list[str]:
            return self.compile_in_parallel(original, *args, **kwargs)

        self.compiler.compile = compile_all
        super().build_extension(ext)

    def compile_in_parallel(
        self,
        compile_one,
        sources,
        output_dir=None,
        macros=None,
        include_dirs=None,
        debug=0,
        extra_preargs=None,
        extra_postargs=None,
        depends=None,
    ) -> list[str]:
        setup_compile = self.compiler._setup_compile
        macros, objects, extra_postargs, pp_opts, build = setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        cc_args = self.compiler._get_cc_args(pp_opts, debug, extra_preargs)

        def one(obj: str) -> None:
            if obj in build:
                source, extension = build[obj]
                compile_one(obj, source, extension, cc_args, extra_postargs, pp_opts)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(one, objects))
        return objects


def compile_flags() -> tuple[list[str], list[str]]:
    cflags = ["-std=c11", "-fvisibility=hidden", "-D_GNU_SOURCE", *WARNINGS]
    ldflags: list[str] = []
    if flag("FASTLOOP_WERROR"):
        cflags += ["-Werror"]
    if flag("FASTLOOP_DEBUG"):
        cflags += ["-O0", "-g3", "-UNDEBUG", "-DFL_DEBUG=1"]
    else:
        cflags += ["-O3", "-g1", "-DNDEBUG", "-fno-semantic-interposition"]
    if flag("FASTLOOP_PORTABLE"):
        cflags += ["-DFL_PORTABLE=1"]
    if sanitizers := os.environ.get("FASTLOOP_SANITIZE"):
        options = [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g"]
        cflags += [*options, "-O1", "-DFL_NO_FREELISTS=1"]
        ldflags += options
    if flag("FASTLOOP_COVERAGE"):
        cflags += ["--coverage", "-O0"]
        ldflags += ["--coverage"]
    return cflags, ldflags


if sys.platform == "win32":
    raise SystemExit("fastloop runs on POSIX systems: Linux and macOS")

root = Path(__file__).parent
cflags, ldflags = compile_flags()

setup(
    ext_modules=[
        Extension(
            "fastloop._core",
            sources=sorted(
                str(p.relative_to(root)) for p in (root / "src").rglob("*.c")
            ),
            depends=sorted(
                str(p.relative_to(root)) for p in (root / "src").rglob("*.h")
            ),
            include_dirs=["src"],
            extra_compile_args=cflags,
            extra_link_args=ldflags,
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
