"""A learning switch for os-ken, as its tutorial has it, with what a careful controller asks for beside: a barrier before the first
flow is relied upon, statistics, and a note of every error. What it sees goes to standard output, one line each."""
import sys

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3


def say(*words):
    print(*words, flush=True)


class Learning(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    def add_flow(self, datapath, priority, match, actions, idle=0):
        proto, parser = datapath.ofproto, datapath.ofproto_parser
        instructions = [parser.OFPInstructionActions(proto.OFPIT_APPLY_ACTIONS, actions)]
        datapath.send_msg(parser.OFPFlowMod(
            datapath=datapath, priority=priority, match=match, instructions=instructions, idle_timeout=idle,
            flags=proto.OFPFF_SEND_FLOW_REM))

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def features(self, ev):
        datapath = ev.msg.datapath
        proto, parser = datapath.ofproto, datapath.ofproto_parser
        say("features", f"{ev.msg.datapath_id:016x}", ev.msg.n_tables)
        to_controller = [parser.OFPActionOutput(proto.OFPP_CONTROLLER, proto.OFPCML_NO_BUFFER)]
        self.add_flow(datapath, 0, parser.OFPMatch(), to_controller)
        datapath.send_msg(parser.OFPBarrierRequest(datapath))
        datapath.send_msg(parser.OFPPortDescStatsRequest(datapath, 0))
        datapath.send_msg(parser.OFPTableFeaturesStatsRequest(datapath, 0, []))
        datapath.send_msg(parser.OFPRoleRequest(datapath, proto.OFPCR_ROLE_MASTER, 1))

    @set_ev_cls(ofp_event.EventOFPBarrierReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def barrier(self, ev):
        say("barrier")

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def ports_told(self, ev):
        say("ports", *sorted(p.name.decode() for p in ev.msg.body))

    @set_ev_cls(ofp_event.EventOFPTableFeaturesStatsReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def tables_told(self, ev):
        say("tables", len(ev.msg.body), f"{len(ev.msg.body[0].properties)} properties")

    @set_ev_cls(ofp_event.EventOFPRoleReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def role_told(self, ev):
        say("role", ev.msg.role, ev.msg.generation_id)

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def flows_told(self, ev):
        say("flows", sum(1 for _ in ev.msg.body), sum(f.packet_count for f in ev.msg.body))

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def removed(self, ev):
        say("removed", ev.msg.priority, ev.msg.reason)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [HANDSHAKE_DISPATCHER, CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def error(self, ev):
        say("error", ev.msg.type, ev.msg.code)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, ev):
        msg = ev.msg
        datapath, in_port = msg.datapath, msg.match["in_port"]
        proto, parser = datapath.ofproto, datapath.ofproto_parser
        eth = packet.Packet(msg.data).get_protocol(ethernet.ethernet)
        known = self.ports.setdefault(datapath.id, {})
        known[eth.src] = in_port
        out = known.get(eth.dst, proto.OFPP_FLOOD)
        actions = [parser.OFPActionOutput(out)]
        if out != proto.OFPP_FLOOD:
            say("learned", eth.dst, out)
            match = parser.OFPMatch(in_port=in_port, eth_src=eth.src, eth_dst=eth.dst)
            self.add_flow(datapath, 1, match, actions, idle=30)
            datapath.send_msg(parser.OFPFlowStatsRequest(datapath))
        datapath.send_msg(parser.OFPPacketOut(
            datapath=datapath, buffer_id=proto.OFP_NO_BUFFER, in_port=in_port, actions=actions, data=msg.data))


if __name__ == "__main__":
    sys.exit("run it by osken-manager")
