#!/usr/bin/env bash
# Make FOLDER a copy of this working tree: every file that git tracks or would track.
#
#   scripts/copy-tree.sh FOLDER
#
# What was built in FOLDER before stays, so that the next build there is a short one;
# files that are gone here go there, too.
set -euo pipefail

cd "$(dirname "$0")/.."
copy=$1

mkdir -p "$copy"
find "$copy" -mindepth 1 \( -path "$copy/build" -o -path "$copy/.venv*" \) -prune -o \
    -type f ! -name '*.so' -exec rm -f {} +

list() {
    if [ -e .git ]; then
        git ls-files --cached --others --exclude-standard -z
    else # an unpacked sdist
        find . \( -path ./build -o -path './.venv*' -o -name __pycache__ \) -prune -o \
            -type f ! -name '*.so' -print0
    fi
}

# times are kept: they tell what has to be compiled again
list | while IFS= read -r -d '' name; do
    if [ -f "$name" ]; then printf '%s\0' "$name"; fi
done | tar --null -T - -cf - | tar -xf - -C "$copy"
