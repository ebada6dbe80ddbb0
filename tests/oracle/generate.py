"""Random flow tables, groups, meters, configurations and packets that mean something to each other: all values come from small pools.

In: a random number generator. Out: text for ovs-ofctl, ovs-vsctl and ofproto/trace, and bytes of packets. Neighbours: tables.py sends
them to two switches. The same seed gives the same, whatever the switches say.
"""
import socket
import struct

PORTS = list(range(1, 9))  # dummy ports p1..p8 of br0
OTHER = [11, 12, 13]       # of br1
PATCH, PEER = 20, 21       # patch port of br0, and its peer on br1
TABLES = 6

MACS = ["50:54:00:00:00:%02x" % n for n in range(1, 6)] + ["ff:ff:ff:ff:ff:ff", "01:00:5e:01:02:03", "33:33:00:00:00:01",
                                                            "01:80:c2:00:00:00"]
IPS = ["10.0.0.%d" % n for n in range(1, 5)] + ["10.1.0.1", "192.168.7.9", "224.1.2.3", "255.255.255.255"]
IP6S = ["fe80::%x" % n for n in range(1, 4)] + ["2001:db8::1", "2001:db8:1::1", "ff02::1"]
L4 = [0, 1, 21, 53, 80, 443, 4789, 8080, 0x8001, 65535]
VIDS = [0, 1, 10, 20, 99, 4095]
TYPES = {"ip": 0x800, "ip6": 0x86DD, "arp": 0x806, "rarp": 0x8035, "mpls": 0x8847, "mplsm": 0x8848, "nsh": 0x894F, "other": 0x1234}
KINDS = ["tcp", "udp", "sctp", "icmp", "ip", "tcp6", "udp6", "sctp6", "icmp6", "ipv6", "nd", "arp", "rarp", "mpls", "mplsm", "nsh", "other"]
WEIGHT = [8, 5, 2, 3, 2, 5, 3, 1, 2, 2, 2, 4, 1, 4, 1, 2, 2]
CT_BITS = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"]
HASHES = ["eth_src", "symmetric_l4", "symmetric_l3l4", "symmetric_l3l4+udp", "nw_src", "nw_dst", "symmetric_l3"]


def pick(r, *choices):
    return r.choice(choices)


def number(r, bits):
    top = (1 << bits) - 1
    return r.choice((0, 1, 2, 5, top, top >> 1, r.getrandbits(bits))) & top


def mask(r, bits):
    top = (1 << bits) - 1
    return r.choice((top, 1, top << (bits // 2) & top, top >> (bits // 2), top ^ 1, r.getrandbits(bits) | 1)) & top


def hexed(r, bits, masked=0.4):
    if r.random() < masked:
        m = mask(r, bits)
        return "%#x/%#x" % (number(r, bits) & m, m)
    return "%#x" % number(r, bits)


def masked(r, value, masks, chance=0.25):
    return value + "/" + r.choice(masks) if r.random() < chance else value


def mac(r):
    return masked(r, r.choice(MACS), ["01:00:00:00:00:00", "ff:ff:ff:00:00:00", "00:00:00:00:00:03"], 0.15)


def ip(r):
    return masked(r, r.choice(IPS), ["8", "24", "31", "255.0.0.255", "0.0.0.1", "16", "30"])


def ip6(r):
    return masked(r, r.choice(IP6S), ["16", "64", "127", "ffff::ff", "::3"])


def l4(r):
    return masked(r, str(r.choice(L4)), ["0xfff0", "0x8000", "1", "0xff00"])


def ct_state(r):
    return "".join(pick(r, "+", "-") + bit for bit in r.sample(CT_BITS, pick(r, 1, 1, 2, 3)))


def matches_of(kind):
    """Fields that a packet of this kind has beside those that all have."""
    v4 = {"nw_src": ip, "nw_dst": ip, "nw_tos": lambda r: str(r.randrange(64) * 4), "nw_ecn": lambda r: str(r.randrange(4)),
          "nw_ttl": lambda r: str(pick(r, 0, 1, 2, 64, 255)), "ip_frag": lambda r: pick(r, "no", "yes", "first", "later", "not_later")}
    v6 = dict(v4, ipv6_src=ip6, ipv6_dst=ip6, ipv6_label=lambda r: hexed(r, 20))
    del v6["nw_src"], v6["nw_dst"]
    ports = lambda p: {p + "_src": l4, p + "_dst": l4}
    flags = {"tcp_flags": lambda r: pick(r, "+syn-ack", "syn", "+ack", "-fin", "%#x/0xfff" % r.getrandbits(12), "+psh+ack")}
    icmp = lambda n: {n + "_type": lambda r: str(pick(r, 0, 3, 8, 128, 130, 133, 135, 136)), n + "_code": lambda r: str(pick(r, 0, 1, 255))}
    labels = {"mpls_label": lambda r: str(pick(r, 0, 3, 16, 1000, 1048575)), "mpls_tc": lambda r: str(r.randrange(8)),
              "mpls_bos": lambda r: str(r.randrange(2)), "mpls_ttl": lambda r: str(pick(r, 0, 1, 2, 64))}
    return {
        "tcp": dict(v4, **ports("tcp"), **flags), "udp": dict(v4, **ports("udp")), "sctp": dict(v4, **ports("sctp")),
        "icmp": dict(v4, **icmp("icmp")), "ip": dict(v4, nw_proto=lambda r: str(pick(r, 0, 2, 6, 17, 47, 255))),
        "tcp6": dict(v6, **ports("tcp"), **flags), "udp6": dict(v6, **ports("udp")), "sctp6": dict(v6, **ports("sctp")),
        "icmp6": dict(v6, **icmp("icmpv6")), "ipv6": dict(v6, nw_proto=lambda r: str(pick(r, 0, 2, 6, 17, 58, 255))),
        "nd": dict(v6, nd_target=ip6, nd_sll=mac, nd_tll=mac),
        "arp": {"arp_op": lambda r: str(pick(r, 1, 2, 3)), "arp_spa": ip, "arp_tpa": ip, "arp_sha": mac, "arp_tha": mac},
        "rarp": {"arp_op": lambda r: str(pick(r, 3, 4))}, "mpls": labels, "mplsm": labels,
        "nsh": {"nsh_spi": lambda r: "%#x" % number(r, 24), "nsh_si": lambda r: str(number(r, 8)), "nsh_ttl": lambda r: str(number(r, 6)),
                "nsh_flags": lambda r: str(number(r, 2)), "nsh_mdtype": lambda r: str(pick(r, 1, 2)), "nsh_np": lambda r: str(pick(r, 1, 2, 3)),
                "nsh_c1": lambda r: hexed(r, 32), "nsh_c3": lambda r: hexed(r, 32)},
        "other": {},
    }[kind]


def prefix(r, kind):
    """The words that make a match one of this kind."""
    if kind == "nd":
        return ["icmp6", "icmpv6_type=" + pick(r, "135", "136"), "icmpv6_code=0"]
    if kind == "nsh":
        return ["dl_type=0x894f"]
    if kind == "other":
        return ["dl_type=" + pick(r, "0x1234", "0x88cc", "0x8902", "0x05ff")]
    if kind == "mpls" or kind == "mplsm":
        return [kind]
    return [kind]


METADATA = {
    "metadata": lambda r: hexed(r, 64), "reg0": lambda r: hexed(r, 32), "reg1": lambda r: hexed(r, 32), "reg7": lambda r: hexed(r, 32),
    "reg15": lambda r: hexed(r, 32), "xreg1": lambda r: hexed(r, 64), "xxreg0": lambda r: hexed(r, 128), "xxreg3": lambda r: hexed(r, 128),
    "pkt_mark": lambda r: hexed(r, 32), "ct_state": ct_state, "ct_zone": lambda r: str(pick(r, 0, 1, 7)),
    "ct_mark": lambda r: hexed(r, 32), "ct_label": lambda r: hexed(r, 128), "tun_id": lambda r: hexed(r, 64), "tun_src": ip,
    "tun_dst": ip, "tun_ipv6_dst": ip6, "tun_flags": lambda r: pick(r, "oam", "+oam", "-oam"), "tun_gbp_id": lambda r: hexed(r, 16),
    "tun_gbp_flags": lambda r: hexed(r, 8), "conj_id": lambda r: str(pick(r, 1, 2)), "recirc_id": lambda r: "0",
    "dp_hash": lambda r: hexed(r, 32), "actset_output": lambda r: str(pick(r, 1, 2, 3, "unset")),
    "tun_metadata0": lambda r: hexed(r, 32), "tun_metadata1": lambda r: hexed(r, 64), "tun_tos": lambda r: str(number(r, 8)),
    "tun_ttl": lambda r: str(number(r, 8)), "skb_priority": lambda r: "%#x" % number(r, 32),
}
METADATA_WEIGHT = {"reg0": 8, "reg1": 5, "metadata": 4, "ct_state": 6, "ct_mark": 2, "ct_zone": 2}


def tag_match(r):
    return pick(r, "dl_vlan=%d" % pick(r, 1, 10, 20, 99), "vlan_tci=0", "vlan_tci=0x1000/0x1000", "dl_vlan_pcp=%d" % r.randrange(8),
                "vlan_tci=%s" % hexed(r, 16), "vlan_vid=0x1000/0x1000", "vlan_vid=%#x" % (0x1000 | pick(r, 0, 10, 20)), "dl_vlan=0xffff",
                "vlan_tci=0x0/0xfff", "vlan_vid=0x1008/0x1008")


def match(r, kind=None, table=0):
    """(words, kind or None)"""
    words = []
    if kind is None and r.random() < 0.72:
        kind = r.choices(KINDS, WEIGHT)[0]
    if r.random() < 0.45:
        words.append("in_port=%s" % pick(r, *PORTS[:4], 1, 1, 2, "LOCAL", PATCH))
    if r.random() < 0.06:
        words.append("packet_type=(%s)" % pick(r, "0,0", "1,0x800", "1,0x86dd", "1,0x894f", "1,0x8847"))
        if words[-1] != "packet_type=(0,0)" :
            return words, None
    else:
        if r.random() < 0.15:
            words.append("dl_src=" + mac(r))
        if r.random() < 0.15:
            words.append("dl_dst=" + mac(r))
        if r.random() < 0.15:
            words.append(tag_match(r))
    if kind:
        words += prefix(r, kind)
        own = matches_of(kind)
        for name in r.sample(sorted(own), min(len(own), pick(r, 0, 0, 1, 1, 2, 3))):
            if kind == "nd" and name in ("nd_sll", "nd_tll"):
                words[words.index(next(w for w in words if w.startswith("icmpv6_type")))] = "icmpv6_type=" + ("135" if name == "nd_sll" else "136")
                if any(w.startswith("nd_sll") or w.startswith("nd_tll") for w in words):
                    continue
            words.append(name + "=" + own[name](r))
    for _ in range(pick(r, 0, 0, 0, 1, 1, 2) if table else pick(r, 0, 0, 0, 0, 1)):
        name = r.choices(sorted(METADATA), [METADATA_WEIGHT.get(n, 1) for n in sorted(METADATA)])[0]
        if not any(w.startswith(name + "=") for w in words):
            words.append(name + "=" + METADATA[name](r))
    return words, kind


# Fields by their NXM names, with widths, of those that a packet of a kind lets one write.
COMMON = [("NXM_NX_REG0", 32), ("NXM_NX_REG1", 32), ("NXM_NX_REG7", 32), ("NXM_NX_REG15", 32), ("OXM_OF_PKT_REG1", 64),
          ("NXM_NX_XXREG1", 128), ("OXM_OF_METADATA", 64), ("NXM_NX_PKT_MARK", 32), ("NXM_NX_TUN_ID", 64), ("NXM_OF_ETH_SRC", 48),
          ("NXM_OF_ETH_DST", 48), ("NXM_NX_TUN_IPV4_DST", 32), ("NXM_NX_TUN_IPV4_SRC", 32), ("NXM_OF_VLAN_TCI", 16), ("NXM_OF_IN_PORT", 16),
          ("NXM_NX_TUN_METADATA0", 32), ("NXM_NX_TUN_GBP_ID", 16)]
READ_ONLY = [("NXM_NX_CT_MARK", 32), ("NXM_NX_CT_ZONE", 16), ("NXM_NX_CT_STATE", 32), ("NXM_NX_CT_LABEL", 128)]
V4 = [("NXM_OF_IP_SRC", 32), ("NXM_OF_IP_DST", 32), ("NXM_NX_IP_TTL", 8), ("NXM_NX_IP_ECN", 2), ("NXM_OF_IP_TOS", 8)]
V6 = [("NXM_NX_IPV6_SRC", 128), ("NXM_NX_IPV6_DST", 128), ("NXM_NX_IPV6_LABEL", 20), ("NXM_NX_IP_TTL", 8), ("NXM_NX_IP_ECN", 2)]


def nxm(kind):
    own = {"tcp": V4 + [("NXM_OF_TCP_SRC", 16), ("NXM_OF_TCP_DST", 16)], "udp": V4 + [("NXM_OF_UDP_SRC", 16), ("NXM_OF_UDP_DST", 16)],
           "sctp": V4 + [("OXM_OF_SCTP_SRC", 16), ("OXM_OF_SCTP_DST", 16)], "icmp": V4 + [("NXM_OF_ICMP_TYPE", 8), ("NXM_OF_ICMP_CODE", 8)],
           "ip": V4, "tcp6": V6 + [("NXM_OF_TCP_SRC", 16), ("NXM_OF_TCP_DST", 16)],
           "udp6": V6 + [("NXM_OF_UDP_SRC", 16), ("NXM_OF_UDP_DST", 16)], "sctp6": V6 + [("OXM_OF_SCTP_DST", 16)],
           "icmp6": V6 + [("NXM_NX_ICMPV6_TYPE", 8), ("NXM_NX_ICMPV6_CODE", 8)], "ipv6": V6, "nd": V6 + [("NXM_NX_ND_TARGET", 128)],
           "arp": [("NXM_OF_ARP_OP", 16), ("NXM_OF_ARP_SPA", 32), ("NXM_OF_ARP_TPA", 32), ("NXM_NX_ARP_SHA", 48), ("NXM_NX_ARP_THA", 48)],
           "mpls": [("OXM_OF_MPLS_LABEL", 20), ("OXM_OF_MPLS_TC", 3), ("NXM_NX_MPLS_TTL", 8)], "mplsm": [("OXM_OF_MPLS_LABEL", 20)],
           "nsh": [("NXOXM_NSH_SPI", 24), ("NXOXM_NSH_SI", 8), ("NXOXM_NSH_C1", 32), ("NXOXM_NSH_C4", 32), ("NXOXM_NSH_TTL", 8)]}
    return COMMON + own.get(kind, []) * 2


def span(r, width, length=None):
    length = length or pick(r, width, 1, min(8, width), r.randrange(1, width + 1))
    start = r.randrange(width - length + 1)
    return "[]" if length == width else "[%d]" % start if length == 1 else "[%d..%d]" % (start, start + length - 1), length


def port(r):
    return str(r.choice(PORTS + PORTS[:4] + [PATCH, 99]))


def set_field(r, kind):
    """set_field in its own words; the value of a pool."""
    common = {"eth_src": mac, "eth_dst": mac, "reg0": lambda r: hexed(r, 32), "reg1": lambda r: hexed(r, 32), "metadata": lambda r: hexed(r, 64),
              "xreg1": lambda r: hexed(r, 64), "xxreg0": lambda r: hexed(r, 128), "pkt_mark": lambda r: hexed(r, 32), "tun_id": lambda r: hexed(r, 64),
              "tun_dst": ip, "tun_src": ip, "tun_flags": lambda r: pick(r, "oam", "0"), "tun_metadata0": lambda r: hexed(r, 32),
              "tun_gbp_id": lambda r: hexed(r, 16), "vlan_tci": lambda r: hexed(r, 16), "tun_ipv6_dst": ip6, "vlan_vid": lambda r: "%#x" % (0x1000 | r.choice(VIDS)),
              "vlan_pcp": lambda r: str(r.randrange(8)), "tun_ttl": lambda r: str(number(r, 8)), "tun_tos": lambda r: str(number(r, 8))}
    own = {n: f for n, f in matches_of(kind).items() if n not in ("ip_frag", "tcp_flags", "nw_proto", "mpls_bos", "nsh_mdtype", "nsh_np")} if kind else {}
    if own and r.random() < 0.65:
        name = r.choice(sorted(own))
        value = own[name](r)
    else:
        name = r.choice(sorted(common))
        value = common[name](r)
    return "set_field:%s->%s" % (value, name)


def pushed_hash(r):
    # Which of several links or members a hash chooses is each switch's own affair: one is there, or the first that is alive.
    return r.choice(HASHES)


def learn(r, kind):
    words = ["table=%d" % r.randrange(1, TABLES)]
    words += r.sample(["idle_timeout=%d" % pick(r, 0, 60, 600), "hard_timeout=%d" % pick(r, 0, 60, 600), "priority=%d" % pick(r, 1, 100, 40000),
                       "cookie=%#x" % number(r, 64), "send_flow_rem", "delete_learned", "fin_idle_timeout=5", "fin_hard_timeout=5",
                       "limit=%d" % pick(r, 1, 2), "result_dst=NXM_NX_REG7[%d]" % r.randrange(32)], pick(r, 0, 1, 1, 2, 3))
    specs = ["NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]", "NXM_OF_ETH_SRC[]", "NXM_OF_VLAN_TCI[0..11]", "NXM_OF_IN_PORT[]", "in_port=%d" % pick(r, 1, 2),
             "eth_dst=50:54:00:00:00:01", "reg0=%#x" % number(r, 32), "NXM_NX_REG1[0..15]=NXM_OF_IN_PORT[]", "load:%#x->NXM_NX_REG0[0..15]" % number(r, 16),
             "load:NXM_OF_IN_PORT[]->NXM_NX_REG1[16..31]", "load:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]", "output:NXM_OF_IN_PORT[]", "output:NXM_NX_REG0[0..15]",
             "NXM_OF_ETH_DST[0..7]=NXM_OF_ETH_SRC[8..15]", "load:0->NXM_OF_VLAN_TCI[]", "NXM_OF_VLAN_TCI[12]=1"]
    if kind in ("tcp", "udp", "icmp", "ip", "sctp"):
        specs += ["eth_type=0x800,nw_dst=nw_src", "eth_type=0x800,NXM_OF_IP_SRC[]", "eth_type=0x800,nw_proto=6,NXM_OF_IP_DST[0..15]=NXM_OF_IP_SRC[16..31]"]
    if kind in ("tcp", "udp"):
        specs += ["eth_type=0x800,nw_proto=%d,NXM_OF_%s_DST[]=NXM_OF_%s_SRC[]" % (6 if kind == "tcp" else 17, kind.upper(), kind.upper())]
    if kind in ("tcp6", "udp6", "ipv6", "nd", "icmp6"):
        specs += ["eth_type=0x86dd,NXM_NX_IPV6_DST[]=NXM_NX_IPV6_SRC[]"]
    return "learn(%s)" % ",".join(words + r.sample(specs, pick(r, 1, 2, 2, 3, 4)))


def nat(r, kind):
    if r.random() < 0.3:
        return "nat"
    side = pick(r, "src", "dst")
    if kind in ("tcp6", "udp6", "ipv6", "icmp6", "nd", "sctp6"):
        text = pick(r, "2001:db8::5", "2001:db8::5-2001:db8::9", "[2001:db8::5]:80", "[2001:db8::5-2001:db8::9]:80-90")
    else:
        text = pick(r, "10.9.0.1", "10.9.0.1-10.9.0.9", "10.9.0.1:80", "10.9.0.1:80-90", "10.9.0.1-10.9.0.3:5")
    return "nat(%s=%s%s)" % (side, text, pick(r, "", "", ",random", ",hash", ",persistent", ",persistent,random"))


def ct(r, kind, table):
    words = []
    commit = r.random() < 0.5
    if commit:
        words.append("commit")
        if r.random() < 0.15:
            words.append("force")
    if r.random() < 0.6 and table < TABLES:
        words.append("table=%d" % r.randrange(1, TABLES + 1))
    if r.random() < 0.4:
        words.append("zone=" + pick(r, "1", "7", "65535", "NXM_NX_REG0[0..15]", "NXM_NX_REG1[16..31]", "NXM_NX_CT_ZONE[]"))
    if commit and r.random() < 0.4:
        words.append("exec(%s)" % ",".join(pick(r, "set_field:%s->ct_mark" % hexed(r, 32), "set_field:%s->ct_label" % hexed(r, 128),
                                                "load:%#x->NXM_NX_CT_MARK[0..7]" % number(r, 8), "move:NXM_NX_REG0[]->NXM_NX_CT_MARK[]",
                                                "load:5->NXM_NX_CT_LABEL[64..127]", "move:NXM_OF_ETH_SRC[]->NXM_NX_CT_LABEL[0..47]")
                                           for _ in range(pick(r, 1, 1, 2))))
    if r.random() < 0.3:
        words.append(nat(r, kind) if commit else "nat")
    if commit and kind in ("tcp", "tcp6", "udp") and r.random() < 0.1:
        words.append("alg=" + pick(r, "ftp", "tftp"))
    return "ct(%s)" % ",".join(words) if words else "ct"


def action(r, kind, table, depth, groups, meters):
    """(text, kind of packet behind it)"""
    def move():
        (source, sw), (target, tw) = r.choice(nxm(kind) + READ_ONLY), r.choice(nxm(kind))
        length = r.randrange(1, min(sw, tw) + 1) if r.random() < 0.6 else min(sw, tw)
        return "move:%s%s->%s%s" % (source, span(r, sw, length)[0], target, span(r, tw, length)[0])

    def load():
        name, width = r.choice(nxm(kind))
        text, length = span(r, width)
        return "load:%#x->%s%s" % (number(r, min(64, length)), name, text)

    def inner(n=3):
        return ",".join(actions(r, kind, table, depth + 1, groups, meters, pick(r, *range(1, n + 1))))

    def output_reg():
        name, width = pick(r, ("NXM_NX_REG0", 32), ("NXM_NX_REG1", 32), ("OXM_OF_METADATA", 64))
        return "output:" + name + pick(r, "[0..15]", "[]" if width == 32 else "[0..31]", "[0..3]", "[2..4]")

    def go():
        form = r.random()
        nxt = r.randrange(table, TABLES + 1) if r.random() < 0.9 else r.randrange(TABLES)
        return ("resubmit(,%d)" % nxt if form < 0.7 else "resubmit(%s,%d)" % (pick(r, 1, 2, "in_port", 99), nxt) if form < 0.85 else
                "resubmit(,%d,ct)" % nxt if form < 0.92 else "resubmit:%s" % pick(r, 1, 2, 3))

    is_ip = kind in ("tcp", "udp", "sctp", "icmp", "ip")
    is_ip6 = kind in ("tcp6", "udp6", "sctp6", "icmp6", "ipv6", "nd")
    tp = kind in ("tcp", "udp", "sctp", "tcp6", "udp6", "sctp6")
    table_of = [
        (14, lambda: "output:" + port(r)), (2, lambda: "output(port=%s,max_len=%d)" % (port(r), pick(r, 14, 20, 64, 100, 65535))), (4, output_reg),
        (10, lambda: set_field(r, kind)), (8, load), (8, move), (16, go),
        (2, lambda: pick(r, "NORMAL", "FLOOD", "IN_PORT", "ALL", "LOCAL", "NORMAL", "in_port")),
        (2, lambda: "mod_dl_src:" + r.choice(MACS)), (2, lambda: "mod_dl_dst:" + r.choice(MACS)),
        (2, lambda: "mod_vlan_vid:%d" % r.choice(VIDS)), (2, lambda: "mod_vlan_pcp:%d" % r.randrange(8)), (3, lambda: pick(r, "strip_vlan", "pop_vlan")),
        (3, lambda: "push_vlan:" + pick(r, "0x8100", "0x88a8")), (3, lambda: "push_mpls:" + pick(r, "0x8847", "0x8848")),
        (1, lambda: "set_queue:%d" % pick(r, 0, 1, 7)), (1, lambda: "pop_queue"), (1, lambda: "enqueue:%s:%d" % (port(r), pick(r, 0, 3))),
        (2, lambda: "note:%02x.%02x" % (r.randrange(256), r.randrange(256))), (1, lambda: "exit"),
        (2, lambda: "push:%s%s" % pick(r, ("NXM_NX_REG0", "[]"), ("NXM_OF_ETH_SRC", "[]"), ("NXM_OF_IN_PORT", "[]"), ("NXM_NX_XXREG0", "[8..90]"))),
        (2, lambda: "pop:%s%s" % pick(r, ("NXM_NX_REG1", "[]"), ("NXM_OF_ETH_DST", "[]"), ("NXM_NX_REG0", "[4..9]"))),
        (2, lambda: "multipath(%s,%d,%s,%d,%d,NXM_NX_REG%d[%s])" % (pushed_hash(r), pick(r, 0, 50), pick(r, "modulo_n", "hash_threshold", "hrw", "iter_hash"),
                                                                1, pick(r, 0, 2), r.randrange(2), pick(r, "", "0..7", "16..31"))),
        (2, lambda: "bundle(%s,%d,active_backup,ofport,members:%s)" % (pushed_hash(r), pick(r, 0, 50), ",".join(port(r) for _ in range(pick(r, 1, 2, 3))))),
        (1, lambda: "bundle(%s,%d,hrw,ofport,members:%s)" % (pushed_hash(r), pick(r, 0, 50), port(r))),
        (1, lambda: "bundle_load(%s,0,active_backup,ofport,NXM_NX_REG0[%s],members:%s)" % (pushed_hash(r), pick(r, "", "0..15"), ",".join(port(r) for _ in range(2)))),
        (3, lambda: learn(r, kind)), (1, lambda: "fin_timeout(idle_timeout=%d,hard_timeout=%d)" % (pick(r, 0, 5), pick(r, 0, 7))),
        (2, lambda: pick(r, "controller", "controller:%d" % pick(r, 0, 20, 65535), "controller(reason=invalid_ttl,max_len=100,id=%d)" % pick(r, 0, 3),
                         "controller(userdata=01.02.03)", "controller(pause)", "controller(userdata=00,pause,max_len=30)")),
        (2, lambda: "check_pkt_larger(%d)->NXM_NX_REG%d[%d]" % (pick(r, 14, 60, 100, 1500), r.randrange(2), r.randrange(32))),
        (1, lambda: "sample(probability=%d,collector_set_id=1,obs_domain_id=2,obs_point_id=3%s)" % (pick(r, 1, 65535), pick(r, "", ",sampling_port=1", ",sampling_port=2,egress", ",ingress"))),
        (7, lambda: ct(r, kind, table)) if kind not in ("arp", "mpls", "nsh", "other") else (1, lambda: ct(r, kind, table)), (2, lambda: "ct_clear"),
        (1, lambda: "set_tunnel:%#x" % number(r, 32)), (1, lambda: "delete_field:tun_metadata%d" % r.randrange(2)),
        (1, lambda: "dec_ttl(%d,%d)" % (pick(r, 0, 1), 2)) if is_ip or is_ip6 else (0, None),
        (4, lambda: "dec_ttl") if is_ip or is_ip6 else (0, None), (2, lambda: "mod_nw_ttl:%d" % pick(r, 0, 1, 64)) if is_ip or is_ip6 else (0, None),
        (2, lambda: "mod_nw_tos:%d" % (r.randrange(64) * 4)) if is_ip or is_ip6 else (0, None), (1, lambda: "mod_nw_ecn:%d" % r.randrange(4)) if is_ip or is_ip6 else (0, None),
        (2, lambda: "mod_nw_src:" + r.choice(IPS)) if is_ip else (0, None), (2, lambda: "mod_nw_dst:" + r.choice(IPS)) if is_ip else (0, None),
        (2, lambda: "mod_tp_%s:%d" % (pick(r, "src", "dst"), r.choice(L4))) if tp else (0, None),
        (4, lambda: "pop_mpls:" + pick(r, "0x800", "0x86dd", "0x8847", "0x8848", "0x806", "0x1234")) if kind in ("mpls", "mplsm") else (0, None),
        (2, lambda: pick(r, "dec_mpls_ttl", "set_mpls_ttl:%d" % pick(r, 0, 1, 9), "set_mpls_tc:5", "set_mpls_label:%d" % pick(r, 0, 77))) if kind in ("mpls", "mplsm") else (0, None),
        (1, lambda: "dec_nsh_ttl") if kind == "nsh" else (0, None),
        (1, lambda: pick(r, "encap(nsh(md_type=1))", "encap(nsh(md_type=2,tlv(0x1000,10,0x12345678)))", "encap(ethernet)", "encap(nsh)") if not (is_ip or is_ip6) or r.random() < 0.6 else pick(r, "encap(mpls)", "encap(mpls_mc)")),
        (2 if kind == "nsh" else 1, lambda: pick(r, "decap()", "decap()", "decap(packet_type(ns=1,type=0x894f))", "decap(packet_type(ns=0,type=0))")),
        (3, lambda: "group:%d" % r.choice(groups)) if groups else (0, None), (2, lambda: "meter:%d" % r.choice(meters)) if meters else (0, None),
        (3, lambda: "clone(%s)" % inner()) if depth < 2 else (0, None),
        (0.3, lambda: pick(r, "debug_slow", "debug_recirc")),
    ]
    how = r.choices([f for _, f in table_of], [w for w, _ in table_of])[0]
    text = how()
    if text.startswith("push_mpls:0x8847") or text.startswith("encap(mpls)"):
        kind = "mpls"
    elif text.startswith("push_mpls") or text.startswith("encap(mpls"):
        kind = "mplsm"
    elif text.startswith("pop_mpls:"):
        kind = {"0x800": "ip", "0x86dd": "ipv6", "0x8847": "mpls", "0x8848": "mplsm", "0x806": "arp"}.get(text[9:], None)
    elif text.startswith("encap(nsh"):
        kind = "nsh"
    elif text.startswith("decap"):
        kind = None
    return text, kind


def actions(r, kind, table, depth, groups, meters, count):
    done = []
    for _ in range(count):
        text, kind = action(r, kind, table, depth, groups, meters)
        done.append(text)
    return done


def flow(r, version, groups, meters, number_):
    """A flow; its number makes its priority its own, for which of two of a priority is taken is chance."""
    table = min(r.randrange(TABLES + 3), TABLES) if r.random() < 0.8 else 0
    if r.random() < 0.35:
        table = 0
    words, kind = match(r, table=table)
    priority = pick(r, 100, 200, 200, 400, 400, 1000, 32000) + number_
    head = ["table=%d" % table, "priority=%d" % priority]
    if r.random() < 0.15:
        head.append("cookie=%#x" % number(r, 64))
    if r.random() < 0.1:
        head.append("%s_timeout=600" % pick(r, "idle", "hard"))
    if r.random() < 0.05:
        head[1] = "priority=%d" % pick(r, 300, 3000)
        body = ["conjunction(%d,%d/2)" % (pick(r, 1, 2), pick(r, 1, 2)) for _ in range(pick(r, 1, 1, 2))]
        return ",".join(head + words) + ",actions=" + ",".join(body)
    if r.random() < 0.05:
        return ",".join(head + words) + ",actions=drop"
    body = actions(r, kind, table, 0, groups, meters, pick(r, 1, 2, 2, 3, 4, 5, 7))
    if version >= 2 and r.random() < 0.3:
        if r.random() < 0.2:
            body.append("clear_actions")
        if r.random() < 0.8:
            simple = ("output:", "set_field", "mod_", "push_", "pop_", "strip", "dec_", "group", "set_queue", "load", "move", "encap", "decap", "ct", "resubmit(")
            written = [a for a in actions(r, kind, table, 1, groups, [], 8) if a.startswith(simple) and not a.startswith("pop:")][:pick(r, 1, 2, 3)]
            if written:
                body.append("write_actions(%s)" % ",".join(written))
        if r.random() < 0.4:
            body.append("write_metadata:" + hexed(r, 64))
        if table < TABLES - 1 and r.random() < 0.7:
            body.append("goto_table:%d" % r.randrange(table + 1, TABLES))
    return ",".join(head + words) + ",actions=" + ",".join(body)


def group(r, number_, all_groups, meters):
    kind = pick(r, "all", "select", "select", "indirect", "ff")
    words = ["group_id=%d" % number_, "type=" + kind]
    if kind == "select" and r.random() < 0.5:
        words.append("selection_method=hash,selection_method_param=%d,fields(%s)" % (pick(r, 0, 7), pick(r, "eth_dst", "ip_dst,nw_proto", "ip_src,ip_dst", "tcp_dst,ip_src", "eth_src=ff:ff:ff:00:00:00"))
                     if r.random() < 0.7 else "selection_method=dp_hash")
    later = [g for g in all_groups if g > number_]
    buckets = 1 if kind == "indirect" else pick(r, 1, 2, 2, 3, 5)
    alive = r.randrange(buckets)
    for n in range(buckets):
        bucket = ["bucket_id:%d" % n]
        # Which of several buckets a packet's hash selects is each switch's own affair: one of them is alive.
        if kind == "select":
            bucket += ["weight:%d" % pick(r, 1, 2, 10, 0)] if n == alive else [pick(r, "weight:0", "weight:5,watch_port:99")]
        if kind == "ff":
            bucket.append("watch_port:%s" % pick(r, 1, 2, 3, 99))
        if kind == "ff" and r.random() < 0.2 and later:
            bucket.append("watch_group:%d" % r.choice(later))
        simple = [a for a in actions(r, None, TABLES, 1, later, [], 6)
                  if a.split(":")[0].split("(")[0] in ("output", "set_field", "group", "mod_dl_src", "push_vlan", "push_mpls", "ct", "controller", "resubmit", "load", "move", "strip_vlan", "encap", "decap")]
        words.append("bucket=" + ",".join(bucket) + ",actions=" + (",".join(simple[:pick(r, 1, 2, 3)]) or "drop"))
    return ",".join(words)


def meter(r, number_):
    kind = pick(r, "kbps", "pktps")
    return "meter=%d,%s%s,bands=type=drop,rate=%d%s" % (number_, kind, pick(r, "", ",stats"), 1000000000, pick(r, "", ",burst_size=100000"))


def checksum(data):
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def hardware(text):
    return bytes(int(x, 16) for x in text.split(":"))


class Packet:
    """A packet as fields: as bytes for the wire, as text for a trace."""

    def __init__(self, r):
        self.kind = r.choices(KINDS, WEIGHT)[0]
        self.src, self.dst = r.choice(MACS[:5]), r.choice(MACS)
        self.tags = [(pick(r, 0x8100, 0x8100, 0x88A8), pick(r, 1, 10, 20, 99, 0), r.randrange(8)) for _ in range(pick(r, 0, 0, 0, 1, 1, 2))]
        self.four = self.kind in ("tcp", "udp", "sctp", "icmp", "ip")
        self.ends = (r.choice(IPS[:6]), r.choice(IPS)) if self.four or "arp" in self.kind else (r.choice(IP6S[:5]), r.choice(IP6S))
        self.ports = r.choice(L4), r.choice(L4)
        self.tos, self.ttl = r.randrange(256) if r.random() < 0.3 else 0, pick(r, 64, 64, 64, 255, 2, 1, 0)
        self.flags = pick(r, 2, 0x10, 0x12, 0x11, 0x18, 4, 0)
        self.label = number(r, 20) if r.random() < 0.2 else 0
        self.fragment = pick(r, "first", "later") if r.random() < 0.08 else "no"
        self.proto = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "tcp6": 6, "udp6": 17, "sctp6": 132, "icmp6": 58, "nd": 58}.get(self.kind, pick(r, 0x2F, 2, 255))
        self.icmp = pick(r, 0, 3, 8) if self.kind == "icmp" else pick(r, 135, 136) if self.kind == "nd" else pick(r, 128, 129, 130, 133)
        self.nd = r.choice(IP6S[:4]), r.choice(MACS[:5])
        self.op = pick(r, 1, 2) if self.kind == "arp" else 3
        self.tha = r.choice(MACS[:5])
        self.labels = [(pick(r, 0, 3, 16, 1000), r.randrange(8), pick(r, 0, 1, 2, 64)) for _ in range(pick(r, 1, 1, 2, 3, 4))]
        self.bos = r.random() < 0.95
        self.nsh = (pick(r, 0, 1, 5), number(r, 24), number(r, 8), pick(r, 1, 2, 3), number(r, 6))
        self.payload = bytes(r.randrange(256) for _ in range(pick(r, 0, 4, 26, 46, 60, 200)))
        self.type = pick(r, 0x1234, 0x88CC, 0x8902)
        self.cut = r.random() < 0.04
        self.cut_at = r.randrange(14, 60)
        self.inner4 = r.random() < 0.6

    def layer4(self, proto):
        p = self.payload
        if proto == 6:
            return struct.pack("!HHIIBBHHH", *self.ports, 1, 2, 0x50, self.flags, 1000, 0, 0) + p
        if proto == 17:
            return struct.pack("!HHHH", *self.ports, 8 + len(p), 0) + p
        if proto == 132:
            return struct.pack("!HHII", *self.ports, 7, 0) + p
        if proto in (1, 58) and self.kind != "nd":
            return struct.pack("!BBHI", self.icmp, 0, 0, 0) + p
        if self.kind == "nd":
            option = struct.pack("!BB", 1 if self.icmp == 135 else 2, 1) + hardware(self.nd[1])
            return struct.pack("!BBHI", self.icmp, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, self.nd[0]) + option
        return p

    def with_checksum(self, body, proto, pseudo):
        at = {6: 16, 17: 6, 58: 2, 1: 2}.get(proto)
        if at is None or len(body) < at + 2 or self.fragment != "no":
            return body
        sum_ = checksum((b"" if proto == 1 else pseudo) + body) or (0xFFFF if proto == 17 else 0)
        return body[:at] + struct.pack("!H", sum_) + body[at + 2:]

    def ip(self, four):
        proto = self.proto
        if four:
            ends = [socket.inet_aton(e if "." in e else "10.0.0.1") for e in self.ends]
            body = self.layer4(proto) if self.fragment != "later" else self.payload
            body = self.with_checksum(body, proto, ends[0] + ends[1] + struct.pack("!BBH", 0, proto, len(body)))
            fragment = {"no": 0x4000, "first": 0x2000, "later": 0x0010}[self.fragment]
            head = struct.pack("!BBHHHBBH", 0x45, self.tos, 20 + len(body), 1, fragment, self.ttl, proto, 0) + ends[0] + ends[1]
            return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
        ends = [socket.inet_pton(socket.AF_INET6, e if ":" in e else "fe80::1") for e in self.ends]
        body = self.layer4(proto) if self.fragment != "later" else self.payload
        body = self.with_checksum(body, proto, ends[0] + ends[1] + struct.pack("!II", len(body), proto))
        following = proto
        if self.fragment != "no":
            body = struct.pack("!BBHI", proto, 0, 1 if self.fragment == "first" else 16, 7) + body
            following = 44
        return struct.pack("!IHBB", 6 << 28 | self.tos << 20 | self.label, len(body), following, self.ttl) + ends[0] + ends[1] + body

    def bytes(self):
        kind = self.kind
        if self.four:
            type_, body = 0x800, self.ip(True)
        elif kind in ("tcp6", "udp6", "sctp6", "icmp6", "ipv6", "nd"):
            type_, body = 0x86DD, self.ip(False)
        elif "arp" in kind:
            type_ = TYPES[kind]
            body = struct.pack("!HHBBH", 1, 0x800, 6, 4, self.op) + hardware(self.src) + socket.inet_aton(self.ends[0]) + hardware(self.tha) + socket.inet_aton(self.ends[1])
        elif kind in ("mpls", "mplsm"):
            type_ = TYPES[kind]
            last = len(self.labels) - 1
            body = b"".join(struct.pack("!I", l << 12 | tc << 9 | (n == last and self.bos) << 8 | ttl) for n, (l, tc, ttl) in enumerate(self.labels))
            self.proto = 17
            body += self.ip(self.inner4)
        elif kind == "nsh":
            type_ = 0x894F
            flags, spi, si, np, ttl = self.nsh
            body = struct.pack("!HBBIIIII", (flags & 3) << 12 | ttl << 6 | 6, 1, np, spi << 8 | si, 1, 2, 3, 4)
            body += {1: lambda: self.ip(True), 2: lambda: self.ip(False), 3: lambda: hardware(self.dst) + hardware(self.src) + b"\x12\x34" + self.payload}[np]()
        else:
            type_, body = self.type, self.payload
        data = hardware(self.dst) + hardware(self.src)
        for tpid, vid, pcp in self.tags:
            data += struct.pack("!HH", tpid, pcp << 13 | vid)
        data += struct.pack("!H", type_) + body
        return data[:self.cut_at] if self.cut else data


def trace(r):
    """Arguments of ofproto/trace behind the bridge: a flow in text, or a port and bytes."""
    where = "in_port=%s" % pick(r, 1, 1, 1, 2, 2, 3, 4, 5, "LOCAL", PATCH)
    meta = []
    if r.random() < 0.25:
        name = r.choice(["reg0", "metadata", "pkt_mark", "ct_mark", "tun_id", "ct_zone", "ct_state", "reg1", "skb_priority", "tun_dst", "tun_src"])
        value = {"ct_state": lambda: pick(r, "+trk+new", "+trk+est", "+trk+est+rpl", "+trk+inv"), "tun_dst": lambda: r.choice(IPS), "tun_src": lambda: r.choice(IPS),
                 "ct_zone": lambda: pick(r, "1", "7")}.get(name, lambda: "%#x" % number(r, 32))()
        meta.append(name + "=" + value)
    if r.random() < 0.6:
        return [",".join([where] + meta), Packet(r).bytes().hex()]
    kind = r.choices(KINDS, WEIGHT)[0]
    words = prefix(r, kind)
    for name, f in sorted(matches_of(kind).items()):
        if r.random() < 0.5 and name not in ("tcp_flags",) and not (kind == "nd" and name == ("nd_tll" if "icmpv6_type=135" in words else "nd_sll")):
            words.append(name + "=" + f(r).split("/")[0].replace("not_later", "first").replace("yes", "later"))
    if r.random() < 0.7:
        words += ["dl_src=" + r.choice(MACS[:5]), "dl_dst=" + r.choice(MACS)]
    if r.random() < 0.3:
        words += ["dl_vlan=%d" % pick(r, 1, 10, 20), "dl_vlan_pcp=%d" % r.randrange(8)]
    return [",".join([where] + meta + words)] + (["--ct-next=" + pick(r, "trk,new", "trk,est", "trk,est,rpl", "trk,inv", "trk,rel")] if r.random() < 0.2 else [])


def configurations(r):
    """Commands of ovs-vsctl behind `add ports`: access, trunk, mirrors, bonds, snooping."""
    out = []
    if r.random() < 0.5:
        out.append("set port p%d tag=10" % pick(r, 1, 2, 3))
    if r.random() < 0.4:
        out.append("set port p%d trunks=10,20" % pick(r, 4, 5))
    if r.random() < 0.3:
        out.append("set port p6 vlan_mode=%s tag=%d" % (pick(r, "native-tagged", "native-untagged"), pick(r, 10, 20)))
    if r.random() < 0.3:
        out.append("set port p7 vlan_mode=dot1q-tunnel tag=99" + pick(r, "", " cvlans=10", " other_config:qinq-ethtype=802.1q"))
    if r.random() < 0.2:
        out.append("set port p8 other_config:priority-tags=" + pick(r, "always", "if-nonzero"))
    if r.random() < 0.2:
        out.append("set port p1 protected=true -- set port p2 protected=true")
    if r.random() < 0.3:
        out.append("set bridge br0 mcast_snooping_enable=true" + pick(r, "", " other_config:mcast-snooping-disable-flood-unregistered=true"))
    if r.random() < 0.25:
        select = pick(r, "select_all=true", "select_src_port=@p1", "select_dst_port=@p1", "select_all=true select_vlan=10", "select_src_port=@p1 select_dst_port=@p1")
        target = pick(r, "output_port=@p8", "output_vlan=99")
        out.append("--id=@p1 get port p1 -- --id=@p8 get port p8 -- --id=@m create mirror name=m %s %s%s -- set bridge br0 mirrors=@m" % (select, target, pick(r, "", " snaplen=60")))
    if r.random() < 0.1:
        out.append("set bridge br0 flood_vlans=20")
    if r.random() < 0.2:
        out.append("set open_vswitch . other_config:vlan-limit=%d" % pick(r, 0, 1, 2))
    return out
