#!/usr/bin/env bash
# sim.sh SEEDS: plays every scenario of tests/sim with each seed from 1 to SEEDS (3), two at once.
# Ends with code 1, after all of them, if any failed, and says how to play those again.
set -euo pipefail
cd "$(dirname "$0")/../.."

seeds=${1:-3}
if ! [[ $seeds =~ ^[1-9][0-9]{0,6}$ ]]; then
    echo "SEEDS=$seeds is no number of seeds" >&2
    exit 2
fi

play_one() {
    local scenario=$1 seed=$2 said
    if said=$(target/debug/btlive sim "$scenario" --seed "$seed" --json 2>&1); then
        echo "ok $scenario seed $seed"
    else
        # What it said last is why; the report before it, if there is one, has the figures.
        printf 'FAILED: btlive sim %s --seed %s: %s\n' "$scenario" "$seed" "${said##*$'\n'}"
        return 1
    fi
}
export -f play_one

cargo build --locked --quiet
mkdir -p target
log=target/sim.log
for scenario in tests/sim/*.toml; do
    for seed in $(seq "$seeds"); do
        printf '%s\0%s\0' "$scenario" "$seed"
    done
done | xargs -0 -n 2 -P 2 bash -c 'play_one "$@"' _ | tee "$log" || true

played=$(grep -c ^ "$log" || true)
failed=$(grep -c ^FAILED "$log" || true)
echo "$played runs, $failed failed"
grep ^FAILED "$log" >&2 || true
wanted=$(($(find tests/sim -name '*.toml' | wc -l) * seeds))
if [ "$failed" != 0 ] || [ "$played" != "$wanted" ]; then
    exit 1
fi
