#!/usr/bin/env bash
# Make a Python virtual environment, or keep the one that is there:
#
#   scripts/make_venv.sh DIR [MINIMUM]     MINIMUM defaults to 3.11
#
# PYTHON names the interpreter to use; without it the first one on PATH that is new enough is taken.
set -euo pipefail

dir=${1:?usage: make_venv.sh DIR [MINIMUM]}
minimum=${2:-3.11}

new_enough() { # running it is the test: version managers put names on PATH that only print an error
    "$1" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, sys.argv[1].split("."))))' "$minimum" >/dev/null 2>&1
}

if new_enough "$dir/bin/python" && "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

python=
for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "make_venv: no Python $minimum or newer was found on PATH" >&2
    echo "  try: apt-get install python3 python3-venv, or name one: PYTHON=/path/to/python3.12" >&2
    exit 1
fi

# Debian ships venv without ensurepip; the package python3-venv brings it.
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "make_venv: installing python$version-venv" >&2
        install=(env DEBIAN_FRONTEND=noninteractive
            apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=600 "python$version-venv")
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        if ! { "${install[@]}" || { apt-get update -qq && "${install[@]}"; }; } </dev/null >"$log" 2>&1; then
            tail -n 15 "$log" >&2
            echo "make_venv: apt-get could not install python$version-venv" >&2
            exit 1
        fi
    else
        echo "make_venv: $python cannot make environments with pip: its ensurepip module is missing" >&2
        echo "  try: apt-get install python$version-venv" >&2
        exit 1
    fi
fi

echo "make_venv: $dir with $("$python" --version)" >&2
"$python" -m venv --clear "$dir"
