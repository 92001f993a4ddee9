#!/usr/bin/env bash
# Build an sdist and, from it, a wheel; look into both; install the wheel and use it.
set -euo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/venv"
run=$work/venv/bin/python
"$run" -m pip -q install --upgrade pip 'setuptools>=77'
"$run" -c 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])' "$work" >"$work/log" ||
    { cat "$work/log" && exit 1; }

cd "$work"
"$run" -m pip -q wheel --no-deps --wheel-dir . fastloop-*.tar.gz
"$run" - <<'END'
import glob
import tarfile
import zipfile

(sdist,) = glob.glob("fastloop-*.tar.gz")
(wheel,) = glob.glob("fastloop-*.whl")
with tarfile.open(sdist) as tar:
    source = {name.partition("/")[2] for name in tar.getnames()}
needed = {
    "src/core/loop.h",
    "src/module.c",
    "fastloop/_core.pyi",
    "tests/test_source.py",
    "benchmarks/load.c",
    "benchmarks/workloads/tasks.py",
    "examples/demo/demo.py",
    "Makefile",
    "README.md",
    "LICENSE",
}
assert needed <= source, f"not in the sdist: {sorted(needed - source)}"
built = set(zipfile.ZipFile(wheel).namelist())
strange = {
    name
    for name in built
    if not name.startswith(("fastloop/", "fastloop-"))
    or (name.endswith((".c", ".h")) and not name.startswith("fastloop/_suite/"))
}
assert not strange, f"in the wheel: {sorted(strange)}"
needed = {
    "fastloop/_core.pyi",
    "fastloop/py.typed",
    "fastloop/_suite/benchmarks/load.c",
    "fastloop/_suite/benchmarks/workloads/tasks.py",
    "fastloop/_suite/tests/postgres.py",
}
assert needed <= built, f"not in the wheel: {sorted(needed - built)}"
assert any(name.startswith("fastloop/_core.") and name.endswith(".so") for name in built)
END
"$run" -m pip -q install --no-index fastloop-*.whl
"$run" -c '
import asyncio, os, subprocess, sys, fastloop
async def main():
    return type(asyncio.get_running_loop()), await asyncio.sleep(0.01, 42)
assert fastloop.run(main()) == (fastloop.Loop, 42)
assert not os.path.exists("bench")
command = [sys.executable, "-m", "fastloop", "bench", "--quick", "--only", "spawn"]
done = subprocess.run(command, capture_output=True, text=True)
assert "task made and awaited" in done.stdout, done.stdout + done.stderr
print("the wheel works:", fastloop.__version__, "from", fastloop.__file__.partition("/venv/")[2])
'
