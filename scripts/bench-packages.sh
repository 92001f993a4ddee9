#!/usr/bin/env bash
# Install what the benchmarks compare fastloop with, each by itself: a library that has
# no wheel for this Python is left out, and named.
#
#   scripts/bench-packages.sh PYTHON
set -euo pipefail

cd "$(dirname "$0")/.."
python=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

requirements=$("$python" -c '
import tomllib
with open("pyproject.toml", "rb") as f:
    for line in tomllib.load(f)["project"]["optional-dependencies"]["bench"]:
        print(line)')

echo "installing the libraries that fastloop is compared with"
while IFS= read -r requirement; do
    if ! "$python" -m pip -q install --only-binary :all: "$requirement" >"$log" 2>&1; then
        echo "not for $("$python" -V): ${requirement%%[>;]*}" >&2
    fi
done <<<"$requirements"
