#!/bin/bash
# OVS's own unit suite (Debian's openvswitch-source, 3.1.0) with our ovs-vswitchd in the place of theirs.
#   run.sh gate   every test that starts the daemon and is not on expected-failures: all must pass
#   run.sh all    the same with the expected failures; one that passes must leave the list
#   run.sh db     the database suites, with our vsctl, ovsdb-server, ovsdb-client and ovsdb-tool in the place of theirs; expected-failures-db
#   run.sh osken [OPTION...] [PART...]  os-ken's switch tests, from the environment of the foreign controllers; expected-failures-osken
#   run.sh system the system suite (packets between namespaces, userspace datapath), with expected-failures-system
# Times in these tests are tight, and they were written for a quiet machine: what fails in `gate` is run once more by itself, and
# only what fails again has failed. OVS_CTL_TIMEOUT is also the life of the monitors that OVS's tests leave running: a test that a busy
# machine takes longer for loses what its monitor would have told. So there is plenty of it where all tests are to pass.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
daemon=$root/target/release/ovs-vswitchd
list=$here/expected-failures
# A run takes eleven minutes at most: one that waits for ever is told in time.
suite() { "$here/ovs-suite.sh" -f -t "${OVS_CTL_TIMEOUT:-30}" -T 1800 "$@"; }

case ${1:-gate} in
gate)
    OVS_CTL_TIMEOUT=${OVS_CTL_TIMEOUT:-120}
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    if suite -o "$out/first" "$daemon" vswitchd "-@$list"; then exit 0; fi
    awk -F'\t' '$3 != "ok" && $3 != "skipped" { print $1 }' "$out/first/results" >"$out/again"
    [ -s "$out/again" ] || exit 1
    echo "once more, one at a time: $(tr '\n' ' ' <"$out/again")"
    suite -j 1 -o "$out/second" "$daemon" "@$out/again"
    ;;
all) suite --expected-fail "$list" "$daemon" vswitchd ;;
db)
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    for tool in ovs-vsctl ovs-appctl ovsdb-server ovsdb-client ovsdb-tool; do ln -s "$root/target/release/ferrule" "$tools/$tool"; done
    suite -b "$tools" --expected-fail "$here/expected-failures-db" "$daemon" "@$here/database-suites"
    ;;
system)
    # Devices that the kernel does not have, of which our own switch makes some.
    export FERRULE_STAND_IN=$root/target/release
    suite -s system -j 1 -b "$here/stand-ins" --expected-fail "$here/expected-failures-system" "$daemon" all
    ;;
osken)
    controllers=$("$root/tests/e2e/python/setup.sh")
    PYTHONDONTWRITEBYTECODE=1 "$controllers/bin/python3" "$here/osken/run.py" --expected-fail "$here/expected-failures-osken" "${@:2}"
    ;;
*)
    echo "run.sh gate|all|db|osken|system" >&2
    exit 2
    ;;
esac
