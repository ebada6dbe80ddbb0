//! Outer headers as `tnl_push` carries them: built once per megaflow, with lengths, source port and checksums left open.
//!
//! What enters: a tunnel port's configuration, the key with the tunnel fields as translation has set them, the addresses that routing and
//! neighbours have given. What leaves: the bytes. Neighbours: `xlate::native`; `datapath::tunnel` finishes them packet by packet.

use super::kind::Kind;
use super::options::{Addr, Config, FlowLabel};
use flow::fields::TunnelOptions;
use flow::key::{Key, TUN_CSUM, TUN_DF, TUN_OAM};
use flow::wire::{Ethernet, Geneve, GeneveOption, Gre, Ipv4, Ipv6, Udp, Vxlan, eth_type, ip_proto};
use zerocopy::IntoBytes;

const GRE_CSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQ: u16 = 0x1000;
/// ERSPAN types II and III (draft-foschiano-erspan).
const ERSPAN_V1: u16 = 0x88be;
const ERSPAN_V2: u16 = 0x22eb;
const ERSPAN_SESSION_MAX: u32 = 0x3ff;
/// RFC 7348 section 5: a VNI is present.
const VXLAN_VNI: u32 = 0x0800_0000;
/// draft-ietf-nvo3-vxlan-gpe: the next protocol is named.
const VXLAN_GPE: u32 = 0x0400_0000;
/// draft-smith-vxlan-group-policy: a group policy ID is present.
const VXLAN_GBP: u32 = 0x8000_0000;
/// 3GPP TS 29.281 section 5.1: version 1, protocol type GTP.
const GTPU_FLAGS: u8 = 0x30;
const GTPU_HAS_SEQ: u8 = 0x02;
const GTPU_USER_DATA: u8 = 255;
/// IPv4 and IPv6 inside IPv6 (RFC 2003, RFC 2473).
const IPIP: u8 = 4;
const IPV6_IN_IPV6: u8 = 41;
/// RFC 8754 section 2
const SEGMENT_ROUTING: u8 = 4;
const DONT_FRAGMENT: u16 = 0x4000;
/// A checksum that asks for a real one.
const WANTED: u16 = 0xffff;
const PT_ETHERNET: u32 = 0;
const CRITICAL: u8 = 0x80;

/// The link that the packet leaves by.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    /// Source address if the flow has none.
    pub src: Addr,
}

/// Builds a header; `None` when the packet or the flow's fields do not fit the kind.
#[must_use]
pub fn build(config: &Config, key: &Key, link: &Link, options: &TunnelOptions) -> Option<Vec<u8>> {
    let packet_type = u32::from_be_bytes(key.packet_type);
    let inner = match packet_type {
        PT_ETHERNET => eth_type::TEB,
        _ if packet_type >> 16 == 1 => u16::try_from(packet_type & 0xffff).ok()?,
        _ => return None,
    };
    let dst = Addr::of_fields(key.tun_dst, key.tun_ipv6_dst);
    let mut out = Vec::with_capacity(64);
    let eth = if dst.is_v4() { eth_type::IPV4 } else { eth_type::IPV6 };
    out.extend(Ethernet { dst: link.dst_mac, src: link.src_mac, eth_type: eth.to_be_bytes() }.as_bytes());
    let tunnel = inner_part(config, key, inner, dst, options)?;
    put_ip(&mut out, key, dst, link.src, tunnel.proto);
    if config.kind == Kind::Srv6 {
        label(&mut out, config, key);
    }
    out.extend(tunnel.bytes);
    Some(out)
}

/// What stands after the IP header.
struct Part {
    proto: u8,
    bytes: Vec<u8>,
}

fn inner_part(config: &Config, key: &Key, inner: u16, dst: Addr, options: &TunnelOptions) -> Option<Part> {
    let udp = |rest: Option<Vec<u8>>| {
        let mut bytes = udp_header(config, key, dst);
        bytes.extend(rest?);
        Some(Part { proto: ip_proto::UDP, bytes })
    };
    let gre = |bytes: Option<Vec<u8>>| Some(Part { proto: ip_proto::GRE, bytes: bytes? });
    match config.kind {
        Kind::Vxlan => udp(vxlan(config, key, inner)),
        Kind::Geneve => udp((inner == eth_type::TEB).then(|| geneve(key, options))),
        Kind::Gtpu => udp(Some(gtpu(config, key))),
        Kind::Bareudp => udp(carried(config, inner).then(Vec::new)),
        Kind::Gre | Kind::Ip6gre => gre(Some(gre_header(config, key, inner))),
        Kind::Erspan | Kind::Ip6erspan => gre(erspan(key)),
        Kind::Srv6 => Some(Part { proto: ip_proto::ROUTING, bytes: srv6(config, inner, dst)? }),
        Kind::Lisp | Kind::Stt => None,
    }
}

fn put_ip(out: &mut Vec<u8>, key: &Key, dst: Addr, src: Addr, proto: u8) {
    let own = Addr::of_fields(key.tun_src, key.tun_ipv6_src);
    let src = if own == Addr(0) { src } else { own };
    if dst.is_v4() {
        let flags = u16::from_be_bytes(key.tun_flags);
        let frag = if flags & TUN_DF != 0 { DONT_FRAGMENT } else { 0 };
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: key.tun_tos,
            frag: frag.to_be_bytes(),
            ttl: key.tun_ttl,
            proto,
            src: src.to_v4(),
            dst: dst.to_v4(),
            ..Ipv4::default()
        };
        ip.checksum = flow::checksum::checksum(ip.as_bytes());
        out.extend(ip.as_bytes());
    } else {
        let version_class_label = (6 << 28 | u32::from(key.tun_tos) << 20).to_be_bytes();
        let (src, dst) = (src.to_v6(), dst.to_v6());
        out.extend(Ipv6 { version_class_label, payload_len: [0; 2], next: proto, hop_limit: key.tun_ttl, src, dst }.as_bytes());
    }
}

/// Whether the inner packet's flow label is in the header.
#[must_use]
pub fn copies_label(config: &Config, key: &Key) -> bool {
    config.kind == Kind::Srv6 && config.flow_label == FlowLabel::Copy && key.eth_type == eth_type::IPV6.to_be_bytes()
}

/// Whether the datapath makes the flow label of a hash of the inner flow.
#[must_use]
pub fn computes_label(config: &Config) -> bool {
    config.kind == Kind::Srv6 && config.flow_label == FlowLabel::Compute
}

/// The flow label of an SRv6 packet (RFC 8754 section 5.5), if it is the inner packet's.
fn label(out: &mut [u8], config: &Config, key: &Key) {
    const LABEL_AT: usize = size_of::<Ethernet>();
    let of_flow = u32::from_be_bytes(key.flow_label());
    if copies_label(config, key)
        && let Some(word) = out.get_mut(LABEL_AT..LABEL_AT + 4)
    {
        for (byte, bits) in word.iter_mut().zip(of_flow.to_be_bytes()) {
            *byte |= bits;
        }
    }
}

fn udp_header(config: &Config, key: &Key, dst: Addr) -> Vec<u8> {
    let asked = u16::from_be_bytes(key.tun_flags) & TUN_CSUM != 0;
    // RFC 8200 section 8.1: UDP over IPv6 has a checksum, unless the operator says no (RFC 6935).
    let by_default = !dst.is_v4() && config.csum != Some(false);
    let checksum = if asked || by_default { WANTED } else { 0 };
    let header = Udp { src: [0; 2], dst: config.dst_port.to_be_bytes(), len: [0; 2], checksum: checksum.to_be_bytes() };
    header.as_bytes().to_vec()
}

fn vni(key: &Key) -> [u8; 3] {
    let [.., a, b, c] = key.tun_id;
    [a, b, c]
}

fn vxlan(config: &Config, key: &Key, inner: u16) -> Option<Vec<u8>> {
    let mut flags = VXLAN_VNI;
    if config.gpe {
        flags |= VXLAN_GPE
            | match inner {
                eth_type::IPV4 => 1,
                eth_type::IPV6 => 2,
                eth_type::TEB => 3,
                eth_type::NSH => 4,
                _ => return None,
            };
    } else if inner != eth_type::TEB {
        return None;
    } else if config.gbp && (key.tun_gbp_id != [0; 2] || key.tun_gbp_flags != 0) {
        let id = u32::from(u16::from_be_bytes(key.tun_gbp_id));
        flags |= VXLAN_GBP | u32::from(key.tun_gbp_flags) << 16 | id;
    }
    Some(Vxlan { flags: flags.to_be_bytes(), vni: vni(key), reserved: 0 }.as_bytes().to_vec())
}

fn geneve(key: &Key, options: &TunnelOptions) -> Vec<u8> {
    let mut wire = *key;
    options.to_wire(&mut wire);
    let len = usize::try_from(u64::from_be_bytes(wire.tun_metadata_present)).unwrap_or(0).min(wire.tun_metadata.len());
    let data = &wire.tun_metadata[..len];
    let oam = u16::from_be_bytes(key.tun_flags) & TUN_OAM != 0;
    let flags = if oam { 0x80 } else { 0 } | if has_critical(data) { 0x40 } else { 0 };
    let version_len = u8::try_from(len / 4).unwrap_or(0);
    let header = Geneve { version_len, flags, protocol: eth_type::TEB.to_be_bytes(), vni: vni(key), reserved: 0 };
    [header.as_bytes(), data].concat()
}

/// RFC 8926 section 3.5: the high bit of an option's type.
fn has_critical(mut options: &[u8]) -> bool {
    const HEADER: usize = size_of::<GeneveOption>();
    while let Some(head) = options.get(..HEADER) {
        if head[2] & CRITICAL != 0 {
            return true;
        }
        options = options.get(HEADER + usize::from(head[3] & 0x1f) * 4..).unwrap_or_default();
    }
    false
}

fn gtpu(config: &Config, key: &Key) -> Vec<u8> {
    let mut flags = if key.tun_gtpu_flags == 0 { GTPU_FLAGS } else { key.tun_gtpu_flags };
    let kind = if key.tun_gtpu_msgtype == 0 { GTPU_USER_DATA } else { key.tun_gtpu_msgtype };
    if config.seq {
        flags |= GTPU_HAS_SEQ;
    }
    let [.., a, b, c, d] = key.tun_id;
    let mut bytes = vec![flags, kind, 0, 0, a, b, c, d];
    if config.seq {
        bytes.extend([0; 4]);
    }
    bytes
}

/// Whether a bare UDP tunnel carries packets of a type.
fn carried(config: &Config, inner: u16) -> bool {
    let related = match config.payload_type {
        eth_type::IPV4 => inner == eth_type::IPV6,
        eth_type::MPLS => inner == eth_type::MPLS_MULTICAST,
        _ => false,
    };
    inner == config.payload_type || config.multi_protocol && related
}

fn gre_header(config: &Config, key: &Key, inner: u16) -> Vec<u8> {
    let mut flags = 0;
    let mut words = Vec::new();
    if u16::from_be_bytes(key.tun_flags) & TUN_CSUM != 0 {
        flags |= GRE_CSUM;
        words.extend([0; 4]);
    }
    if config.out_key.is_some() {
        flags |= GRE_KEY;
        words.extend(&key.tun_id[4..]);
    }
    if config.seq {
        flags |= GRE_SEQ;
        words.extend([0; 4]);
    }
    [Gre { flags: flags.to_be_bytes(), protocol: inner.to_be_bytes() }.as_bytes(), &words].concat()
}

fn erspan(key: &Key) -> Option<Vec<u8>> {
    let id = u64::from_be_bytes(key.tun_id);
    let session = u32::try_from(id).ok().filter(|s| *s <= ERSPAN_SESSION_MAX)?;
    let [_, _, high, low] = session.to_be_bytes();
    let version = key.tun_erspan_ver;
    let protocol = match version {
        1 => ERSPAN_V1,
        2 => ERSPAN_V2,
        _ => return None,
    };
    let mut bytes = Gre { flags: GRE_SEQ.to_be_bytes(), protocol: protocol.to_be_bytes() }.as_bytes().to_vec();
    bytes.extend([0, 0, 0, 0, version << 4, 0, high, low]);
    if version == 1 {
        bytes.extend(key.tun_erspan_idx);
    } else {
        let (dir, hardware) = (key.tun_erspan_dir & 1, key.tun_erspan_hwid & 0x3f);
        bytes.extend([0, 0, 0, 0, 0, 0, hardware >> 4, hardware << 4 | dir << 3]);
    }
    Some(bytes)
}

fn srv6(config: &Config, inner: u16, dst: Addr) -> Option<Vec<u8>> {
    let next = match inner {
        eth_type::IPV4 => IPIP,
        eth_type::IPV6 => IPV6_IN_IPV6,
        _ => return None,
    };
    let alone = [dst];
    let segments = if config.segments.is_empty() { &alone } else { config.segments.as_slice() };
    let n = u8::try_from(segments.len()).ok()?;
    let mut bytes = vec![next, 2 * n, SEGMENT_ROUTING, n - 1, n - 1, 0, 0, 0];
    for segment in segments.iter().rev() {
        bytes.extend(segment.to_v6());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::options::parse;
    use super::*;
    use flow::Action;
    use flow::action::TunnelPush;
    use flow::action_text::{format_actions, parse_actions};
    use flow::forms::NoNames;
    use flow::key::TUN_KEY;
    use flow::seam::DpPort;

    fn header(kind: &str, options: &str, change: impl FnOnce(&mut Key)) -> Option<String> {
        let kind = Kind::by_name(kind).unwrap();
        let pairs: Vec<(String, String)> =
            options.split_whitespace().map(|w| w.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
        let (config, _) = parse("t", kind, &pairs).unwrap();
        let mut key = Key { tun_dst: [1, 1, 2, 92], tun_ttl: 64, tun_flags: (TUN_DF | TUN_KEY).to_be_bytes(), ..Key::ZERO };
        key.tun_id = 123u64.to_be_bytes();
        change(&mut key);
        let link = Link {
            src_mac: [0xaa, 0x55, 0xaa, 0x55, 0, 0],
            dst_mac: [0xf8, 0xbc, 0x12, 0x44, 0x34, 0xb6],
            src: if key.tun_dst == [0; 4] { Addr::parse("2001:cafe::88") } else { Addr::parse("1.1.2.88") }.unwrap(),
        };
        let header = build(&config, &key, &link, &TunnelOptions::default())?;
        let push = TunnelPush {
            tunnel_port: DpPort(1),
            out_port: DpPort(100),
            kind: kind.row().vport.unwrap(),
            header,
            computes_label: false,
        };
        let actions = vec![Action::TunnelPush(Box::new(push))];
        let text = format_actions(&actions, &NoNames);
        if kind != Kind::Srv6 {
            // A routing header's text does not say what is inside.
            assert_eq!(parse_actions(&text, &NoNames).unwrap(), actions, "the text says all of it");
        }
        let outer = "eth(dst=f8:bc:12:44:34:b6,src=aa:55:aa:55:00:00,dl_type=0x0800),ipv4(src=1.1.2.88,dst=1.1.2.92,";
        Some(text.replace("tnl_push(tnl_port(1),header(size=", "").replace("),out_port(100))", "").replace(outer, ""))
    }

    fn check(kind: &str, options: &str, expect: &str) {
        assert_eq!(header(kind, options, |_| ()).as_deref(), Some(expect), "{kind} {options}");
    }

    #[test]
    fn as_ovs_writes_them() {
        let udp = "proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0";
        let gre = "proto=47,tos=0,ttl=64,frag=0x4000),gre((flags";
        let r = "remote_ip=1.1.2.92";
        check("vxlan", r, &format!("50,type=4,{udp},dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x7b)"));
        let gpe = format!("50,type=4,{udp},dst=4789,csum=0x0),vxlan(flags=0xc000003,vni=0x7b)");
        check("vxlan", &format!("{r} exts=gpe"), &gpe);
        check("geneve", r, &format!("50,type=5,{udp},dst=6081,csum=0x0),geneve(vni=0x7b)"));
        check("gre", r, &format!("38,type=3,{gre}=0x0,proto=0x6558))"));
        check("gre", &format!("{r} key=1 seq=true"), &format!("46,type=3,{gre}=0x3000,proto=0x6558),key=0x7b,seq=0x0)"));
        check("gtpu", r, &format!("50,type=110,{udp},dst=2152,csum=0x0),gtpu(flags=0x30,msgtype=255,teid=0x7b)"));
    }

    #[test]
    fn what_does_not_fit_has_no_header() {
        let erspan = |id: u64, version| {
            header("erspan", "remote_ip=1.1.2.92 erspan_ver=1", |key| {
                (key.tun_id, key.tun_erspan_ver) = (id.to_be_bytes(), version);
            })
        };
        assert!(erspan(1023, 1).is_some_and(|t| t.contains("erspan(ver=1,sid=0x3ff,idx=0x0)")));
        assert_eq!((erspan(1024, 1), erspan(1, 3)), (None, None));
        let bare = |kind, options| header(kind, options, |key| key.packet_type = [0, 1, 8, 0]);
        assert_eq!(bare("vxlan", "remote_ip=1.1.2.92"), None);
        assert!(bare("vxlan", "remote_ip=1.1.2.92 exts=gpe").is_some());
        assert!(bare("gre", "remote_ip=1.1.2.92").is_some_and(|t| t.contains("proto=0x800")));
        assert_eq!(bare("geneve", "remote_ip=1.1.2.92"), None);
    }

    #[test]
    fn udp_over_ipv6_has_a_checksum_unless_it_is_refused() {
        let over_v6 = |options| {
            header("vxlan", options, |key| {
                key.tun_dst = [0; 4];
                key.tun_ipv6_dst = Addr::parse("2001:cafe::92").unwrap().to_v6();
            })
        };
        assert!(over_v6("remote_ip=2001:cafe::92").is_some_and(|t| t.contains("csum=0xffff")));
        assert!(over_v6("remote_ip=2001:cafe::92 csum=false").is_some_and(|t| t.contains("csum=0x0")));
        let label = header("srv6", "remote_ip=2001:cafe::92", |key| {
            key.tun_dst = [0; 4];
            key.tun_ipv6_dst = Addr::parse("2001:cafe::92").unwrap().to_v6();
            (key.packet_type, key.eth_type) = ([0, 1, 0x86, 0xdd], [0x86, 0xdd]);
            key.ipv6_label = [0, 1, 2, 3];
        });
        assert!(label.is_some_and(|t| t.contains("label=66051") && t.contains("srv6(segments_left=0,segs(2001:cafe::92))")));
    }
}
