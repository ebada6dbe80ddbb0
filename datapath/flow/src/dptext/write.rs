//! Writes datapath flows. One pass over the attributes that a key has, in the order in which OVS puts them into a flow key.

use super::attrs::{self, Attr, Look, Member};
use super::tunnel;
use crate::fields::{DpAttr, Field};
use crate::forms::{CT_STATE, Hex, Ip6, Mac, PortNames, TCP_FLAGS, flags, flags_masked};
use crate::key::{DP_PORT_NONE, FRAG_ANY, FRAG_LATER, Key, Mask};
use crate::scan::ipv4_text;
use std::fmt::Write;

const EXACT: Key = zerocopy::transmute!([0xffu8; size_of::<Key>()]);
/// Ethernet types below this are lengths (IEEE 802.3 section 3.2.6).
const ETH_TYPE_MIN: u16 = 0x600;

pub(super) struct Writer<'a> {
    pub(super) out: String,
    key: &'a Key,
    /// `None`: every attribute is exact, and is shown.
    mask: Option<&'a Mask>,
    verbose: bool,
    ports: &'a dyn PortNames,
    has_packet_type: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(key: &'a Key, mask: Option<&'a Mask>, verbose: bool, ports: &'a dyn PortNames) -> Self {
        Self { out: String::new(), key, mask, verbose, ports, has_packet_type: false }
    }

    /// The whole flow.
    pub(super) fn flow(&mut self) {
        self.metadata();
        if self.key.packet_type == [0; 4] {
            self.attr(DpAttr::Ethernet);
            self.tag(0);
        } else {
            self.eth_type_and_up(0);
        }
    }

    /// One attribute without regard to the others.
    pub(super) fn lone(&mut self, attr: DpAttr) {
        let exact = &EXACT;
        let mask = self.mask.unwrap_or(exact);
        if attr == DpAttr::Tunnel {
            self.tunnel_attr();
        } else if attr == DpAttr::Vlan {
            self.out.push_str("vlan(");
            self.vlan(u16::from_be_bytes(self.key.vlan_tci), u16::from_be_bytes(mask.vlan_tci));
            self.out.push(')');
        } else if attr == DpAttr::Mpls {
            self.out.push_str("mpls(");
            self.mpls(&[u32::from_be_bytes(self.key.mpls_lse0)], Some(&[u32::from_be_bytes(mask.mpls_lse0)]));
            self.out.push(')');
        } else {
            self.nested(attr);
        }
    }

    fn metadata(&mut self) {
        let key = self.key;
        self.attr(DpAttr::Priority);
        if tunnel::is_set(key) {
            self.comma();
            self.tunnel_attr();
        }
        for attr in [DpAttr::SkbMark, DpAttr::CtState, DpAttr::CtZone, DpAttr::CtMark, DpAttr::CtLabels] {
            self.attr(attr);
        }
        if key.ct_nw_proto != 0 {
            match key.eth_type {
                [0x08, 0x00] => self.attr(DpAttr::CtTuple4),
                [0x86, 0xdd] => self.attr(DpAttr::CtTuple6),
                _ => {}
            }
        }
        self.attr(DpAttr::RecircId);
        self.attr(DpAttr::DpHash);
        if key.in_port != DP_PORT_NONE {
            self.attr(DpAttr::InPort);
        }
        self.has_packet_type = !self.is_wild(DpAttr::PacketType);
        self.attr(DpAttr::PacketType);
    }

    fn is_wild(&self, attr: DpAttr) -> bool {
        self.mask.is_some_and(|mask| attrs::attr(attr).is_some_and(|row| row.is_wild(mask)))
    }

    /// The VLAN tag at `depth` with all that stands in it, or what follows the tags.
    fn tag(&mut self, depth: usize) {
        let key = self.key;
        let mask = self.mask.unwrap_or(&EXACT);
        let tags = [(key.vlan_tpid, key.vlan_tci, mask.vlan_tci), (key.vlan2_tpid, key.vlan2_tci, mask.vlan2_tci)];
        // A tag that was cut off shows in the Ethernet type.
        let cut = is_vlan(key.eth_type);
        let Some((tpid, tci, tci_mask)) = tags.get(depth).filter(|tag| tag.1 != [0; 2] || cut) else {
            return self.eth_type_and_up(depth);
        };
        let there = *tci != [0; 2];
        self.comma();
        let _ = write!(self.out, "eth_type(0x{:04x}),", u16::from_be_bytes(if there { *tpid } else { key.eth_type }));
        if self.verbose || *tci_mask != [0; 2] {
            self.out.push_str("vlan(");
            self.vlan(u16::from_be_bytes(*tci), u16::from_be_bytes(*tci_mask));
            self.out.push_str("),");
        }
        self.out.push_str("encap(");
        if there {
            self.tag(depth + 1);
        }
        self.out.push(')');
    }

    /// The members of `vlan(...)`.
    fn vlan(&mut self, tci: u16, mask: u16) {
        let parts = [("vid", tci & 0xfff, mask & 0xfff, 0xfff), ("pcp", tci >> 13, mask >> 13, 7)];
        let mut shown = Vec::new();
        for (name, value, mask, all) in parts {
            if self.verbose || value != 0 || mask != 0 {
                let masked = if mask == all { String::new() } else { format!("/0x{mask:x}") };
                shown.push(format!("{name}={value}{masked}"));
            }
        }
        if tci & crate::key::VLAN_CFI == 0 {
            shown.push("cfi=0".to_owned());
        }
        self.out.push_str(&shown.join(","));
    }

    fn eth_type_and_up(&mut self, depth: usize) {
        let key = self.key;
        if u16::from_be_bytes(key.eth_type) < ETH_TYPE_MIN {
            // A frame without an Ethernet type is told from others by the mask alone.
            if self.mask.is_some() && depth == 0 {
                self.out.push_str(",eth_type(0/0xffff)");
            }
            return;
        }
        self.attr(DpAttr::Ethertype);
        match key.eth_type {
            [0x08, 0x00] => self.attr(DpAttr::Ipv4),
            [0x86, 0xdd] => {
                self.attr(DpAttr::Ipv6);
                // OVS has no such attribute: it stands where it says something.
                if Field::Ipv6Exthdr.get(self.mask.unwrap_or(key)) != 0 {
                    self.attr(DpAttr::Ipv6Exthdrs);
                }
            }
            [0x08, 0x06] | [0x80, 0x35] => self.attr(DpAttr::Arp),
            [0x88, 0x47 | 0x48] => self.mpls_attr(),
            [0x89, 0x4f] => {
                self.comma();
                self.nested(DpAttr::Nsh);
            }
            [0x88, 0xe7] => self.attr(DpAttr::Pbb),
            _ => {}
        }
        let ip = matches!(key.eth_type, [0x08, 0x00] | [0x86, 0xdd]);
        if ip && key.nw_frag & FRAG_LATER == 0 {
            self.transport();
        }
    }

    fn transport(&mut self) {
        let key = self.key;
        match (key.nw_proto, key.eth_type) {
            (6, _) => {
                self.attr(DpAttr::Tcp);
                let flags = |k: &Key| Field::TcpFlags.get(k) != 0;
                if flags(key) || self.mask.is_some_and(flags) {
                    self.attr(DpAttr::TcpFlags);
                }
            }
            (17, _) => self.attr(DpAttr::Udp),
            (132, _) => self.attr(DpAttr::Sctp),
            (1, [0x08, 0x00]) => self.attr(DpAttr::Icmp),
            (58, [0x86, 0xdd]) => {
                self.attr(DpAttr::Icmpv6);
                if matches!(u16::from_be_bytes(key.tp_src), 135 | 136) && key.tp_dst == [0; 2] {
                    self.attr(DpAttr::Nd);
                    if key.nd_reserved != [0; 4] || key.tcp_flags[0] != 0 {
                        self.attr(DpAttr::NdExt);
                    }
                }
            }
            _ => {}
        }
    }

    fn mpls_attr(&mut self) {
        let key = self.key;
        let lses = [key.mpls_lse0, key.mpls_lse1, key.mpls_lse2].map(u32::from_be_bytes);
        let masks = self.mask.map(|m| [m.mpls_lse0, m.mpls_lse1, m.mpls_lse2].map(u32::from_be_bytes));
        // The stack ends with the entry that has the bottom-of-stack bit (RFC 3032 section 2.1).
        let bottom = lses.iter().position(|lse| lse & 0x100 != 0);
        let count = bottom.map_or_else(|| lses.iter().filter(|lse| **lse != 0).count(), |at| at + 1);
        let wild = masks.is_some_and(|m| m[..count].iter().all(|m| *m == 0));
        if wild && !self.verbose {
            return;
        }
        self.comma();
        self.out.push_str("mpls(");
        self.mpls(&lses[..count], masks.as_ref().map(|m| &m[..count]));
        self.out.push(')');
    }

    /// The members of `mpls(...)`.
    fn mpls(&mut self, lses: &[u32], masks: Option<&[u32]>) {
        let masks = masks.filter(|m| m.iter().any(|m| *m != u32::MAX));
        for (n, lse) in lses.iter().enumerate() {
            let [label, tc, bos, ttl] = lse_parts(*lse);
            let comma = if n == 0 { "" } else { "," };
            let _ = match masks.map(|m| lse_parts(m[n])) {
                None => write!(self.out, "{comma}label={label},tc={tc},ttl={ttl},bos={bos}"),
                Some([label_m, tc_m, bos_m, ttl_m]) => {
                    write!(
                        self.out,
                        "{comma}label={label}/0x{label_m:x},tc={tc}/{tc_m:x},ttl={ttl}/0x{ttl_m:x},bos={bos}/{bos_m:x}"
                    )
                }
            };
        }
    }

    fn tunnel_attr(&mut self) {
        self.out.push_str("tunnel(");
        self.out.push_str(&tunnel::write(self.key, self.mask, self.verbose));
        self.out.push(')');
    }

    fn comma(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with('(') {
            self.out.push(',');
        }
    }

    /// An attribute, when it is to be shown.
    fn attr(&mut self, attr: DpAttr) {
        if !self.is_wild(attr) || self.verbose {
            self.comma();
            self.nested(attr);
        } else if attr == DpAttr::Ethernet && !self.has_packet_type {
            // Says that the packet begins with an Ethernet header although nothing of it is matched.
            self.comma();
            self.out.push_str("eth()");
        }
    }

    /// `name(members)`.
    fn nested(&mut self, attr: DpAttr) {
        let Some(row) = attrs::attr(attr) else {
            return;
        };
        self.out.push_str(row.name);
        self.out.push('(');
        self.members(row);
        self.out.push(')');
    }

    fn members(&mut self, row: &Attr) {
        let start = self.out.len();
        for member in row.members {
            let place = member.place();
            let context = row.attr == DpAttr::Nsh && member.name.starts_with('c');
            // Context headers are there in MD type 1 only (RFC 8300 section 2.4); OVS shows them as exact zeros with a mask.
            let absent = context && self.key.nsh_mdtype != 1;
            if absent && self.mask.is_none() {
                continue;
            }
            let mask = self.mask.filter(|_| !absent).map_or_else(|| place.all(), |mask| place.read(mask));
            let never = matches!(member.look, Look::Byte | Look::Word | Look::Frag);
            let always = member.look == Look::Reserved || self.verbose && !never;
            if mask == 0 && !always {
                continue;
            }
            if self.out.len() > start {
                self.out.push(',');
            }
            if !member.name.is_empty() {
                let _ = write!(self.out, "{}=", member.name);
            }
            let text = self.value(member, place.read(self.key), mask);
            self.out.push_str(&text);
        }
    }

    fn value(&self, member: &Member, value: u128, mask: u128) -> String {
        // Of the 32 bits of a datapath's ct_state we know eight, so that a mask of ours never is all of them.
        let partial = self.mask.is_some() && member.look == Look::CtState;
        let all = if partial { u128::MAX } else { member.place().all() };
        value_text(member.look, value, mask, all, self.verbose, self.ports)
    }
}

fn is_vlan(eth_type: [u8; 2]) -> bool {
    matches!(eth_type, [0x81, 0x00] | [0x88, 0xa8])
}

/// The bits of a label stack entry: label, traffic class, bottom of stack, TTL (RFC 3032 section 2.1).
const fn lse_parts(lse: u32) -> [u32; 4] {
    [lse >> 12, lse >> 9 & 7, lse >> 8 & 1, lse & 0xff]
}

/// One value with its mask (`all` for exact).
pub(super) fn value_text(look: Look, value: u128, mask: u128, all: u128, verbose: bool, ports: &dyn PortNames) -> String {
    let exact = mask == all;
    let low = |v: u128| u32::try_from(v & 0xffff_ffff).unwrap_or(0);
    let with_mask = |value: String, mask: String| if exact { value } else { format!("{value}/{mask}") };
    let hex = |v: u128| Hex(v).to_string();
    match look {
        Look::Dec => with_mask(value.to_string(), hex(mask)),
        Look::Hex => with_mask(hex(value), hex(mask)),
        Look::Hex0 => with_mask(format!("0x{value:x}"), hex(mask)),
        Look::Hex4 => with_mask(format!("0x{value:04x}"), format!("0x{mask:04x}")),
        Look::Mac => with_mask(Mac(value).to_string(), Mac(mask).to_string()),
        Look::Ip4 => with_mask(ipv4_text(value).to_string(), ipv4_text(mask).to_string()),
        Look::Ip6 => with_mask(Ip6(value).to_string(), Ip6(mask).to_string()),
        Look::Frag => frag_text(value).to_owned(),
        Look::CtState if verbose => with_mask(hex(value), hex(mask)),
        Look::CtState if exact => flags(low(value), CT_STATE),
        Look::CtState => flags_masked(low(value), low(mask), CT_STATE, u32::MAX),
        Look::TcpFlags if exact => flags(low(value), TCP_FLAGS),
        Look::TcpFlags => flags_masked(low(value), low(mask), TCP_FLAGS, low(all)),
        Look::Port if exact => ports.name(low(value)).unwrap_or_else(|| value.to_string()),
        Look::Port => format!("{value}/{}", hex(mask)),
        Look::Word => with_mask(format!("0x{value:x}"), format!("0x{mask:08x}")),
        Look::Reserved => format!("0x{value:x}"),
        Look::Byte if exact => value.to_string(),
        Look::Byte => format!("0x{value:02x}/0x{mask:02x}"),
    }
}

fn frag_text(frag: u128) -> &'static str {
    let frag = u8::try_from(frag).unwrap_or(0);
    match (frag & FRAG_ANY != 0, frag & FRAG_LATER != 0) {
        (false, _) => "no",
        (true, false) => "first",
        (true, true) => "later",
    }
}
