#!/bin/bash
# OVS's own unit suite (Debian's openvswitch-source, 3.1.0) with our ovs-vswitchd in the place of theirs.
#   run.sh gate   every test that starts the daemon and is not on expected-failures: all must pass
#   run.sh all    the same with the expected failures; one that passes must leave the list
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
daemon=$root/target/release/ovs-vswitchd
list=$here/expected-failures
case ${1:-gate} in
gate) exec "$here/ovs-suite.sh" -f -t "${OVS_CTL_TIMEOUT:-30}" "$daemon" vswitchd "-@$list" ;;
all) exec "$here/ovs-suite.sh" -f -t "${OVS_CTL_TIMEOUT:-15}" --expected-fail "$list" "$daemon" vswitchd ;;
*) echo "run.sh gate|all" >&2; exit 2 ;;
esac
