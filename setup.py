"""Builds fastloop._core, the one C extension of the project.

Everything else about the package is declared in pyproject.toml.  The build
reads these environment variables:

FASTLOOP_DEBUG=1             assertions, consistency checks, tiny limits, -O0
FASTLOOP_SANITIZE=LIST       compile with -fsanitize=LIST
FASTLOOP_COVERAGE=1          compile for gcov
FASTLOOP_WERROR=1            all of the project's warnings, as errors
FASTLOOP_PORTABLE=1          leave out what only Linux has (to test the rest)

Each combination of them has a folder of objects in build/, for each Python.  An
object is compiled again when its source or a header that it includes has changed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

LIBUV_MINIMUM = "1.44"
# what the benchmarks take from the tests: the way to start a server, a certificate
FROM_TESTS = ("tests/postgres.py", "tests/io/certs/localhost.pem")

PACKAGES = {
    "libuv": "libuv1-dev (Debian), libuv-devel (Fedora), libuv-dev (Alpine), "
    "libuv (Homebrew)",
    "pkg-config": "pkg-config (Debian), pkgconf-pkg-config (Fedora), "
    "pkgconf (Alpine), pkgconf (Homebrew)",
    "a C compiler": "gcc libc6-dev (Debian), gcc (Fedora), gcc musl-dev (Alpine), "
    "gcc (Homebrew)",
    "the Python headers": "python3-dev (Debian), python3-devel (Fedora), "
    "python3-dev (Alpine), python (Homebrew)",
}

WARNINGS = ["-Wall", "-Wextra"]
STRICT_WARNINGS = [
    "-Wshadow",
    "-Wundef",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wold-style-definition",
    "-Wpointer-arith",
    "-Wvla",
    "-Wformat=2",
    "-Wimplicit-fallthrough",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wdouble-promotion",
    "-Wnull-dereference",
    "-Werror",
]


def flag(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


# --- what the build needs -----------------------------------------------------


def missing(what: str, detail: str = "") -> SystemExit:
    found = f" ({detail})" if detail else ""
    return SystemExit(f"fastloop needs {what}{found}: install {PACKAGES[what]}")


def pkg_config(*args: str) -> subprocess.CompletedProcess[str]:
    command = [*shlex.split(os.environ.get("PKG_CONFIG", "pkg-config")), *args]
    try:
        return subprocess.run(command, capture_output=True, text=True)
    except OSError:
        raise missing("pkg-config") from None


def check_libuv() -> None:
    if pkg_config("--exists", "libuv").returncode != 0:
        raise missing("libuv")
    if pkg_config(f"--atleast-version={LIBUV_MINIMUM}", "libuv").returncode != 0:
        version = pkg_config("--modversion", "libuv").stdout.strip()
        raise missing("libuv", f"{LIBUV_MINIMUM} or newer, found {version}")


def check_compiler() -> None:
    """Parse a file: that takes a compiler and the headers of the C library."""
    name = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    compiler = shlex.split(name)
    try:
        done = subprocess.run(
            [*compiler, "-fsyntax-only", "-x", "c", "-"],
            input="#include <stdlib.h>\n",
            capture_output=True,
            text=True,
        )
        works = done.returncode == 0
    except OSError:
        works = False
    if not works:
        raise missing("a C compiler", compiler[0])


def check_python_headers() -> None:
    include = sysconfig.get_path("include")
    platinclude = sysconfig.get_path("platinclude")
    if not any(Path(d, "Python.h").exists() for d in (include, platinclude)):
        raise missing("the Python headers", include)


def check() -> None:
    """End with one line, before anything else is printed, if something is missing."""
    if sys.platform == "win32":
        raise SystemExit("fastloop runs on POSIX systems: Linux and macOS")
    if {"build", "build_ext", "bdist_wheel", "editable_wheel"} & set(sys.argv):
        check_compiler()
        check_python_headers()
        check_libuv()


# --- how it is compiled -------------------------------------------------------


def mode() -> str:
    """The name of this combination of settings."""
    words = [
        name.lower()
        for name in ("DEBUG", "COVERAGE", "PORTABLE")
        if flag(f"FASTLOOP_{name}")
    ]
    words += os.environ.get("FASTLOOP_SANITIZE", "").replace(",", " ").split()
    return "-".join(words) or "release"


def compile_flags() -> tuple[list[str], list[str]]:
    cflags = ["-std=c11", "-fvisibility=hidden", "-D_GNU_SOURCE", *WARNINGS]
    ldflags: list[str] = []
    if flag("FASTLOOP_WERROR"):
        cflags += STRICT_WARNINGS
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


def system_headers(words: list[str]) -> list[str]:
    """Turn -I of others' headers into -isystem: their warnings are not ours."""
    return [f"-isystem{w[2:]}" if w.startswith("-I/") else w for w in words]


def up_to_date(obj: Path, dependencies: Path) -> bool:
    """Whether nothing that went into an object is newer than it."""
    try:
        made = obj.stat().st_mtime_ns
        rule = dependencies.read_text().replace("\\\n", " ")
        return all(
            Path(name).stat().st_mtime_ns <= made for name in shlex.split(rule)[1:]
        )
    except OSError:
        return False


class BuildExt(build_ext):
    """Compiles in parallel, and only what has changed, with the chosen flags."""

    def finalize_options(self) -> None:
        super().finalize_options()
        tag = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
        self.build_temp = str(Path("build", f"{mode()}-{tag}"))
        self.force = True  # link each time: the library may be another mode's

    def build_extension(self, ext: Extension) -> None:
        compiler = system_headers(self.compiler.compiler_so)  # type: ignore[attr-defined]
        includes = [f"-I{d}" for d in ext.include_dirs]
        includes += [f"-isystem{d}" for d in self.compiler.include_dirs]
        command = [*compiler, *ext.extra_compile_args, *includes]
        command += system_headers(self.libuv("--cflags"))
        ext.extra_objects = self.compile_sources(command, ext.sources)
        ext.extra_link_args += self.libuv("--libs")
        ext.sources = []
        super().build_extension(ext)

    def libuv(self, what: str) -> list[str]:
        return shlex.split(pkg_config(what, "libuv").stdout)

    def compile_sources(self, command: list[str], sources: list[str]) -> list[str]:
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        # another Python or libuv of the same name, or other flags: all from scratch
        recipe = shlex.join([*command, sys.version, *self.libuv("--modversion")])
        record = folder / "recipe"
        same = record.exists() and record.read_text() == recipe

        def one(source: str) -> str:
            obj = (folder / source).with_suffix(".o")
            dependencies = obj.with_suffix(".d")
            if not (same and up_to_date(obj, dependencies)):
                obj.parent.mkdir(parents=True, exist_ok=True)
                self.compile_one(
                    [*command, "-MMD", "-MF", str(dependencies)], source, obj
                )
            return str(obj)

        if not same:
            record.unlink(missing_ok=True)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            objects = list(pool.map(one, sources))
        record.write_text(recipe)
        return objects

    def compile_one(self, command: list[str], source: str, obj: Path) -> None:
        obj.unlink(missing_ok=True)
        done = subprocess.run(
            [*command, "-c", source, "-o", str(obj)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.stdout:
            print(done.stdout, end="", flush=True)
        if done.returncode != 0:
            raise CompileError(f"{source} does not compile")


class BuildPy(build_py):
    """Puts the benchmarks into the package, for `python -m fastloop bench`.

    As a folder to run them from: they are no part of fastloop, see benchmarks/place.py.
    A checkout has them beside the package.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        suite = Path(self.build_lib, "fastloop", "_suite")
        shutil.rmtree(suite, ignore_errors=True)
        sources = [*root.glob("benchmarks/**/*.*"), *map(root.joinpath, FROM_TESTS)]
        for source in sources:
            if source.suffix in (".py", ".c", ".json", ".pem"):
                target = suite / source.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


check()
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
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
