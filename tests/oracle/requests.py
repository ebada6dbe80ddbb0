"""Random messages of OpenFlow that are neither flows nor packets: ports, groups' buckets, table features, meters, queues, monitors of flows,
who hears what, roles, bundles, requests in parts. Some of them have something wrong.

In: a random number generator. Out: a scene in text, as scenes.py has them. Steps `send NAME VERSION HEX` are messages of one of two
controllers, whose answers are compared byte for byte; `hear NAME` is what came to it without being asked. Neighbours: steps.py sends.
"""
import struct

import openflow as of
from generate import pick

NICIRA, ONF = 0x2320, 0x4F4E4600
ANY, ALL, NO_GROUP = 0xFFFFFFFF, 0xFFFFFFFC, 0xFFFFFFFF


def padded(data):
    return data + b"\0" * (-len(data) % 8)


def multipart(version, kind, body=b"", more=False):
    if version == 1:
        return of.header(1, 16, struct.pack("!HH", kind, more) + body)
    return of.header(version, 18, struct.pack("!HHI", kind, more, 0) + body)


def number(version, port):
    """A port's number as this version has it; of 16 bits there is the end."""
    return struct.pack("!H", port & 0xFFFF) if version == 1 else struct.pack("!I", port)


def properties(*pairs):
    return b"".join(padded(struct.pack("!HH", kind, 4 + len(body)) + body) for kind, body in pairs)


def match(version, port=None, type_=None):
    if version == 1:
        wild = 0x3FFFFF & ~(1 if port else 0) & ~(16 if type_ else 0)
        return struct.pack("!IH12sHBxHBBxxIIHH", wild, port or 0, b"", 0, 0, type_ or 0, 0, 0, 0, 0, 0, 0)
    fields = (struct.pack("!II", 0x80000004, port) if port else b"") + (struct.pack("!IH", 0x80000A02, type_) if type_ else b"")
    return padded(struct.pack("!HH", 1, 4 + len(fields)) + fields)


def output(version, port):
    if version == 1:
        return struct.pack("!HHHH", 0, 8, port & 0xFFFF, 0)
    return struct.pack("!HHIH6x", 0, 16, port, 0xFFFF)


def instructions(version, actions):
    return actions if version == 1 else struct.pack("!HHI", 4, 8 + len(actions), 0) + actions


def flow_mod(r, version, command=None):
    command = pick(r, 0, 0, 0, 1, 2, 3, 4) if command is None else command
    port, type_, out = pick(r, None, 1, 2), pick(r, None, 0x800, 0x806, 0x1234), pick(r, 1, 2, 3, 0xFFFFFFFD)
    flags, priority = pick(r, 0, 1, 1, 2, 3), pick(r, 10, 20, 30)
    does = instructions(version, output(version, out)) if command < 3 else b""
    if version == 1:
        return of.header(1, 14, match(1, port, type_) + struct.pack("!QHHHHIHH", number64(r), command, 0, 0, priority, 0xFFFFFFFF, 0xFFFF, flags & 3) + does)
    return of.header(version, 14, struct.pack("!QQBBHHHIIIHH", number64(r), 0, pick(r, 0, 0, 1), command, 0, 0, priority, 0xFFFFFFFF, ANY, NO_GROUP, flags,
                                              pick(r, 0, 0, 5) if version > 4 else 0) + match(version, port, type_) + does)


def number64(r):
    return pick(r, 0, 1, 2, 5)


def port_mod(r, version):
    port, config, mask = pick(r, 1, 2, 9, 0xFFFFFFFE), pick(r, 0, 1, 4, 0x20, 0x40, 0x65), pick(r, 0, 1, 4, 0x20, 0x25, 0x65, 0xFFFFFFFF)
    mac = bytes.fromhex("50540000010%d" % (port % 8)) if r.random() < 0.8 else bytes(6)
    advertise = pick(r, 0, 0, 0x20, 0xFFFF)
    if version == 1:
        return of.header(1, 15, number(1, port) + mac + struct.pack("!III4x", config, mask, advertise))
    if version < 5:
        return of.header(version, 16, struct.pack("!I4x6s2xIII4x", port, mac, config, mask, advertise))
    props = r.sample([(0, struct.pack("!I", advertise)), (0, struct.pack("!I", 0x40)), (1, struct.pack("!IIIIII", 0, 1, 2, 3, 4, 5)), (0, b""), (7, b"abcd"),
                      (0xFFFF, struct.pack("!II", NICIRA, 1)), (0, b"12345678")], pick(r, 0, 0, 1, 1, 2))
    return of.header(version, 16, struct.pack("!I4x6s2xII", port, mac, config, mask) + properties(*props))


def bucket(r, version, kind, number_):
    actions = b"".join(output(version, pick(r, 1, 2, 3)) for _ in range(pick(r, 0, 1, 2)))
    watch = pick(r, 1, 2, ANY) if kind == 3 else ANY
    if version < 6:
        return struct.pack("!HHII4x", 16 + len(actions), pick(r, 1, 5) if kind == 1 else 0, watch, ANY) + actions
    props = [(0, struct.pack("!H2x", pick(r, 1, 3)))] * (kind == 1) + [(1, struct.pack("!I", watch))] * (kind == 3)
    if r.random() < 0.08:
        props.append(pick(r, (0xFFFF, struct.pack("!II", NICIRA, 1)), (9, b"abcd"), (0, b"")))
    data = properties(*props)
    return struct.pack("!HHI", 8 + len(actions) + len(data), len(actions), number_) + actions + data


def group_mod(r, version):
    group, kind = pick(r, 1, 1, 2, 3), pick(r, 0, 0, 1, 3, 2, 5)
    command = pick(r, 0, 0, 1, 2, *([3, 3, 5, 5, 4] if version == 6 else []))
    buckets = b"".join(bucket(r, version, kind, pick(r, n, n, n, 7)) for n in range(pick(r, 0, 1, 1, 2, 3)))
    if command in (2, 5):
        buckets = pick(r, b"", b"", b"", buckets)
        group = pick(r, group, group, 9, ALL)
    if version < 6:
        return of.header(version, 15, struct.pack("!HBBI", command, kind, 0, group) + buckets)
    where = pick(r, 0xFFFFFF00 + 0xFF, ALL + 1, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF, 0, 1, 7, 5)
    method = pick(r, "hash", "dp_hash", "nothing").encode().ljust(16, b"\0")
    props = pick(r, b"", b"", properties((0xFFFF, struct.pack("!II4x16sQ", NICIRA, 1, method, 0))) if kind == 1 else b"", properties((3, b"abcd")) if r.random() < 0.1 else b"")
    return of.header(6, 15, struct.pack("!HBBIHHI", command, kind, 0, group, len(buckets), 0, where) + buckets + props)


def feature_properties(r, version):
    """Properties of a table's features, right, wrong or few."""
    to = bytes(n for n in range(1, 10))
    every = [(0, b"".join(struct.pack("!HH", n, 4) for n in (1, 2, 3, 4, 5))), (2, to), (4, struct.pack("!HH", 0, 4)), (6, struct.pack("!HH", 0, 4)),
             (8, struct.pack("!II", 0x80000004, 0x80000A02)), (10, struct.pack("!I", 0x80000A02)), (12, struct.pack("!I", 0x80000606)), (14, struct.pack("!I", 0x80000606))]
    if r.random() < 0.5:
        every = [(kind, pick(r, body, body, body, body[:-1], body + b"\xFF\xFF\xFF\xFF", b"")) for kind, body in every if r.random() < 0.9]
    if r.random() < 0.2:
        every.append(pick(r, (1, b""), (3, b"\x05"), (0xFFFE, struct.pack("!II", NICIRA, 1)), (0x33, b"abcd"), (16, struct.pack("!I", 0x80000004))))
    return properties(*every)


def table_features(r, version):
    many = b""
    for table in r.sample(range(12), pick(r, 0, 0, 0, 1, 1, 2)):
        props = feature_properties(r, version)
        name = pick(r, b"first", b"second", b"x" * 32)
        capabilities = pick(r, 0, 1, 2, 5) if version > 4 else pick(r, 0, 3)
        entry = struct.pack("!B%s32sQQII" % ("B2xxx" if version == 6 else "5x"), table, *([pick(r, 0, 1, 2, 3)] if version == 6 else []), name, pick(r, 0, 2 ** 64 - 1), 0,
                            capabilities, pick(r, 0, 100, 1000000)) + props
        many += struct.pack("!H", 2 + len(entry)) + entry
    return multipart(version, 12, many)


def table_mod(r, version):
    body = struct.pack("!B3xI", pick(r, 0, 1, 255, 254), pick(r, 0, 3, 1, 2, 4, 8, 12))
    if version > 4:
        body += properties(*r.sample([(2, struct.pack("!I", pick(r, 1, 2, 4, 7))), (3, struct.pack("!BB2x", 10, 90)), (3, struct.pack("!BB2x", 90, 10)), (9, b"abcd"), (2, b"")],
                                     pick(r, 0, 0, 1, 1, 2)))
    return of.header(version, 17, body)


def meter_mod(r, version):
    bands = b"".join(pick(r, struct.pack("!HHII4x", 1, 16, pick(r, 0, 1, 1000), pick(r, 0, 5)), struct.pack("!HHIII", 0xFFFF, 16, 1, 2, NICIRA))
                     for _ in range(pick(r, 0, 1, 1, 1, 2)))
    return of.header(version, 29, struct.pack("!HHI", pick(r, 0, 0, 1, 2, 3), pick(r, 1, 2, 5, 9, 13, 6, 3, 15), pick(r, 1, 2, 3, 0, 0xFFFFFFFF, 0xFFFFFFFE)) + bands)


def asks(r, version):
    """Multipart requests."""
    port = pick(r, 1, 2, 99, 0xFFFFFFFE, 0xFFFFFFFF)
    queue = pick(r, 0, 1, 0xFFFFFFFF)
    kinds = [(0, b""), (3, b""), (0, b"1234"), (4, number(version, port) + (b"\0" * 6 if version == 1 else b"\0" * 4)), (77, b""),
             (5, struct.pack("!HHI", port & 0xFFFF, 0, queue) if version == 1 else struct.pack("!II", port, queue)), (0xFFFF, struct.pack("!II", 0x12345, 5))]
    if version > 1:
        kinds += [(6, struct.pack("!I4x", pick(r, 1, 2, 9, ALL))), (7, b"" if version < 6 else struct.pack("!I4x", pick(r, 1, 2, 9, ALL))), (8, b"")]
        every = struct.pack("!B3xII4xQQ", pick(r, 0, 255), ANY, NO_GROUP, 0, 0) + match(version, pick(r, None, 1))
        kinds += [(1, every), (2, every)]
    else:
        kinds += [(n, match(1, pick(r, None, 1)) + struct.pack("!BBH", 255, 0, 0xFFFF)) for n in (1, 2)]
    if version >= 4:
        kinds += [(n, struct.pack("!I4x", pick(r, 1, 2, 9, ANY, 0xFFFFFFFD))) for n in (9, 10)] + [(11, b""), (11, b"1234"), (9, b"")]
    kinds.append((13, b"" if version < 6 else struct.pack("!I4x", port)))
    if version > 4:
        kinds += [(14, b""), (15, struct.pack("!II", port, queue))]
    if version == 6:
        kinds += [(17, every), (18, b""), (19, b"")]
    kind, body = r.choice(kinds)
    parts = [multipart(version, kind, body)]
    if r.random() < 0.25:
        # A request in parts; sometimes they do not belong together, or the last is missing.
        parts = [multipart(version, kind, pick(r, b"", body), True), multipart(pick(r, version, version), pick(r, kind, kind, 3), pick(r, body, body, b""), r.random() < 0.1)]
    return parts


def queue_config(r, version):
    if version == 1:
        return of.header(1, 20, struct.pack("!H2x", pick(r, 1, 2, 99, 0xFFFE, 0xFFFF)))
    return of.header(version, 22, struct.pack("!I4x", pick(r, 1, 2, 99, 0xFFFFFFFF)))


def monitor(r, version):
    """A monitor of flows: Nicira's up to 1.3, of ONF in 1.3, of its own from 1.4 on."""
    id_, table, out = pick(r, 1, 1, 2), pick(r, 0, 255, 1), pick(r, ANY, ANY, 2)
    if version >= 5:
        one = lambda: struct.pack("!IIIHBB", id_, out, NO_GROUP, pick(r, 0x1F, 7, 0x3F, 0x0F, 0xFFFF, 4, 0x27), table, pick(r, 0, 0, 0, 1, 2, 3)) + match(version, pick(r, None, 1))
        return multipart(version, 16, b"".join(one() for _ in range(pick(r, 1, 1, 2))))
    oxm = pick(r, b"", struct.pack("!IH", 0x00000002, 1))
    if version == 4 and r.random() < 0.4:
        return multipart(4, 0xFFFF, struct.pack("!IIIHH", ONF, 1870, id_, pick(r, 0x1F, 7, 0x3F), 4) + struct.pack("!IBx2x", out, table) + match(4, pick(r, None, 1)))
    body = struct.pack("!IHHHB5x", id_, pick(r, 0x1F, 7, 0x3F, 0xFFFF), out & 0xFFFF, len(oxm), table) + padded(oxm)
    return multipart(version, 0xFFFF, struct.pack("!II", NICIRA, 2) + body)


def cancel(r, version):
    return of.header(version, 4, struct.pack("!III", NICIRA, 22, pick(r, 1, 2, 9)))


def hearing(r, version):
    """Who hears what."""
    if version in (4, 5, 6) and r.random() < 0.6:
        if version == 4:
            return pick(r, of.header(4, 28, struct.pack("!IIIIII", *(pick(r, 0, 1, 7, 0xF, 0xFFFFFFFF) for _ in range(6)))), of.header(4, 26), of.header(4, 28, b"1234"))
        props = [(n, struct.pack("!I", pick(r, 0, 1, 7, 0xF, 0x3F, 0xFFFFFFFF))) for n in r.sample(range(14), pick(r, 0, 1, 2, 5))]
        if r.random() < 0.15:
            props.append(pick(r, (0xFFFF, struct.pack("!II", NICIRA, 1)), (0xFFFE, struct.pack("!II", NICIRA, 0)), (20, b"abcd"), (0, b"")))
        return pick(r, of.header(version, 28, properties(*props)), of.header(version, 28, properties(*props)), of.header(version, 26))
    if r.random() < 0.4:
        return of.header(version, 4, struct.pack("!II", NICIRA, 27) + properties(*[(n, struct.pack("!I", pick(r, 0, 7, 0x3F))) for n in r.sample(range(14), 2)]))
    return of.header(version, 4, struct.pack("!IIIIIIII", NICIRA, 19, *(pick(r, 0, 7, 0xFFFFFFFF) for _ in range(6))))


def role(r, version):
    if version < 3 or r.random() < 0.3:
        return of.header(version, 4, struct.pack("!III", NICIRA, 10, pick(r, 0, 1, 2, 3)))
    return of.header(version, 24, struct.pack("!I4xQ", pick(r, 0, 1, 2, 2, 3, 3, 4), pick(r, 0, 1, 2, 3, 2 ** 64 - 1)))


def bundle(r, version):
    """Messages that are all or none; or something that no bundle takes."""
    type_ = 33 if version > 4 else 4
    head = b"" if version > 4 else struct.pack("!II", ONF, 2300)
    control = lambda id_, kind, flags: of.header(version, type_, head + struct.pack("!IHH", id_, kind, flags))

    def add(id_, flags, message):
        if version > 4:
            return of.header(version, 34, struct.pack("!I2xH", id_, flags) + message)
        return of.header(version, 4, struct.pack("!III2xH", ONF, 2301, id_, flags) + message)
    id_, flags = pick(r, 1, 2), pick(r, 1, 2, 3, 3, 0)
    out = [control(id_, 0, flags)]
    for _ in range(pick(r, 1, 2, 3, 4)):
        inner = r.choice([flow_mod, flow_mod, flow_mod, group_mod, port_mod, meter_mod, role, packet_out, table_mod])(r, version)
        inner = r.choice([inner, inner, inner, inner, inner, inner, inner, inner[:1] + bytes([20]) + inner[2:], bytes([pick(r, 1, 4, 5)]) + inner[1:]])
        out.append(add(pick(r, id_, id_, id_, id_, 9), pick(r, flags, flags, flags, flags, 1), inner))
    out += pick(r, [control(id_, 4, flags)], [control(id_, 4, flags)], [control(id_, 2, flags), control(id_, 4, flags)], [control(id_, 6, flags)],
                [control(id_, 4, pick(r, 0, 1, 2))], [control(id_, 2, flags), add(id_, flags, flow_mod(r, version, 0)), control(id_, 4, flags)],
                [control(id_, 0, flags), control(id_, 4, flags)], [control(id_, pick(r, 1, 7, 8), flags), control(id_, 6, flags)], [])
    return out


def packet_out(r, version):
    data = bytes.fromhex("505400000001505400000002080045000014000000004000660a0a0000010a000002")
    acts = output(version, pick(r, 1, 2, 3, 0xFFFFFFFB))
    buffer_ = pick(r, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 5)
    if version == 1:
        return of.header(1, 13, struct.pack("!IHH", buffer_, pick(r, 1, 0xFFFD, 0xFFFF), len(acts)) + acts + data)
    if version == 6:
        return of.header(6, 13, struct.pack("!IHH", buffer_, len(acts), 0) + match(6, pick(r, 1, 2, 0xFFFFFFFD)) + acts + data)
    return of.header(version, 13, struct.pack("!IIH6x", buffer_, pick(r, 1, 0xFFFFFFFD, 0xFFFFFFFF), len(acts)) + acts + data)


def plain(r, version):
    """Short ones: features, configuration, an echo, what no switch takes."""
    return pick(r, of.header(version, 5), of.header(version, 7), of.header(version, 9, struct.pack("!HH", pick(r, 0, 1, 2, 3, 9), pick(r, 0, 128, 0xFFFF))), of.header(version, 2, b"ping"),
                of.header(version, pick(r, 6, 10, 11, 12, 35, 99)), of.header(version, 5, b"1234"), of.header(version, 4, struct.pack("!II", pick(r, NICIRA, ONF, 0x99), pick(r, 0, 11, 99))),
                of.header(version, 4, struct.pack("!IIB7x", NICIRA, 15, pick(r, 0, 1, 2))), of.header(version, 4, struct.pack("!III", NICIRA, 16, pick(r, 0, 1, 2, 3))),
                of.header(version, 4, struct.pack("!II6xH", NICIRA, 20, pick(r, 0, 5))), of.header(version, 4, struct.pack("!II", NICIRA, 25)), of.header(version, pick(r, 3, 5), b""))


KINDS = {1: [port_mod, flow_mod, flow_mod, asks, asks, queue_config, monitor, cancel, hearing, role, plain, packet_out]}
KINDS[4] = KINDS[1] + [group_mod, table_features, table_mod, meter_mod, bundle, group_mod]
KINDS[5] = KINDS[4] + [bundle]
KINDS[6] = KINDS[5] + [group_mod] * 3


def messages(r):
    versions = {"a": pick(r, 1, 4, 5, 6), "b": pick(r, 4, 5, 6)}
    steps = ["vsctl set bridge br0 other-config:hwaddr=02:00:00:00:00:77", "devices br0 1 2 3"]
    steps += ["send %s %d %s" % (name, version, of.header(version, 9, struct.pack("!HH", 0, 0xFFFF)).hex()) for name, version in versions.items()]
    for _ in range(28):
        name = pick(r, "a", "b")
        version = versions[name]
        made = r.choice(KINDS[version])(r, version)
        for message in made if isinstance(made, list) else [made]:
            if r.random() < 0.05:
                message = of.mutated(r, message)
            steps.append("send %s %d %s" % (name, version, message.hex()))
        if r.random() < 0.3:
            steps += ["hear a", "hear b"]
        if r.random() < 0.05:
            steps.append(pick(r, "vsctl del-port p3", "appctl netdev-dummy/set-admin-state p2 down", "appctl netdev-dummy/set-admin-state p2 up", "warp 5000",
                              "vsctl set port p1 qos=@q -- --id=@q create qos type=linux-htb queues:1=@k -- --id=@k create queue other_config:max-rate=1000000"))
    return steps + ["hear a", "hear b", "ofctl -OOpenFlow15 dump-groups br0", "ofctl -OOpenFlow13 dump-meters br0", "ofctl -OOpenFlow15 dump-table-features br0",
                    "ofctl -OOpenFlow14 dump-tables-desc br0", "ofctl show br0"] + ["appctl bridge/dump-flows br0"]
