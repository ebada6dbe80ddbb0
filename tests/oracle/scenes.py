"""Random scenes: a switch with ports of some kind, packets that come one after another, time that passes, and looks at what became of it.

In: a random number generator. Out: a scene, a list of steps in text: those of xlate.py (`vsctl`, `flow`, `group`, `ofctl`, `appctl`, `trace`),
and of steps.py, which runs them. Each theme is one function, and each function is what users do with one kind of port or setting.
Neighbours: generate.py has the pools of values and the packets of tables, frames.py makes the packets that protocols are made of.
"""
import frames as f
import generate as g
import requests
import tracking
from generate import pick

MAIN = [1, 2, 3, 4, 5, 6]
GROUPS4 = ["225.0.0.1", "225.0.0.2", "239.1.1.1", "224.0.0.5"]
GROUPS6 = ["ff02::1:5", "ff0e::5"]


def frame(r, kinds=("tcp", "udp", "icmp", "tcp6", "udp6", "arp", "other"), src=None, dst=None, tags=None):
    """Bytes of a packet of one of these kinds, in hex."""
    packet = g.Packet(r)
    while packet.kind not in kinds:
        packet = g.Packet(r)
    packet.cut = False
    packet.src, packet.dst = src or packet.src, dst or packet.dst
    packet.tags = packet.tags if tags is None else tags
    return packet.bytes().hex()


def received(r, port, data, chance=0.3):
    """A packet comes in; what ofproto/trace would say of it is asked before."""
    return (["trace br0 in_port=%d %s" % (port, data)] if r.random() < chance else []) + ["in p%d %s" % (port, data)]


def end(bridge="br0"):
    return ["appctl bridge/dump-flows " + bridge, "appctl fdb/show " + bridge, "ofctl dump-ports " + bridge]


def vlan_settings(r):
    vids = (1, 10, 20, 99)
    access = "tag=%d" % r.choice(vids)
    trunks = "trunks=" + ",".join(str(v) for v in sorted(r.sample((0,) + vids, pick(r, 1, 2, 3))))
    mode = pick(r, "", "access", "trunk", "native-tagged", "native-untagged", "dot1q-tunnel", None, None)
    if mode is None:
        return pick(r, access, trunks, "")
    words = {"": [access], "access": [access], "trunk": [trunks], "native-tagged": [access, trunks][:pick(r, 1, 2)],
             "native-untagged": [access, trunks][:pick(r, 1, 2)],
             "dot1q-tunnel": [access] + (["cvlans=%d,%d" % (10, 20)] if r.random() < 0.5 else [])}[mode]
    words = words + (["vlan_mode=" + mode] if mode else [])
    if mode == "dot1q-tunnel" and r.random() < 0.5:
        words.append("other_config:qinq-ethtype=" + pick(r, "802.1q", "802.1ad"))
    if r.random() < 0.3:
        words.append("other_config:priority-tags=" + pick(r, "always", "if-nonzero", "never", "true"))
    if r.random() < 0.15:
        words.append("protected=true")
    return " ".join(words)


def switching(r):
    """A flow table in which NORMAL does the most."""
    steps = ["flow br0 priority=1,actions=NORMAL"]
    if r.random() < 0.4:
        steps.append("flow br0 priority=2,in_port=%d,actions=%s" % (r.choice(MAIN), pick(r, "mod_vlan_vid:10,NORMAL", "strip_vlan,NORMAL", "NORMAL,output:2",
                                                                                         "push_vlan:0x8100,set_field:0x1014->vlan_vid,NORMAL", "output:3,NORMAL",
                                                                                         "mod_dl_dst:50:54:00:00:00:02,NORMAL", "FLOOD", "ALL", "output:1,output:4")))
    return steps


def crossing(r, ports, count, kinds=("tcp", "udp", "icmp", "tcp6", "udp6", "arp", "other")):
    steps = []
    for _ in range(count):
        steps += received(r, r.choice(ports), frame(r, kinds))
        if r.random() < 0.08:
            steps.append("appctl fdb/add br0 p%d %d %s" % (r.choice(MAIN), pick(r, 0, 10, 20), r.choice(g.MACS[:5])))
        if r.random() < 0.05:
            steps.append(pick(r, "appctl fdb/flush br0", "warp 301000", "appctl fdb/del br0 10 " + g.MACS[0], "appctl fdb/show br0",
                              "appctl netdev-dummy/set-admin-state p%d %s" % (r.choice(ports), pick(r, "down", "up"))))
    return steps


def vlans(r):
    steps = ["devices br0 1 2 3 4 5 6"]
    if r.random() < 0.3:
        steps.append("vsctl set open_vswitch . other_config:vlan-limit=%d" % pick(r, 0, 1, 2))
    steps += ["vsctl set port p%d %s" % (n, words) for n in MAIN for words in [vlan_settings(r)] if words]
    if r.random() < 0.1:
        steps.append("vsctl set bridge br0 flood_vlans=%s" % pick(r, 10, "10,20"))
    if r.random() < 0.1:
        steps.append("ofctl mod-port br0 p%d %s" % (r.choice(MAIN), pick(r, "no-flood", "no-forward", "no-receive", "no-packet-in")))
    steps += switching(r) + crossing(r, MAIN, 12)
    if r.random() < 0.5:
        steps += ["vsctl set port p%d %s" % (r.choice(MAIN), vlan_settings(r) or "tag=20")] + crossing(r, MAIN, 4)
    return steps + end()


def mirrors(r):
    steps = ["devices br0 1 2 3 4 5 6"]
    steps += ["vsctl set port p%d %s" % (n, vlan_settings(r) or "tag=10") for n in r.sample(MAIN, 2)]
    ids = " ".join("--id=@p%d get port p%d --" % (n, n) for n in MAIN)
    made = []
    for m in range(pick(r, 1, 1, 2, 3)):
        words = ["name=m%d" % m]
        if r.random() < 0.4:
            words.append("select_all=true")
        for what in ("select_src_port", "select_dst_port"):
            if r.random() < 0.4:
                words.append("%s=%s" % (what, ",".join("@p%d" % n for n in r.sample(MAIN, pick(r, 1, 2)))))
        if r.random() < 0.3:
            words.append("select_vlan=%s" % pick(r, "10", "20", "0", "10,20"))
        words.append(pick(r, "output_port=@p6", "output_port=@p5", "output_vlan=99", "output_vlan=20"))
        if r.random() < 0.3:
            words.append("snaplen=%d" % pick(r, 14, 40, 100))
        made.append("--id=@m%d create mirror %s" % (m, " ".join(words)))
    steps.append("vsctl %s %s -- set bridge br0 mirrors=%s" % (ids, " -- ".join(made), ",".join("@m%d" % m for m in range(len(made)))))
    steps += switching(r) + crossing(r, MAIN, 10)
    if r.random() < 0.3:
        steps += ["vsctl clear bridge br0 mirrors"] + crossing(r, MAIN, 3)
    return steps + end()


def snooping(r):
    steps = ["devices br0 1 2 3 4 5 6", "vsctl set bridge br0 mcast_snooping_enable=true" + "".join(
        " other_config:mcast-snooping-" + words for words in r.sample(
            ["disable-flood-unregistered=true", "aging-time=100", "table-size=3"], pick(r, 0, 0, 1, 2)))]
    for n in r.sample(MAIN, 2):
        steps.append("vsctl set port p%d %s" % (n, pick(r, "other_config:mcast-snooping-flood=true", "other_config:mcast-snooping-flood-reports=true", "tag=10", "trunks=10,20", "tag=20")))
    steps += switching(r)
    for _ in range(14):
        n, tags = r.choice(MAIN), pick(r, [], [], [(0x8100, 10, 0)], [(0x8100, 20, 3)])
        what = r.random()
        if what < 0.3:
            data = f.igmp(r.choice(g.MACS[:5]), pick(r, "10.0.0.1", "10.0.0.2", "0.0.0.0"), pick(r, 0x11, 0x12, 0x16, 0x16, 0x17), r.choice(GROUPS4), tags)
        elif what < 0.45:
            records = [(pick(r, 1, 2, 3, 4, 5, 6), r.choice(GROUPS4), r.sample(["10.0.0.9", "10.0.0.8"], pick(r, 0, 0, 1, 2))) for _ in range(pick(r, 1, 1, 2))]
            data = f.igmp3(r.choice(g.MACS[:5]), "10.0.0.3", records, tags)
        elif what < 0.6:
            data = f.mld(r.choice(g.MACS[:5]), "fe80::1", pick(r, 130, 131, 132), r.choice(GROUPS6), tags)
        elif what < 0.7:
            data = f.mld2(r.choice(g.MACS[:5]), "fe80::2", [(pick(r, 1, 2, 3, 4, 6), r.choice(GROUPS6), []) for _ in range(pick(r, 1, 2))], tags)
        elif what < 0.8:
            data = frame(r, tags=tags)
        else:
            group = r.choice(GROUPS4 + GROUPS6)
            data = f.datagram(r.choice(g.MACS[:5]), f.group_mac(group), "fe80::9" if ":" in group else "10.0.0.9", group, 5, 6, b"hello", tags)
        steps += received(r, n, data.hex() if isinstance(data, bytes) else data)
        if r.random() < 0.08:
            steps.append(pick(r, "appctl mdb/flush br0", "warp 101000", "warp 301000", "appctl mdb/show br0", "appctl netdev-dummy/set-admin-state p1 down"))
    return steps + ["appctl mdb/show br0"] + end()


def bonds(r):
    mode = pick(r, "active-backup", "active-backup", "balance-slb", "balance-slb", "balance-tcp")
    # Of several members that are alive, which becomes the active one is chance: here there is no choice.
    members = (1, 2)
    words = ["bond_mode=" + mode]
    if mode == "balance-tcp" or r.random() < 0.15:
        words += ["lacp=" + pick(r, "active", "passive", "off", "off")] + pick(r, [], ["other_config:lacp-fallback-ab=true"])
    for option in ("bond_updelay=%d" % pick(r, 100, 500, 3000), "bond_downdelay=%d" % pick(r, 100, 500), "other_config:bond-primary=p2", "tag=10",
                   "trunks=10,20", "other_config:all-members-active=true", "other_config:bond-rebalance-interval=%d" % pick(r, 0, 1000),
                   "other_config:bond-hash-basis=7", "other_config:lb-output-action=true", "bond_fake_iface=true",
                   "other_config:bond-detect-mode=miimon"):
        if r.random() < 0.15:
            words.append(option)
    own = [n for n in MAIN if n not in members]
    steps = ["vsctl set bridge br0 other-config:hwaddr=02:00:00:00:00:77", "devices br0 " + " ".join(map(str, own)), "bond br0 %s %s" % (",".join("p%d" % n for n in members), " ".join(words))]
    if mode != "active-backup":
        # Which member a hash chooses is each switch's own affair.
        steps.append("merge " + " ".join(map(str, members)))
    steps += ["vsctl set port p%d tag=10" % r.choice(own)] + switching(r) + ["warp 4000", "appctl bond/set-active-slave bond p1"]
    for _ in range(5):
        steps += crossing(r, own + list(members), 3)
        event = r.random()
        if event < 0.35:
            steps += ["appctl netdev-dummy/set-admin-state p%d %s" % (r.choice(members), pick(r, "down", "up")), "warp %d" % pick(r, 0, 50, 200, 1000, 4000)]
        elif event < 0.5:
            steps.append("appctl bond/%s-slave bond p%d" % (pick(r, "disable", "enable"), r.choice(members)))
        elif event < 0.6:
            steps.append("appctl bond/set-active-slave bond p%d" % r.choice(members))
        elif event < 0.75:
            steps.append("warp %d" % pick(r, 500, 5000, 12000))
        steps.append("appctl bond/show bond")
    return steps + end()[:2]


TUNNELS = ["vxlan", "vxlan", "geneve", "geneve", "gre", "gre", "ip6gre", "erspan"]
REMOTES = {"1.1.2.92": "f8:bc:12:44:34:b6", "1.1.2.93": "f8:bc:12:44:34:b7", "2001:cafe::92": "f8:bc:12:44:34:b8"}


def tunnels(r):
    steps = ["vsctl set bridge br0 other-config:hwaddr=aa:55:aa:55:00:00", "devices br0 1 2",
             "vsctl add-br br1 -- set bridge br1 datapath_type=dummy fail-mode=secure protocols=[OpenFlow10,OpenFlow13,OpenFlow15]", "devices br1 11 12"]
    kinds = []
    for n in (21, 22, 23):
        kind = r.choice(TUNNELS)
        remote = pick(r, "1.1.2.92", "1.1.2.92", "flow", "1.1.2.93", "2001:cafe::92") if kind != "ip6gre" else "2001:cafe::92"
        options = ["remote_ip=" + remote] + (["key=" + pick(r, "flow", "123", "5")] if r.random() < 0.8 else [])
        for option in ("csum=true", "tos=%s" % pick(r, "inherit", "0x10"), "ttl=%s" % pick(r, "inherit", "10"), "df_default=false", "seq=true",
                       "local_ip=" + pick(r, "1.1.2.88", "flow"), "packet_type=" + pick(r, "legacy_l2", "legacy_l3", "ptap"), "exts=" + pick(r, "gbp", "gpe"),
                       "dst_port=%d" % pick(r, 4789, 6666), "egress_pkt_mark=5", "in_key=7", "out_key=9"):
            if r.random() < 0.12:
                options.append(option)
        if kind == "erspan":
            options += ["erspan_ver=" + pick(r, "1", "2"), "erspan_idx=3", "erspan_dir=1", "erspan_hwid=4"]
        kinds.append((n, kind, options))
        steps.append("vsctl add-port br1 t%d -- set interface t%d type=%s ofport_request=%d %s" % (n, n, kind, n, " ".join("options:" + o for o in options)))
    steps += ["ofctl add-tlv-map br1 {class=0xffff,type=0,len=4}->tun_metadata0,{class=0xffff,type=1,len=8}->tun_metadata1",
              "appctl netdev-dummy/ip4addr br0 1.1.2.88/24 ;; appctl netdev-dummy/ip6addr br0 2001:cafe::88/64 ;; "
              "appctl ovs/route/add 1.1.2.92/24 br0 ;; appctl ovs/route/add 2001:cafe::92/64 br0"]
    steps += ["appctl tnl/neigh/set br0 %s %s" % pair for pair in REMOTES.items() if r.random() < 0.9]
    # Of a flood that takes a packet out of a tunnel as well, OVS sends the outer packet to nobody.
    steps += ["appctl fdb/add br0 br0 0 aa:55:aa:55:00:00", "flow br0 actions=NORMAL", "appctl ovs/route/show", "appctl tnl/neigh/show", "appctl tnl/ports/show"]
    sets = ["set_field:%s->tun_id" % pick(r, "5", "0x123456", "0"), "set_field:1.1.2.%d->tun_dst" % pick(r, 92, 93), "set_field:0x12345678->tun_metadata0",
            "set_field:0x1->tun_metadata1", "set_field:1.1.2.88->tun_src", "set_field:9->tun_gbp_id", "set_field:oam->tun_flags", "set_field:3->tun_tos",
            "set_field:7->tun_ttl", "set_tunnel:123", "set_field:2001:cafe::92->tun_ipv6_dst", "set_field:0x5->pkt_mark"]
    for n in (11, 12):
        steps.append("flow br1 in_port=%d,actions=%s" % (n, ",".join(r.sample(sets, pick(r, 0, 1, 2, 3)) + pick(
            r, ["output:21"], ["output:21", "output:22"], ["output:23"], ["dec_ttl", "output:22", "output:23"], ["NORMAL"], ["output(port=21,max_len=60)"]))))
    steps.append("flow br1 priority=1,actions=%s" % pick(r, "NORMAL", "output:11", "move:NXM_NX_TUN_ID[0..15]->NXM_NX_REG0[0..15],output:12,IN_PORT",
                                                        "set_field:1.1.2.93->tun_dst,IN_PORT", "move:NXM_NX_TUN_METADATA0[]->NXM_NX_REG1[],output:11"))
    for match in r.sample(["tun_id=5", "tun_src=1.1.2.92", "tun_dst=1.1.2.88", "tun_metadata0=0x12345678", "tun_flags=oam", "tun_gbp_id=9", "tun_ttl=64",
                           "tun_tos=3", "tun_metadata1"], 2):
        steps.append("flow br1 priority=2,in_port=%d,%s,actions=%s" % (pick(r, 21, 22, 23), match, pick(r, "output:11", "output:12", "drop", "NORMAL", "output:11,output:22")))
    for _ in range(10):
        if r.random() < 0.5:
            n, data = pick(r, 11, 12), frame(r)
            steps += (["trace br1 in_port=%d %s" % (n, data)] if r.random() < 0.4 else []) + ["in p%d %s" % (n, data)]
        else:
            _, kind, options = r.choice(kinds)
            # A trace of it would come out of the tunnel in OVS, and be counted.
            steps += received(r, 1, f.tunnelled(r, kind, options, bytes.fromhex(frame(r))).hex(), 0)
        if r.random() < 0.08:
            steps.append(pick(r, "appctl tnl/neigh/set br0 1.1.2.92 f8:bc:12:44:34:b9", "appctl tnl/neigh/flush", "warp 901000", "appctl ovs/route/del 1.1.2.0/24", "appctl tnl/neigh/show"))
    if r.random() < 0.5:
        steps += received(r, 1, f.arp(2, "f8:bc:12:44:34:c1", "1.1.2.92", "aa:55:aa:55:00:00", "1.1.2.88").hex()) + ["appctl tnl/neigh/show", "in p11 " + frame(r)]
    # OVS counts what leaves by a tunnel twice, without and with its headers.
    return steps + end("br1")[:2]


def timeouts(r):
    steps = ["devices br0 1 2 3", "watch %d" % pick(r, 1, 4, 5, 6)]
    limited = r.random() < 0.5
    if limited:
        groups = pick(r, "", " groups=\"NXM_OF_IN_PORT[]\"", " groups=\"NXM_OF_IP_SRC[0..7]\"", " groups=\"NXM_OF_IN_PORT[],NXM_OF_IP_DST[]\"")
        steps.append("vsctl -- --id=@t create flow_table name=main flow_limit=%d overflow_policy=%s%s -- set bridge br0 flow_tables:0=@t" % (pick(r, 3, 5), pick(r, "evict", "evict", "refuse"), groups))
    for n in range(pick(r, 4, 8, 12)):
        words = ["priority=%d" % (100 + n), "cookie=%d" % n] + (["send_flow_rem"] if r.random() < 0.7 else []) + (["reset_counts"] if r.random() < 0.1 else [])
        for word in ("idle_timeout=%d" % pick(r, 10, 20, 60), "hard_timeout=%d" % pick(r, 10, 20, 100), "importance=%d" % pick(r, 1, 5, 9)):
            if r.random() < 0.5:
                words.append(word)
        steps.append("ofctl -OOpenFlow14 add-flow br0 " + ",".join(words + [pick(r, "ip,nw_src=10.0.0.%d" % pick(r, 1, 2, 3, 4), "in_port=%d" % pick(r, 1, 2, 3), "tcp,tp_dst=%d" % r.choice(g.L4), "arp", "udp", "ip,nw_dst=%s" % r.choice(g.IPS)),
                                            "actions=" + pick(r, "2", "3", "drop", "fin_timeout(idle_timeout=10,hard_timeout=20),2", "learn(table=1,hard_timeout=30,idle_timeout=10,send_flow_rem,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)")]))
        if r.random() < 0.3:
            steps.append("warp 10000")
        if limited and n % 3 == 2:
            steps.append("appctl bridge/dump-flows br0")
    for _ in range(8):
        for _ in range(pick(r, 0, 1, 2, 3)):
            steps.append("in p%d %s" % (pick(r, 1, 2, 3), frame(r, ("tcp", "udp", "icmp", "arp"))))
        # Things happen at whole tens of seconds and are looked at in between: when within a second a switch looks is its own affair.
        steps += ["warp %d" % pick(r, 5000, 5000, 15000, 35000), "heard", "ofctl -OOpenFlow14 dump-flows br0"]
        if r.random() < 0.2:
            steps += ["ofctl del-flows br0 " + pick(r, "ip", "tcp", "arp", "in_port=1"), "heard"]
        steps.append("warp 5000")
    return steps + end()


def conntrack(r):
    zone = pick(r, "", ",zone=1", ",zone=7")
    nat = pick(r, "", "", ",nat(src=10.9.0.1)", ",nat(src=10.9.0.1:5000)", ",nat(dst=10.0.0.77)", ",nat(dst=10.0.0.77:8081)",
               ",nat(src=2001:db8::5)", ",nat(src=[2001:db8::5]:5000)", ",nat(dst=2001:db8::77)", ",nat(dst=[2001:db8::77]:8081)")
    nat6, nat = (nat, "") if "2001" in nat else ("", nat)
    extra = pick(r, "", ",exec(set_field:5->ct_mark)", ",exec(set_field:0x7->ct_label,move:NXM_OF_IN_PORT[]->NXM_NX_CT_MARK[0..15])")
    if r.random() < 0.1:
        extra += ",force"
    steps = ["devices br0 1 2 3 4", "flow br0 priority=1,actions=output:4",
             "flow br0 priority=10,ip,ct_state=-trk,actions=ct(table=1%s%s)" % (zone, ",nat" if nat else ""),
             "flow br0 priority=10,ipv6,ct_state=-trk,actions=ct(table=1%s%s)" % (zone, ",nat" if nat6 else ""),
             "flow br0 table=1,priority=30,in_port=1,ip,ct_state=+trk+new,actions=ct(commit%s%s%s),output:2" % (zone, nat, extra),
             "flow br0 table=1,priority=30,in_port=1,ipv6,ct_state=+trk+new,actions=ct(commit%s%s%s),output:2" % (zone, nat6, extra),
             "flow br0 table=1,priority=20,ct_state=+trk+est-rpl,in_port=1,actions=output:2",
             "flow br0 table=1,priority=20,ct_state=+trk+est+rpl,in_port=2,actions=%soutput:1" % pick(r, "", "ct_clear,", "move:NXM_NX_CT_MARK[]->NXM_NX_REG0[],"),
             "flow br0 table=1,priority=25,ct_state=+trk+rel,actions=output:3",
             "flow br0 table=1,priority=40,ct_state=+trk+inv,actions=%s" % pick(r, "drop", "output:3", "output:4"),
             "flow br0 table=1,priority=1,actions=output:4"]
    if r.random() < 0.3:
        steps.append("flow br0 table=1,priority=22,ct_mark=5,udp,actions=output:3,output:%d" % pick(r, 1, 2))
    for _ in range(pick(r, 1, 2, 3)):
        talk = f.Talk(r, nat or nat6)
        for data, port in talk.packets(r):
            steps += received(r, port, data.hex(), 0.1)
            if r.random() < 0.06:
                steps.append(pick(r, "appctl dpctl/flush-conntrack", "warp 31000", "warp 61000", "warp 200000", "appctl dpctl/ct-get-nconns", "appctl dpctl/ct-disable-tcp-seq-chk", "appctl dpctl/ct-enable-tcp-seq-chk"))
        steps.append("appctl dpctl/dump-conntrack")
    return steps + ["appctl dpctl/ct-stats-show"] + end()[:1]


def meters(r):
    steps = ["devices br0 1 2 3"]
    for n in (1, 2):
        unit = pick(r, "kbps", "pktps")
        bands = ["type=drop,rate=%d%s" % (pick(r, 1, 5, 10, 1000), pick(r, "", ",burst_size=%d" % pick(r, 1, 5, 10)))]
        if r.random() < 0.3:
            bands.append("type=drop,rate=%d" % pick(r, 2, 100))
        steps.append("ofctl -OOpenFlow13 add-meter br0 meter=%d,%s,stats%s,bands=%s" % (n, unit, ",burst" if "burst_size" in bands[0] else "", ",".join(bands)))
    steps += ["ofctl -OOpenFlow13 add-flow br0 in_port=1,actions=meter:1,output:2", "ofctl -OOpenFlow13 add-flow br0 in_port=2,actions=meter:2,%s" % pick(r, "output:3", "meter:1,output:3", "NORMAL")]
    for _ in range(8):
        for _ in range(pick(r, 1, 4, 8)):
            steps.append("in p%d %s" % (pick(r, 1, 1, 2), frame(r)))
        steps.append("warp %d" % pick(r, 1, 100, 500, 1000, 5000))
    return steps + ["ofctl -OOpenFlow13 dump-meters br0"] + end() + ["ofctl -OOpenFlow13 meter-stats br0"]


def trees(r):
    """STP and RSTP: states of ports, BPDUs of a neighbour, packets meanwhile."""
    kind = pick(r, "stp", "rstp")
    steps = ["vsctl set bridge br0 other-config:hwaddr=aa:66:aa:66:00:00", "devices br0 1 2 3 4", "hush", "flow br0 actions=NORMAL"]
    options = r.sample(["%s-priority=%s" % (kind, pick(r, "0x1000", "0x8000")), kind + ("-hello-time=1" if kind == "stp" else "-transmit-hold-count=3"),
                        kind + "-max-age=10", kind + "-forward-delay=4"], pick(r, 0, 0, 1, 2))
    # Numbers that are not asked for come in the order of a hash table.
    steps.append("vsctl " + " -- ".join("set port p%d other_config:%s-port-num=%d" % (n, kind, n) for n in (1, 2, 3, 4)))
    for n in r.sample((1, 2, 3), pick(r, 0, 1, 2)):
        name = pick(r, *(["stp-enable=false", "stp-path-cost=10", "stp-port-priority=16"] if kind == "stp" else
                         ["rstp-enable=false", "rstp-path-cost=10", "rstp-port-priority=16", "rstp-admin-edge=true", "rstp-admin-p2p-mac=1", "rstp-auto-edge=false"]))
        steps.append("vsctl set port p%d other_config:%s" % (n, name))
    steps.append("vsctl set bridge br0 %s_enable=true %s" % (kind, " ".join("other_config:" + o for o in options)))
    for _ in range(9):
        what = r.random()
        if what < 0.4:
            root = "%04x%s" % (pick(r, 0x1000, 0x8000, 0xf000), pick(r, "aa6600000001", "ff6600000001"))
            bridge = pick(r, root, "8000bb6600000002")
            steps.append("in p%d %s" % (pick(r, 1, 2, 3), f.bpdu(r, pick(r, "config", "config", "tcn", "rst", "rst"), root, bridge).hex()))
        elif what < 0.7:
            steps.append("in p%d %s" % (pick(r, 1, 2, 3, 4), frame(r)))
        elif what < 0.8:
            steps.append("appctl netdev-dummy/set-admin-state p%d %s" % (pick(r, 1, 2), pick(r, "up", "down")))
        steps += ["warp %d" % pick(r, 1000, 1000, 2000, 5000, 16000, 31000), "appctl %s/show br0" % kind]
    return steps + ["ofctl show br0"] + end()[:2]


def failing(r):
    """Controllers that are not there."""
    target = pick(r, "tcp:127.0.0.1:1", "unix:/nowhere/at/all", "tcp:10.0.0.9:6653")
    steps = ["devices br0 1 2 3", "vsctl set bridge br0 other-config:hwaddr=02:00:00:00:00:77", "vsctl set-fail-mode br0 " + pick(r, "standalone", "secure", "standalone"), "vsctl set-controller br0 " + target]
    if r.random() < 0.3:
        steps.append("vsctl set bridge br0 other_config:disable-in-band=true")
    if r.random() < 0.3:
        steps.append("vsctl del-fail-mode br0")
    if r.random() < 0.5:
        steps.append("flow br0 in_port=1,actions=output:2")
    for _ in range(5):
        steps += crossing(r, [1, 2, 3], 2) + ["warp %d" % pick(r, 1000, 4000, 16000), "appctl bridge/dump-flows br0"]
        if r.random() < 0.2:
            steps.append(pick(r, "vsctl del-controller br0", "vsctl set-controller br0 " + target, "vsctl set-fail-mode br0 secure", "vsctl set-fail-mode br0 standalone", "flow br0 in_port=3,actions=1"))
    return steps + end()


def asking(r):
    """Packets that go to a controller, and come back to go on: packet-outs and continuations."""
    version = pick(r, 1, 4, 6)
    steps = ["devices br0 1 2 3 4", "watch %d %s" % (version, pick(r, "nxt_packet_in2", "nxt_packet_in2", "default"))]
    acts = lambda: ",".join(r.sample(["set_field:0x5->reg0", "controller(pause)", "push_vlan:0x8100", "mod_vlan_vid:10", "output:2", "controller(userdata=01.02,max_len=40)", "controller(pause,userdata=05)",
                                      "controller(reason=invalid_ttl)", "resubmit(,1)", "resubmit(,2)", "ct_clear", "set_field:50:54:00:00:00:09->eth_src", "push:NXM_NX_REG0[]", "pop:NXM_NX_REG1[]",
                                      "set_field:0x9->metadata", "clone(output:3,controller(pause),output:4)", "output:NXM_NX_REG0[]", "controller:20"], pick(r, 1, 2, 3, 4)))
    steps += ["flow br0 table=%d,priority=%d%s,actions=%s" % (t, p, match, acts() if t else "controller(pause)," * (r.random() < 0.5) + acts()) for t, p, match in
              ((0, 1, ""), (0, 5, ",tcp"), (0, 6, ",arp"), (1, 1, ""), (1, 2, ",ip"), (2, 1, ""), (2, 3, ",reg0=0x5"))]
    for _ in range(6):
        steps += received(r, pick(r, 1, 2, 3), frame(r), 0.2) + ["heard", "resume", "heard"]
    return steps + end()


THEMES = {theme.__name__: theme for theme in (vlans, mirrors, snooping, bonds, tunnels, timeouts, conntrack, meters, trees, failing, asking, requests.messages,
                                            tracking.nats, tracking.helpers, tracking.fragments, tracking.limits)}
