# What the README names first: `make demo` and `make check` install the Debian packages that they need, as root.
SHELL := /bin/bash
.PHONY: deb bench-db bench bench-quick build-bench setup-bench demo check check-unit check-e2e check-osken check-osken-all check-ovs check-ovs-all check-ovs-system check-ovs-db check-durability check-fuzz check-tables check-scenes check-offload fuzz lint build bench-key setup-demo setup-check

DEMO_PACKAGES  := build-essential iproute2 iputils-ping ethtool procps netcat-openbsd
CHECK_PACKAGES := $(DEMO_PACKAGES) openvswitch-switch openvswitch-common openvswitch-testcontroller ovn-central ovn-host mininet python3-netaddr python3-pyparsing openssl python3 python3-venv tcpdump socat

BENCH_PACKAGES := iproute2 iputils-ping util-linux
PEER_PACKAGES  := openvswitch-switch openvswitch-switch-dpdk dpdk-dev

demo: setup-demo build
	tests/demo/run.sh

build:
	cargo build --release --locked --bin ovs-vswitchd --bin ferrule

check: setup-check lint check-unit check-fuzz check-e2e check-osken check-ovs check-ovs-db

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features tests/e2e --locked -- -D warnings

# Unit and property tests of every crate, and the tests that need root, namespaces and Debian's openvswitch tools.
# The model test of the slow path (ofproto's `property`) looks up a million packets.
check-unit:
	FERRULE_PACKETS=1000000 cargo test --workspace --locked --no-fail-fast

# The decoders under libFuzzer, from the corpus in the repository: the same inputs in every run.
check-fuzz:
	tests/fuzz/run.sh check

# The same with new inputs, FUZZ_SECONDS for each target.
fuzz:
	tests/fuzz/run.sh $(or $(FUZZ_SECONDS),60)

# Offload: rule and model, the differential property with a million packets, real kernels in a virtual machine.
check-offload: setup-check build
	tests/offload/run.sh

# Random tables, packets and messages for Debian's ovs-vswitchd and ours, COUNT of them from SEED on (tests/oracle/tables.py says more).
check-tables: build
	python3 tests/oracle/tables.py target/release/ovs-vswitchd --seed $(or $(SEED),0) --count $(or $(COUNT),200)

# Scenes of ports and settings, packets and time for both, likewise (tests/oracle/steps.py says more).
check-scenes: build
	python3 tests/oracle/steps.py target/release/ovs-vswitchd --seed $(or $(SEED),0) --count $(or $(COUNT),200)

# End to end: the release build, foreign clients, 1 GB through namespaces.
check-e2e: build
	tests/e2e/run.sh

# os-ken's switch tests (OpenFlow 1.0, actions of 1.3) with our daemon in their test network: those that are not on the list of
# expected failures.
check-osken: build
	tests/upstream/run.sh osken --fast of10 of13/action

# All of them (1.0, 1.3, 1.4) but those that measure the rates of groups and meters, which want a quiet machine of more than two cores
# for their Python (`tests/upstream/run.sh osken --rates of13/meter`).
check-osken-all: build
	tests/upstream/run.sh osken

# OVS's own unit suite with our daemon: the tests that are not on the list of expected failures.
check-ovs: build
	tests/upstream/run.sh gate

# Every test that starts the daemon, expected failures included.
check-ovs-all: build
	tests/upstream/run.sh all

# OVS's database suites with our tools and our server: the tests that are not on their list of expected failures.
check-ovs-db: build
	tests/upstream/run.sh db

# kill -9 during a stream of durable transactions, 200 times: no acknowledged one is lost, the file opens each time.
check-durability:
	OVSDB_KILLS=200 cargo test --release --locked -p ovsdb --test durability kill_9_loses_nothing

# Flows against Mpps: every scenario, results in target/bench/latest.json, the curve in docs/bench/. PEER=1 installs Debian's
# OVS-DPDK and lets it take turns with us; BENCH names scenarios (bench --list shows them) and options: make bench PEER=1 BENCH='flows --pairs 9'
bench: setup-bench build-bench
	target/release/bench $(if $(PEER),--peer) $(BENCH)

# The same in a minute, without a peer.
bench-quick: build-bench
	target/release/bench --quick $(BENCH)

# The database: 1,000 monitors during 2,000 transactions; 10,000 ports in one transaction beside Debian's ovs-vswitchd, in turn.
bench-db: setup-check build
	OVSDB_MONITORS=1000 OVSDB_TRANSACTIONS=2000 cargo test --release --locked -p ovsdb --test load -- --nocapture
	OVSDB_MONITORS=1000 OVSDB_TRANSACTIONS=20000 OVSDB_WRITERS=8 OVSDB_DEAF=100 cargo test --release --locked -p ovsdb --test load -- --nocapture
	tests/load/ports.py target/release/ovs-vswitchd

build-bench:
	cargo build --release --locked --bin ovs-vswitchd --bin ferrule --bin bench --bin limit

setup-bench:
	@tests/setup.sh $(BENCH_PACKAGES) $(if $(PEER),$(PEER_PACKAGES))

# OVS's system suite for the userspace datapath: real packets between namespaces, as root.
check-ovs-system: build
	tests/upstream/run.sh system

# Two Debian packages of the release build, in target/debian.
deb: build
	packaging/deb.sh

setup-demo:
	@tests/setup.sh $(DEMO_PACKAGES)

setup-check:
	@tests/setup.sh $(CHECK_PACKAGES)
