#!/bin/bash
# The end-to-end tests: foreign clients, packets through namespaces, 1 GB transfers, crashes. Needs root, the packages of
# `make setup-check` and the release build.
#   run.sh [FILTER...]       words for the test harness, as with cargo test
# Environment:
#   FERRULE_BIN=DIR          where ovs-vswitchd and ferrule lie (default: target/release)
#   E2E_DAEMON=stock         run Debian's own ovs-vswitchd under the same tests, to judge the tests
#   E2E_THREADS=N            tests at the same time (default 1: they share the machine's two cores with the switch)
set -euo pipefail
root=$(readlink -f "$(dirname "$0")/../..")
export FERRULE_BIN=${FERRULE_BIN:-$root/target/release}
export E2E_PREFIX=fe$$
work=$(mktemp -d -t ferrule-e2e.XXXXXX)
export TMPDIR=$work

cleanup() {
    local file ns
    for file in "$work"/*/*.pid; do
        [ ! -s "$file" ] || kill -9 "$(cat "$file")" 2>/dev/null || true
    done
    while read -r ns _; do
        case $ns in "$E2E_PREFIX"-*) ip netns del "$ns" || true ;; esac
    done < <(ip netns list)
    rm -rf "$work"
}
trap cleanup EXIT

[ "$(id -u)" = 0 ] || { echo "e2e: needs root" >&2; exit 1; }
for tool in ip ethtool ping tcpdump nc ss ovs-vsctl ovs-ofctl ovs-appctl ovsdb-client ovsdb-server ovsdb-tool ovs-testcontroller ovs-pki ovn-northd ovn-controller ovn-nbctl ovs-tcpdump mnexec openssl python3 socat; do
    command -v "$tool" >/dev/null || { echo "e2e: $tool is missing (make setup-check)" >&2; exit 1; }
done
for binary in ovs-vswitchd ferrule; do
    [ -x "$FERRULE_BIN/$binary" ] || { echo "e2e: $FERRULE_BIN/$binary is missing (make build)" >&2; exit 1; }
done
cd "$root"
FERRULE_CONTROLLERS=$("$root/tests/e2e/python/setup.sh")
export FERRULE_CONTROLLERS
# Building must not be counted as testing; the harness's own line `test result: ...` closes the output. All of it takes ten minutes:
# should something wait for ever, that is told in time (by 124, and by 137 where it had to be killed).
suite() {
    local status=0
    timeout -k 10 2400 cargo test --locked -q -p tests --features e2e --test e2e -- --test-threads="${E2E_THREADS:-1}" "$@" || status=$?
    case $status in 124 | 137) echo "e2e: not through after 40 minutes" ;; esac
    return $status
}
cargo test --locked -q -p tests --features e2e --test e2e --no-run
if suite "$@" 2>&1 | tee "$work/first"; then exit 0; else status=$?; fi
# What did not come to its turn is not known then.
case $status in 124 | 137) exit "$status" ;; esac
# Packets and timers meet a machine with other work: what failed is run once more, and only what fails again has failed.
mapfile -t again < <(sed -n 's/^    \([a-z_0-9]*::[a-z_0-9:]*\)$/\1/p' "$work/first" | sort -u)
[ ${#again[@]} -gt 0 ] || exit 1
echo "e2e: once more: ${again[*]}"
suite --exact "${again[@]}"
