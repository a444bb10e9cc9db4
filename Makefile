# Every target does its own set-up: scripts/setup installs what is missing, cargo fetches the crates.

.PHONY: demo test test-fast user-test agents-test soak lint doc bench conformance build
.DEFAULT_GOAL := build

build:
	scripts/setup demo
	cargo build --release

# The whole thing in a temporary directory: a daemon, a mount, three agents, five tasks.
demo:
	scripts/setup demo
	cargo build --profile demo --bin claude-failover
	target/demo/claude-failover demo

# Most tests wait most of the time: more of them at once than there are processors.
export RUST_TEST_THREADS ?= $(shell echo $$(( $$(nproc) * 2 )))
# Where they put their files; figures (`soak`, `bench`) are those of a disk.
test test-fast user-test agents-test: export TMPDIR := $(shell scripts/test-dir)

# Every test. The program is built first because the tests start it.
test:
	scripts/setup test
	cargo build --bins --examples
	cargo test --workspace --all-targets --no-fail-fast
	cargo test --doc

# What needs no tmux, mount or agent, with a sample of the simulation: for while one writes.
test-fast:
	SIMULATION_SEEDS=$${SIMULATION_SEEDS:-50} cargo test --lib --test agents_files --test config --test docs --test layers --test rules --test simulation --test states

# The daemon's tests as a user without rights (from root, who can make one): what needs root says that it is skipped.
user-test:
	scripts/setup test
	cargo build --bins
	tests/as-user "$$(cargo test --test daemon --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\)).*/\1/p')"

# Older versions of the agent CLIs against a loopback server: nine trials each, some of which are expected to fail (doc/AGENTS.md).
agents-test:
	scripts/setup test
	cargo build --bins
	cargo test --test agents-matrix

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --test agents-matrix -- -D warnings

# Twenty minutes of tasks, swaps and readers; fails when anything of the daemon or its tmux server grows, and prints what it measured.
# Two minutes of the same are part of `make test`.
soak:
	scripts/setup test
	cargo build --bins
	SOAK_SECONDS=$${SOAK_SECONDS:-1200} cargo test --test soak -- --nocapture

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

# Ratios against other ways of doing the same; writes doc/BENCHMARKS.md's figures to standard output.
bench:
	scripts/setup bench
	cargo build --release --bins --examples
	cargo run --release --example bench

# Public file system suites on a mounted queue and on the file system behind it (doc/CONFORMANCE.md).
conformance:
	scripts/setup conformance
	cargo build --release
	tests/conformance/run target/release/claude-failover
