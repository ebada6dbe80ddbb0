//! Native tunnels: the outer header is built here, and translation goes on with the outer packet in the bridge that has the route.
//!
//! Where the route leaves by a device that is no port of ours, the host's own stack sends: the outer packet begins with what it is to be told
//! instead of a link-layer header, and leaves by the tunnel's own datapath port (decision 0097).
//!
//! Route and neighbour are dependencies: when either has another answer, the megaflow is translated again. Where the neighbour is not known
//! the packet is dropped and its address is asked for; packets of the megaflow that follow ask again, once a second.

use super::trace::Kind;
use super::{Ctx, mask};
use crate::bridge::{Bridge, Port};
use crate::deps::Object;
use crate::effects::{Credit, XlateError};
use crate::neigh::{self, Ask};
use crate::router::{Answer, Query};
use crate::tunnel::header::{self, Link};
use crate::tunnel::{Addr, Config};
use flow::Action;
use flow::action::{Actions, TunnelPush};
use flow::fields::Field;
use flow::host_link::HostLink;
use flow::key::Key;
use flow::seam::DpPort;

/// Where the outer packet enters the underlay.
struct Way<'a> {
    bridge: &'a Bridge,
    port: &'a Port,
    out_port: DpPort,
    next_hop: Addr,
    /// The destination's MAC is known once the neighbour is.
    link: Link,
}

impl<'a> Ctx<'a> {
    /// Encapsulates by a tunnel whose fields stand in the key.
    pub(super) fn output_natively(&mut self, config: &Config, tunnel_port: DpPort, truncated: bool, last: bool) {
        let answer = self.route_to_tunnel_end();
        if let Some(answer) = answer.as_ref().filter(|a| self.is_the_hosts(&a.device)) {
            self.output_by_host(config, tunnel_port, answer, last);
            return;
        }
        self.report(Kind::Detail, format_args!("output to native tunnel"));
        let Some(mut way) = answer.and_then(|answer| self.way_by(answer)) else {
            self.report(Kind::Warn, format_args!("native tunnel routing failed"));
            self.drop_reason.get_or_insert(XlateError::TunnelRouting);
            return;
        };
        let (next_hop, device) = (way.next_hop, way.port.name.as_str());
        self.report(Kind::Detail, format_args!("tunneling to {next_hop} via {device}"));
        if way.link.src_mac == [0; 6] {
            self.report(Kind::Warn, format_args!("tunnel output device lacks Ethernet address"));
            self.drop_reason.get_or_insert(XlateError::TunnelOutput);
            return;
        }
        let Some(dst_mac) = self.neighbour(&way) else { return };
        way.link.dst_mac = dst_mac;
        let Some(push) = self.build_push(config, tunnel_port, way.out_port, &way.link) else { return };
        self.push(push, config, &way, truncated, last);
    }

    /// The outer header; `None` if there is none that fits.
    fn build_push(&mut self, config: &Config, tunnel_port: DpPort, out_port: DpPort, link: &Link) -> Option<TunnelPush> {
        if header::copies_label(config, &self.key) {
            Field::Ipv6Label.unwildcard(&mut self.mask);
        }
        let built = header::build(config, &self.key, link, &self.bridge.tunnel_options);
        let (Some(header), Some(kind)) = (built, config.kind.row().vport) else {
            self.report(Kind::Warn, format_args!("native tunnel header build failed"));
            self.drop_reason.get_or_insert(XlateError::TunnelHeader);
            return None;
        };
        let kind = number_over(kind, Addr::of_fields(self.key.tun_dst, self.key.tun_ipv6_dst).is_v4());
        let computes_label = header::computes_label(config);
        Some(TunnelPush { tunnel_port, out_port, kind, header, computes_label })
    }

    /// Whether packets that leave by a device are the host's stack's to send: it is no port of any bridge of the datapath.
    fn is_the_hosts(&self, device: &str) -> bool {
        let kind = self.world.bridges.get(&self.origin).map(|bridge| bridge.kind.as_str());
        self.world.backend(self.origin).is_some_and(|b| b.features.host_tunnels)
            && kind.is_some_and(|kind| self.world.port_of_device(kind, device).is_none())
    }

    /// Encapsulates, and gives the outer packet to the host's stack by the tunnel's own port.
    fn output_by_host(&mut self, config: &Config, tunnel_port: DpPort, answer: &Answer, last: bool) {
        let dst = Addr::of_fields(self.key.tun_dst, self.key.tun_ipv6_dst);
        let device = answer.device.as_str();
        self.report(Kind::Detail, format_args!("output to kernel tunnel"));
        self.report(Kind::Detail, format_args!("tunneling to {dst} via {device} by the host's own stack"));
        // The host's rules may look at it.
        self.mask.pkt_mark = [0xff; 4];
        let mark = u32::from_be_bytes(self.key.pkt_mark);
        let (dst_mac, src_mac) = HostLink { mtu: answer.mtu, mark }.to_addresses();
        let Some(push) = self.build_push(config, tunnel_port, tunnel_port, &Link { src_mac, dst_mac, src: answer.src }) else {
            return;
        };
        self.send_pushed(vec![Action::TunnelPush(Box::new(push)), Action::Output(tunnel_port)], last);
    }

    /// Does to the packet, or to a copy if it has more to do, what begins with the header pushed.
    fn send_pushed(&mut self, pushed: Actions, last: bool) {
        if last {
            self.actions.extend(pushed);
        } else {
            self.emit(Action::Clone(pushed));
        }
    }

    /// Kernel's routes are of mark 0, as in Open vSwitch; where the host's stack sends, its own rules may make something of a mark.
    fn route_to_tunnel_end(&mut self) -> Option<Answer> {
        if self.initial.recirc_id != [0; 4] {
            // Packets come without a mark, but come back with any.
            self.mask.pkt_mark = [0xff; 4];
        }
        let mark = u32::from_be_bytes(self.key.pkt_mark);
        let answer = self.ask_for_route(mark);
        if answer.is_some() || mark == 0 {
            return answer;
        }
        self.ask_for_route(0).filter(|answer| self.is_the_hosts(&answer.device))
    }

    fn ask_for_route(&mut self, mark: u32) -> Option<Answer> {
        let dst = Addr::of_fields(self.key.tun_dst, self.key.tun_ipv6_dst);
        let src = Addr::of_fields(self.key.tun_src, self.key.tun_ipv6_src);
        let (answer, object) = self.world.router.ask(Query { dst, src, mark });
        self.deps.object(object);
        answer
    }

    fn way_by(&mut self, answer: Answer) -> Option<Way<'a>> {
        let dst = Addr::of_fields(self.key.tun_dst, self.key.tun_ipv6_dst);
        let Answer { device, gateway, src, .. } = answer;
        let kind = &self.world.bridges.get(&self.origin)?.kind;
        let (bridge, port) = self.world.port_of_device(kind, &device)?;
        self.deps.object(Object::Port(bridge.id, port.number));
        let next_hop = if gateway == Addr(0) { dst } else { gateway };
        let link = Link { src_mac: port.info.mac, dst_mac: [0; 6], src };
        Some(Way { bridge, port, out_port: port.dp_port?, next_hop, link })
    }

    /// The MAC of the next hop, or a request for it.
    fn neighbour(&mut self, way: &Way<'_>) -> Option<[u8; 6]> {
        let (device, next_hop) = (way.bridge.name.as_str(), way.next_hop);
        self.deps.object(neigh::object(next_hop));
        if let Some(mac) = self.world.neighbours.find(device, next_hop, self.now) {
            self.credits.push(Credit::Neighbour { device: device.to_owned(), address: next_hop });
            let (src_mac, src, dst_mac) = (mac_text(way.link.src_mac), way.link.src, mac_text(mac));
            self.report(Kind::Detail, format_args!("tunneling from {src_mac} {src} to {dst_mac} {next_hop}"));
            return Some(mac);
        }
        let protocol = if next_hop.is_v4() { "ARP" } else { "ND" };
        self.report(
            Kind::Detail,
            format_args!("neighbor cache miss for {next_hop} on bridge {device}, sending {protocol} request"),
        );
        self.drop_reason.get_or_insert(XlateError::TunnelNeighbour);
        let src = self.world.router.source_for(&way.port.name, next_hop, Addr(0)).unwrap_or(way.link.src);
        let ask = Ask { bridge: way.bridge.id, port: way.port.number, src_mac: way.link.src_mac, src, target: next_hop };
        if self.side_effects {
            self.world.neighbours.ask(&ask, self.now);
        }
        self.credits.push(Credit::Ask(ask));
        None
    }

    /// Emits the push and goes on with the outer packet in the underlay's bridge; on a copy unless nothing needs the inner packet.
    fn push(&mut self, push: TunnelPush, config: &Config, way: &Way<'a>, truncated: bool, last: bool) {
        let header_bytes = push.header.len();
        let before = std::mem::take(&mut self.actions);
        self.emit(Action::TunnelPush(Box::new(push)));
        if truncated {
            // The underlay's bridge sees the packet when it is as short as it will be.
            self.emit(Action::Recirc(0));
        } else {
            self.enter_underlay(config, way, header_bytes);
        }
        let pushed = std::mem::replace(&mut self.actions, before);
        if pushed.len() <= 1 {
            // The underlay drops it.
            return;
        }
        self.send_pushed(pushed, last);
    }

    /// What happens there is on a copy already, or nothing comes after it.
    fn enter_underlay(&mut self, config: &Config, way: &Way<'a>, header_bytes: usize) {
        let (key, base, saved_mask) = (self.key, self.base, self.mask);
        let (side_effects, packet) = (self.side_effects, self.packet.take());
        let credits = std::mem::take(&mut self.credits);
        let proto = config.kind.row().arrives_by.unwrap_or(0);
        let inner = self.key;
        for key in [&mut self.key, &mut self.base] {
            make_outer(key, &inner, &way.link, proto);
        }
        // Bits of the outer packet are no bits of the one that came.
        self.mask = Key::ZERO;
        self.side_effects = false;
        self.go_on_in(way.bridge, way.port, true);
        let within = std::mem::replace(&mut self.credits, credits);
        self.credits.push(Credit::Encapsulated { header_bytes, credits: within });
        (self.key, self.base, self.mask) = (key, base, saved_mask);
        (self.side_effects, self.packet) = (side_effects, packet);
    }
}

/// GRE and ERSPAN over IPv6 have numbers of their own in `tnl_push`.
fn number_over(kind: u32, v4: bool) -> u32 {
    use flow::action_text::vport;
    match (kind, v4) {
        (vport::GRE | vport::IP6GRE, true) => vport::GRE,
        (vport::GRE | vport::IP6GRE, false) => vport::IP6GRE,
        (vport::ERSPAN | vport::IP6ERSPAN, true) => vport::ERSPAN,
        (vport::ERSPAN | vport::IP6ERSPAN, false) => vport::IP6ERSPAN,
        (kind, _) => kind,
    }
}

/// The key of the outer packet, as far as the underlay's tables see it: marks and registers stay for now.
fn make_outer(key: &mut Key, inner: &Key, link: &Link, proto: u8) {
    let dst = Addr::of_fields(inner.tun_dst, inner.tun_ipv6_dst);
    let own = Addr::of_fields(inner.tun_src, inner.tun_ipv6_src);
    let src = if own == Addr(0) { link.src } else { own };
    let mut outer = Key {
        eth_dst: link.dst_mac,
        eth_src: link.src_mac,
        eth_type: if dst.is_v4() { [0x08, 0x00] } else { [0x86, 0xdd] },
        nw_src: src.to_v4(),
        nw_dst: dst.to_v4(),
        ipv6_src: src.to_v6(),
        ipv6_dst: dst.to_v6(),
        nw_proto: proto,
        nw_tos: inner.tun_tos,
        nw_ttl: inner.tun_ttl,
        tp_dst: inner.tun_tp_dst,
        in_port: key.in_port,
        pkt_mark: key.pkt_mark,
        skb_priority: key.skb_priority,
        regs: key.regs,
        metadata: key.metadata,
        actset_output: key.actset_output,
        ..Key::ZERO
    };
    std::mem::swap(key, &mut outer);
    // What the datapath was told about the tunnel stays in its key.
    mask::copy_tunnel(key, &outer);
}

fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use crate::router::DeviceAddr;
    use crate::scenario::{Scenario, config, port};
    use crate::tunnel::Addr;

    /// What a header copies of the inner packet has decided; what the datapath makes of it has not.
    #[test]
    fn a_flow_label_that_is_copied_is_matched() {
        for (option, label) in [("copy", "74565"), ("zero", "0"), ("compute", "compute")] {
            let matched = option == "copy";
            let mut config = config(&["br0 p2@2", "br101 p1@1"]);
            let mut tunnel = port("srv6", "srv6", Some(9));
            let options = [("srv6_segs", "fd16::2"), ("srv6_flowlabel", option)];
            tunnel.interfaces[0].device.options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
            config.bridges[0].ports.push(tunnel);
            let s = Scenario::new(&config);
            s.slowpath.write_world().backends.get_mut("dummy").unwrap().features.tunnel_push_pop = true;
            let address = DeviceAddr { address: Addr::parse("fd16::1").unwrap(), plen: 64 };
            s.slowpath.set_device_addresses("br101", vec![address], true);
            s.run_command("tnl/neigh/set", &["br101", "fd16::2", "02:00:00:00:00:02"]).unwrap();
            s.flow_mod("br0", "in_port=2,actions=output:9").unwrap();
            s.flow_mod("br101", "in_port=LOCAL,actions=output:1").unwrap();
            let said = s.run_command("ofproto/trace", &["br0", "in_port=2,udp6,ipv6_label=0x12345"]).unwrap();
            let find = |start: &str| said.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start} in {said}"));
            assert_eq!(find("Megaflow: ").contains("ipv6_label=0x12345"), matched, "{said}");
            assert!(find("Datapath actions: ").contains(&format!("label={label},")), "{said}");
        }
    }
}
