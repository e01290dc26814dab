#!/usr/bin/env bash
# Build examples/hello with convox, then list the build, show its log and export its images.
# `make demo` calls this with the services up and both commands on PATH.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${TEST_REGISTRY:?not set, try: make demo}"
scratch=${BUILDKIT_CLIENT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/buildkit-client}/demo
rm -rf "$scratch"
mkdir -p "$scratch"
export CONVOX_CONFIG=$scratch/config # records and images of the demo stay apart from yours
cd "$root"

step() {
    printf '\n$ %s\n' "$*"
    "$@"
}

app=examples/hello
if [ "$TEST_REGISTRY" != 127.0.0.1:5000 ]; then
    echo "the registry of the base image is at $TEST_REGISTRY: building a copy of $app that says so"
    cp -r "$app" "$scratch/hello"
    app=$scratch/hello
    grep -rl 127.0.0.1:5000 "$app" | xargs sed -i "s/127\.0\.0\.1:5000/$TEST_REGISTRY/"
fi

step convox build "$app" -a hello | tee "$scratch/output"
build=$(awk '$1 == "Build:" { print $2 }' "$scratch/output")
[ -n "$build" ] || {
    echo "demo: the build printed no id" >&2
    exit 1
}
step convox builds -a hello
step convox builds info "$build" -a hello
step convox builds logs "$build" -a hello
step convox builds export "$build" -a hello -f "$scratch/hello.tgz"
step ls -l "$scratch/hello.tgz"
printf '\nRecords and images are in %s; to look again: export CONVOX_CONFIG=%s\n' "$scratch" "$CONVOX_CONFIG"
