# make demo · make test · make install DESTDIR=… · make deb · make bench
# Everything installs what it needs (Debian 12) and works as root and as a user with sudo.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# A user's PATH has no sbin on Debian.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E env PATH=$(PATH):/usr/local/sbin:/usr/sbin:/sbin)
export NODECTL_CACHE ?= /var/cache/nodectl
export CARGO_TERM_COLOR ?= auto
# Tests that need root are built as the user and run through sudo.
ifneq ($(SUDO),)
AS_ROOT := --config 'target."cfg(unix)".runner="$(SUDO)"'
endif

STAGE := target/stage

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

.PHONY: deps
deps: ## Debian packages that building and testing need
	@tests/setup/packages.sh

.PHONY: build
build: deps ## release programs
	cargo build --release --locked --workspace --exclude node-tests --bins
	cargo build --profile launcher --locked -p node-runtime --bin node-run

# Release programs go with the launcher that was built for a short life; others with their own.
LAUNCHER = $(if $(filter target/release,$(BIN)),target/launcher/node-run,$(BIN)/node-run)
include systemd/dist/install.mk

.PHONY: stage
stage: build ## what `make install` installs, under target/stage
	rm -rf $(STAGE)
	$(MAKE) --no-print-directory install DESTDIR=$(abspath $(STAGE))

.PHONY: tools
tools: deps ## testnode, demo and torture
	cargo build --release --locked -p node-tests --bins

.PHONY: demo
demo: stage tools ## the story: images, release, a node, upgrade, rollback; leaves the node up
	$(SUDO) target/release/demo --stage $(STAGE)

.PHONY: demo-down
demo-down: ## ends everything that a demo or a test left up
	$(SUDO) target/release/testnode down --all

.PHONY: test
test: check test-unit test-host test-fuzz test-node ## every tier

.PHONY: check
check: deps ## formatting, lints, licences, bans
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	tests/setup/cargo-deny.sh

.PHONY: test-unit
test-unit: deps ## pure tests and tables; no privileges, no services
	cargo test --locked --workspace --lib --bins
	cargo test --locked -p node-tests --test architecture

.PHONY: test-host
test-host: deps ## store, registry, namespaces and systemd on real components; needs root
	cargo $(AS_ROOT) test --locked --workspace --test '*' --exclude node-tests -- --test-threads=2

.PHONY: test-fuzz
test-fuzz: deps ## hostile and damaged input: each target of the fuzzer for a quarter of a minute, from its seeds alone
	NODECTL_FUZZ_SEED=1 tests/fuzz/run.sh 15

.PHONY: test-node
test-node: stage ## booted nodes and a control plane: every step of the story is asserted
	cargo test --locked -p node-tests --tests --no-run
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target node-lane-kernels node-lane-boxes

# Two lanes, since each test mostly waits. Their surroundings are apart.
KERNELS := e2e_dataplane e2e_guests node_cuts node_kernel
BOXES = $(filter-out architecture $(KERNELS),$(basename $(notdir $(wildcard tests/tests/*.rs))))
.PHONY: node-lane-kernels node-lane-boxes
node-lane-kernels: LANE = $(KERNELS)
node-lane-boxes: LANE = $(BOXES)
node-lane-kernels node-lane-boxes:
	cargo $(AS_ROOT) test --locked -p node-tests $(addprefix --test ,$(LANE)) -- --test-threads=1

.PHONY: e2e
e2e: export NODECTL_ROUNDS ?= 20
e2e: stage ## guests and packets on user-mode-linux and in QEMU, and a cloud, through upgrade after upgrade; prints the figures
	cargo $(AS_ROOT) test --locked -p node-tests --test 'e2e_*' -- --test-threads=1 --nocapture
	NODECTL_E2E_KIND=vm NODECTL_ROUNDS=3 cargo $(AS_ROOT) test --locked -p node-tests \
	  --test e2e_guests --test e2e_dataplane --test node_kernel -- --test-threads=1 --nocapture

.PHONY: torture
torture: export NODECTL_CUTS ?= 50
torture: export NODECTL_KILLS ?= 400
torture: export NODECTL_E2E_KIND ?= vm
torture: stage tools ## a thousand power cuts and more, hours if wanted; prints what docs/reliability.md has
	$(SUDO) tests/torture/run.sh
	cargo $(AS_ROOT) test --locked -p node-tests --test node_kills --test node_cuts -- --nocapture

.PHONY: fuzz
fuzz: deps ## hostile and damaged input, SECONDS=20 for each target; what it has learnt stays in the cache
	tests/fuzz/run.sh $(or $(SECONDS),20)

.PHONY: bench
bench: stage ## side-by-side figures: launch against crun, pull against podman and skopeo
	$(SUDO) tests/bench/run.sh
