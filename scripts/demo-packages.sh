#!/usr/bin/env bash
# Install what the demo runs beside fastloop: aiohttp, if there is a wheel of it.
#
#   scripts/demo-packages.sh PYTHON
set -euo pipefail

python=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "installing aiohttp for the demo"
if ! "$python" -m pip -q install --only-binary :all: 'aiohttp>=3.9' >"$log" 2>&1; then
    tail -n 3 "$log" >&2
    echo "no wheel of aiohttp for $("$python" -V): the demo goes without it" >&2
fi
