#!/usr/bin/env bash
# All linters, one after the other, and at the end what they say together.
#
#   scripts/lint.sh BIN     BIN: the folder with their programs
set -euo pipefail

cd "$(dirname "$0")/.."
bin=$1
failed=()

run() {
    local name=$1
    shift
    echo "--- $name"
    "$@" || failed+=("$name")
}

c_format() {
    local file status=0
    while IFS= read -r file; do
        "$bin/clang-format" --dry-run -Werror "$file" 2>/dev/null || {
            echo "would be reformatted: $file"
            status=1
        }
    done < <(find src benchmarks tests -name '*.[ch]' | sort)
    return $status
}

types() { # for each version that has types of its own
    local version status=0
    for version in 3.11 3.12 3.13 3.14; do
        "$bin/mypy" --python-version "$version" -p fastloop || status=1
    done
    "$bin/mypy" tests/types_usage.py || status=1
    return $status
}

run "ruff check" "$bin/ruff" check --quiet .
run "ruff format" "$bin/ruff" format --check --quiet .
run "clang-format" c_format
run "mypy" types
run "stubtest" make -s stubtest VENV="$(dirname "$bin")"
run "rules of the source" "$bin/python" -m pytest tests/test_source.py

if [ ${#failed[@]} -gt 0 ]; then
    (IFS=,; echo "failed: ${failed[*]}")
    exit 1
fi
echo "all is well"
