//! Sampled packets that the datapath sent up: to the exporters of the bridge they came in by.
//!
//! What enters: upcalls with a cookie of sFlow or IPFIX. What leaves: nothing; exporters send when time is given to them.

use super::{UPCALL_NO_PORT, UPCALL_UNHANDLED, Udpif};
use crate::bridge::{Bridge, Port};
use crate::export::{ipfix, sflow};
use crate::tunnel::came_by_tunnel;
use crate::world::World;
use flow::action::{Action, Actions, Cookie, SetAttr};
use flow::extract::{NetworkLayer, PacketMeta, extract_whole};
use flow::seam::{DpPort, Upcall};
use flow::{Key, Msec};

/// No datapath port.
const NO_PORT: DpPort = DpPort(u32::MAX);

impl Udpif {
    /// Hands a sampled packet to its exporter. Under the world's read lock.
    pub(super) fn take_sample(&self, world: &World, upcall: &Upcall, cookie: &Cookie, now: Msec) {
        let Some(at) = self.locate(world, &upcall.key) else {
            UPCALL_NO_PORT.inc();
            return;
        };
        let Some(bridge) = world.bridges.get(&at.bridge) else { return };
        let taken = match cookie {
            Cookie::SFlow { vlan_tci, output } => self.sample_sflow(world, bridge, upcall, (*vlan_tci, *output), now),
            Cookie::Ipfix { output_port } => bridge.exporters.ipfix.as_ref().map(|exporter| {
                exporter.lock().sample(&self.sampled(world, bridge, upcall, *output_port), now);
            }),
            Cookie::FlowSample { collector_set_id, obs_domain_id, obs_point_id, output_port, .. } => {
                bridge.exporters.flow_ipfix.get(collector_set_id).map(|exporter| {
                    let sampled = self.sampled(world, bridge, upcall, *output_port);
                    let observed = Some((*obs_domain_id, *obs_point_id));
                    exporter.lock().sample(&ipfix::Sampled { observed, ..sampled }, now);
                })
            }
            Cookie::SlowPath { .. } | Cookie::Controller { .. } | Cookie::Raw(_) => None,
        };
        if taken.is_none() {
            UPCALL_UNHANDLED.inc();
        }
    }

    fn sampled<'a>(&self, world: &World, bridge: &Bridge, upcall: &'a Upcall, output: DpPort) -> ipfix::Sampled<'a> {
        let mut parsed = Key::ZERO;
        let at = extract_whole(&upcall.packet, &PacketMeta::default(), &mut parsed);
        ipfix::Sampled {
            key: &upcall.key,
            len: upcall.full_len,
            sound: !matches!(at.network, NetworkLayer::None) && matches!(parsed.nw_proto, 1 | 6 | 17 | 58 | 132),
            input: self.port(world, bridge, in_port(&upcall.key)).map_or(0, |p| p.info.ifindex),
            output: (output != NO_PORT).then(|| self.port(world, bridge, output).map_or(0, |p| p.info.ifindex)),
            observed: None,
            tunnel: self.tunnel_of(world, bridge, upcall, output),
        }
    }

    /// The tunnel that a sampled packet leaves by, or came by.
    fn tunnel_of(&self, world: &World, bridge: &Bridge, upcall: &Upcall, output: DpPort) -> Option<ipfix::Tunnel> {
        if output == NO_PORT {
            let at = self.locate(world, &upcall.key).filter(|_| came_by_tunnel(&upcall.key))?;
            let port = world.bridges.get(&at.bridge)?.ports.get(&at.in_port)?;
            return ipfix::Tunnel::of(&port.info.kind, &upcall.key);
        }
        let port = self.port(world, bridge, output).or_else(|| self.tunnel_behind(world, output))?;
        if let Some(key) = upcall.out_tunnel.as_ref().filter(|key| came_by_tunnel(key)) {
            return ipfix::Tunnel::of(&port.info.kind, key);
        }
        let pushes = upcall.actions.iter().flat_map(|actions| actions.iter());
        let push = pushes.filter_map(|a| if let Action::TunnelPush(push) = a { Some(push) } else { None });
        let push = push.into_iter().find(|push| push.tunnel_port == output)?;
        ipfix::Tunnel::of(&port.info.kind, &outer_of(&push.header))
    }

    fn sample_sflow(
        &self,
        world: &World,
        bridge: &Bridge,
        upcall: &Upcall,
        (vlan_tci, output): (u16, u32),
        now: Msec,
    ) -> Option<()> {
        let exporter = bridge.exporters.sflow.as_ref()?;
        let input = self.port(world, bridge, in_port(&upcall.key));
        let leaving = upcall.actions.as_ref().filter(|_| is_one_output(output)).and_then(|actions| {
            leaving(&upcall.key, actions, |port| self.tunnel_behind(world, port).map_or(0, |p| tunnel_proto(&p.info.kind)))
        });
        let sampled = sflow::Sampled {
            packet: &upcall.packet,
            full_len: upcall.full_len,
            key: &upcall.key,
            input: input.map_or(0, |p| p.info.ifindex),
            output,
            vlan_tci,
            in_tunnel_proto: input.map_or(0, |p| tunnel_proto(&p.info.kind)),
            out: leaving.as_ref(),
        };
        exporter.lock().sample(&sampled, now);
        Some(())
    }

    /// A tunnel that shares the datapath port.
    fn tunnel_behind<'w>(&self, world: &'w World, port: DpPort) -> Option<&'w Port> {
        let mut tunnels = world.backends.get(self.kind())?.tunnels.iter();
        let ((bridge, number), _) = tunnels.find(|(_, dp_port)| *dp_port == port)?;
        world.bridges.get(&bridge)?.ports.get(&number)
    }

    fn port<'w>(&self, world: &'w World, bridge: &'w Bridge, port: DpPort) -> Option<&'w Port> {
        let (of_bridge, number) = world.port_of(self.kind(), port)?;
        (of_bridge == bridge.id).then(|| bridge.ports.get(&number))?
    }
}

fn in_port(key: &Key) -> DpPort {
    DpPort(u32::from_be_bytes(key.in_port))
}

/// sFlow's output: the index of an interface, or "one output" without an index.
fn is_one_output(output: u32) -> bool {
    output >> 30 == 0 && output != 0 || output == 0x8000_0001
}

/// IP protocol of a tunnel type.
fn tunnel_proto(kind: &str) -> u8 {
    match kind {
        "gre" | "ip6gre" | "erspan" | "ip6erspan" => 47,
        "vxlan" | "geneve" | "lisp" | "gtpu" | "bareudp" => 17,
        "stt" => 6,
        _ => 0,
    }
}

/// The tunnel fields that an outer header amounts to.
fn outer_of(header: &[u8]) -> Key {
    let mut outer = Key::ZERO;
    let at = extract_whole(header, &PacketMeta::default(), &mut outer);
    Key {
        tun_src: outer.nw_src,
        tun_dst: outer.nw_dst,
        tun_tos: outer.nw_tos,
        tun_tp_src: outer.tp_src,
        tun_tp_dst: outer.tp_dst,
        tun_id: id_in(header.get(usize::from(at.l4)..).unwrap_or_default(), outer.nw_proto).to_be_bytes(),
        ..Key::ZERO
    }
}

/// The id in a header from the transport layer on: the VNI of VXLAN (RFC 7348) and Geneve (RFC 8926), the key of GRE (RFC 2890).
fn id_in(l4: &[u8], proto: u8) -> u64 {
    const GRE_CSUM: u8 = 0x80;
    const GRE_KEY: u8 = 0x20;
    let word = |at: usize| l4.get(at..at + 4).and_then(|w| w.first_chunk()).map_or(0, |w| u64::from(u32::from_be_bytes(*w)));
    match (proto, l4) {
        // UDP and the first word of either header come before the VNI and a byte of zero.
        (17, _) => word(12) >> 8,
        (47, [flags, ..]) if flags & GRE_KEY != 0 => word(if flags & GRE_CSUM == 0 { 4 } else { 8 }),
        _ => 0,
    }
}

/// The labels that a packet came with, the top first.
fn labels(key: &Key) -> Vec<u32> {
    const BOTTOM: u32 = 0x100;
    if !matches!(key.eth_type, [0x88, 0x47 | 0x48]) {
        return Vec::new();
    }
    let stack = [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2].map(u32::from_be_bytes);
    let depth = stack.iter().position(|lse| lse & BOTTOM != 0).map_or(stack.len(), |last| last + 1);
    stack[..depth].to_vec()
}

/// The tunnel and the labels that a packet of that key with one output has when the actions are done with it. `None`: neither.
fn leaving(key: &Key, actions: &Actions, proto_of: impl Fn(DpPort) -> u8) -> Option<sflow::Leaving> {
    let mut out = sflow::Leaving { labels: labels(key), ..sflow::Leaving::default() };
    let mut tunnel: Option<Box<Key>> = None;
    for action in actions {
        if let Action::Set(set) = action
            && set.attr == SetAttr::Tunnel
        {
            tunnel = Some(Box::new(set.value));
        } else if let Action::Set(set) = action
            && set.attr == SetAttr::Mpls
        {
            let (lse, mask) = (u32::from_be_bytes(set.value.mpls_lse0), u32::from_be_bytes(set.mask.mpls_lse0));
            match out.labels.first_mut() {
                Some(top) => *top = *top & !mask | lse,
                None => out.labels.push(lse),
            }
        } else if let Action::PushMpls { lse, .. } = action {
            out.labels.insert(0, *lse);
        } else if let Action::PopMpls { .. } = action {
            if !out.labels.is_empty() {
                out.labels.remove(0);
            }
        } else if let Action::Output(port) = action {
            out.tunnel = tunnel.take().map(|t| (t, proto_of(*port)));
        } else if let Action::TunnelPush(push) = action {
            let mut outer = Key::ZERO;
            extract_whole(&push.header, &PacketMeta::default(), &mut outer);
            out.tunnel = Some((Box::new(outer_of(&push.header)), outer.nw_proto));
        }
    }
    (out.tunnel.is_some() || !out.labels.is_empty()).then_some(out)
}
