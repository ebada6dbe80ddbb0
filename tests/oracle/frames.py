"""Frames that protocols are made of: multicast membership, spanning trees, tunnels, connections in the order of their packets.

In: addresses in text, numbers. Out: bytes from the Ethernet header on. Neighbours: scenes.py chooses what is sent, generate.py has the
packets of random tables.
"""
import re
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


def plainly_summed(body):
    """A message of ICMP or IGMP, whose checksum is its second word and is over nothing else."""
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


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
    body = plainly_summed(body)
    dst = {0x11: "224.0.0.1", 0x17: "224.0.0.2"}.get(kind, group)
    return ethernet(src_mac, group_mac(dst), 0x800, ipv4(src, dst, 2, body, 1, b"\x94\x04\0\0"), tags)


def igmp3(src_mac, src, records, tags=()):
    body = struct.pack("!BBHHH", 0x22, 0, 0, 0, len(records))
    for kind, group, sources in records:
        body += struct.pack("!BBH", kind, 0, len(sources)) + address(group) + b"".join(map(address, sources))
    body = plainly_summed(body)
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


def router(end):
    return "fe80::200" if ":" in end else "10.0.0.200"


def error(src, dst, quoted):
    """An ICMP or ICMPv6 error that quotes all of a packet: its host, or its address, cannot be reached. Of TCP that is cut short OVS 3.1 writes
    the checksum behind the packet's end, and may end."""
    if ":" in src:
        return summed(src, dst, 58, struct.pack("!BBHI", 1, 3, 0, 0) + quoted, 2)
    return plainly_summed(struct.pack("!BBHI", 3, 1, 0, 0) + quoted)


def address_text(data):
    return socket.inet_ntop(socket.AF_INET6 if len(data) == 16 else socket.AF_INET, data)


def parts(data):
    """(address family's size, source, destination, protocol, where its body is) of a packet without tags, options or fragments; None of others."""
    if data[12:14] == b"\x08\0" and data[14] == 0x45:
        return 4, data[26:30], data[30:34], data[23], 34
    if data[12:14] == b"\x86\xdd":
        return 16, data[22:38], data[38:54], data[20], 54
    return None


CHECKSUMS = {1: 2, 6: 16, 17: 6, 58: 2}


def turned(data, how):
    """What comes back for a packet: `plain` is an answer, `reset` one of TCP, `error` what a router says that cannot forward it, `data=HEX` an answer
    that says that. None of what has no answer."""
    found = parts(data)
    if found is None or found[3] not in CHECKSUMS:
        return None
    size, src, dst, proto, at = found
    src, dst = address_text(src), address_text(dst)
    macs = ":".join("%02x" % b for b in data[:6]), ":".join("%02x" % b for b in data[6:12])
    if how == "error":
        return packet(*macs, router(src), src, 58 if size == 16 else 1, error(router(src), src, data[14:]))
    body = data[at:]
    said = bytes.fromhex(how[5:]) if how.startswith("data=") else b""
    if proto in (1, 58):
        body = bytes([{8: 0, 128: 129}.get(body[0], body[0])]) + body[1:2] + b"\0\0" + body[4:]
        if proto == 1:
            return packet(*macs, dst, src, 1, plainly_summed(body))
    elif proto == 17:
        body = body[2:4] + body[:2] + struct.pack("!HH", 8 + len(said), 0) + said
    else:
        seq, ack, length, flags = struct.unpack("!IIBB", body[4:14])
        ack_of = seq + len(body) - (length >> 4) * 4 + bool(flags & 3)
        flags = 0x14 if how == "reset" else 0x12 if flags & 2 else 0x18 if said else 0x10
        body = body[2:4] + body[:2] + struct.pack("!IIBBHHH", ack if ack else 900000, ack_of, 0x50, flags, 8000, 0, 0) + said
    return packet(*macs, dst, src, proto, summed(dst, src, proto, body[:CHECKSUMS[proto]] + b"\0\0" + body[CHECKSUMS[proto] + 2:], CHECKSUMS[proto]))


def ranged(range_):
    """A range of NAT's as bytes and numbers: its first and last address, its first and last port."""
    head, _, ports = range_.lstrip("[").partition("]:" if "[" in range_ else ":" if "." in range_ else "none")
    low, _, high = head.rstrip("]").partition("-")
    first, _, last = ports.partition("-")
    return address(low), address(high or low), int(first or 0), int(last or first or 0)


def masked(data, range_):
    """A packet, with the checksum told right or wrong, and without addresses and ports of a range; those of quoted packets, too."""
    low, high, first, last = ranged(range_)
    found = parts(data)
    if found is None or found[3] not in CHECKSUMS:
        return data.hex()
    size, src, dst, proto, at = found
    sum_at = at + CHECKSUMS[proto]
    pseudo = b"" if proto == 1 else src + dst + (struct.pack("!II", len(data) - at, proto) if size == 16 else struct.pack("!BBH", 0, proto, len(data) - at))
    right = checksum(pseudo + data[at:]) == 0 and (size == 16 or checksum(data[14:34]) == 0)
    data = bytearray(data)
    data[sum_at:sum_at + 2] = b"\0\0"

    def hide(at, inner):
        head = 40 if size == 16 else 20
        if size == 4:
            data[at + 10:at + 12] = b"\0\0"
        hidden = []
        for n in (0, 1):
            where = at + (8 if size == 16 else 12) + n * size
            hidden.append(low <= bytes(data[where:where + size]) <= high)
            if hidden[n]:
                data[where:where + size] = b"*" * size
        for n in (0, 1):
            where = at + head + 2 * n
            if len(data) >= where + 2 and hidden[n] and first and proto_of(at) in (6, 17) and first <= struct.unpack("!H", data[where:where + 2])[0] <= last:
                data[where:where + 2] = b"**"
        if inner and proto in (1, 58) and data[at + head] in (1, 3):
            # OVS leaves checksums in what is quoted as they come, or wrong.
            quoted = at + head + 8
            hide(quoted, False)
            sum_at = quoted + head + CHECKSUMS.get(proto_of(quoted), 0)
            data[sum_at:sum_at + 2] = b"\0\0"
    proto_of = lambda at: data[at + 6] if size == 16 else data[at + 9]
    hide(14, True)
    return ("right " if right else "wrong ") + bytes(data).hex()


def masked_text(text, range_):
    """What is told of connections without addresses of a range and the ports that stand with them."""
    low, high, first, last = ranged(range_)

    def hide(match):
        tuple_ = match.group(0)
        for a, p in (("src", "sport"), ("dst", "dport")):
            told = re.search(a + r"=([^,]*)", tuple_)
            try:
                where = address(told.group(1))
            except (AttributeError, OSError):
                continue
            if len(where) == len(low) and low <= where <= high:
                tuple_ = tuple_.replace("%s=%s," % (a, told.group(1)), a + "=*,")
                if first:
                    tuple_ = re.sub(p + r"=\d+", p + "=*", tuple_)
        return tuple_
    return re.sub(r"\([^()]*\)", hide, text)


class Talk:
    """Two ends that talk: packets in the order in which a connection has them, some of them wrong, late or missing."""

    def __init__(self, r, nat):
        six = r.random() < 0.25 if not nat else "2001" in nat
        self.kind = pick(r, "tcp", "tcp", "udp", "icmp")
        self.macs = "50:54:00:00:00:01", "50:54:00:00:00:02"
        self.ends = ["fe80::%d" % pick(r, 1, 2), "fe80::9"] if six else ["10.0.0.%d" % pick(r, 1, 2), "10.0.0.9"]
        self.ports = [pick(r, 1000, 1001, 5000), pick(r, 80, 53, 8080)]
        # What the far end sees of the two.
        self.seen, self.seen_ports = list(self.ends), list(self.ports)
        if "src=" in nat or "dst=" in nat:
            side = 0 if "src=" in nat else 1
            where = nat.rstrip(")").split("=")[1]
            where, _, port = where.lstrip("[").partition("]:" if "[" in where else ":" if not six else "none")
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
        body = plainly_summed(body)
        src, dst = (self.seen[1], self.seen[0]) if back else self.ends
        return packet(*(self.macs[::-1] if back else self.macs), src, dst, 1, body), 2 if back else 1

    def unreachable(self, frame):
        """A router at the far end cannot forward what it saw of a packet from here."""
        six = ":" in self.ends[0]
        at = 54 if six else 34
        quoted = packet(*self.macs, self.seen[0], self.seen[1], frame[20] if six else frame[23], frame[at:])[14:]
        at -= 14
        if self.kind != "icmp":
            quoted = quoted[:at] + struct.pack("!HH", *self.seen_ports) + quoted[at + 4:]
        return packet(*self.macs[::-1], router(self.seen[0]), self.seen[0], 58 if six else 1, error(router(self.seen[0]), self.seen[0], quoted)), 2

    def packets(self, r):
        """[(bytes, port)]: the near end is at port 1, the far one at 2."""
        if self.kind == "tcp":
            out = [self.tcp(0, 2), self.tcp(1, 0x12), self.tcp(0, 0x10), self.tcp(0, 0x18, b"GET"), self.tcp(1, 0x18, b"data"), self.tcp(0, 0x10)]
            out += pick(r, [self.tcp(0, 0x11), self.tcp(1, 0x11), self.tcp(0, 0x10)], [self.tcp(1, 4)], [self.tcp(1, 0x14)], [])
        elif self.kind == "udp":
            out = [self.udp(0, b"question"), self.udp(1, b"answer"), self.udp(0, b"more"), self.udp(1, b"")]
        else:
            out = [self.icmp(0, False), self.icmp(1, True), self.icmp(0, False), self.icmp(1, False)]
        # Where the destination was another over IPv6, OVS 3.1 writes over the addresses that an error quotes.
        if r.random() < 0.4 and not (":" in self.ends[0] and self.seen[1] != self.ends[1]):
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
