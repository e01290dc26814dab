#!/bin/sh
# Loads the generated stubs with the oldest and the newest protobuf that pyproject.toml allows, with both of its
# implementations, and sends every message through bytes and back.
#
#   scripts/check_protobuf_runtimes.sh              oldest and newest
#   scripts/check_protobuf_runtimes.sh VERSION...   these
#
# PYTHON names the interpreter (default .venv/bin/python); it needs pip. The environments stay in the cache folder:
# BUILDKIT_CLIENT_CACHE, else XDG_CACHE_HOME/buildkit-client, else ~/.cache/buildkit-client.
# Exit codes: 0 all fine, 1 a runtime does not work, 2 a runtime could not be installed.
set -eu

cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
cache=${BUILDKIT_CLIENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/buildkit-client}

fail() {
    printf 'check_protobuf_runtimes: %s\n' "$2" >&2
    exit "$1"
}

# Prints the version that pip would install for a requirement.
resolve() {
    "$python" -m pip --quiet --disable-pip-version-check install \
        --dry-run --ignore-installed --no-deps --report - "$1" |
        "$python" -c 'import json, sys; print(json.load(sys.stdin)["install"][0]["metadata"]["version"])'
}

# Makes sure that an environment holds the version, made by the present interpreter.
prepare() {
    identify='import importlib.metadata as m, sys; print(sys.version_info[:3], m.version("protobuf"))'
    wanted=$("$python" -c 'import sys; print(sys.version_info[:3], sys.argv[1])' "$2")
    [ "$("$1/bin/python" -c "$identify" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$1"
    "$python" -m venv --without-pip "$1" &&
        "$python" -m pip --quiet --disable-pip-version-check --python "$1/bin/python" install "protobuf==$2"
}

command -v "$python" >/dev/null || fail 2 "no interpreter $python; set PYTHON or run: python -m venv .venv"

if [ $# -eq 0 ]; then
    requirement=$(sed -n 's/^ *"\(protobuf>=[0-9.]*,<[0-9.]*\)",.*/\1/p' pyproject.toml)
    [ -n "$requirement" ] || fail 2 "pyproject.toml has no line \"protobuf>=OLDEST,<LIMIT\""
    oldest=${requirement#*>=}
    oldest=$(resolve "protobuf==${oldest%,*}") || fail 2 "pip cannot find the oldest $requirement"
    newest=$(resolve "$requirement") || fail 2 "pip cannot find the newest $requirement"
    set -- "$oldest" "$newest"
fi

mkdir -p "$cache"
digests=
for version in "$@"; do
    environment=$cache/protobuf-$version
    prepare "$environment" "$version" || fail 2 "cannot install protobuf $version into $environment"
    for implementation in upb python; do
        result=$(PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=$implementation \
            "$environment/bin/python" -W error -B scripts/round_trip_stubs.py) ||
            fail 1 "the stubs do not work with protobuf $version ($implementation)"
        printf '%s\n' "$result"
        case $result in
            *"protobuf $version ($implementation): "*) ;;
            *) fail 1 "asked for protobuf $version ($implementation), another one answered" ;;
        esac
        digests="$digests${result##* }
"
    done
done
[ "$(printf '%s' "$digests" | sort -u | wc -l)" -eq 1 ] || fail 1 "the runtimes write different bytes"
