//! What stock Open vSwitch offloads, the megaflows of our slow path let hardware have, too: where a golden case's megaflow is one that we
//! refuse, its OpenFlow rule and its packet give another here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, to panic is to speak")]

mod common;

use common::{Sandbox, wait_until};
use flow::action_text::{format_actions, parse_actions};
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::{DpPort, Megaflow, Ufid};
use offload::{Capabilities, PortKind, TunnelKind, decode, plan};
use std::sync::Arc;

/// The golden packet of `geneve_decap`: 10.8.0.2 to 10.8.0.1, key 42, no options.
const PACKET: &str = "0200000000f10200000000f208004500006800010000401166720a0800020a080001823517c1005400000000655800002a00\
                      02000000000102000000000208004500003600010000401166a20a0900020a09000103e807d000226a0566657272756c652d7061796c6f61642d30313233343536373839";

/// Stock's rule for `geneve_decap` leaves out the `geneve()` of its megaflow, "no options", and so takes in packets with options. Ours matches
/// options only where a rule does: its megaflow is that of stock's rule.
#[test]
fn a_geneve_rule_without_options_gives_a_megaflow_that_hardware_can_have() {
    let sandbox = Sandbox::new();
    sandbox.start("--embedded-db=own.db -vconsole:off --enable-dummy --disable-system --disable-system-route");
    sandbox.vsctl(
        "add-br br-phy -- set bridge br-phy datapath_type=dummy other-config:hwaddr=02:00:00:00:00:f1 \
         -- add-port br-phy up -- set interface up type=dummy ofport_request=1 \
         -- add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure \
         -- add-port br0 p1 -- set interface p1 type=dummy ofport_request=1 \
         -- add-port br0 gn0 -- set interface gn0 type=geneve options:remote_ip=10.8.0.2 options:key=flow ofport_request=12",
    );
    for words in [["netdev-dummy/ip4addr", "br-phy", "10.8.0.1/24"], ["ovs/route/add", "10.8.0.2/24", "br-phy"]] {
        sandbox.appctl(&words).unwrap();
    }
    sandbox.tool("ovs-ofctl", "add-flow br0 in_port=12,tun_id=42,actions=output:1");
    let mut dumped = String::new();
    wait_until("the megaflow behind the tunnel", || {
        sandbox.appctl(&["netdev-dummy/receive", "up", PACKET]).unwrap();
        dumped = sandbox.appctl(&["dpctl/dump-flows"]).unwrap();
        dumped.contains("tun_id=0x2a")
    });
    let line = dumped.lines().find(|l| l.contains("tun_id=0x2a")).unwrap();
    let (flow, rest) = line.split_once(", packets:").unwrap();
    let mut parsed = parse_flow(flow, &NoNames).unwrap_or_else(|e| panic!("{line}: {e:?}"));
    // The packet's key is whole, whatever of it is matched.
    parsed.key.tun_tp_dst = 6081u16.to_be_bytes();
    let actions = parse_actions(rest.split_once("actions:").unwrap().1, &NoNames).unwrap();
    let port: u32 = format_actions(&actions, &NoNames).parse().unwrap_or_else(|e| panic!("{line}: {e}"));
    assert_eq!(parsed.mask.tun_metadata_present, [0; 8], "{line}");
    let mut can = Capabilities::all();
    can.ports.insert(DpPort(u32::from_be_bytes(parsed.key.in_port)), PortKind::Tunnel(TunnelKind::Geneve));
    can.ports.insert(DpPort(port), PortKind::Switch(1));
    let flow = Megaflow { ufid: Ufid(1), key: parsed.key, mask: parsed.mask, actions: Arc::new(actions) };
    let planned = plan(&flow, &can).unwrap_or_else(|why| panic!("{line}: {why}"));
    assert_eq!(decode(&planned.rule).unwrap().key, planned.flow.key);
    let tunnel = planned.rule.tunnel.unwrap();
    assert_eq!((tunnel.id, tunnel.geneve), (Some(42), None), "as stock's rule");
}
