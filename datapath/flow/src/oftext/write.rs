//! Writes a match as `ovs-ofctl dump-flows` does: fields in OVS's order, protocols as words, masks where they are not whole.

use super::value::{format_port, frag_text, hex};
use crate::fields::{Field, TunnelOptions};
use crate::forms::{CT_STATE, Hex, NoNames, PortNames, TCP_FLAGS, TUN_FLAGS, flags_masked, ipv4_masked, ipv6_masked, mac_masked};
use crate::key::{Key, VLAN_CFI};
use crate::matching::Match;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const NSH: [u8; 2] = [0x89, 0x4f];
const PBB: [u8; 2] = [0x88, 0xe7];

/// How a field looks; what follows the slash is the mask, where there is one that is not whole.
#[derive(Clone, Copy)]
enum Look {
    /// `0x1/0xf`
    Hex,
    /// `1`, or `0x1/0xf`
    Dec,
    /// `1`, or `0x01/0x0f`
    Byte,
    /// `0x1/0xf`, `0x0` for zero
    Word,
    /// `1`, or `0x00000001/0x0000000f`
    Word8,
    /// `0x00001/0x0000f`
    Label,
    /// `1`; the mask is not shown.
    Plain,
    /// `0x1`; the mask is not shown.
    PlainHex,
    /// `4` for 0x4: hexadecimal without prefix; the mask is not shown.
    Bare,
    Mac,
    Ip4,
    Ip6,
    Port,
}

const METADATA: &[(Field, &str, Look)] = &[
    (Field::PktMark, "pkt_mark", Look::Hex),
    (Field::RecircId, "recirc_id", Look::Hex),
    (Field::DpHash, "dp_hash", Look::Hex),
    (Field::ConjId, "conj_id", Look::Plain),
    (Field::SkbPriority, "skb_priority", Look::PlainHex),
    (Field::ActsetOutput, "actset_output", Look::Port),
];
const CONNTRACK: &[(Field, &str, Look)] = &[
    (Field::CtZone, "ct_zone", Look::Dec),
    (Field::CtMark, "ct_mark", Look::Hex),
    (Field::CtLabel, "ct_label", Look::Hex),
    (Field::CtNwSrc, "ct_nw_src", Look::Ip4),
    (Field::CtIpv6Src, "ct_ipv6_src", Look::Ip6),
    (Field::CtNwDst, "ct_nw_dst", Look::Ip4),
    (Field::CtIpv6Dst, "ct_ipv6_dst", Look::Ip6),
];
const CONNTRACK_TUPLE: &[(Field, &str, Look)] = &[
    (Field::CtNwProto, "ct_nw_proto", Look::Plain),
    (Field::CtTpSrc, "ct_tp_src", Look::Dec),
    (Field::CtTpDst, "ct_tp_dst", Look::Dec),
];
const TUNNEL: &[(Field, &str, Look)] = &[
    (Field::TunId, "tun_id", Look::Hex),
    (Field::TunSrc, "tun_src", Look::Ip4),
    (Field::TunDst, "tun_dst", Look::Ip4),
    (Field::TunIpv6Src, "tun_ipv6_src", Look::Ip6),
    (Field::TunIpv6Dst, "tun_ipv6_dst", Look::Ip6),
    (Field::TunGbpId, "tun_gbp_id", Look::Dec),
    (Field::TunGbpFlags, "tun_gbp_flags", Look::PlainHex),
    (Field::TunTos, "tun_tos", Look::Bare),
    (Field::TunTtl, "tun_ttl", Look::Plain),
    (Field::TunErspanVer, "tun_erspan_ver", Look::Plain),
];
const ERSPAN_1: &[(Field, &str, Look)] = &[(Field::TunErspanIdx, "tun_erspan_idx", Look::PlainHex)];
const ERSPAN_2: &[(Field, &str, Look)] =
    &[(Field::TunErspanDir, "tun_erspan_dir", Look::Plain), (Field::TunErspanHwid, "tun_erspan_hwid", Look::PlainHex)];
const GTPU: &[(Field, &str, Look)] =
    &[(Field::TunGtpuFlags, "gtpu_flags", Look::PlainHex), (Field::TunGtpuMsgtype, "gtpu_msgtype", Look::Plain)];
const PORT: &[(Field, &str, Look)] = &[(Field::Metadata, "metadata", Look::Hex), (Field::InPort, "in_port", Look::Port)];
const ETHERNET: &[(Field, &str, Look)] = &[(Field::EthSrc, "dl_src", Look::Mac), (Field::EthDst, "dl_dst", Look::Mac)];
const IPV6_FIELDS: &[(Field, &str, Look)] = &[
    (Field::Ipv6Src, "ipv6_src", Look::Ip6),
    (Field::Ipv6Dst, "ipv6_dst", Look::Ip6),
    (Field::Ipv6Label, "ipv6_label", Look::Label),
    (Field::Ipv6Exthdr, "ipv6_exthdr", Look::Hex),
];
const ARP_IP: &[(Field, &str, Look)] = &[(Field::ArpSpa, "arp_spa", Look::Ip4), (Field::ArpTpa, "arp_tpa", Look::Ip4)];
const ARP_MAC: &[(Field, &str, Look)] = &[(Field::ArpSha, "arp_sha", Look::Mac), (Field::ArpTha, "arp_tha", Look::Mac)];
const IPV4_FIELDS: &[(Field, &str, Look)] = &[(Field::IpSrc, "nw_src", Look::Ip4), (Field::IpDst, "nw_dst", Look::Ip4)];
const NSH_FIELDS: &[(Field, &str, Look)] = &[
    (Field::NshFlags, "nsh_flags", Look::Byte),
    (Field::NshTtl, "nsh_ttl", Look::Byte),
    (Field::NshMdtype, "nsh_mdtype", Look::Byte),
    (Field::NshNp, "nsh_np", Look::Byte),
    (Field::NshSpi, "nsh_spi", Look::Word),
    (Field::NshSi, "nsh_si", Look::Byte),
];
const NSH_CONTEXT: &[(Field, &str, Look)] = &[
    (Field::NshC1, "nsh_c1", Look::Word),
    (Field::NshC2, "nsh_c2", Look::Word),
    (Field::NshC3, "nsh_c3", Look::Word),
    (Field::NshC4, "nsh_c4", Look::Word),
];
const PBB_FIELDS: &[(Field, &str, Look)] = &[(Field::PbbIsid, "pbb_isid", Look::Dec), (Field::PbbUca, "pbb_uca", Look::Plain)];
const IP_AND_MPLS: &[(Field, &str, Look)] = &[
    (Field::NwTos, "nw_tos", Look::Plain),
    (Field::NwEcn, "nw_ecn", Look::Plain),
    (Field::NwTtl, "nw_ttl", Look::Plain),
    (Field::MplsLabel, "mpls_label", Look::Plain),
    (Field::MplsTc, "mpls_tc", Look::Plain),
    (Field::MplsTtl, "mpls_ttl", Look::Plain),
    (Field::MplsBos, "mpls_bos", Look::Plain),
];
const ICMP: &[(Field, &str, Look)] = &[(Field::IcmpType, "icmp_type", Look::Dec), (Field::IcmpCode, "icmp_code", Look::Dec)];
const ND: &[(Field, &str, Look)] = &[
    (Field::NdTarget, "nd_target", Look::Ip6),
    (Field::NdSll, "nd_sll", Look::Mac),
    (Field::NdTll, "nd_tll", Look::Mac),
    (Field::NdReserved, "nd_reserved", Look::Word8),
    (Field::NdOptionsType, "nd_options_type", Look::Dec),
];
const TRANSPORT: &[(Field, &str, Look)] = &[(Field::TcpSrc, "tp_src", Look::Dec), (Field::TcpDst, "tp_dst", Look::Dec)];

/// A match in ovs-ofctl's syntax, without port names.
#[must_use]
pub fn format_match(matching: &Match) -> String {
    format_match_with(matching, &NoNames)
}

/// A match in ovs-ofctl's syntax.
#[must_use]
pub fn format_match_with(matching: &Match, ports: &dyn PortNames) -> String {
    let mut writer = Writer { matching, ports, parts: Vec::new() };
    writer.all();
    writer.parts.join(",")
}

struct Writer<'a> {
    matching: &'a Match,
    ports: &'a dyn PortNames,
    parts: Vec<String>,
}

impl Writer<'_> {
    fn all(&mut self) {
        let (key, mask) = (&self.matching.key, &self.matching.mask);
        self.list(METADATA);
        self.conntrack();
        let megaflow = mask.recirc_id != [0; 4];
        if mask.packet_type != [0; 4] && (!self.matching.is_ethernet() || megaflow) {
            self.packet_type();
        }
        let eth_type = self.matching.eth_type();
        let (type_shown, proto_shown) = self.protocol(eth_type);
        for n in 0..32 {
            let field = Field::reg(n).expect("there are 32 registers");
            self.one(field, field.row().name, Look::Hex);
        }
        self.tunnel();
        self.list(PORT);
        self.vlan("", key.vlan_tci, mask.vlan_tci);
        if mask.vlan_tci != [0; 2] {
            self.vlan("1", key.vlan2_tci, mask.vlan2_tci);
        }
        self.list(ETHERNET);
        if !type_shown && mask.eth_type != [0; 2] {
            self.parts.push(format!("dl_type=0x{:04x}", u16::from_be_bytes(eth_type)));
        }
        let arp = matches!(eth_type, [0x08, 0x06] | [0x80, 0x35]);
        match eth_type {
            IPV6 => self.list(IPV6_FIELDS),
            _ if arp => self.list(ARP_IP),
            NSH => self.nsh(),
            PBB => self.list(PBB_FIELDS),
            _ => self.list(IPV4_FIELDS),
        }
        if !proto_shown {
            let (field, name) = if arp { (Field::ArpOp, "arp_op") } else { (Field::NwProto, "nw_proto") };
            self.one(field, name, Look::Plain);
        }
        if arp {
            self.list(ARP_MAC);
        }
        self.list(IP_AND_MPLS);
        self.further_labels(key, mask);
        self.frag();
        self.transport(eth_type);
    }

    fn list(&mut self, list: &[(Field, &str, Look)]) {
        for (field, name, look) in list {
            self.one(*field, name, *look);
        }
    }

    /// One field, when anything of it is matched.
    fn one(&mut self, field: Field, name: &str, look: Look) {
        let (value, mask) = self.matching.get(field);
        if mask != 0 {
            let text = show(look, value, mask, mask == field.exact(), self.ports);
            self.parts.push(format!("{name}={text}"));
        }
    }

    fn conntrack(&mut self) {
        let (state, mask) = self.matching.get(Field::CtState);
        let small = |v: u128| u32::try_from(v).unwrap_or(0);
        if mask != 0 {
            self.parts.push(format!("ct_state={}", flags_masked(small(state), small(mask), CT_STATE, 0xff)));
        }
        self.list(CONNTRACK);
        if self.matching.has(Field::CtNwProto) {
            self.list(CONNTRACK_TUPLE);
        }
    }

    fn packet_type(&mut self) {
        let (value, mask) = self.matching.get(Field::PacketType);
        if self.matching.is_ethernet() {
            self.parts.push("eth".to_owned());
            return;
        }
        let part = |value: u128, mask: u128, hex: bool| {
            let shown = if hex { Hex(value).to_string() } else { value.to_string() };
            if mask == 0xffff { shown } else { format!("{}/{}", Hex(value), Hex(mask)) }
        };
        let (namespace, kind) = (part(value >> 16, mask >> 16, false), part(value & 0xffff, mask & 0xffff, true));
        self.parts.push(format!("packet_type=({namespace},{kind})"));
    }

    /// The word for Ethernet type and IP protocol; whether it stands for the one and the other.
    fn protocol(&mut self, eth_type: [u8; 2]) -> (bool, bool) {
        let mask = &self.matching.mask;
        if mask.eth_type == [0; 2] {
            return (false, false);
        }
        let proto = (mask.nw_proto != 0).then_some(self.matching.key.nw_proto);
        let (word, proto_shown) = match (eth_type, proto) {
            (IPV4, Some(1)) => ("icmp", true),
            (IPV4, Some(6)) => ("tcp", true),
            (IPV4, Some(17)) => ("udp", true),
            (IPV4, Some(132)) => ("sctp", true),
            (IPV4, _) => ("ip", false),
            (IPV6, Some(58)) => ("icmp6", true),
            (IPV6, Some(6)) => ("tcp6", true),
            (IPV6, Some(17)) => ("udp6", true),
            (IPV6, Some(132)) => ("sctp6", true),
            (IPV6, _) => ("ipv6", false),
            ([0x08, 0x06], _) => ("arp", false),
            ([0x80, 0x35], _) => ("rarp", false),
            ([0x88, 0x47], _) => ("mpls", false),
            ([0x88, 0x48], _) => ("mplsm", false),
            _ => return (false, false),
        };
        self.parts.push(word.to_owned());
        (true, proto_shown)
    }

    fn tunnel(&mut self) {
        let (key, mask) = (&self.matching.key, &self.matching.mask);
        self.list(TUNNEL);
        match key.tun_erspan_ver {
            1 => self.list(ERSPAN_1),
            2 => self.list(ERSPAN_2),
            _ => {}
        }
        self.list(GTPU);
        let bits = |k: &Key| u32::from(u16::from_be_bytes(k.tun_flags)) & 0xf;
        if bits(mask) != 0 {
            self.parts.push(format!("tun_flags={}", flags_masked(bits(key), bits(mask), TUN_FLAGS, 0xf)));
        }
        let Some(options) = self.matching.options.options() else {
            return;
        };
        for (n, option) in options.iter().filter(|(n, _)| TunnelOptions::is_present(mask, *n)) {
            let (value, bits) = (options.get(key, n), options.get(mask, n));
            let whole = crate::Value::ones(option.bytes * 8);
            let text = if !TunnelOptions::is_present(key, n) {
                "=NP".to_owned()
            } else if bits.is_zero() {
                String::new()
            } else if bits == whole {
                format!("={}", hex(&value))
            } else {
                format!("={}/{}", hex(&value), hex(&bits))
            };
            self.parts.push(format!("tun_metadata{n}{text}"));
        }
    }

    fn vlan(&mut self, n: &str, tci: [u8; 2], mask: [u8; 2]) {
        let (tci, mask) = (u16::from_be_bytes(tci), u16::from_be_bytes(mask));
        if mask == 0 {
            return;
        }
        let (vid, pcp) = (mask & 0xfff, mask >> 13);
        let tagged = mask & VLAN_CFI != 0 && tci & VLAN_CFI != 0;
        if tagged && matches!(vid, 0 | 0xfff) && matches!(pcp, 0 | 7) && mask != VLAN_CFI {
            if vid != 0 {
                self.parts.push(format!("dl_vlan{n}={}", tci & 0xfff));
            }
            if pcp != 0 {
                self.parts.push(format!("dl_vlan_pcp{n}={}", tci >> 13));
            }
        } else if mask == u16::MAX {
            self.parts.push(format!("vlan_tci{n}=0x{tci:04x}"));
        } else {
            self.parts.push(format!("vlan_tci{n}=0x{tci:04x}/0x{mask:04x}"));
        }
    }

    fn nsh(&mut self) {
        self.list(NSH_FIELDS);
        if self.matching.get(Field::NshMdtype) == (1, 0xff) {
            self.list(NSH_CONTEXT);
        }
    }

    fn further_labels(&mut self, key: &Key, mask: &Key) {
        for (name, lse, mask) in [("mpls_lse1", key.mpls_lse1, mask.mpls_lse1), ("mpls_lse2", key.mpls_lse2, mask.mpls_lse2)] {
            let word = |b: [u8; 4]| u128::from(u32::from_be_bytes(b));
            if mask != [0; 4] {
                self.parts.push(format!("{name}={}", show(Look::Word8, word(lse), word(mask), mask == [0xff; 4], self.ports)));
            }
        }
    }

    fn frag(&mut self) {
        let (value, mask) = self.matching.get(Field::IpFrag);
        if mask != 0 {
            self.parts.push(format!("nw_frag={}", frag_text(value, mask)));
        }
    }

    fn transport(&mut self, eth_type: [u8; 2]) {
        let proto = self.matching.key.nw_proto;
        match (eth_type, proto) {
            (IPV4, 1) => self.list(ICMP),
            (IPV6, 58) => {
                self.list(ICMP);
                self.list(ND);
            }
            _ => self.list(TRANSPORT),
        }
        let (value, mask) = self.matching.get(Field::TcpFlags);
        if matches!(eth_type, IPV4 | IPV6) && proto == 6 && mask != 0 {
            let small = |v: u128| u32::try_from(v).unwrap_or(0);
            self.parts.push(format!("tcp_flags={}", flags_masked(small(value), small(mask), TCP_FLAGS, 0xfff)));
        }
    }
}

fn show(look: Look, value: u128, mask: u128, whole: bool, ports: &dyn PortNames) -> String {
    let masked = |value: String, mask: String| if whole { value } else { format!("{value}/{mask}") };
    match look {
        Look::Hex => masked(Hex(value).to_string(), Hex(mask).to_string()),
        Look::Dec | Look::Byte | Look::Word8 if whole => value.to_string(),
        Look::Dec => format!("0x{value:x}/0x{mask:x}"),
        Look::Byte => format!("0x{value:02x}/0x{mask:02x}"),
        Look::Word8 => format!("0x{value:08x}/0x{mask:08x}"),
        Look::Word => masked(format!("0x{value:x}"), format!("0x{mask:x}")),
        Look::Label => masked(format!("0x{value:05x}"), format!("0x{mask:05x}")),
        Look::Plain => value.to_string(),
        Look::PlainHex => Hex(value).to_string(),
        Look::Bare => format!("{value:x}"),
        Look::Mac => mac_masked(value, mask),
        Look::Ip4 => ipv4_masked(value, mask),
        Look::Ip6 => ipv6_masked(value, mask),
        Look::Port => format_port(u32::try_from(value & 0xffff).unwrap_or(0), ports),
    }
}
