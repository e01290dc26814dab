#!/bin/sh
# Generates buildkit_client/_proto/*_pb2.py and *_pb2.pyi from protos/*.proto.
#
#   scripts/gen_protos.sh           write the stubs
#   scripts/gen_protos.sh --check   write nothing; fail when the stubs are not what protos/ says
#
# PYTHON names the interpreter that has grpcio-tools; default .venv/bin/python. The version of grpcio-tools is pinned in
# pyproject.toml, because the generator inside it decides which protobuf runtimes can load the stubs.
set -eu

cd "$(dirname "$0")/.."
LC_ALL=C
export LC_ALL

python=${PYTHON:-.venv/bin/python}
package=buildkit_client/_proto

fail() {
    printf 'gen_protos: %s\n' "$1" >&2
    exit 1
}

mode=write
case "${1-}" in
    "") ;;
    --check) mode=check ;;
    *) fail "unknown argument $1; usage: scripts/gen_protos.sh [--check]" ;;
esac

command -v "$python" >/dev/null || fail "no interpreter $python; set PYTHON or run: python -m venv .venv"

pinned=$(sed -n 's/.*"grpcio-tools==\([0-9.]*\)".*/\1/p' pyproject.toml)
[ -n "$pinned" ] || fail "pyproject.toml does not pin grpcio-tools in its dev extra"
found=$("$python" -c 'import importlib.metadata as m; print(m.version("grpcio-tools"))' 2>/dev/null) ||
    fail "$python has no grpcio-tools; run: $python -m pip install grpcio-tools==$pinned"
[ "$found" = "$pinned" ] ||
    fail "$python has grpcio-tools $found, pinned is $pinned; run: $python -m pip install grpcio-tools==$pinned"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# protos/ is mapped onto the package's path, so that the stubs import each other from there.
"$python" -m grpc_tools.protoc --proto_path="$package=protos" --python_out="$work" --pyi_out="$work" protos/*.proto ||
    fail "protoc rejected protos/, see above"
"$python" scripts/finish_stubs.py "$work/$package" || fail "the generator's output is not what finish_stubs.py expects"

if [ "$mode" = check ]; then
    mkdir "$work/committed"
    for file in "$package"/*_pb2.py "$package"/*_pb2.pyi; do
        [ ! -e "$file" ] || cp "$file" "$work/committed/"
    done
    if ! diff -ru "$work/committed" "$work/$package" >"$work/difference"; then
        # Serialized descriptors make very long lines: only the names of files, classes and fields are shown.
        grep -E '^(Only in|---|[-+] *(class|[a-zA-Z_]+:))' "$work/difference" |
            sed -e "s#$work/*##" -e 's#^--- committed/##' | cut -f1 | cut -c1-120 | head -n 40 >&2
        fail "the stubs in $package are stale; run scripts/gen_protos.sh"
    fi
    printf 'gen_protos: the stubs match protos/ (grpcio-tools %s)\n' "$found"
else
    rm -f "$package"/*_pb2.py "$package"/*_pb2.pyi
    cp "$work/$package"/* "$package/"
    printf 'gen_protos: wrote %s modules to %s\n' "$(ls "$package"/*_pb2.py | wc -l | tr -d ' ')" "$package"
fi
