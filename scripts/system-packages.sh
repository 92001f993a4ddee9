#!/usr/bin/env bash
# See to it that the system has what a command of the Makefile needs.
#
#   scripts/system-packages.sh build      a compiler, libuv, Python's headers, venv
#   scripts/system-packages.sh services   PostgreSQL, openssl, curl, nginx, wrk
#   scripts/system-packages.sh testsuite  CPython's own tests
#   scripts/system-packages.sh bench      PostgreSQL, OpenSSL's headers, taskset
#   scripts/system-packages.sh instructions  valgrind
#
# What is there already is left alone.  What is not is installed where there is
# apt-get and the right to use it; elsewhere one line says what to install.  PYTHON
# names the interpreter.
set -euo pipefail

python=${PYTHON:-python3}
libuv_minimum=1.44

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

# --- what may be missing: a check, and what to install for it -------------------------

has_program() { command -v "$1" >/dev/null; }

has_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

has_compiler() {
    local cc
    cc=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}
    # shellcheck disable=SC2086  # it may be several words
    echo '#include <stdlib.h>' | $cc -fsyntax-only -x c - 2>/dev/null
}

has_libuv() { ${PKG_CONFIG:-pkg-config} --atleast-version="$libuv_minimum" libuv 2>/dev/null; }

has_headers() {
    "$python" -c 'import os, sys, sysconfig
dirs = sysconfig.get_path("include"), sysconfig.get_path("platinclude")
sys.exit(not any(os.path.exists(os.path.join(d, "Python.h")) for d in dirs))'
}

has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

has_testsuite() { "$python" -c 'import test.test_asyncio.utils' 2>/dev/null; }

has_postgres() {
    local bin
    for bin in $(command -v initdb) /usr/lib/postgresql/*/bin/initdb; do
        [ ! -x "$bin" ] || return 0
    done
    return 1
}

has_openssl_headers() {
    echo '#include <openssl/ssl.h>' | "${CC:-cc}" -fsyntax-only -x c - 2>/dev/null
}

# Debian has packages for each of its own Pythons: pythonX.Y-dev and so on.
debian_python() {
    "$python" -c 'import sys
own = sys.base_prefix == "/usr"
print("{}python{}.{}-{}".format(*sys.argv[1:2], *sys.version_info[:2], sys.argv[2]) if own else "")' "$1" "$2"
}

missing=()  # for people
packages=() # for apt

# need CHECK 'WHAT: how other systems call it' DEBIAN-PACKAGE...
need() {
    local check=$1 words=$2
    shift 2
    # shellcheck disable=SC2086  # a check and its argument
    if ! $check; then
        missing+=("$words")
        packages+=("$@")
    fi
}

need_build() {
    need has_compiler 'a C compiler: gcc libc6-dev (Debian), gcc (Fedora), gcc musl-dev (Alpine), gcc (Homebrew)' \
        gcc libc6-dev
    need "has_program ${PKG_CONFIG:-pkg-config}" 'pkg-config: pkg-config (Debian), pkgconf-pkg-config (Fedora), pkgconf (Alpine, Homebrew)' \
        pkg-config
    need has_libuv "libuv $libuv_minimum or newer: libuv1-dev (Debian), libuv-devel (Fedora), libuv-dev (Alpine), libuv (Homebrew)" \
        libuv1-dev
    need has_headers "the headers of $python: python3-dev (Debian, Alpine), python3-devel (Fedora), python (Homebrew)" \
        "$(debian_python '' dev)"
    need has_venv "the module venv of $python: python3-venv (Debian), python3 (Fedora, Alpine), python (Homebrew)" \
        "$(debian_python '' venv)"
}

need_services() {
    need has_postgres 'PostgreSQL: postgresql (Debian, Alpine, Homebrew), postgresql-server (Fedora)' postgresql
    local program
    for program in openssl curl nginx wrk; do
        need "has_program $program" "$program: $program (Debian, Fedora, Alpine, Homebrew)" "$program"
    done
}

need_testsuite() {
    need has_testsuite "the tests of $python: libpython3-testsuite (Debian), python3-test (Fedora), python3-tests (Alpine)" \
        "$(debian_python lib testsuite)"
}

need_bench() {
    need has_postgres 'PostgreSQL: postgresql (Debian, Alpine, Homebrew), postgresql-server (Fedora)' postgresql
    need has_openssl_headers "OpenSSL's headers: libssl-dev (Debian), openssl-devel (Fedora), openssl-dev (Alpine), openssl (Homebrew)" \
        libssl-dev
    need "has_program taskset" 'taskset: util-linux (Debian, Fedora, Alpine)' util-linux
}

need_instructions() {
    need "has_program valgrind" 'valgrind: valgrind (Debian, Fedora, Alpine, Homebrew)' valgrind
}

# --- installing ---------------------------------------------------------------------

give_up() {
    local IFS=';'
    echo "missing: ${missing[*]}" >&2
    exit 1
}

# Run the checks of a group; install what they miss, then run them again.
provide() {
    missing=() packages=()
    "$@"
    [ ${#missing[@]} -gt 0 ] || return 0
    # an empty name: a package that Debian does not have
    for package in "${packages[@]}"; do [ -n "$package" ] || give_up; done
    can_install || give_up
    echo "installing ${packages[*]}"
    local log
    log=$(mktemp)
    if ! { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 \
        "${packages[@]}"; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        give_up
    fi
    rm -f "$log"
    missing=()
    "$@"
    [ ${#missing[@]} = 0 ] || give_up
}

need_python() {
    local packages_for_it=""
    [ "$python" != python3 ] || has_program python3 || packages_for_it=python3
    need has_python "Python 3.11 or newer as $python (say which with PYTHON=): python3 (Debian, Fedora, Alpine, Homebrew)" \
        "$packages_for_it"
}

case ${1-} in
build) provide need_python && provide need_build ;;
services) provide need_services ;;
testsuite) provide need_testsuite ;;
bench) provide need_bench ;;
instructions) provide need_instructions ;;
*)
    echo "usage: $0 build|services|testsuite|bench|instructions" >&2
    exit 2
    ;;
esac
