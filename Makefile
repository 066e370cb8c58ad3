# `make` lists what there is. Everything works in a fresh clone on Debian with stable Rust.
.DEFAULT_GOAL := help
.PHONY: help check test fuzz-smoke bench sim rows soak demo tools clean-tools compiler
SHELL := /bin/bash

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# Rust links with it, and the cryptography of TLS has parts in C.
compiler:
	@command -v cc >/dev/null || { \
		echo "No C compiler (cc) here. On Debian: apt-get install build-essential" >&2; exit 1; }

check: compiler ## formatting, clippy with warnings denied, docs, tidy, licences
	cargo fmt --check
	if [ -e fuzz/Cargo.toml ]; then cargo fmt --manifest-path fuzz/Cargo.toml --check; fi
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	cargo test --locked --quiet --test tidy

test: ## all tests; installs what they need (on Debian, as root)
	tests/tools/test.sh

fuzz-smoke: compiler ## every fuzz target for FUZZ_SECONDS=20
	tests/tools/fuzz-smoke.sh

bench: compiler ## micro-benchmarks, then whole swarms, whose figures go to docs/performance.md
	cargo bench --locked --no-fail-fast

SEEDS ?= 6
sim: compiler ## every scenario of the simulator with SEEDS=6 seeds each
	tests/tools/sim.sh $(SEEDS)

rows: compiler ## the table of swarms in docs/performance.md; ROWS_SEEDS=3 ROWS_MAX_VIEWERS=1000 ROWS_ONLY=
	cargo bench --locked --bench rows

soak: compiler ## the long way: 50 seeds, ten minutes of each fuzz target, 500 kills, an hour of one swarm
	tests/tools/sim.sh 50
	FUZZ_SECONDS=600 tests/tools/fuzz-smoke.sh
	SURVIVE_KILLS=500 cargo test --locked --test survive
	SWARM_SECONDS=3600 SWARM_CELLS=20/4/2 cargo bench --locked --bench swarm

demo: compiler ## a live stream on this machine, with a page to look at
	cargo run --locked --quiet -- demo

tools: ## only install the outside programs that the tests talk to
	tests/tools/install.sh all

clean-tools: ## remove what was built under target/tools
	rm -rf target/tools
