#!/usr/bin/env bash
# Build a copy of the tree with AddressSanitizer and UBSan, assertions on, and run the
# tests there.
#
#   scripts/sanitize.sh [pytest's arguments]
#
# PYTHON names the interpreter; the copy is build/sanitize, with a virtual environment
# of its own.
set -euo pipefail

cd "$(dirname "$0")/.."
here=$PWD
python=${PYTHON:-python3}
copy=$here/build/sanitize
reports=$copy/build/reports

# What cannot work under the sanitizers, and why:
without=(
    # starts the programs of PostgreSQL, which hang with the libraries preloaded
    --deselect 'tests/test_programs.py::test_on_asyncio[asyncpg_queries]'
    --deselect 'tests/test_programs.py::test_same_on_our_loop[asyncpg_queries]'
    --deselect 'tests/test_programs.py::test_same_with_patch[asyncpg_queries]'
    --deselect 'tests/test_programs.py::test_same_in_debug_mode[asyncpg_queries]'
    # limits the address space, of which the sanitizer reserves terabytes
    --deselect tests/io/test_watch.py::test_closed_number_is_an_os_error
    # measures the memory of the process, which the sanitizer does not give back
    --deselect tests/core/test_leaks.py::test_leak_of_memory_that_python_does_not_count
    # asyncio's own loop takes minutes for it with everything checked
    --deselect 'tests/io/test_many_connections.py::test_ten_thousand_connections[asyncio]'
)

export FASTLOOP_SANITIZE=address,undefined FASTLOOP_DEBUG=1
scripts/copy-tree.sh "$copy"
make --no-print-directory -C "$copy" VENV=.venv PYTHON="$python" .venv/.built-test

# the compiler that the extension was built with knows where its libraries are
compiler=${CC:-$("$copy/.venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}
libraries=()
for name in libasan.so libubsan.so; do
    # shellcheck disable=SC2086  # it may be several words
    path=$($compiler -print-file-name=$name)
    case $path in
    /*) libraries+=("$path") ;;
    *)
        echo "missing: $name, beside gcc (Debian), libasan libubsan (Fedora); there is none for Alpine" >&2
        exit 1
        ;;
    esac
done

rm -rf "$reports"
mkdir -p "$reports"
cd "$copy"
status=0
# reports go to files: a process that dies takes with it what pytest has captured
LD_PRELOAD="${libraries[*]}" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:log_path="$reports/report" \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path="$reports/report" \
    .venv/bin/python -m pytest -n "${JOBS:-2}" -p no:cacheprovider "${without[@]}" "$@" || status=$?

for report in "$reports"/*; do
    [ -f "$report" ] || continue
    head -n 100 "$report"
    status=1
done
exit "$status"
