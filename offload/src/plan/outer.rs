//! `tnl_push(...)` in the terms of a tunnel device: the parameters that the device makes the same outer header of.
//!
//! What enters: a canonical megaflow whose actions push prebuilt headers. What leaves: the same actions with `set(tunnel(...))` and an output
//! to the tunnel's device in the place of each push and the output that follows it; or the reason why the device would send something else.
//! Neighbours: `tunnel` (which judges the parameters), `capabilities` (which devices there are, and the way that the kernel sends).
//!
//! # Which properties hold
//!
//! - A header is read as parameters, and built again from them and from what the kernel knows of the way there. Unless that gives the header
//!   to the byte, the push refuses: nothing in a header is passed over, also nothing that this room has never heard of.
//! - What is left open in a header (lengths, IPv4 identification, checksums, the source port, which is a hash) is the business of whoever sends.
//! - The kernel takes the outer ECN bits from the inner packet, hardware takes them from the parameters. The two are the same because the
//!   megaflow must have matched the inner bits, and the header must have what follows from them (RFC 6040 section 4.1, compatibility mode).
//! - Software cuts or answers packets that become too long (decision 0045), hardware does not: every packet of the input port must fit.
//! - The packet must leave by the one uplink of the eSwitch that it came in by, as it is: what the underlay's bridge adds has no place in tc.

use crate::capabilities::{Capabilities, Ends, PortKind, TunnelKind, Way};
use crate::keys::{Known, When};
use crate::refusal::{Reason, Refusal};
use flow::action::{Action, Actions, SetAttr, SetField, TunnelPush};
use flow::key::{Key, TUN_CSUM, TUN_DF, TUN_KEY, TUN_METADATA_BYTES, VLAN_CFI};
use flow::wire::{Ethernet, Geneve, Ipv4, Ipv6, Udp, Vxlan, eth_type, ip_proto};
use flow::{DpPort, Megaflow};
use std::net::IpAddr;
use zerocopy::{FromBytes, IntoBytes};

/// The bits of the type of service that are ECN's (RFC 3168 section 5), "congestion experienced", and "capable".
const ECN: u8 = 3;
const CE: u8 = 3;
const ECT_0: u8 = 2;
const DONT_FRAGMENT: u16 = 0x4000;
const VLAN_BYTES: usize = 4;
/// A checksum in a header that asks for a real one.
const WANTED: [u8; 2] = [0xff; 2];
/// RFC 7348 section 5: a VNI is present; draft-smith-vxlan-group-policy: so is a group policy, whose flags stand in these bits.
const VXLAN_VNI: u32 = 0x0800_0000;
const VXLAN_GBP: u32 = 0x8000_0000;
const GBP_FLAGS: u32 = 0x00ff_0000;

/// The actions with devices in the place of pushes; `None` if there are no pushes.
pub(super) fn as_devices(flow: &Megaflow, can: &Capabilities) -> Result<Option<Actions>, Refusal> {
    // One that is pushed where no device could do it is refused by `actions`.
    if !Action::any(&flow.actions, |a| matches!(a, Action::TunnelPush(_))) {
        return Ok(None);
    }
    let inner = Inner::of(Known { key: &flow.key, mask: &flow.mask });
    Told { in_port: DpPort(u32::from_be_bytes(flow.key.in_port)), can }.list(&flow.actions, inner).map(Some)
}

/// The ends of each tunnel that actions push headers of.
pub(crate) fn ends_of(actions: &[Action], out: &mut Vec<Ends>) {
    for action in actions {
        if let Action::TunnelPush(push) = action {
            out.extend(read(&push.header, None).and_then(|fields| ends(&fields)));
        }
        action.lists().into_iter().for_each(|list| ends_of(list, out));
    }
}

/// What is known of the packet at a point of the list.
#[derive(Clone, Copy)]
struct Inner {
    is_ip: bool,
    /// ECN bits, if all of the megaflow's packets have the same.
    ecn: Option<u8>,
    tags: usize,
    /// Headers came or went that change what the device takes the packet for.
    changed: bool,
}

impl Inner {
    fn of(known: Known<'_>) -> Self {
        let is_ip = known.is(When::Ip);
        let ecn = (known.mask.nw_tos & ECN == ECN).then_some(known.key.nw_tos & ECN);
        let tagged = |tci: [u8; 2]| usize::from(u16::from_be_bytes(tci) & VLAN_CFI != 0);
        Self { is_ip, ecn, tags: tagged(known.key.vlan_tci) + tagged(known.key.vlan2_tci), changed: false }
    }

    fn after(mut self, action: &Action) -> Self {
        if matches!(action, Action::PushVlan { .. }) {
            self.tags += 1;
        } else if matches!(action, Action::PopVlan) {
            self.tags = self.tags.saturating_sub(1);
        } else if let Action::Set(set) = action {
            if matches!(set.attr, SetAttr::Ipv4 | SetAttr::Ipv6) && set.mask.nw_tos & ECN != 0 {
                let whole = set.mask.nw_tos & ECN == ECN;
                self.ecn = whole.then_some(set.value.nw_tos & ECN);
            }
        } else {
            let into_or_out = matches!(action, Action::TunnelPush(_) | Action::TunnelPop(_));
            let shorter = matches!(action, Action::DecTtl { .. } | Action::Trunc(_));
            self.changed |= action.traits().reheads || into_or_out || shorter;
        }
        self
    }

    /// The outer ECN bits that the kernel makes of it; `None` if they are not the same for all packets, or for all kernels.
    const fn outer_ecn(self) -> Option<u8> {
        match (self.is_ip, self.tags, self.ecn) {
            (false, _, _) | (true, _, Some(0)) => Some(0),
            (true, 0, Some(CE)) => Some(ECT_0),
            (true, 0, Some(ecn)) => Some(ecn),
            // Behind a tag some look for the inner header, others do not.
            (true, _, _) => None,
        }
    }
}

struct Told<'a> {
    in_port: DpPort,
    can: &'a Capabilities,
}

impl Told<'_> {
    fn list(&self, actions: &[Action], mut inner: Inner) -> Result<Actions, Refusal> {
        let mut out = Actions::with_capacity(actions.len() + 1);
        let mut rest = actions;
        while let Some((action, after)) = rest.split_first() {
            rest = after;
            if let Action::TunnelPush(push) = action {
                // The header stays on the packet: nothing but the output can follow.
                let [Action::Output(port)] = rest else { return Err(Refusal::new(Reason::ActionOrder, "tnl_push")) };
                out.extend(self.one(push, *port, inner)?);
                return Ok(out);
            }
            if let Action::Clone(inside) = action
                && let [Action::TunnelPush(push), Action::Output(port)] = inside.as_slice()
            {
                out.extend(self.one(push, *port, inner)?);
                continue;
            }
            if let Action::CheckPktLen { size, greater, less_equal } = action {
                let (greater, less_equal) = (self.list(greater, inner)?, self.list(less_equal, inner)?);
                out.push(Action::CheckPktLen { size: *size, greater, less_equal });
                continue;
            }
            inner = inner.after(action);
            out.push(action.clone());
        }
        Ok(out)
    }

    /// A push and the output behind it.
    fn one(&self, push: &TunnelPush, out: DpPort, inner: Inner) -> Result<[Action; 2], Refusal> {
        let unsaid = || Refusal { what: "tnl_push".to_owned(), ..Refusal::of_port(Reason::TunnelPort, push.tunnel_port) };
        let Some(PortKind::Tunnel(kind)) = self.can.ports.get(&push.tunnel_port).copied() else {
            return Err(Refusal::of_port(Reason::TunnelPort, push.tunnel_port));
        };
        if inner.changed {
            return Err(Refusal::new(Reason::ActionOrder, "tnl_push"));
        }
        self.leaves_by_uplink(out)?;
        self.fits(out, push.header.len(), inner.tags)?;
        let fields = read(&push.header, Some(kind)).ok_or_else(unsaid)?;
        // The kernel has a default of its own for nought.
        if fields.tun_ttl == 0 {
            return Err(Refusal::new(Reason::ActionOption, "set(tunnel(ttl))"));
        }
        if inner.outer_ecn() != Some(fields.tun_tos & ECN) {
            return Err(Refusal::new(Reason::ActionOption, "set(tunnel(tos))"));
        }
        let ends = ends(&fields).ok_or_else(unsaid)?;
        let other_way = || Refusal::new(Reason::TunnelWay, ends.dst.to_string());
        let way = self.can.ways.get(&ends).ok_or_else(other_way)?;
        if push.header.get(..12) != Some([way.dst_mac, way.src_mac].as_bytes()) {
            return Err(other_way());
        }
        if write(&fields, kind, way) != push.header {
            return Err(unsaid());
        }
        let set = SetField { attr: SetAttr::Tunnel, value: fields, mask: Key::ZERO };
        Ok([Action::Set(Box::new(set)), Action::Output(push.tunnel_port)])
    }

    /// Whether the longest packet of the input port can leave with its outer header, Ethernet's not counted.
    fn fits(&self, out: DpPort, header: usize, tags: usize) -> Result<(), Refusal> {
        let mtu = |port: DpPort| self.can.mtus.get(&port).map_or(0, |mtu| *mtu as usize);
        let (longest, room) = (mtu(self.in_port), mtu(out));
        let needed = longest + tags * VLAN_BYTES + header;
        if longest == 0 || needed > room {
            let what = if longest == 0 { "mtu".to_owned() } else { format!("mtu({needed}>{room})") };
            return Err(Refusal { what, ..Refusal::of_port(Reason::TunnelMtu, self.in_port) });
        }
        Ok(())
    }

    /// Encapsulated packets leave by the uplink of the eSwitch; there must be one, and it must be that of the megaflow.
    fn leaves_by_uplink(&self, out: DpPort) -> Result<(), Refusal> {
        let Some(PortKind::Switch(switch)) = self.can.ports.get(&self.in_port) else {
            return Err(Refusal::of_port(Reason::TunnelPort, self.in_port));
        };
        let mut uplinks = self.can.uplinks.iter().filter(|port| self.can.ports.get(*port) == Some(&PortKind::Switch(*switch)));
        match (uplinks.next(), uplinks.next()) {
            (Some(uplink), None) if *uplink == out => Ok(()),
            _ => Err(Refusal::of_port(Reason::TunnelWay, out)),
        }
    }
}

fn ends(fields: &Key) -> Option<Ends> {
    let v6 = fields.tun_ipv6_dst != [0; 16];
    let address = |v4: [u8; 4], six: [u8; 16]| if v6 { IpAddr::from(six) } else { IpAddr::from(v4) };
    let ends = Ends { src: address(fields.tun_src, fields.tun_ipv6_src), dst: address(fields.tun_dst, fields.tun_ipv6_dst) };
    (!ends.src.is_unspecified() && !ends.dst.is_unspecified()).then_some(ends)
}

/// Reads a header as the fields of a tunnel; without a kind, only as far as its addresses.
fn read(header: &[u8], kind: Option<TunnelKind>) -> Option<Key> {
    let mut fields = Key::ZERO;
    let (eth, rest) = Ethernet::ref_from_prefix(header).ok()?;
    let mut flags = TUN_KEY;
    let rest = match u16::from_be_bytes(eth.eth_type) {
        eth_type::IPV4 => {
            let (ip, rest) = Ipv4::ref_from_prefix(rest).ok()?;
            (fields.tun_src, fields.tun_dst, fields.tun_tos, fields.tun_ttl) = (ip.src, ip.dst, ip.tos, ip.ttl);
            flags |= if u16::from_be_bytes(ip.frag) & DONT_FRAGMENT != 0 { TUN_DF } else { 0 };
            rest
        }
        eth_type::IPV6 => {
            let (ip, rest) = Ipv6::ref_from_prefix(rest).ok()?;
            (fields.tun_ipv6_src, fields.tun_ipv6_dst, fields.tun_ttl) = (ip.src, ip.dst, ip.hop_limit);
            let [high, low, ..] = ip.version_class_label;
            fields.tun_tos = high << 4 | low >> 4;
            rest
        }
        _ => return None,
    };
    let Some(kind) = kind else { return Some(fields) };
    let (udp, rest) = Udp::ref_from_prefix(rest).ok()?;
    fields.tun_tp_dst = udp.dst;
    flags |= if udp.checksum == [0; 2] { 0 } else { TUN_CSUM };
    fields.tun_flags = flags.to_be_bytes();
    match kind {
        TunnelKind::Vxlan => {
            let (vxlan, _) = Vxlan::ref_from_prefix(rest).ok()?;
            fields.tun_id[5..].copy_from_slice(&vxlan.vni);
            let [_, policy, a, b] = vxlan.flags;
            (fields.tun_gbp_flags, fields.tun_gbp_id) = (policy, [a, b]);
        }
        TunnelKind::Geneve => {
            let (geneve, options) = Geneve::ref_from_prefix(rest).ok()?;
            fields.tun_id[5..].copy_from_slice(&geneve.vni);
            let options = options.get(..TUN_METADATA_BYTES.min(options.len()))?;
            fields.tun_metadata[..options.len()].copy_from_slice(options);
            fields.tun_metadata_present[7] = u8::try_from(options.len()).ok()?;
        }
        TunnelKind::Gre => return None,
    }
    Some(fields)
}

/// The header that a device makes of parameters, as far as they decide it.
fn write(fields: &Key, kind: TunnelKind, way: &Way) -> Vec<u8> {
    let v6 = fields.tun_ipv6_dst != [0; 16];
    let flags = u16::from_be_bytes(fields.tun_flags);
    let ty = if v6 { eth_type::IPV6 } else { eth_type::IPV4 };
    let mut out = Ethernet { dst: way.dst_mac, src: way.src_mac, eth_type: ty.to_be_bytes() }.as_bytes().to_vec();
    if v6 {
        let version_class_label = (6 << 28 | u32::from(fields.tun_tos) << 20).to_be_bytes();
        let (src, dst) = (fields.tun_ipv6_src, fields.tun_ipv6_dst);
        let ip = Ipv6 { version_class_label, payload_len: [0; 2], next: ip_proto::UDP, hop_limit: fields.tun_ttl, src, dst };
        out.extend_from_slice(ip.as_bytes());
    } else {
        let frag = if flags & TUN_DF != 0 { DONT_FRAGMENT } else { 0 }.to_be_bytes();
        let (tos, ttl, src, dst) = (fields.tun_tos, fields.tun_ttl, fields.tun_src, fields.tun_dst);
        let mut ip = Ipv4 { version_ihl: 0x45, tos, frag, ttl, proto: ip_proto::UDP, src, dst, ..Ipv4::default() };
        ip.checksum = flow::checksum::checksum(ip.as_bytes());
        out.extend_from_slice(ip.as_bytes());
    }
    let checksum = if flags & TUN_CSUM != 0 { WANTED } else { [0; 2] };
    out.extend_from_slice(Udp { dst: fields.tun_tp_dst, checksum, ..Udp::default() }.as_bytes());
    let mut vni = [0; 3];
    vni.copy_from_slice(&fields.tun_id[5..]);
    match kind {
        TunnelKind::Vxlan => {
            let policy = u32::from(fields.tun_gbp_flags) << 16 & GBP_FLAGS | u32::from(u16::from_be_bytes(fields.tun_gbp_id));
            let flags = VXLAN_VNI | if policy != 0 { VXLAN_GBP | policy } else { 0 };
            out.extend_from_slice(Vxlan { flags: flags.to_be_bytes(), vni, reserved: 0 }.as_bytes());
        }
        TunnelKind::Geneve => {
            let options = &fields.tun_metadata[..usize::from(fields.tun_metadata_present[7])];
            let version_len = u8::try_from(options.len() / 4).unwrap_or(u8::MAX);
            // The kernel's tunnel_key does not tell the device of critical options: the flag stays off.
            let geneve = Geneve { version_len, flags: 0, protocol: eth_type::TEB.to_be_bytes(), vni, reserved: 0 };
            out.extend_from_slice(geneve.as_bytes());
            out.extend_from_slice(options);
        }
        TunnelKind::Gre => {}
    }
    out
}
