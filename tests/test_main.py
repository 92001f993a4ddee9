"""python -m fastloop: programs run as python itself would run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import fastloop

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """\
import asyncio, sys, fastloop
async def main():
    loop = asyncio.get_running_loop()
    print(type(loop) is fastloop.Loop, asyncio.gather is fastloop.gather)
    print(__name__, sys.argv[1:], vars(sys.modules["__main__"]) is globals())
asyncio.run(main())
"""
PRINTS = "True True\n__main__ ['-c', 'one', '--two'] True\n"


def python(*arguments: Any, stdin: str = "", **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def on_fastloop(*arguments: Any, **keywords: Any) -> Any:
    return python("-m", "fastloop", *arguments, **keywords)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


ARGUMENTS = ["-c", "one", "--two"]


def test_script(script: Path) -> None:
    result = on_fastloop(script, *ARGUMENTS)
    assert (result.stdout, result.stderr, result.returncode) == (PRINTS, "", 0)


def test_module(script: Path) -> None:
    result = on_fastloop(
        "-m", "program", *ARGUMENTS, PYTHONPATH=f"{script.parent}:{ROOT}"
    )
    assert (result.stdout, result.stderr, result.returncode) == (PRINTS, "", 0)


def test_code() -> None:
    result = on_fastloop("-c", PROGRAM, *ARGUMENTS)
    assert (result.stdout, result.stderr, result.returncode) == (PRINTS, "", 0)


def test_standard_input() -> None:
    result = on_fastloop("-", *ARGUMENTS, stdin=PROGRAM)
    assert (result.stdout, result.stderr, result.returncode) == (PRINTS, "", 0)


def test_folder_and_archive(script: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    script.rename(folder / "__main__.py")
    result = on_fastloop(folder, *ARGUMENTS)
    assert (result.stdout, result.stderr, result.returncode) == (PRINTS, "", 0)
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.write(folder / "__main__.py", "__main__.py")
    result = on_fastloop(tmp_path / "archive.pyz", *ARGUMENTS)
    assert (result.stdout, result.stderr, result.returncode) == (PRINTS, "", 0)


def test_without_patch(script: Path) -> None:
    result = on_fastloop("--no-patch", script)
    assert result.stdout.startswith("True False\n"), result.stderr


# What a program can see of how it was run; each is run by python and by fastloop.
SAME = {
    "names": "print(sorted(globals()))",
    "argv": "import sys; print(sys.argv)",
    "path": "import sys; print(sys.path[0])",
    "exit code": "import sys; sys.exit(3)",
    "exit with words": "import sys; sys.exit('gone')",
    "error": "def f():\n    1 / 0\nf()",
    "error in a task": "import asyncio\nasync def f():\n    1 / 0\nasyncio.run(f())",
    "chained errors": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    undefined",
    "syntax error": "print('no')\n1 +\n",
    "excepthook": "import sys\nsys.excepthook = lambda *a: print(a[0], a[1])\n1 / 0",
    "atexit": "import atexit\natexit.register(print, 'end')\n1 / 0",
    "interrupted": "import atexit\natexit.register(print, 'end')\n"
    "raise KeyboardInterrupt",
    "main module": "import sys\nclass A: pass\nprint(A.__module__, A, __file__)",
    "thread": "import threading, time\n"
    "def late():\n    time.sleep(0.05)\n    import __main__\n    print(__main__.x)\n"
    "x = 'still there'\nthreading.Thread(target=late).start()",
}


def _comparable(result: Any) -> tuple[str, str, int]:
    # the lines of the loops' own files are not those of the program
    own = r'  File "[^"]*/(asyncio|fastloop)/.*\n(    .*\n)*'
    errors = re.sub(own, "", result.stderr)
    return result.stdout, errors, result.returncode


@pytest.mark.parametrize("what", SAME)
def test_script_as_by_python(what: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(SAME[what])
    expected, answer = python(path, "x", "-y"), on_fastloop(path, "x", "-y")
    assert _comparable(answer) == _comparable(expected)


@pytest.mark.parametrize("what", [w for w in SAME if w != "main module"])
def test_code_as_by_python(what: str) -> None:
    expected, answer = python("-c", SAME[what], "x"), on_fastloop("-c", SAME[what], "x")
    if sys.version_info >= (3, 13):
        # python keeps the lines of -c for its tracebacks; code that is run has none
        strip = re.compile(r"^    .*\n", re.MULTILINE)
        expected.stderr = strip.sub("", expected.stderr)
        answer.stderr = strip.sub("", answer.stderr)
    assert _comparable(answer) == _comparable(expected)


def test_interrupted_is_told_by_the_signal(tmp_path: Path) -> None:
    result = on_fastloop("-c", "raise KeyboardInterrupt")
    assert result.returncode == -signal.SIGINT


def test_wrong_command_lines(tmp_path: Path) -> None:
    result = on_fastloop(tmp_path / "absent.py")
    assert result.returncode == 2
    assert "can't open file" in result.stderr
    result = on_fastloop("-m", "absent_module")
    assert result.returncode == 1
    assert "No module named absent_module" in result.stderr
    result = on_fastloop("--nonsense")
    assert result.returncode == 2
    assert "--nonsense" in result.stderr
    result = on_fastloop("-c")
    assert result.returncode == 2


def test_help_and_version() -> None:
    result = on_fastloop("--help")
    assert result.returncode == 0
    assert "--no-patch" in result.stdout
    result = on_fastloop("--version")
    assert result.stdout.startswith(f"fastloop {fastloop.__version__}, libuv ")


def test_repl() -> None:
    typed = """\
import asyncio
type(asyncio.get_running_loop()).__module__
await asyncio.sleep(0.001, "slept")
asyncio.gather is __import__("fastloop").gather
"""
    result = on_fastloop(stdin=typed)
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    assert "'fastloop.loop'" in text
    assert "'slept'" in text
    assert "True" in text


# --- bench ----------------------------------------------------------------------------


def test_bench(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fastloop", "bench", "--list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (result.stderr, result.returncode) == ("", 0)
    assert " call_soon " in result.stdout
    assert "python -m fastloop bench" in on_fastloop("bench", "--help").stdout
    assert on_fastloop("bench", "--only", "nonsense").returncode == 2


@pytest.mark.parametrize("words", [["bench"], ["--", "bench"], ["--no-patch", "bench"]])
def test_script_that_is_named_bench(tmp_path: Path, words: list[str]) -> None:
    """A file of that name goes before the command."""
    command = [sys.executable, "-m", "fastloop", *words, "--list"]
    run = {
        "cwd": tmp_path,
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "capture_output": True,
        "text": True,
    }
    if words != ["bench"]:
        result = subprocess.run(command, **run)  # type: ignore[call-overload]
        assert result.returncode == 2
        assert "can't open file" in result.stderr
    (tmp_path / "bench").write_text("import sys; print(sys.argv)")
    result = subprocess.run(command, **run)  # type: ignore[call-overload]
    assert (result.stdout, result.stderr) == ("['bench', '--list']\n", "")
