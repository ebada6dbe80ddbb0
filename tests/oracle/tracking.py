"""Random scenes of connections that are tracked: NAT of both versions, helpers of protocols, fragments, limits, timeouts and what empties the table.

In: a random number generator. Out: scenes in text. Neighbours: scenes.py has the other themes, frames.py makes the packets.
"""
import struct

import frames as f
from generate import pick

V4, V6 = "10.0.0.%d", "fe80::%x"


def tables(r, six, nat="", alg="", zone="", extra=""):
    """What comes by port 1 begins connections, what comes by 2 belongs to one."""
    ip = "ipv6" if six else "ip"
    return ["flow br0 priority=1,actions=output:4", "flow br0 priority=10,%s,ct_state=-trk,actions=ct(table=1%s%s)" % (ip, zone, ",nat" if nat else ""),
            "flow br0 table=1,priority=30,in_port=1,%s,ct_state=+trk+new-rel,actions=ct(commit%s%s%s%s),output:2" % (ip, zone, nat, alg, extra),
            "flow br0 table=1,priority=31,%s,ct_state=+trk+new+rel,actions=ct(commit%s%s),output:3,output:%d" % (ip, zone, ",nat" if nat else "", pick(r, 1, 2)),
            "flow br0 table=1,priority=25,ct_state=+trk+rel,in_port=1,actions=output:2", "flow br0 table=1,priority=25,ct_state=+trk+rel,in_port=2,actions=output:1",
            "flow br0 table=1,priority=20,ct_state=+trk+est,in_port=1,actions=output:2", "flow br0 table=1,priority=20,ct_state=+trk+est,in_port=2,actions=output:1",
            "flow br0 table=1,priority=40,ct_state=+trk+inv,actions=output:4", "flow br0 table=1,priority=2,actions=output:4"]


def ends(r, six):
    form = V6 if six else V4
    return form % pick(r, 1, 2), form % 9


MACS = "50:54:00:00:00:01", "50:54:00:00:00:02"


def segment(src, dst, ports, seq, ack, flags, data=b""):
    body = struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, 8000, 0, 0) + data
    return f.packet(*MACS, src, dst, 6, f.summed(src, dst, 6, body, 16)).hex()


def nats(r):
    """Ranges: which of their addresses and ports is taken is chance, what comes back is what left, turned around."""
    six = r.random() < 0.6
    where = pick(r, "2001:db8::5", "2001:db8::5-2001:db8::9", "[2001:db8::5]:5000-5009", "[2001:db8::5-2001:db8::7]:80-90") if six else \
        pick(r, "10.9.0.1", "10.9.0.1-10.9.0.9", "10.9.0.1:5000-5009", "10.9.0.1-10.9.0.3:80-90")
    nat = ",nat(%s=%s%s)" % (pick(r, "src", "src", "dst"), where, pick(r, "", "", ",random", ",hash", ",persistent"))
    steps = ["devices br0 1 2 3 4", "chance " + where] + tables(r, six, nat)
    for _ in range(pick(r, 2, 3, 4)):
        src, dst = ends(r, six)
        kind, ports = pick(r, "tcp", "udp", "icmp"), (pick(r, 1000, 1001, 5003), pick(r, 80, 53))
        if kind == "tcp":
            steps.append("in p1 " + segment(src, dst, ports, 1000, 0, 2))
        elif kind == "udp":
            steps.append("in p1 " + f.datagram(*MACS, src, dst, *ports, b"hello").hex())
        else:
            body = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 77, 1) + b"abcd"
            body = f.summed(src, dst, 58, body, 2) if six else f.plainly_summed(body)
            steps.append("in p1 " + f.packet(*MACS, src, dst, 58 if six else 1, body).hex())
        for _ in range(pick(r, 1, 2, 3)):
            # Where the destination was another over IPv6, OVS 3.1 writes over the addresses that an error quotes.
            steps.append("back p2 " + pick(r, "plain", "plain", "plain" if six and "dst" in nat else "error", "reset" if kind == "tcp" else "plain", "data=616263" if kind != "icmp" else "plain"))
            if r.random() < 0.5:
                steps.append("back p1 " + pick(r, "plain", "plain", "error"))
        steps.append("appctl dpctl/dump-conntrack")
        if r.random() < 0.2:
            steps.append(pick(r, "warp 31000", "warp 61000", "appctl dpctl/flush-conntrack"))
    return steps


def helpers(r):
    """FTP and TFTP: connections that others announce."""
    six = r.random() < 0.5
    how = pick(r, "ftp", "ftp", "ftp", "tftp")
    seen = "2001:db8::5" if six else "10.9.0.1"
    nat = pick(r, "", ",nat(src=%s)" % seen)
    steps = ["devices br0 1 2 3 4"] + tables(r, six, nat, ",alg=" + how, pick(r, "", ",zone=1"))
    src, dst = ends(r, six)
    if how == "tftp":
        steps += ["in p1 " + f.datagram(*MACS, src, dst, 1000, 69, struct.pack("!H", pick(r, 1, 2, 3)) + b"file\0octet\0").hex(), "appctl dpctl/dump-conntrack"]
        there = seen if nat else src
        for port in (pick(r, 3000, 3001), 3000):
            steps.append("in p2 " + f.datagram(*MACS[::-1], dst, there, port, pick(r, 1000, 1000, 1001), b"\0\3\0\1data").hex())
        return steps + ["in p1 " + f.datagram(*MACS, src, dst, 1000, 3000, b"\0\4\0\1").hex(), "appctl dpctl/dump-conntrack"]
    steps += ["in p1 " + segment(src, dst, (1000, 21), 1000, 0, 2), "back p2 plain", "in p1 " + segment(src, dst, (1000, 21), 1001, 900001, 0x10)]
    port = pick(r, 2001, 65535, 258, 80)
    octets = "%s,%d,%d" % (src.replace(".", ","), port >> 8, port & 255)
    if r.random() < 0.55:
        there = src if r.random() < 0.85 else (V6 if six else V4) % 7
        said = pick(r, "EPRT |%d|%s|%d|\r\n" % (2 if six else 1, there, port), *([] if six else ["PORT %s\r\n" % octets] * 2), "PORT 1,2,3\r\n", "eprt |2|%s|%d|\r\n" % (there, port), "EPRT |2||%d|\r\n" % port)
        said = said.encode()
        steps += ["in p1 " + segment(src, dst, (1000, 21), 1001, 900001, 0x18, said), "appctl dpctl/dump-conntrack", "back p2 plain"]
        # The server comes to where it was told.
        steps += ["in p2 " + segment(dst, seen if nat else src, (20, pick(r, port, port, port, 2002)), 5000, 0, 2), "back p1 plain", "back p2 plain"]
    else:
        said = pick(r, "229 Entering Extended Passive Mode (|||%d|)\r\n" % port, *([] if six else ["227 Entering Passive Mode (%s,%d,%d)\r\n" % (dst.replace(".", ","), port >> 8, port & 255)]),
                    "229 no\r\n", "227 (1,2)\r\n", "229 (|||70000|)\r\n")
        steps += ["in p1 " + segment(src, dst, (1000, 21), 1001, 900001, 0x18, pick(r, b"EPSV\r\n", b"PASV\r\n")), "back p2 data=" + said.encode().hex(), "appctl dpctl/dump-conntrack"]
        steps += ["in p1 " + segment(src, dst, (1004, pick(r, port, port, port, 2002)), 5000, 0, 2), "back p2 plain", "back p1 plain"]
    steps += ["appctl dpctl/dump-conntrack", "in p1 " + segment(src, dst, (1000, 21), 1001 + len(said), 900001, 0x18, b"QUIT\r\n"), "back p2 plain"]
    return steps + ["appctl dpctl/dump-conntrack"]


def pieces(src, dst, id_, whole, proto, sizes):
    """Fragments of a datagram, each with as many bytes as `sizes` says."""
    six, at, out = ":" in src, 0, []
    for size in sizes:
        part = whole[at:at + size]
        more = at + size < len(whole)
        if six:
            data = f.packet(*MACS, src, dst, 44, struct.pack("!BBHI", proto, 0, at | more, id_) + part)
        else:
            data = bytearray(f.packet(*MACS, src, dst, proto, part))
            data[18:22] = struct.pack("!HH", id_, more << 13 | at >> 3)
            data[24:26] = b"\0\0"
            data[24:26] = struct.pack("!H", f.checksum(bytes(data[14:34])))
        out.append(bytes(data))
        at += size
    return out


def fragments(r):
    six = r.random() < 0.5
    steps = ["devices br0 1 2 3 4"] + tables(r, six, pick(r, "", "", ",nat(src=%s)" % ("2001:db8::5" if six else "10.9.0.1")))
    if r.random() < 0.6:
        steps.append("appctl dpctl/ipf-set-min-frag v%d %d" % (6 if six else 4, 1280 if six else 400))
    if r.random() < 0.1:
        steps.append("appctl dpctl/ipf-set-disabled v%d" % (6 if six else 4))
        steps.append("appctl dpctl/ipf-set-enabled v%d" % (6 if six else 4))
    for n in range(pick(r, 2, 3, 4)):
        src, dst = ends(r, six)
        whole = struct.pack("!HHHH", pick(r, 1000, 1001), 53, 0, 0) + bytes(k % 251 for k in range(pick(r, 2000, 3400, 2900)))
        whole = f.summed(src, dst, 17, whole[:4] + struct.pack("!H", len(whole)) + whole[6:], 6)
        sizes = pick(r, [1448, 1448, 4000], [1280, 4000], [1400, 8, 4000], [600, 600, 4000], [1448, 4000])
        out = pieces(src, dst, 7 + n, whole, 17, sizes)
        what = r.random()
        if what < 0.3:
            r.shuffle(out)
        elif what < 0.4:
            del out[r.randrange(len(out))]
        elif what < 0.5:
            out.insert(r.randrange(len(out)), r.choice(out))
        elif what < 0.6:
            # Two that lie over one another.
            out[0:0] = pieces(src, dst, 7 + n, whole, 17, [sizes[0] + 8, 4000])[:1]
        steps += ["in p1 " + data.hex() for data in out]
        if r.random() < 0.3:
            # What never becomes whole OVS lets go at the next packet after 15 s, ours forgets it by then: nothing waits that long here.
            steps.append("warp 2000")
        steps.append("appctl dpctl/dump-conntrack")
    return steps + ["appctl dpctl/ipf-get-status -m"]


def limits(r):
    """How many connections a zone may have, how long each lasts, and what takes some of them away."""
    six = r.random() < 0.3
    steps = ["devices br0 1 2 3 4"] + tables(r, six, zone=",zone=%d" % pick(r, 0, 1, 1, 7))
    if r.random() < 0.6:
        times = r.sample(["udp_first=%d" % pick(r, 5, 20), "udp_single=%d" % pick(r, 10, 70), "udp_multiple=7", "tcp_syn_sent=9", "tcp_established=40", "icmp_first=4", "icmp_reply=12"], 4)
        steps += ["vsctl -- --id=@d create datapath datapath_version=0 -- set open_vswitch . datapaths:dummy=@d", "vsctl add-zone-tp dummy zone=%d %s" % (pick(r, 1, 1, 7), " ".join(times)),
                  "vsctl list-zone-tp dummy"]
    if r.random() < 0.6:
        steps += ["appctl dpctl/ct-set-limits " + pick(r, "default=2", "default=3 zone=1,limit=1", "zone=1,limit=2", "zone=1,limit=3 zone=7,limit=1", "zone=0,limit=2"), "appctl dpctl/ct-get-limits"]
    src, dst = ends(r, six)
    for _ in range(14):
        what, src = r.random(), (V6 if six else V4) % pick(r, 1, 2)
        port = pick(r, 1000, 1001, 1002, 1003)
        if what < 0.35:
            steps.append("in p1 " + f.datagram(*MACS, src, dst, port, 53, b"q").hex())
        elif what < 0.6:
            steps.append("in p1 " + segment(src, dst, (port, 80), 1000, 0, 2))
        elif what < 0.75:
            steps.append("back p2 plain")
        elif what < 0.85:
            steps.append("warp %d" % pick(r, 3000, 11000, 25000, 45000))
        else:
            tuple_ = "%s=%s,ct_nw_proto=%d,ct_tp_src=%d" % ("ct_ipv6_src" if six else "ct_nw_src", src, pick(r, 6, 17), port)
            zone = pick(r, 0, 1, 7)
            steps.append(pick(r, "appctl dpctl/flush-conntrack zone=%d" % zone, "appctl dpctl/flush-conntrack %s" % tuple_, "appctl dpctl/flush-conntrack zone=%d %s" % (zone, tuple_),
                              "ofctl ct-flush br0 zone=%d" % zone, "ofctl ct-flush br0 '%s'" % tuple_, "ofctl ct-flush br0 zone=%d '%s'" % (zone, tuple_), "ofctl ct-flush br0", "appctl dpctl/ct-get-limits",
                              "appctl dpctl/ct-del-limits zone=1", "appctl dpctl/ct-set-limits zone=1,limit=1", "appctl dpctl/dump-conntrack zone=1", "appctl dpctl/flush-conntrack '%s' 'ct_tp_dst=%d'" % (tuple_, port),
                              "vsctl del-zone-tp dummy zone=1", "appctl dpctl/ct-get-maxconns"))
        if r.random() < 0.3:
            steps.append("appctl dpctl/dump-conntrack")
    return steps + ["appctl dpctl/dump-conntrack", "appctl dpctl/ct-get-limits", "appctl dpctl/ct-stats-show"]
