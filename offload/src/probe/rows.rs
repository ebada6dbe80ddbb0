//! The questions: for each thing that hardware may lack, the smallest megaflow that asks for it and that a driver ought to take.
//!
//! What enters: which devices there are to ask with. What leaves: rules. Neighbours: `plan` (which makes the rules, so that they are such as
//! megaflows get), `tc::probe`.
//!
//! Every rule matches an Ethernet address that nobody has (locally administered, "FRRL"), or a tunnel between addresses that are for
//! documentation only (RFC 5737), so that no packet meets it in the moment in which it stands.

use super::{Feature, Thing};
use crate::capabilities::{Capabilities, PortKind, TunnelKind};
use crate::keys::FlowerKey;
use crate::plan::plan;
use crate::rule::{Act, Rule};
use crate::tc::{Devices, Hook};
use flow::action_text::parse_actions;
use flow::dptext::parse_flow;
use flow::forms::NoNames;
use flow::{DpPort, Megaflow, Ufid};
use std::sync::Arc;

/// The devices that the questions name, by interface index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bench {
    /// The port that is asked, number 1.
    pub port: Option<u32>,
    /// Others of its switch, numbers 2 and 3.
    pub peers: [Option<u32>; 2],
    /// The block that stands for the port, and how many devices share it.
    pub block: Option<(u32, u32)>,
    /// Devices of tunnels: VXLAN is number 4, Geneve number 5. Without a port they are those that are asked.
    pub vxlan: Option<u32>,
    pub geneve: Option<u32>,
}

impl Devices for Bench {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        match port.0 {
            1 => self.port,
            2 => self.peers[0],
            3 => self.peers[1],
            4 => self.vxlan,
            5 => self.geneve,
            _ => None,
        }
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        (1..=5).map(DpPort).find(|port| self.ifindex(*port) == Some(ifindex))
    }

    fn hook(&self, port: DpPort) -> Option<Hook> {
        match self.block {
            Some((number, _)) if port == DpPort(1) => Some(Hook::Block { number }),
            _ => self.ifindex(port).map(|ifindex| Hook::Ingress { ifindex }),
        }
    }

    fn width(&self, port: DpPort) -> u32 {
        self.block.filter(|_| port == DpPort(1)).map_or(1, |(_, width)| width)
    }
}

use FlowerKey as K;
use Thing as T;

/// What is asked for, of which port, the match (behind the Ethernet address) and the actions. The first row of a port asks for nothing but a
/// rule that sends packets on: whoever does not take that says nothing about the rest.
type Row = (Option<Feature>, u32, &'static str, &'static str);

const fn key(key: FlowerKey, flow: &'static str) -> Row {
    (Some(Feature::Key(key)), 1, flow, "2")
}

const fn form(thing: Thing, flow: &'static str) -> Row {
    (Some(Feature::Thing(thing)), 1, flow, "2")
}

const fn act(thing: Thing, flow: &'static str, actions: &'static str) -> Row {
    (Some(Feature::Thing(thing)), 1, flow, actions)
}

const fn outer(feature: Feature, port: u32, flow: &'static str) -> Row {
    (Some(feature), port, flow, "2")
}

/// A protocol for experiments (IEEE 802), IPv4 and IPv6, TCP and UDP over IPv4.
const OTHER: &str = "eth_type(0x88b5)";
const IP: &str = "eth_type(0x0800),ipv4(frag=no)";
const TCP: &str = "eth_type(0x0800),ipv4(proto=6,frag=no)";
const UDP: &str = "eth_type(0x0800),ipv4(proto=17,frag=no)";

static ROWS: &[Row] = &[
    (None, 1, OTHER, "2"),
    (Some(Feature::Key(K::EthSrc)), 1, "eth(src=02:46:52:52:4c:02,dst=02:46:52:52:4c:01),eth_type(0x88b5)", "2"),
    key(K::IpProto, "eth_type(0x0800),ipv4(proto=17)"),
    key(K::Ipv4Src, "eth_type(0x0800),ipv4(src=192.0.2.1)"),
    key(K::Ipv4Dst, "eth_type(0x0800),ipv4(dst=192.0.2.2)"),
    key(K::Ipv6Src, "eth_type(0x86dd),ipv6(src=2001:db8::1)"),
    key(K::Ipv6Dst, "eth_type(0x86dd),ipv6(dst=2001:db8::2)"),
    key(K::TcpSrc, "eth_type(0x0800),ipv4(proto=6,frag=no),tcp(src=7)"),
    key(K::TcpDst, "eth_type(0x0800),ipv4(proto=6,frag=no),tcp(dst=7)"),
    key(K::UdpSrc, "eth_type(0x0800),ipv4(proto=17,frag=no),udp(src=7)"),
    key(K::UdpDst, "eth_type(0x0800),ipv4(proto=17,frag=no),udp(dst=7)"),
    key(K::SctpSrc, "eth_type(0x0800),ipv4(proto=132,frag=no),sctp(src=7)"),
    key(K::SctpDst, "eth_type(0x0800),ipv4(proto=132,frag=no),sctp(dst=7)"),
    key(K::TcpFlags, "eth_type(0x0800),ipv4(proto=6,frag=no),tcp_flags(0x2/0x2)"),
    key(K::IpTos, "eth_type(0x0800),ipv4(tos=0x20/0xfc)"),
    key(K::IpTtl, "eth_type(0x0800),ipv4(ttl=64)"),
    key(K::Icmpv4Type, "eth_type(0x0800),ipv4(proto=1,frag=no),icmp(type=8)"),
    key(K::Icmpv4Code, "eth_type(0x0800),ipv4(proto=1,frag=no),icmp(code=1)"),
    key(K::Icmpv6Type, "eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=128)"),
    key(K::Icmpv6Code, "eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(code=1)"),
    key(K::ArpSip, "eth_type(0x0806),arp(sip=192.0.2.1)"),
    key(K::ArpTip, "eth_type(0x0806),arp(tip=192.0.2.2)"),
    key(K::ArpOp, "eth_type(0x0806),arp(op=1)"),
    key(K::ArpSha, "eth_type(0x0806),arp(sha=02:46:52:52:4c:02)"),
    key(K::ArpTha, "eth_type(0x0806),arp(tha=02:46:52:52:4c:02)"),
    key(K::MplsTtl, "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=64,bos=0/0)"),
    key(K::MplsBos, "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=1)"),
    key(K::MplsTc, "eth_type(0x8847),mpls(label=0/0,tc=3,ttl=0/0,bos=0/0)"),
    key(K::MplsLabel, "eth_type(0x8847),mpls(label=16,tc=0/0,ttl=0/0,bos=0/0)"),
    key(K::Mpls2Ttl, "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=64,bos=0/0)"),
    key(K::Mpls2Bos, "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=1)"),
    key(K::Mpls2Tc, "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=3,ttl=0/0,bos=0/0)"),
    key(K::Mpls2Label, "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=16,tc=0/0,ttl=0/0,bos=0/0)"),
    key(
        K::Mpls3Ttl,
        "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=64,bos=0/0)",
    ),
    key(
        K::Mpls3Bos,
        "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=1)",
    ),
    key(
        K::Mpls3Tc,
        "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=3,ttl=0/0,bos=0/0)",
    ),
    key(
        K::Mpls3Label,
        "eth_type(0x8847),mpls(label=0/0,tc=0/0,ttl=0/0,bos=0,label=0/0,tc=0/0,ttl=0/0,bos=0,label=16,tc=0/0,ttl=0/0,bos=0/0)",
    ),
    form(T::Vlan, "eth_type(0x8100),vlan(vid=5,pcp=0/0),encap(eth_type(0x0800))"),
    form(T::TwoVlans, "eth_type(0x88a8),vlan(vid=5,pcp=0/0),encap(eth_type(0x8100),vlan(vid=6,pcp=0/0),encap(eth_type(0x0800)))"),
    form(T::Fragment, IP),
    form(T::FirstFragment, "eth_type(0x0800),ipv4(frag=first)"),
    act(T::Copy, OTHER, "3,2"),
    act(T::Drop, OTHER, "drop"),
    act(T::PushVlan, OTHER, "push_vlan(vid=5,pcp=0),2"),
    act(T::PopVlan, "eth_type(0x8100),vlan(vid=5,pcp=0/0),encap(eth_type(0x0800))", "pop_vlan,2"),
    act(T::PushMpls, IP, "push_mpls(label=16,tc=0,ttl=64,bos=1,eth_type=0x8847),2"),
    act(T::PopMpls, "eth_type(0x8847),mpls(label=16,tc=0/0,ttl=0/0,bos=1)", "pop_mpls(eth_type=0x800),2"),
    act(T::SetMpls, "eth_type(0x8847),mpls(label=16,tc=0/0,ttl=0/0,bos=1)", "set(mpls(label=17)),2"),
    act(T::SetEth, OTHER, "set(eth(dst=02:46:52:52:4c:03)),2"),
    act(T::SetIpv4, TCP, "set(ipv4(dst=192.0.2.3)),2"),
    act(T::SetIpv6, "eth_type(0x86dd),ipv6(proto=6,frag=no)", "set(ipv6(dst=2001:db8::3)),2"),
    act(T::SetTcp, TCP, "set(tcp(dst=9)),2"),
    act(T::SetUdp, UDP, "set(udp(dst=9)),2"),
    act(T::CheckPktLen, OTHER, "check_pkt_len(size=100,gt(drop),le(2))"),
    act(T::EncapVxlan, OTHER, "set(tunnel(tun_id=0x2a,src=192.0.2.1,dst=192.0.2.2,ttl=64,tp_dst=4789,flags(key))),4"),
    act(T::EncapGeneve, OTHER, "set(tunnel(tun_id=0x2a,src=192.0.2.1,dst=192.0.2.2,ttl=64,tp_dst=6081,flags(key))),5"),
    outer(
        Feature::Thing(T::Decap),
        4,
        "tunnel(tun_id=0x2a,src=192.0.2.2,dst=192.0.2.1,tp_dst=4789,flags(+key)),eth_type(0x88b5)",
    ),
    outer(
        Feature::Key(K::EncTos),
        4,
        "tunnel(tun_id=0x2a,src=192.0.2.2,dst=192.0.2.1,tos=0x20/0xfc,tp_dst=4789,flags(+key)),eth_type(0x88b5)",
    ),
    outer(
        Feature::Key(K::EncTtl),
        4,
        "tunnel(tun_id=0x2a,src=192.0.2.2,dst=192.0.2.1,ttl=64,tp_dst=4789,flags(+key)),eth_type(0x88b5)",
    ),
    outer(
        Feature::Thing(T::TunnelFlags),
        4,
        "tunnel(tun_id=0x2a,src=192.0.2.2,dst=192.0.2.1,tp_dst=4789,flags(-csum+key)),eth_type(0x88b5)",
    ),
    outer(
        Feature::Thing(T::Decap),
        5,
        "tunnel(tun_id=0x2a,src=192.0.2.2,dst=192.0.2.1,tp_dst=6081,flags(+key)),eth_type(0x88b5)",
    ),
    outer(
        Feature::Thing(T::GeneveOptions),
        5,
        "tunnel(tun_id=0x2a,src=192.0.2.2,dst=192.0.2.1,tp_dst=6081,geneve({class=0x102,type=0x2,len=4,0x800022}),flags(+key)),eth_type(0x88b5)",
    ),
];

/// What can be asked with these devices: what each rule asks for beside what those before it did, and the rule. Without a port to send to there is
/// nothing to ask.
#[must_use]
pub fn questions(bench: &Bench) -> Vec<(Option<Feature>, Rule)> {
    let can = capabilities();
    let is_there = |port: DpPort| bench.ifindex(port).is_some();
    let asked = ROWS.iter().filter(|row| (row.1 == 1) == bench.port.is_some() && is_there(DpPort(row.1)));
    let outputs_are_there =
        |rule: &Rule| rule.acts.iter().all(|act| if let Act::Output { port, .. } = act { is_there(*port) } else { true });
    asked.map(|row| (row.0, rule(row, &can))).filter(|(_, rule)| outputs_are_there(rule)).collect()
}

fn rule((_, port, rest, actions): &Row, can: &Capabilities) -> Rule {
    let address = if rest.starts_with("eth(") || rest.starts_with("tunnel(") { "" } else { "eth(dst=02:46:52:52:4c:01)," };
    let text = format!("packet_type(ns=0,id=0),recirc_id(0),in_port({port}),{address}{rest}");
    let parsed = parse_flow(&text, &NoNames).expect("every row is read by a test");
    let actions = Arc::new(parse_actions(actions, &NoNames).expect("every row is read by a test"));
    let flow = Megaflow { ufid: Ufid(0), key: parsed.key, mask: parsed.mask, actions };
    plan(&flow, can).expect("every row is planned by a test").rule
}

/// Of a bench on which everything can be asked.
fn capabilities() -> Capabilities {
    let mut can = Capabilities::all();
    can.ports.extend((1..=3).map(|n| (DpPort(n), PortKind::Switch(0))));
    can.ports.insert(DpPort(4), PortKind::Tunnel(TunnelKind::Vxlan));
    can.ports.insert(DpPort(5), PortKind::Tunnel(TunnelKind::Geneve));
    can
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::features;

    /// Things without a question, each with its reason.
    const UNASKED: &[(Thing, &str)] = &[
        (T::CtState, "connections are tracked by software"),
        (T::Ct, "connections are tracked by software"),
        (T::CtClear, "connections are tracked by software"),
        (T::Recirc, "megaflows that recirculate stay in software"),
        (T::ToHost, "needs the host's own port"),
        (T::PushEth, "no packet of an Ethernet port is without its header"),
        (T::PopEth, "no packet of an Ethernet port is without its header"),
        (T::TunnelId, "part of every question about a tunnel"),
        (T::GroupPolicy, "our tunnel devices have none"),
        (T::EncapGre, "there are no devices for it"),
        (T::Meter, "the meter's own action is the question"),
    ];
    const UNASKED_KEYS: &[K] = &[
        // In every question.
        K::EthDst,
        K::EncIpv4Src,
        K::EncIpv4Dst,
        K::EncUdpDst,
        // Of tunnels over IPv6, and of ports that nobody fixes.
        K::EncIpv6Src,
        K::EncIpv6Dst,
        K::EncUdpSrc,
        // Connections are tracked by software.
        K::CtZone,
        K::CtMark,
        K::CtLabel,
    ];

    #[test]
    fn whatever_a_rule_may_ask_for_is_asked_or_has_a_reason() {
        let asked: Vec<Feature> = ROWS.iter().filter_map(|row| row.0).collect();
        for thing in Thing::ALL {
            let reason = UNASKED.iter().any(|(t, _)| t == thing);
            assert!(asked.contains(&Feature::Thing(*thing)) != reason, "{}", thing.name());
        }
        for row in crate::keys::ROWS {
            assert!(asked.contains(&Feature::Key(row.key)) != UNASKED_KEYS.contains(&row.key), "{}", row.name);
        }
    }

    #[test]
    fn each_question_asks_for_what_it_says() {
        let can = capabilities();
        for row in ROWS {
            let asks = features(&rule(row, &can), &can);
            assert!(row.0.is_none_or(|f| asks.contains(&f)), "{row:?} asks for {asks:?}");
        }
        assert_eq!(features(&rule(&ROWS[0], &can), &can), [Feature::Key(K::EthDst)]);
    }

    #[test]
    fn what_has_no_device_is_not_asked() {
        let alone = Bench { port: Some(7), ..Bench::default() };
        assert!(questions(&alone).iter().all(|(f, _)| *f == Some(Feature::Thing(T::Drop))));
        let pair = Bench { peers: [Some(8), None], ..alone };
        assert!(questions(&pair).iter().all(|(f, rule)| *f != Some(Feature::Thing(T::Copy)) && rule.port == DpPort(1)));
        let all = Bench { port: Some(7), peers: [Some(8), Some(9)], vxlan: Some(10), geneve: Some(11), ..Bench::default() };
        let tunnels = Bench { port: None, ..all };
        assert_eq!(questions(&all).len() + questions(&tunnels).len(), ROWS.len());
    }
}
