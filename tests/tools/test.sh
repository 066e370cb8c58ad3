#!/usr/bin/env bash
# Runs all tests in stages and prints how long each took.
#
# The outside programs that take minutes to build are built in the background, with low
# priority, while the tests that do not need them run.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=$PWD/target/tools
mkdir -p "$tools"
rows=()
builder=

stage() {
    local name=$1 start=$SECONDS result=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || result=FAILED
    rows+=("$(printf '%6d s  %-7s %s' $((SECONDS - start)) "$result" "$name")")
    [ "$result" = ok ]
}

# shellcheck disable=SC2329 # called by the trap
finish() {
    local status=$?
    if [ -n "$builder" ]; then
        # The whole group: what it has started goes with it.
        kill -- "-$builder" 2>/dev/null || true
    fi
    printf '\n== seconds per stage\n'
    printf '%s\n' "${rows[@]}"
    printf '%6d s  %-7s %s\n' "$SECONDS" "" "in all"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

start_builder() {
    # Job control gives the builder a process group of its own.
    set -m
    nice -n 10 tests/tools/install.sh built >"$tools/install.log" 2>&1 &
    builder=$!
    set +m
}

wait_for_builder() {
    local status=0
    wait "$builder" || status=$?
    builder=
    cat "$tools/install.log"
    return "$status"
}

# One --test flag for each test binary of a kind: interop talks to outside programs, survive waits
# for real time to pass, light is everything else.
test_flags() {
    local path name kind
    for path in tests/*.rs tests/*/main.rs; do
        name=${path#tests/}
        name=${name%/main.rs}
        name=${name%.rs}
        kind=light
        if [[ $name == interop* || $name == survive ]]; then
            kind=${name%%_*}
        fi
        if [ "$kind" = "$1" ]; then
            echo --test "$name"
        fi
    done
}

if [ "$(id -u)" != 0 ]; then
    echo "Not root: tests that make network namespaces will fail. Run make test as root."
fi

stage "install Debian packages" tests/tools/install.sh packages
start_builder
stage "build" cargo test --locked --no-run
# shellcheck disable=SC2046 # one word per flag is meant
stage "unit and light tests" \
    cargo test --locked --quiet --no-fail-fast --lib --bins $(test_flags light)
# They mostly wait, so there are more of them at once than cores.
# shellcheck disable=SC2046
RUST_TEST_THREADS=8 stage "what must survive" \
    cargo test --locked --quiet --no-fail-fast $(test_flags survive)
stage "documentation tests" cargo test --locked --quiet --doc
stage "wait for outside programs" wait_for_builder
# These wait as well; heavy ones queue in the binary.
# shellcheck disable=SC2046
RUST_TEST_THREADS=16 stage "trackers, clients, swarms" \
    cargo test --locked --quiet --no-fail-fast $(test_flags interop)
