#!/bin/bash
# The demonstration: from vsctl to packets between two containers, with nothing of OVS's installed.
# Needs root, the release build, and the packages of `make demo`. Leaves nothing behind.
set -euo pipefail
root=$(readlink -f "$(dirname "$0")/../..")
ferrule=${FERRULE:-$root/target/release/ferrule}
megabytes=${DEMO_MEGABYTES:-256}
run=$(mktemp -d -t ferrule-demo.XXXXXX)
id=$$
c1=fd1-$id c2=fd2-$id v1=fdv1-$id v2=fdv2-$id
export OVS_RUNDIR=$run OVS_LOGDIR=$run OVS_DBDIR=$run OVS_SYSCONFDIR=$run
pids=()

cleanup() {
    local status=$?
    "$ferrule" appctl exit --cleanup >/dev/null 2>&1 || true
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    if [ -s "$run/ovs-vswitchd.pid" ]; then kill "$(cat "$run/ovs-vswitchd.pid")" 2>/dev/null || true; fi
    for ns in "$c1" "$c2"; do ip netns del "$ns" 2>/dev/null || true; done
    offload_cleanup
    for dev in "$v1" "$v2"; do ip link del "$dev" 2>/dev/null || true; done
    if [ $status -ne 0 ]; then
        echo "demo: failed; the daemon's log ends with:" >&2
        tail -n 20 "$run/ovs-vswitchd.log" >&2 2>/dev/null || true
    fi
    rm -rf "$run"
}
trap cleanup EXIT
. "$root/tests/demo/offload.sh"

now_ms() { date +%s%3N; }
started=$(now_ms)
step() { # WHAT COMMAND...: runs it and prints how long it took
    local what=$1 begin
    shift
    begin=$(now_ms)
    "$@"
    printf 'demo: %-58s %6d ms\n' "$what" $(($(now_ms) - begin))
}

container() { # NAMESPACE DEVICE ADDRESS
    ip netns add "$1"
    ip link add "$2" type veth peer name eth0 netns "$1"
    ip link set "$2" up
    ip -n "$1" addr add "$3" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
}
containers() {
    container "$c1" "$v1" 10.1.0.1/24
    container "$c2" "$v2" 10.1.0.2/24
}
start_switch() { "$ferrule" daemon --detach --pidfile --log-file; }
configure() {
    "$ferrule" vsctl \
        -- add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure \
        -- add-port br0 "$v1" -- set interface "$v1" ofport_request=1 \
        -- add-port br0 "$v2" -- set interface "$v2" ofport_request=2
}
program() {
    "$ferrule" ofctl add-flows br0 - <<'FLOWS'
# Addresses are resolved, IPv4 goes by destination through a second table, everything else is dropped.
table=0,priority=100,arp,actions=NORMAL
table=0,priority=90,ip,actions=goto_table:1
table=0,priority=0,actions=drop
table=1,ip,nw_dst=10.1.0.1,actions=output:1
table=1,ip,nw_dst=10.1.0.2,actions=output:2
FLOWS
}
ping_across() { ip netns exec "$c1" ping -q -c 20 -i 0.01 -W 2 10.1.0.2; }
transfer() {
    head -c "${megabytes}M" /dev/urandom >"$run/sent"
    ip netns exec "$c2" nc -l -N 10.1.0.2 5001 >"$run/received" </dev/null &
    local listener=$! tries
    pids+=("$listener")
    for ((tries = 0; tries < 100; tries++)); do
        [ -z "$(ip netns exec "$c2" ss -Hltn sport = :5001)" ] || break
        sleep 0.05
    done
    ip netns exec "$c1" nc -N 10.1.0.2 5001 <"$run/sent"
    wait "$listener"
    cmp "$run/sent" "$run/received"
    echo "$megabytes MB arrived, byte for byte the same"
}
show() {
    "$ferrule" vsctl show
    "$ferrule" ofctl dump-flows br0
    "$ferrule" dpctl dump-flows
}

step "start the switch with its embedded database" start_switch
step "attach two containers (namespaces with veth)" containers
step "configure bridge and ports with vsctl" configure
step "program OpenFlow rules with ofctl" program
step "ping between the containers" ping_across
step "TCP transfer between the containers" transfer
step "show rules and megaflows with their packet counts" show
flows=$("$ferrule" dpctl dump-flows)
grep -q 'packets:[1-9]' <<<"$flows" || { echo "demo: no megaflow counted a packet" >&2; exit 1; }
offload_act
step "stop the switch" "$ferrule" appctl exit --cleanup
printf 'demo: %-58s %6d ms\n' "all" $(($(now_ms) - started))
echo "demo: ok"
