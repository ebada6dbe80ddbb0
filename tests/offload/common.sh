# The start of the tests of the whole product over simulated hardware (product.sh, tunnels.sh, bonds.sh), which read it.
# FERRULE_BIN: where ferrule and ovs-vswitchd lie. One line per check; the last, by `finish`, says how many passed and failed.
set -u
bin=${FERRULE_BIN:?}
ferrule=$bin/ferrule
N=/sys/bus/netdevsim P=/sys/module/netdevsim/parameters
run=$(mktemp -d) PASSED=0 FAILED=0
export OVS_RUNDIR=$run OVS_LOGDIR=$run OVS_DBDIR=$run OVS_SYSCONFDIR=$run

ok() { PASSED=$((PASSED + 1)); echo "ok      $1"; }
bad() { FAILED=$((FAILED + 1)); echo "FAILED  $1"; shift; printf '%s\n' "$@" | sed 's/^/        /'; }
finish() { echo "$PASSED passed, $FAILED failed"; [ $FAILED = 0 ]; exit; }
# soon WHAT CONDITION: the line of shell comes true within ten seconds
soon() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        if eval "$2" >"$run/out" 2>&1; then ok "$1"; return; fi
        sleep 0.1
    done
    bad "$1" "$2" "$(cat "$run/out")" "$("$ferrule" offload show 2>&1)" "$("$ferrule" offload why 2>&1)" \
        "$("$ferrule" dpctl dump-flows -m 2>&1)" "$(ip neigh; ip -d link show group 1179800140)"
}
flows() { "$ferrule" dpctl dump-flows -m type="$1"; }
rules() { cat $P/flower_count; }
# host NAMESPACE DEVICE MAC ADDRESS: a host with one device
host() {
    ip netns add "$1"
    ip link set "$2" netns "$1"
    ip -n "$1" link set "$2" address "$3" up
    ip -n "$1" addr add "$4/24" dev "$2"
}
# link PORT NAMESPACE DEVICE: a cable
link() {
    exec 8</proc/self/ns/net 9<"/run/netns/$2"
    echo "8:$(cat "/sys/class/net/$1/ifindex") 9:$(ip netns exec "$2" cat "/sys/class/net/$3/ifindex")" >$N/link_device
}
# The ports of the switch netdevsim0 with such a name of their physical ports.
ports() {
    local d
    for d in $N/devices/netdevsim0/net/*; do
        # shellcheck disable=SC2254
        case $(cat "$d/phys_port_name" 2>/dev/null) in $1) basename "$d" ;; esac
    done
}
start() { "$ferrule" daemon --detach --pidfile --log-file --no-chdir; }
begin() { start 2>/dev/null || { bad "the daemon starts" "$(tail -n 20 "$run"/*.log)"; finish; }; }
crash() { kill -9 "$(cat "$run/ovs-vswitchd.pid")"; sleep 0.3; }
set_config() { "$ferrule" vsctl set Open_vSwitch . "$@"; }
