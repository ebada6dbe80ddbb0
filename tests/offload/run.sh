#!/bin/bash
# Offload's tests: rule and model, the differential property, and real kernels in a virtual machine. The last line counts all of them.
#   run.sh [rule] [kernel] [product] [tunnels] [bonds]      only these parts (default: all)
# Needs root, the packages that tests/vm/vm-setup.sh installs, and a build (FERRULE_BIN, default target/release).
# FERRULE_PROPERTY_CASES: packets of the differential property in the release build (default here 1,000,000).
set -uo pipefail
root=$(readlink -f "$(dirname "$0")/../..")
cd "$root" || exit 1
bin=${FERRULE_BIN:-$root/target/release}
parts=${*:-rule kernel product tunnels bonds}
out=$(mktemp -d -t ferrule-offload.XXXXXX)
trap 'rm -rf "$out"' EXIT
passed=0 failed=0

# count FILE: adds what cargo's harness and our own programs say at their ends; a part that says nothing has failed
count() {
    local p f
    p=$(grep -oE '[0-9]+ passed' "$1" | awk '{ n += $1 } END { print n + 0 }')
    f=$(grep -oE '[0-9]+ failed' "$1" | awk '{ n += $1 } END { print n + 0 }')
    [ $((p + f)) -gt 0 ] || f=1
    passed=$((passed + p)) failed=$((failed + f))
}
part() { case " $parts " in *" $1 "*) return 0 ;; esac; return 1; }

if part rule; then
    env -u FERRULE_PROPERTY_CASES cargo test --locked -q --no-fail-fast -p offload 2>&1 | tee "$out/rule"
    count "$out/rule"
    export FERRULE_PROPERTY_CASES=${FERRULE_PROPERTY_CASES:-1000000}
    cargo test --locked -q --release --no-fail-fast -p offload --test differential --test tunnels 2>&1 | tee "$out/property"
    count "$out/property"
    cargo test --locked -q --no-fail-fast -p vswitchd --test tables_offloaded --test mirrors_offloaded 2>&1 | tee "$out/tables"
    count "$out/tables"
fi
if [ "$parts" != rule ]; then
    tests/vm/vm-setup.sh uml || { echo "offload: no virtual machine" >&2; failed=$((failed + 1)); }
fi
if part kernel; then
    test=$(cargo test --locked -q -p offload --features vm --test kernel --no-run --message-format=json 2>/dev/null |
        grep -oE '"executable":"[^"]*/kernel-[^"]*"' | cut -d'"' -f4 | tail -1)
    tests/vm/run-in-vm.sh -t 280 "${test:-false}" 2>&1 | tee "$out/kernel"
    count "$out/kernel"
fi
for one in product tunnels bonds; do
    part $one || continue
    tests/vm/run-in-vm.sh -t 280 env FERRULE_BIN="$bin" tests/offload/$one.sh 2>&1 | tee "$out/$one"
    count "$out/$one"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
