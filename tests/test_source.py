"""The rules that the source keeps: its layers, its sizes, what the extension exports.

CONTRIBUTING.md says why.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastloop
from fastloop import _core

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
C_FILES = sorted(SRC.rglob("*.[ch]"))
PYTHON_FILES = sorted(
    path for path in (ROOT / "fastloop").rglob("*.py*") if path.suffix != ".pyc"
)
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]

MAX_FILE_LINES = 800
MAX_FUNCTION_LINES = 120
MAX_HEADER_LINES = 120
# Headers whose struct a whole layer works on, and the lines that each may have.
DATA_MODEL_HEADERS = {
    "base/state.h": 300,  # all of the module's state, a line for each member
    "core/loop.h": 220,  # the loop
    "core/future.h": 170,  # futures, and the part of tasks that is a future
    "io/transport.h": 195,  # transports: reading, writing and their life share it
    "io/tls.h": 130,  # a TLS connection, which all of tls_*.c work on
}

# what a layer may include, other than itself; the files in src/ are above them all
BELOW = {
    "base": set(),
    "core": {"base"},
    "prims": {"base", "core"},
    "io": {"base", "core"},
    "": {"base", "core", "prims", "io"},
}


def relative(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def layer(name: str) -> str:
    """The layer of a file, which is its folder."""
    return name.partition("/")[0] if "/" in name else ""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


# --- layers ---------------------------------------------------------------------------


def includes(path: Path) -> Iterator[str]:
    for line in lines(path):
        if match := re.match(r'\s*#\s*include\s+"([^"]+)"', line):
            yield match[1]


def test_includes_point_down() -> None:
    wrong = [
        f"{relative(path)} includes {name}"
        for path in C_FILES
        for name in includes(path)
        if layer(name) != layer(relative(path))
        and layer(name) not in BELOW[layer(relative(path))]
    ]
    assert wrong == []


def test_includes_name_files_from_src() -> None:
    wrong = [
        f"{relative(path)} includes {name}"
        for path in C_FILES
        for name in includes(path)
        if not (SRC / name).is_file()
    ]
    assert wrong == []


# --- sizes ----------------------------------------------------------------------------


def test_files_are_short() -> None:
    # a C module has one file of types, however much is in it
    python = [path for path in PYTHON_FILES if path.name != "_core.pyi"]
    sizes = {path: len(lines(path)) for path in [*C_FILES, *python]}
    assert [str(p) for p, size in sizes.items() if size > MAX_FILE_LINES] == []


def test_headers_are_short() -> None:
    too_long = [
        f"{name}: {size} lines, at most {most}"
        for path in SRC.rglob("*.h")
        for name in [relative(path)]
        for most in [DATA_MODEL_HEADERS.get(name, MAX_HEADER_LINES)]
        if (size := len(lines(path))) > most
    ]
    assert too_long == []


def test_data_model_headers_are_still_long() -> None:
    """An entry of the list goes when its header has become short."""
    done = [n for n in DATA_MODEL_HEADERS if len(lines(SRC / n)) <= MAX_HEADER_LINES]
    assert done == []


def functions(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The signature and the body of each function: their braces are in column 0."""
    text = lines(path)
    opened = None
    for number, line in enumerate(text):
        if line == "{":
            opened = number
        elif line == "}" and opened is not None:
            signature = opened
            while signature > 0 and text[signature - 1].strip(" }/*#;"):
                signature -= 1
            yield " ".join(text[signature:opened]), text[opened + 1 : number]
            opened = None


def is_pure_switch(body: list[str]) -> bool:
    """Whether all statements of a function are one switch, and perhaps a return."""
    statements = [line.strip() for line in body if re.match(r" {4}[^ }/*]", line)]
    return (
        bool(statements)
        and statements[0].startswith("switch (")
        and all(
            word.startswith(("case ", "default:", "return")) for word in statements[1:]
        )
    )


def test_functions_are_short() -> None:
    found = 0
    too_long = []
    for path in C_FILES:
        for signature, body in functions(path):
            found += 1
            if len(body) > MAX_FUNCTION_LINES and not is_pure_switch(body):
                too_long.append(f"{relative(path)}: {len(body)} lines: {signature}")
    assert too_long == []
    assert found > 100


# --- the extension --------------------------------------------------------------------


def symbols(*options: str) -> list[tuple[str, str]]:
    """The names of the extension's symbols, with their sections."""
    if not sys.platform.startswith("linux") or shutil.which("nm") is None:
        pytest.skip("reads ELF with nm of binutils")
    if os.environ.get("FASTLOOP_SANITIZE") or os.environ.get("FASTLOOP_COVERAGE"):
        pytest.skip("the compiler adds symbols of its own to such a build")
    table = subprocess.run(
        ["nm", "-f", "sysv", "--defined-only", *options, _core.__file__],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    rows = [line.split("|") for line in table.splitlines() if line.count("|") == 6]
    return [(row[0].strip(), row[6].strip()) for row in rows]


def test_exports_its_init_function_alone() -> None:
    names = [name for name, _ in symbols("-D")]
    assert set(names) - {"_init", "_fini", "_edata", "_end", "__bss_start"} == {
        "PyInit__core"
    }


WRITABLE_BY_DESIGN = re.compile(
    r".*_(methods|members|getset|slots|spec|def)"  # what CPython takes without const
    r"|libssl"  # functions found at run time, for callbacks that are passed no state
    r"|names\.\d+"  # keywords for PyArg_ParseTupleAndKeywords, without const until 3.13
    r"|_.*|completed\.\d+"  # the compiler's and the linker's
)


def test_no_writable_variables() -> None:
    """All state is the module's, a loop's or an object's: nothing is global."""
    writable = [
        name
        for name, section in symbols()
        if re.match(r"\.(t?data|t?bss|l?data|l?bss)(\.(?!rel\.ro)|$)", section)
        and not WRITABLE_BY_DESIGN.fullmatch(name)
    ]
    assert writable == []


# --- words ----------------------------------------------------------------------------


def test_no_note_to_self_without_an_issue() -> None:
    note = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b(?!.*(https://\S+|#\d+))")
    folders = ("src", "fastloop", "tests", "scripts", "examples", "benchmarks")
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.is_file()]
    files += [ROOT / "setup.py", ROOT / "Makefile", ROOT / ".ci" / "run"]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if path.suffix in (".c", ".h", ".py", ".pyi", ".sh", ".toml", "")
        for number, line in enumerate(lines(path), 1)
        if note.search(line)
    ]
    assert wrong == []


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert fastloop.__version__ == project["version"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_stop_at_errors(script: Path) -> None:
    assert re.search(r"^set -euo pipefail$", script.read_text(), re.MULTILINE)
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
