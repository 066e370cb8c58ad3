#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (20), two at once, on stable Rust without sanitizer.
#
# New inputs go to target/fuzz-corpus; the seeds in fuzz/corpus are only read.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${FUZZ_SECONDS:-20}
export PATH=$PWD/target/tools/bin:$PATH
command -v cargo-fuzz >/dev/null || tests/tools/install.sh fuzz

run_one() {
    local target=$1 log=$PWD/target/fuzz-$1.log corpora=("target/fuzz-corpus/$1")
    mkdir -p "${corpora[0]}"
    if [ -d "fuzz/corpus/$target" ]; then
        corpora+=("fuzz/corpus/$target")
    fi
    if ! cargo fuzz run -s none "$target" "${corpora[@]}" -- \
        -max_total_time="$seconds" -print_final_stats=1 >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "$target: FAILED, see $log"
        return 1
    fi
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
}
export -f run_one
export seconds

cargo fuzz build -s none
for path in fuzz/fuzz_targets/*.rs; do
    basename "$path" .rs
done | xargs -P 2 -I{} bash -c 'run_one "$1"' _ {}
