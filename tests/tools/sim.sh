#!/usr/bin/env bash
# sim.sh SEEDS: a small steady swarm for each seed from 1 to SEEDS; stops at the first that fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --locked --quiet
for seed in $(seq "${1:-20}"); do
    if ! target/debug/btlive sim --viewers 30 --duration 30s --seed "$seed" --json; then
        echo "failed with seed $seed" >&2
        exit 1
    fi
done
