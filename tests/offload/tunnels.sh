#!/bin/bash
# Tunnels of the whole product over simulated hardware: a host behind a VF representor of a netdevsim, another behind the kernel's own VXLAN
# device on the other side of the uplink. netdevsim takes the rules that encapsulate (their packets it leaves to software), and has no way
# to take rules of a tunnel's device: those have to end as refusals, with the driver's word, and nothing of them left.
# The uplink is read by AF_PACKET: netdevsim takes XDP programs and does not run them.
# Runs as root in the virtual machine of tests/vm (tests/offload/run.sh does it). FERRULE_BIN: where ferrule and ovs-vswitchd lie.
. "$(dirname "$0")/common.sh"

across() { ip netns exec x0 ping -q -c "$1" -i 0.1 -W 2 10.9.1.2 | grep -q " $1 received"; }
# The bridge's own port goes with the daemon, and its address with it.
address() { for _ in {1..50}; do ip addr replace 10.8.0.1/24 dev br-phy 2>/dev/null && ip link set br-phy up && return; sleep 0.1; done; }
ours() { ip -o link show group 1179800140 | grep -c frl_; }

for i in 0 1 2; do echo "$i 1" >$N/new_device; done
echo 1 >$N/devices/netdevsim0/sriov_numvfs
"$ferrule" offload mode netdevsim/netdevsim0 switchdev >/dev/null 2>&1
REP=$(ports pf0vf0) UP=$(ports "p[0-9]")
X0=$(ls $N/devices/netdevsim1/net) X1=$(ls $N/devices/netdevsim2/net)
ip link set "$REP" mtu 1400
for d in $REP $UP; do ip link set "$d" up; ethtool -K "$d" hw-tc-offload on; done
host x0 "$X0" 02:00:00:00:00:0a 10.9.1.1
ip -n x0 link set "$X0" mtu 1400
link "$REP" x0 "$X0"
host far "$X1" 02:00:00:00:00:f2 10.8.0.2
link "$UP" far "$X1"
ip -n far link add vx type vxlan id 42 local 10.8.0.2 remote 10.8.0.1 dstport 4789
ip -n far link set vx address 02:00:00:00:00:0b up
ip -n far addr add 10.9.1.2/24 dev vx
# A device with a name as ours would have, which somebody else made.
ip link add frl_genev6081 type dummy

begin
"$ferrule" vsctl add-br br-phy -- set bridge br-phy datapath_type=netdev other-config:hwaddr=02:00:00:00:00:f1 -- add-port br-phy "$UP" -- set interface "$UP" options:io=af_packet \
    -- add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int "$REP" \
    -- add-port br-int vx0 -- set interface vx0 type=vxlan options:remote_ip=10.8.0.2 options:key=42 \
    -- add-port br-int gn0 -- set interface gn0 type=geneve options:remote_ip=10.8.0.2 options:key=43
address
soon "without offload, software carries the tunnel" "across 3"
[ $FAILED = 0 ] || finish
soon "and there is no device of ours" "[ \$(ours) = 0 ]"

set_config other_config:hw-offload=true
soon "switched on, the tunnel has its device" "ip -d link show frl_vxlan4789 | grep -q 'vxlan external.*dstport 4789' && ip link show frl_vxlan4789 up | grep -q frl"
soon "that lets nothing in" "tc filter show dev frl_vxlan4789 ingress | grep -A6 'pref 49152' | grep -q 'action drop'"
soon "packets pass" "across 3"
soon "what goes into the tunnel is in hardware" "across 1; flows offloaded | grep 'dp:tc' | grep -q 'tnl_push('"
soon "as parameters for the device" "tc filter show dev $REP ingress | grep -A30 'flower' >$run/tc; grep -q 'key_id 42' $run/tc && grep -q 'dst_ip 10.8.0.2' $run/tc && grep -q 'Redirect to device frl_vxlan4789' $run/tc"
soon "the audit finds it as it should be" "\"$ferrule\" offload audit | grep -q ' 0 differences'"
soon "what comes out of it the device was found not to take, and is in software" "across 1; \"$ferrule\" offload why | grep -q 'probe: .*does not take it'"
soon "nothing of it is left" "! tc filter show dev frl_vxlan4789 ingress | grep -q 'skip_sw'"
soon "what lets it in says why it is in software" "flows non-offloaded | grep 'tnl_pop' | grep -q 'offload-reason:tunnel-port'"

ip neigh replace 10.8.0.2 lladdr 02:00:00:00:00:ee dev br-phy
soon "if the kernel would send another way, it leaves hardware" "across 1; \"$ferrule\" offload why | grep -q '10.8.0.2: hardware would send'"
ip neigh del 10.8.0.2 dev br-phy
soon "and comes back" "across 1; flows offloaded | grep -q 'tnl_push('"

ip link set "$REP" mtu 1500
soon "packets that may not fit stay in software, with their reason" "across 1; \"$ferrule\" offload why | grep -q 'mtu(1550>1500)'"
ip link set "$REP" mtu 1400
soon "those that fit come back" "across 1; flows offloaded | grep -q 'tnl_push('"

"$ferrule" vsctl set interface vx0 options:csum=true
soon "a checksum that no driver is known to make stays in software, with its reason" "across 1; \"$ferrule\" offload why | grep -q 'set(tunnel(flags(csum)))'"
"$ferrule" vsctl remove interface vx0 options csum
soon "without it, again" "across 1; flows offloaded | grep -q 'tnl_push('"

"$ferrule" vsctl del-port vx0
soon "a tunnel that goes takes its device with it" "[ \$(ours) = 0 ] && ! tc filter show dev $REP ingress | grep -q tunnel_key"
"$ferrule" vsctl add-port br-int vx0 -- set interface vx0 type=vxlan options:remote_ip=10.8.0.2 options:key=42
soon "and has it again when it comes back" "across 1; flows offloaded | grep -q 'tnl_push('"

crash
soon "after a crash the device is still there" "[ \$(ours) = 1 ]"
start 2>/dev/null
address
soon "the next life makes its own" "across 1; [ \$(ours) = 1 ] && flows offloaded | grep -q 'tnl_push('"
set_config other_config:hw-offload=false
soon "switched off, it is gone, and software carries the tunnel" "[ \$(ours) = 0 ] && across 2"
set_config other_config:hw-offload=true
soon "on again" "across 1; [ \$(ours) = 1 ] && flows offloaded | grep -q 'tnl_push('"
crash
start 2>/dev/null
address
soon "the tunnel passes after another crash" "across 2"
"$ferrule" appctl exit
soon "at its end the daemon takes its device with it" "[ \$(ours) = 0 ]"
soon "what is somebody else's is still there" "ip link show frl_genev6081 | grep -q frl_genev6081"
finish
