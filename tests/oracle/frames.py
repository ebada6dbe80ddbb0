"""Frames that protocols are made of: multicast membership, spanning trees, tunnels, connections in the order of their packets.

In: addresses in text, numbers. Out: bytes from the Ethernet header on. Neighbours: scenes.py chooses what is sent, generate.py has the
packets of random tables.
"""
import socket
import struct

from generate import checksum, hardware, pick


def ethernet(src, dst, type_, body, tags=()):
    data = hardware(dst) + hardware(src)
    for tpid, vid, pcp in tags:
        data += struct.pack("!HH", tpid, pcp << 13 | vid)
    return data + struct.pack("!H", type_) + body


def address(text):
    return socket.inet_pton(socket.AF_INET6, text) if ":" in text else socket.inet_aton(text)


def ipv4(src, dst, proto, body, ttl=64, options=b"", tos=0):
    words = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 0x40 | words, tos, 4 * words + len(body), 1, 0x4000, ttl, proto, 0) + address(src) + address(dst) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ipv6(src, dst, proto, body, hops=64):
    return struct.pack("!IHBB", 6 << 28, len(body), proto, hops) + address(src) + address(dst) + body


def summed(src, dst, proto, body, at):
    """The body of a protocol with its checksum, over IPv4's or IPv6's pseudo header."""
    ends = address(src) + address(dst)
    pseudo = ends + (struct.pack("!II", len(body), proto) if ":" in src else struct.pack("!BBH", 0, proto, len(body)))
    sum_ = checksum(pseudo + body) or (0xFFFF if proto == 17 else 0)
    return body[:at] + struct.pack("!H", sum_) + body[at + 2:]


def packet(src_mac, dst_mac, src, dst, proto, body, tags=(), ttl=64):
    six = ":" in src
    return ethernet(src_mac, dst_mac, 0x86DD if six else 0x800, (ipv6 if six else ipv4)(src, dst, proto, body, ttl), tags)


def datagram(src_mac, dst_mac, src, dst, sport, dport, data, tags=()):
    body = summed(src, dst, 17, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data, 6)
    return packet(src_mac, dst_mac, src, dst, 17, body, tags)


def arp(op, sha, spa, tha, tpa):
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + hardware(sha) + address(spa) + hardware(tha) + address(tpa)
    return ethernet(sha, tha if op == 2 else "ff:ff:ff:ff:ff:ff", 0x806, body)


def group_mac(group):
    data = address(group)
    data = b"\x33\x33" + data[-4:] if ":" in group else b"\x01\x00\x5e" + bytes([data[1] & 0x7F]) + data[2:]
    return ":".join("%02x" % b for b in data)


def igmp(src_mac, src, kind, group, tags=()):
    """A query (0x11), report of version 1 or 2 (0x12, 0x16) or leave (0x17)."""
    body = struct.pack("!BBH", kind, 10 if kind == 0x11 else 0, 0) + address("0.0.0.0" if kind == 0x11 else group)
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    dst = {0x11: "224.0.0.1", 0x17: "224.0.0.2"}.get(kind, group)
    return ethernet(src_mac, group_mac(dst), 0x800, ipv4(src, dst, 2, body, 1, b"\x94\x04\0\0"), tags)


def igmp3(src_mac, src, records, tags=()):
    body = struct.pack("!BBHHH", 0x22, 0, 0, 0, len(records))
    for kind, group, sources in records:
        body += struct.pack("!BBH", kind, 0, len(sources)) + address(group) + b"".join(map(address, sources))
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ethernet(src_mac, group_mac("224.0.0.22"), 0x800, ipv4(src, "224.0.0.22", 2, body, 1, b"\x94\x04\0\0"), tags)


def listener(src_mac, src, dst, body, tags):
    """A message of MLD behind its router alert."""
    option = bytes([58, 0, 5, 2, 0, 0, 1, 0])
    body = option + summed(src, dst, 58, body, 2)
    return ethernet(src_mac, group_mac(dst), 0x86DD, ipv6(src, dst, 0, body, 1), tags)


def mld(src_mac, src, kind, group, tags=()):
    """A query (130), report (131) or done (132)."""
    body = struct.pack("!BBHHH", kind, 0, 0, 1000 if kind == 130 else 0, 0) + address("::" if kind == 130 else group)
    return listener(src_mac, src, {130: "ff02::1", 132: "ff02::2"}.get(kind, group), body, tags)


def mld2(src_mac, src, records, tags=()):
    body = struct.pack("!BBHHH", 143, 0, 0, 0, len(records))
    for kind, group, sources in records:
        body += struct.pack("!BBH", kind, 0, len(sources)) + address(group) + b"".join(map(address, sources))
    return listener(src_mac, src, "ff02::16", body, tags)


def bpdu(r, kind, root, bridge):
    """A configuration, a topology change or one of RSTP; identifiers are sixteen hexadecimal digits."""
    if kind == "tcn":
        body = struct.pack("!HBB", 0, 0, 0x80)
    else:
        flags = pick(r, 0, 1, 0x80) if kind == "config" else pick(r, 0x0E, 0x3C, 0x7C, 0x4C, 0x2C, 0x78, 0x3D)
        body = struct.pack("!HBBB", 0, 0 if kind == "config" else 2, 0 if kind == "config" else 2, flags) + bytes.fromhex(root)
        body += struct.pack("!I", pick(r, 0, 4, 200000)) + bytes.fromhex(bridge) + struct.pack("!H", 0x8001)
        body += struct.pack("!HHHH", pick(r, 0, 256), 20 * 256, 2 * 256, 15 * 256) + (b"\0" if kind == "rst" else b"")
    body = b"\x42\x42\x03" + body
    return hardware("01:80:c2:00:00:00") + hardware("00:00:00:00:%02x:01" % r.randrange(4)) + struct.pack("!H", len(body)) + body


OUTER = [("f8:bc:12:44:34:b6", "1.1.2.92"), ("f8:bc:12:44:34:b7", "1.1.2.93"), ("f8:bc:12:44:34:b8", "2001:cafe::92")]


def tunnelled(r, kind, options, inner):
    """A packet that comes from a tunnel's other end, or from near it."""
    mac, src = r.choice(OUTER[:2]) if kind != "ip6gre" and "remote_ip=2001:cafe::92" not in options else OUTER[2]
    dst = "2001:cafe::88" if ":" in src else "1.1.2.88"
    key = pick(r, 5, 123, 123, 0x123456)
    layer3 = any("legacy_l3" in o for o in options) or "packet_type=ptap" in options and r.random() < 0.5
    type_ = 0x6558
    if layer3 and struct.unpack("!H", inner[12:14])[0] in (0x800, 0x86DD, 0x8847):
        type_, inner = struct.unpack("!H", inner[12:14])[0], inner[14:]
    if kind in ("gre", "ip6gre", "erspan"):
        flags = pick(r, 0, 0x2000, 0x2000, 0xA000, 0x3000)
        body = struct.pack("!HH", flags, type_)
        if kind == "erspan":
            body = struct.pack("!HHI", 0x1000, 0x88BE, 1) + struct.pack("!HHI", 0x1000, key & 0x3FF, 3)
        else:
            body += (b"\0\0\0\0" if flags & 0x8000 else b"") + (struct.pack("!I", key) if flags & 0x2000 else b"") + (b"\0\0\0\1" if flags & 0x1000 else b"")
        body += inner
        if flags & 0x8000 and kind != "erspan":
            body = body[:4] + struct.pack("!H", checksum(body)) + body[6:]
        proto = 47
    else:
        port = next((int(o[9:]) for o in options if o.startswith("dst_port=")), {"vxlan": 4789, "geneve": 6081}[kind])
        if kind == "vxlan" and "exts=gpe" in options:
            head = struct.pack("!BHBI", 0x0C, 0, {0x800: 1, 0x86DD: 2}.get(type_, 3), key << 8)
        elif kind == "vxlan":
            head = struct.pack("!BBHI", pick(r, 8, 8, 0x88, 0), 0, 9, key << 8)
        else:
            option = pick(r, b"", struct.pack("!HBBI", 0xFFFF, 0, 1, 0x12345678), struct.pack("!HBBII", 0xFFFF, 0x81, 2, 0, 1), struct.pack("!HBBI", 0x1234, pick(r, 0, 0x80), 1, 7))
            head = struct.pack("!BBHI", len(option) // 4, pick(r, 0, 0x80, 0x40), type_, key << 8) + option
        body = struct.pack("!HHHH", 40000, port, 8 + len(head) + len(inner), 0) + head + inner
        if ":" in src or r.random() < 0.2:
            body = summed(src, dst, 17, body, 6)
        proto = 17
    tos = pick(r, 0, 0, 3, 0x10)
    whole = ipv6(src, dst, proto, body) if ":" in src else ipv4(src, dst, proto, body, 64, b"", tos)
    return ethernet(mac, "aa:55:aa:55:00:00", 0x86DD if ":" in src else 0x800, whole)


class Talk:
    """Two ends that talk: packets in the order in which a connection has them, some of them wrong, late or missing."""

    def __init__(self, r, nat):
        six = not nat and r.random() < 0.25
        self.kind = pick(r, "tcp", "tcp", "udp", "icmp")
        self.macs = "50:54:00:00:00:01", "50:54:00:00:00:02"
        self.ends = ["fe80::1", "fe80::2"] if six else ["10.0.0.%d" % pick(r, 1, 2), "10.0.0.9"]
        self.ports = [pick(r, 1000, 1001, 5000), pick(r, 80, 53, 8080)]
        # What the far end sees of the two.
        self.seen, self.seen_ports = list(self.ends), list(self.ports)
        if "src=" in nat or "dst=" in nat:
            side = 0 if "src=" in nat else 1
            where, _, port = nat.rstrip(")").split("=")[1].partition(":")
            self.seen[side] = where
            if port and self.kind != "icmp":
                self.seen_ports[side] = int(port)
        self.seq = [1000, 900000]

    def packet(self, back, body, at, proto):
        src, dst = (self.seen[1], self.seen[0]) if back else self.ends
        macs = self.macs[::-1] if back else self.macs
        return packet(*macs, src, dst, proto, summed(src, dst, proto, body, at)), 2 if back else 1

    def tcp(self, back, flags, data=b""):
        ports = self.seen_ports[::-1] if back else self.ports
        seq, ack = self.seq[back], self.seq[not back] if flags & 0x10 else 0
        body = struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, 8000, 0, 0) + data
        self.seq[back] += len(data) + bool(flags & 3)
        return self.packet(back, body, 16, 6)

    def udp(self, back, data):
        ports = self.seen_ports[::-1] if back else self.ports
        return self.packet(back, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data, 6, 17)

    def icmp(self, back, reply):
        six = ":" in self.ends[0]
        body = struct.pack("!BBHHH", (129 if reply else 128) if six else (0 if reply else 8), 0, 0, 77, 1) + b"abcd"
        if six:
            return self.packet(back, body, 2, 58)
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        src, dst = (self.seen[1], self.seen[0]) if back else self.ends
        return packet(*(self.macs[::-1] if back else self.macs), src, dst, 1, body), 2 if back else 1

    def unreachable(self, frame):
        """A router at the far end cannot forward what it saw of a packet from here."""
        quoted = packet(*self.macs, self.seen[0], self.seen[1], frame[23], frame[34:])[14:]
        if self.kind != "icmp":
            quoted = quoted[:20] + struct.pack("!HH", *self.seen_ports) + quoted[24:]
        body = struct.pack("!BBHI", 3, 1, 0, 0) + quoted[:28]
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        return packet(*self.macs[::-1], "10.0.0.200", self.seen[0], 1, body), 2

    def packets(self, r):
        """[(bytes, port)]: the near end is at port 1, the far one at 2."""
        if self.kind == "tcp":
            out = [self.tcp(0, 2), self.tcp(1, 0x12), self.tcp(0, 0x10), self.tcp(0, 0x18, b"GET"), self.tcp(1, 0x18, b"data"), self.tcp(0, 0x10)]
            out += pick(r, [self.tcp(0, 0x11), self.tcp(1, 0x11), self.tcp(0, 0x10)], [self.tcp(1, 4)], [self.tcp(1, 0x14)], [])
        elif self.kind == "udp":
            out = [self.udp(0, b"question"), self.udp(1, b"answer"), self.udp(0, b"more"), self.udp(1, b"")]
        else:
            out = [self.icmp(0, False), self.icmp(1, True), self.icmp(0, False), self.icmp(1, False)]
        if ":" not in self.ends[0] and r.random() < 0.4:
            out.insert(pick(r, 1, 2, 3), self.unreachable(out[0][0]))
        change = r.random()
        if change < 0.15:
            del out[r.randrange(len(out))]
        elif change < 0.3:
            at = r.randrange(len(out) - 1)
            out[at], out[at + 1] = out[at + 1], out[at]
        elif change < 0.4:
            out.append(out[r.randrange(len(out))])
        elif change < 0.5:
            data, port = out[r.randrange(len(out))]
            at = r.randrange(34, len(data))
            out.append((data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1:], port))
        return out
