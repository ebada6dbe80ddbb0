"""os-ken's parsers on every kind of reply and of message that the switch sends by itself, in every version they know (all but 1.1).

decode.py SOCKET: the bridge must have flows, groups, meters and queues to tell of. A line for each message: version, name, how many it
tells of, or the error. A message that the parsers do not understand as a whole ends it."""
import json
import socket
import struct
import sys

from os_ken.ofproto import ofproto_parser, ofproto_protocol

HEADER = struct.Struct("!BBHI")
ONE_BUCKET = 3
HELLO, ERROR, ECHO_REQUEST = 0, 1, 2
MORE = 1
FRAME = bytes.fromhex("020000000002" "020000000001" "0800" "4500001c00000000401166cf0a0000010a000002" "0007000900080000")


class Switch:
    """A connection; `datapath` is what os-ken's messages want to know of it."""

    def __init__(self, path, version):
        self.version = version
        self.datapath = ofproto_protocol.ProtocolDesc(version)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.sendall(HEADER.pack(version, HELLO, 8, 1))
        self.xid = 100
        hello = self.receive()
        assert hello.msg_type == HELLO, hello

    def exactly(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            assert more, "the switch has closed the connection"
            data += more
        return data

    def raw(self):
        head = self.exactly(HEADER.size)
        version, kind, length, xid = HEADER.unpack(head)
        return version, kind, length, xid, head + self.exactly(length - HEADER.size)

    def receive(self):
        version, kind, length, xid, data = self.raw()
        assert kind == HELLO or version == self.version, (version, kind)
        # A hello has the highest version of its sender.
        message = ofproto_parser.msg(self.datapath, self.version, kind, length, xid, data)
        assert message is not None, f"1.{self.version - 1}: not understood: {data.hex()}"
        unknown(message.to_jsondict())
        return message

    def send(self, message):
        self.xid += 1
        message.set_xid(self.xid)
        message.serialize()
        self.socket.sendall(message.buf)
        return self.xid

    def ask(self, message):
        """The parts of the answer to a request."""
        xid = self.send(message)
        parts = []
        while True:
            answer = self.receive()
            if answer.xid != xid or answer.msg_type == ECHO_REQUEST:
                continue
            parts.append(answer)
            more = hasattr(answer, "body") and answer.flags & MORE
            if more and type(message).__name__ == "OFPTableFeaturesStatsRequest":
                # The parsers need a second for a dozen of tables.
                while struct.unpack_from("!H", self.raw()[4], 10)[0] & MORE:
                    pass
                more = False
            if not more:
                return parts

    def next_of(self, wanted):
        while True:
            message = self.receive()
            assert message.msg_type != ERROR, message
            if type(message).__name__ == wanted:
                return message


def unknown(value):
    """Nothing in a decoded message may be a part that the parser has no name for, but for Nicira's actions, of which it knows some."""
    if isinstance(value, dict):
        for key, inner in value.items():
            assert "Unknown" not in key or key == "NXActionUnknown", json.dumps(value)
            unknown(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            unknown(inner)


def everything(number, parser, proto, dp):
    """Names and messages: all that a version can ask for."""
    any_port = proto.OFPP_NONE if number == 0 else proto.OFPP_ANY
    match = parser.OFPMatch()
    yield "features", parser.OFPFeaturesRequest(dp)
    yield "config", parser.OFPGetConfigRequest(dp)
    yield "echo", parser.OFPEchoRequest(dp, data=b"echo")
    yield "barrier", parser.OFPBarrierRequest(dp)
    yield "desc", parser.OFPDescStatsRequest(dp, 0)
    yield "table", parser.OFPTableStatsRequest(dp, 0)
    yield "port", parser.OFPPortStatsRequest(dp, flags=0, port_no=any_port)
    yield "queue", parser.OFPQueueStatsRequest(
        dp, flags=0, port_no=proto.OFPP_ALL if number == 0 else any_port, queue_id=proto.OFPQ_ALL)
    if number == 0:
        yield "flow", parser.OFPFlowStatsRequest(dp, 0, match, 0xff, any_port)
        yield "aggregate", parser.OFPAggregateStatsRequest(dp, 0, match, 0xff, any_port)
        yield "nicira aggregate", parser.NXAggregateStatsRequest(dp, 0, any_port, 0xff)
    else:
        yield "flow", (getattr(parser, "OFPFlowDescStatsRequest", parser.OFPFlowStatsRequest))(dp, match=match)
        yield "aggregate", parser.OFPAggregateStatsRequest(
            dp, flags=0, table_id=proto.OFPTT_ALL, out_port=any_port, out_group=proto.OFPG_ANY, cookie=0, cookie_mask=0,
            match=match)
        yield "group", parser.OFPGroupStatsRequest(dp)
        # Of 1.5's buckets the parser understands the last one of a group.
        yield "group desc", parser.OFPGroupDescStatsRequest(dp, **({"group_id": ONE_BUCKET} if number >= 5 else {}))
        yield "group features", parser.OFPGroupFeaturesStatsRequest(dp)
        yield "role", parser.OFPRoleRequest(dp, role=proto.OFPCR_ROLE_EQUAL, generation_id=0)
    if number < 4:
        yield "queue config", parser.OFPQueueGetConfigRequest(dp, 1)
    names = []
    if number >= 3:
        names += ["MeterStats", "MeterConfigStats", "MeterDescStats", "MeterFeaturesStats", "PortDescStats"]
        yield "async", parser.OFPGetAsyncRequest(dp)
    if number >= 4:
        names += ["TableFeaturesStats", "TableDescStats", "QueueDescStats", "FlowMonitor"]
    if number >= 5:
        names += ["BundleFeaturesStats", "FlowStats", "ControllerStatusStats"]
    for name in names:
        request = getattr(parser, f"OFP{name}Request", None)
        # In 1.5 Open vSwitch, which its own tools follow, tells of meters' features as in 1.3.
        if request is None or (number, name) == (5, "MeterFeaturesStats"):
            continue
        if name == "FlowMonitor":
            flags = proto.OFPFMF_INITIAL | proto.OFPFMF_ADD | proto.OFPFMF_REMOVED | proto.OFPFMF_INSTRUCTIONS
            yield name, request(dp, monitor_id=7, monitor_flags=flags, match=match)
        elif name == "FlowStats":
            yield name, request(dp, match=match)
        else:
            yield name, request(dp)


def told(parts):
    """How much the parts of an answer tell of."""
    if parts[0].msg_type == ERROR:
        return f"error {parts[0].type} {parts[0].code}"
    bodies = [getattr(p, "body", None) for p in parts]
    return sum(len(b) if isinstance(b, list) else 1 for b in bodies)


def unasked(switch, number, parser, proto):
    """Makes the switch speak by itself: a packet-in, the end of a flow, a change of a port."""
    dp = switch.datapath
    # A connection that the controller made hears nothing before it says how much of a packet it wants.
    switch.send(parser.OFPSetConfig(dp, 0, 128))
    actions = [parser.OFPActionOutput(proto.OFPP_CONTROLLER, 128)]
    no_buffer = 0xffffffff
    switch.send(parser.OFPPacketOut(dp, buffer_id=no_buffer, in_port=1, actions=actions, data=FRAME) if number < 5 else
                parser.OFPPacketOut(dp, buffer_id=no_buffer, match=parser.OFPMatch(in_port=1), actions=actions, data=FRAME))
    packet = switch.next_of("OFPPacketIn")
    assert packet.data == FRAME, packet
    print(f"1.{number} packet-in {len(packet.data)}")
    flow = {"match": parser.OFPMatch(dl_vlan=77) if number == 0 else parser.OFPMatch(vlan_vid=0x1000 | 77), "priority": 9,
            "flags": proto.OFPFF_SEND_FLOW_REM}
    if number == 0:
        flow["actions"] = []
        remove = {"command": proto.OFPFC_DELETE_STRICT, "out_port": proto.OFPP_NONE}
    else:
        flow["instructions"] = []
        remove = {"command": proto.OFPFC_DELETE_STRICT, "out_port": proto.OFPP_ANY, "out_group": proto.OFPG_ANY}
    switch.send(parser.OFPFlowMod(dp, **flow))
    switch.send(parser.OFPFlowMod(dp, **{**flow, **remove}))
    removed = switch.next_of("OFPFlowRemoved")
    print(f"1.{number} flow-removed {removed.priority} {removed.reason}")


def main():
    for version in sorted(ofproto_protocol._versions):
        number = version - 1
        switch = Switch(sys.argv[1], version)
        proto, parser = switch.datapath.ofproto, switch.datapath.ofproto_parser
        for name, request in everything(number, parser, proto, switch.datapath):
            print(f"1.{number} {name} {told(switch.ask(request))}")
        unasked(switch, number, parser, proto)
        switch.socket.close()
    print("done")


main()
