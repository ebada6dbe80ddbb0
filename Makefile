# The two commands of the README are `make demo` and `make check`; each installs what it needs (Debian packages, as root).
SHELL := /bin/bash
.PHONY: demo check check-unit check-e2e check-ovs check-ovs-all lint build bench-key setup-demo setup-check

DEMO_PACKAGES  := build-essential iproute2 iputils-ping ethtool procps netcat-openbsd
CHECK_PACKAGES := $(DEMO_PACKAGES) openvswitch-switch openvswitch-common openvswitch-testcontroller python3 tcpdump socat

demo: setup-demo build
	tests/demo/run.sh

build:
	cargo build --release --locked --bin ovs-vswitchd --bin ferrule

check: setup-check lint check-unit check-e2e check-ovs

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features tests/e2e --locked -- -D warnings

# Unit and property tests of every crate, and the tests that need root, namespaces and Debian's openvswitch tools.
check-unit:
	FERRULE_PROPERTY_CASES=1000000 cargo test --workspace --locked

# End to end: the release build, foreign clients, 1 GB through namespaces.
check-e2e: build
	tests/e2e/run.sh

# OVS's own unit suite with our daemon: the tests that are not on the list of expected failures.
check-ovs: build
	tests/upstream/run.sh gate

# Every test that starts the daemon, expected failures included.
check-ovs-all: build
	tests/upstream/run.sh all

setup-demo:
	@tests/setup.sh $(DEMO_PACKAGES)

setup-check:
	@tests/setup.sh $(CHECK_PACKAGES)
