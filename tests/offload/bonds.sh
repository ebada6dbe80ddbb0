#!/bin/bash
# A bond of uplinks over simulated hardware: the switch's way to the network is the kernel's bond of both uplinks of a netdevsim, whose rules
# stand in a block that they share. netdevsim takes rules that send to the bond and leaves their packets to software.
# Runs as root in the virtual machine of tests/vm (tests/offload/run.sh does it). FERRULE_BIN: where ferrule and ovs-vswitchd lie.
. "$(dirname "$0")/common.sh"

across() { ip netns exec x0 ping -q -c "$1" -i 0.1 -W 2 10.9.1.2 | grep -q " $1 received"; }
# OpenFlow rules do not outlive the daemon.
program() {
    "$ferrule" ofctl add-flow br0 in_port=1,ip,actions=output:2
    "$ferrule" ofctl add-flow br0 in_port=2,ip,actions=output:1
}
# Of how many devices the kernel says that a rule of the bond is in them.
devices() { tc -d filter show block "$BLOCK" | grep -oE 'in_hw_count [0-9]+' | sort -u | cut -d' ' -f2 | tr '\n' ' '; }
shares() { tc qdisc show dev "$1" | grep -q "ingress_block $BLOCK"; }

echo "0 2" >$N/new_device
for i in 1 2; do echo "$i 1" >$N/new_device; done
echo 1 >$N/devices/netdevsim0/sriov_numvfs
"$ferrule" offload mode netdevsim/netdevsim0 switchdev >/dev/null 2>&1
REP=$(ports pf0vf0)
read -r U0 U1 <<<"$(ports 'p[0-9]' | tr '\n' ' ')"
X0=$(ls $N/devices/netdevsim1/net) X1=$(ls $N/devices/netdevsim2/net)
for d in $REP $U0 $U1; do ethtool -K "$d" hw-tc-offload on; done
host x0 "$X0" 02:00:00:00:00:0a 10.9.1.1
host far "$X1" 02:00:00:00:00:0b 10.9.1.2
for n in x0 far; do ip netns exec $n sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'; done
ip -n x0 neigh replace 10.9.1.2 lladdr 02:00:00:00:00:0b dev "$X0"
ip -n far neigh replace 10.9.1.1 lladdr 02:00:00:00:00:0a dev "$X1"
link "$REP" x0 "$X0"
link "$U0" far "$X1"
ip link set "$REP" up
ip link add lag0 type bond mode active-backup
for d in $U0 $U1; do ip link set "$d" down && ip link set "$d" master lag0 && ip link set "$d" up; done
ip link set lag0 up
echo "$U0" >/sys/class/net/lag0/bonding/active_slave
BLOCK=$((0x46520000 | $(cat /sys/class/net/lag0/ifindex)))

begin
"$ferrule" vsctl add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure \
    -- add-port br0 "$REP" -- set interface "$REP" ofport_request=1 \
    -- add-port br0 lag0 -- set interface lag0 ofport_request=2 options:io=af_packet
program
soon "without offload, software forwards by the bond" "across 3"
set_config other_config:hw-offload=true
soon "switched on, the members share a block" "shares $U0 && shares $U1"
soon "megaflows of both ways are in hardware" "across 1; [ \$(flows offloaded | grep -c 'dp:tc') = 2 ]"
soon "a rule of the bond is in both of its members" "[ \"\$(devices)\" = '2 ' ] && [ \$(rules) = 3 ]"
soon "the rule to it sends to the bond" "tc filter show dev $REP ingress | grep -q 'Redirect to device lag0'"
soon "packets pass" "across 5"
soon "by the bond they pass in hardware" "grep -qE 'runs=hw packets=[1-9]' /sys/kernel/debug/netdevsim/netdevsim0/ports/*/flower"
soon "offload show knows it as a port of the switch" "\"$ferrule\" offload show | grep -q '(lag0): switch .*takes all'"
soon "the audit finds no difference" "\"$ferrule\" offload audit | grep -q '2 rules as they should be, 0 differences'"

ip link set "$U1" nomaster
soon "a member that leaves takes the rules with it" "! shares $U1 && [ \"\$(devices)\" = '1 ' ] && [ \$(rules) = 2 ]"
soon "those of the others stay" "across 2; \"$ferrule\" offload audit | grep -q '2 rules as they should be, 0 differences'"
# Somebody else's filter hangs from the device that is to come back.
tc qdisc add dev "$U1" clsact
tc filter add dev "$U1" ingress pref 7 protocol ip flower skip_sw dst_ip 9.9.9.9 action drop
ip link set "$U1" down && ip link set "$U1" master lag0
soon "with a member that others use the bond is in software, whole" "across 1; flows non-offloaded | grep -q 'offload-reason:in-port' && [ \$(rules) = 1 ]"
soon "and what is theirs is still there" "tc filter show dev $U1 ingress | grep -q 9.9.9.9"
tc filter del dev "$U1" ingress pref 7
soon "when they have gone, it is in hardware again, in both" "across 1; [ \"\$(devices)\" = '2 ' ] && [ \$(flows offloaded | grep -c 'dp:tc') = 2 ]"

crash
soon "after a crash the rules are still there" "[ \"\$(devices)\" = '2 ' ]"
begin
program
soon "the next life makes its own" "across 1; [ \"\$(devices)\" = '2 ' ] && \"$ferrule\" offload audit | grep -q '2 rules as they should be, 0 differences'"
set_config other_config:hw-offload=false
soon "switched off, nothing is left, and no device shares the block" "[ \$(rules) = 0 ] && ! shares $U0 && ! shares $U1 && across 2"
set_config other_config:hw-offload=true
soon "on again" "across 1; [ \"\$(devices)\" = '2 ' ]"
crash
begin
"$ferrule" vsctl remove Open_vSwitch . other_config hw-offload
soon "a life with offload off sweeps the block" "[ \$(rules) = 0 ] && ! shares $U0"
"$ferrule" appctl exit
finish
