# The offload act of the demonstration: two containers on VFs of the eSwitch model, the switch programming it as it would a NIC.
# Sourced by run.sh, whose switch runs already; uses its `ferrule`, `run`, `id`, `pids`, `step`.
m1=fm1-$id m2=fm2-$id prefix=d$((id % 100000))
model=$run/eswitch.sock

offload_cleanup() {
    local ns
    for ns in "$m1" "$m2"; do ip netns del "$ns" 2>/dev/null || true; done
}
# soon WHAT CONDITION: a line of shell comes true within five seconds
soon() {
    local tries
    for ((tries = 0; tries < 50; tries++)); do
        if eval "$2" >/dev/null 2>&1; then echo "$1"; return; fi
        sleep 0.1
    done
    echo "demo: waited in vain: $1 ($2)" >&2
    "$ferrule" offload show >&2 || true
    "$ferrule" dpctl dump-flows -m >&2 || true
    return 1
}
start_model() {
    "$ferrule" eswitch-model --socket "$model" --prefix "$prefix" --capacity 3 &
    pids+=($!)
    soon "the model listens" "[ -S $model ]"
}
function_in() { # NAMESPACE VF MAC ADDRESS
    ip netns add "$1"
    # Nothing but what the act sends.
    ip netns exec "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    ip link set "$2" netns "$1"
    ip -n "$1" link set "$2" name eth0 address "$3"
    ip -n "$1" addr add "$4/24" dev eth0
    ip -n "$1" link set eth0 up
}
functions() {
    function_in "$m1" "${prefix}vf0" 02:00:00:00:01:01 10.2.0.1
    function_in "$m2" "${prefix}vf1" 02:00:00:00:01:02 10.2.0.2
    ip -n "$m1" neigh replace 10.2.0.2 lladdr 02:00:00:00:01:02 dev eth0
    ip -n "$m2" neigh replace 10.2.0.1 lladdr 02:00:00:00:01:01 dev eth0
}
configure_offload() {
    "$ferrule" vsctl \
        -- add-br br1 -- set bridge br1 datapath_type=netdev fail_mode=secure \
        -- add-port br1 "${prefix}rep0" -- set interface "${prefix}rep0" ofport_request=1 \
        -- add-port br1 "${prefix}rep1" -- set interface "${prefix}rep1" ofport_request=2 \
        -- set Open_vSwitch . other_config:hw-offload=true other_config:offload-rebalance=false \
        "other_config:offload-backend=\"model:$model\""
    "$ferrule" ofctl add-flows br1 - <<'FLOWS'
table=0,ip,in_port=1,actions=output:2
table=0,ip,in_port=2,actions=output:1
FLOWS
    soon "both representors take part" "\"$ferrule\" offload show | grep -c ': switch ' | grep -qx 2"
}
pings() { ip netns exec "$m1" ping -q -c "$1" -i 0.01 -W 2 10.2.0.2 | grep -E "$1 packets transmitted, $1 received"; }
in_hardware() { "$ferrule" dpctl dump-flows -m type=offloaded | grep 'eth_type(0x0800)' | grep -c 'offloaded:yes, dp:tc'; }
promoted() {
    pings 1
    soon "both directions are in hardware" "[ \$(in_hardware) = 2 ]"
    "$ferrule" eswitch-model show --socket "$model"
}
# Processor time of the switch in clock ticks, and the packets that its representors have received.
ticks() { awk '{ print $14 + $15 }' "/proc/$(cat "$run/ovs-vswitchd.pid")/stat"; }
seen() { "$ferrule" vsctl get interface "${prefix}rep0" statistics:rx_packets; }
in_model() {
    local before after packets
    before=$(ticks)
    pings 200
    after=$(ticks)
    echo "the switch used $(((after - before) * 10)) ms of processor time for 400 packets and its own affairs"
    soon "the OpenFlow rule has counted every packet" "[ \"\$(\"$ferrule\" ofctl dump-flows br1 in_port=1 | grep -oE 'n_packets=[0-9]+')\" = n_packets=201 ]"
    packets=$("$ferrule" eswitch-model show --socket "$model" | grep -oE 'packets:[0-9]+' | cut -d: -f2 | sort -n | tail -1)
    [ "$packets" -ge 200 ] || { echo "demo: the model forwarded $packets packets" >&2; return 1; }
}
change() {
    "$ferrule" ofctl mod-flows br1 ip,in_port=1,actions=drop
    ! ip netns exec "$m1" ping -q -c 2 -i 0.05 -W 0.2 10.2.0.2 >/dev/null
    "$ferrule" ofctl mod-flows br1 ip,in_port=1,actions=output:2
    pings 2
    soon "in hardware again" "[ \$(in_hardware) = 2 ]"
}
refusal() {
    "$ferrule" ofctl mod-flows br1 'ip,in_port=1,actions=output(port=2,max_len=1000)'
    pings 2
    soon "in software whole, with the reason" "\"$ferrule\" offload why | grep -q 'action: trunc: the hardware has no such action'"
    "$ferrule" offload why
    "$ferrule" ofctl mod-flows br1 ip,in_port=1,actions=output:2
}
full_table() {
    "$ferrule" ofctl add-flows br1 - <<'FLOWS'
table=0,priority=40000,udp,in_port=1,tp_dst=7001,actions=output:2
table=0,priority=40000,udp,in_port=1,tp_dst=7002,actions=output:2
table=0,priority=40000,udp,in_port=1,tp_dst=7003,actions=output:2
FLOWS
    pings 1
    local port
    for port in 7001 7002 7003; do
        ip netns exec "$m1" bash -c "echo x >/dev/udp/10.2.0.2/$port"
        sleep 0.05
    done
    soon "three rules fit, the rest is in software with its reason" "\"$ferrule\" offload show | grep -q 'table-full'"
    "$ferrule" offload show
    "$ferrule" offload audit
}
offload_act() {
    step "start the eSwitch model: two VFs, room for three rules" start_model
    step "attach two containers to its VFs" functions
    step "a bridge over its representors, hw-offload=true" configure_offload
    step "first packets in software, then the megaflows in hardware" promoted
    step "packets in hardware, counters exact" in_model
    step "change a rule" change
    step "what hardware cannot do" refusal
    step "a full table" full_table
    "$ferrule" vsctl -- del-br br1 -- remove Open_vSwitch . other_config hw-offload
}
