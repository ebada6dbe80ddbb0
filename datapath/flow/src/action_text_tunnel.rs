//! `tnl_push(...)` as text: a prebuilt outer header, taken apart and put together again.
//!
//! What enters: the bytes of a header, or text. What leaves: the other of the two; lengths, which the text does not have, stay
//! zero until a packet is pushed, the IPv4 checksum covers the header as it stands. Neighbours: `action_text`, `wire`.

use crate::action::TunnelPush;
use crate::action_text::{Writer, mac};
use crate::action_text_read::Reader;
use crate::checksum;
use crate::fields::VALUE_BYTES_MAX;
use crate::forms::{Hex, Ip6};
use crate::wire::{Ethernet, Geneve, GeneveOption, Gre, Ipv4, Ipv6, Udp, Vxlan, eth_type};
use std::fmt::Write;
use std::net::Ipv4Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Numbers of `OVS_VPORT_TYPE_*`.
pub mod vport {
    pub const GRE: u32 = 3;
    pub const VXLAN: u32 = 4;
    pub const GENEVE: u32 = 5;
    pub const ERSPAN: u32 = 107;
    pub const IP6ERSPAN: u32 = 108;
    pub const IP6GRE: u32 = 109;
    pub const GTPU: u32 = 110;
    pub const BAREUDP: u32 = 111;
    pub const SRV6: u32 = 112;
}

/// GRE flags (RFC 2890): a word of 4 bytes follows for each, with its name in text and how many of its bytes count.
const GRE_WORDS: [(u16, &str, usize); 3] = [(0x8000, "csum", 2), (0x2000, "key", 4), (0x1000, "seq", 4)];
const GRE_SEQ: u16 = 0x1000;
/// ERSPAN types II and III (draft-foschiano-erspan).
const ERSPAN_V1: u16 = 0x88be;
const ERSPAN_V2: u16 = 0x22eb;
/// Bytes of a header with all options.
const HEADER_BYTES_MAX: usize = 512;
/// Segments of a routing header.
const SEGMENTS_MAX: usize = 6;

macro_rules! put {
    ($w:expr, $($arg:tt)*) => { $w.out.write_fmt(format_args!($($arg)*)).expect("a String takes all") };
}

fn be16(b: [u8; 2]) -> u16 {
    u16::from_be_bytes(b)
}

fn vni(b: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, b[0], b[1], b[2]])
}

/// A header being taken apart. What is missing reads as zero.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn pull<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> T {
        match T::read_from_prefix(self.0) {
            Ok((header, rest)) => {
                self.0 = rest;
                header
            }
            Err(_) => {
                self.0 = &[];
                T::new_zeroed()
            }
        }
    }
}

/// Writes `header(...)`.
pub(crate) fn write_tunnel_push(w: &mut Writer<'_>, push: &TunnelPush) {
    let mut rest = Rest(&push.header);
    let eth: Ethernet = rest.pull();
    put!(w, "header(size={},type={},", push.header.len(), push.kind);
    put!(w, "eth(dst={},src={},dl_type=0x{:04x}),", mac(&eth.dst), mac(&eth.src), be16(eth.eth_type));
    if be16(eth.eth_type) == eth_type::IPV4 {
        let ip: Ipv4 = rest.pull();
        put!(w, "ipv4(src={},dst={},proto={}", Ipv4Addr::from(ip.src), Ipv4Addr::from(ip.dst), ip.proto);
        put!(w, ",tos={},ttl={},frag=0x{:x}),", Hex(u128::from(ip.tos)), ip.ttl, be16(ip.frag));
    } else {
        let ip: Ipv6 = rest.pull();
        let first = u32::from_be_bytes(ip.version_class_label);
        let (src, dst) = (Ip6(u128::from_be_bytes(ip.src)), Ip6(u128::from_be_bytes(ip.dst)));
        put!(w, "ipv6(src={src},dst={dst},label=");
        if push.computes_label {
            w.out.push_str("compute");
        } else {
            put!(w, "{}", first & 0xf_ffff);
        }
        put!(w, ",proto={}", ip.next);
        put!(w, ",tclass=0x{:x},hlimit={}),", first >> 20 & 0xff, ip.hop_limit);
    }
    match push.kind {
        vport::VXLAN | vport::GENEVE | vport::GTPU | vport::BAREUDP => {
            let udp: Udp = rest.pull();
            put!(w, "udp(src={},dst={},csum=0x{:x}),", be16(udp.src), be16(udp.dst), be16(udp.checksum));
        }
        _ => {}
    }
    match push.kind {
        vport::VXLAN => {
            let h: Vxlan = rest.pull();
            put!(w, "vxlan(flags=0x{:x},vni=0x{:x})", u32::from_be_bytes(h.flags), vni(h.vni));
        }
        vport::GENEVE => write_geneve(w, &mut rest),
        vport::GRE | vport::IP6GRE => write_gre(w, &mut rest),
        vport::ERSPAN | vport::IP6ERSPAN => write_erspan(w, &mut rest),
        vport::GTPU => {
            let [flags, msgtype, _, _, a, b, c, d]: [u8; 8] = rest.pull();
            put!(w, "gtpu(flags=0x{flags:x},msgtype={msgtype},teid=0x{:x})", u32::from_be_bytes([a, b, c, d]));
        }
        vport::SRV6 => write_srv6(w, &mut rest),
        // The packet follows the UDP header at once (RFC 7510).
        vport::BAREUDP => w.out.push_str("bareudp()"),
        _ => {}
    }
    w.out.push(')');
}

fn write_geneve(w: &mut Writer<'_>, rest: &mut Rest<'_>) {
    let h: Geneve = rest.pull();
    let oam = if h.flags & 0x80 != 0 { "oam," } else { "" };
    let critical = if h.flags & 0x40 != 0 { "crit," } else { "" };
    put!(w, "geneve({oam}{critical}vni=0x{:x}", vni(h.vni));
    if h.version_len & 0x3f != 0 {
        w.out.push_str(",options(");
        let end = rest.0.len().min(usize::from(h.version_len & 0x3f) * 4);
        let mut options = Rest(&rest.0[..end]);
        while options.0.len() >= size_of::<GeneveOption>() {
            let o: GeneveOption = options.pull();
            let bytes = options.0.len().min(usize::from(o.len & 0x1f) * 4);
            let (data, after) = options.0.split_at(bytes);
            put!(w, "{{class=0x{:x},type=0x{:x},len={bytes}", be16(o.class), o.kind);
            if bytes > 0 {
                w.out.push_str(",0x");
                let digits: String = data.iter().map(|b| format!("{b:02x}")).collect();
                let short = digits.trim_start_matches('0');
                w.out.push_str(if short.is_empty() { "0" } else { short });
            }
            w.out.push('}');
            options.0 = after;
        }
        w.out.push(')');
    }
    w.out.push(')');
}

fn write_gre(w: &mut Writer<'_>, rest: &mut Rest<'_>) {
    let h: Gre = rest.pull();
    put!(w, "gre((flags=0x{:x},proto=0x{:x})", be16(h.flags), be16(h.protocol));
    for (flag, name, bytes) in GRE_WORDS {
        if be16(h.flags) & flag != 0 {
            let word = u32::from_be_bytes(rest.pull::<[u8; 4]>());
            put!(w, ",{name}=0x{:x}", if bytes == 2 { word >> 16 } else { word });
        }
    }
    w.out.push(')');
}

fn write_erspan(w: &mut Writer<'_>, rest: &mut Rest<'_>) {
    let _: Gre = rest.pull();
    let _sequence: [u8; 4] = rest.pull();
    let [version_vlan, _, session_high, session]: [u8; 4] = rest.pull();
    let sid = u16::from_be_bytes([session_high & 3, session]);
    if version_vlan >> 4 == 1 {
        put!(w, "erspan(ver=1,sid=0x{sid:x},idx=0x{:x})", u32::from_be_bytes(rest.pull::<[u8; 4]>()));
    } else {
        let [.., high, low]: [u8; 8] = rest.pull();
        let (dir, hwid) = (low >> 3 & 1, (high & 3) << 4 | low >> 4);
        put!(w, "erspan(ver=2,sid=0x{sid:x},dir={dir},hwid=0x{hwid:x})");
    }
}

fn write_srv6(w: &mut Writer<'_>, rest: &mut Rest<'_>) {
    let [_, _, _, left, last, _, _, _]: [u8; 8] = rest.pull();
    put!(w, "srv6(segments_left={left},segs(");
    // The list stands in reverse order (RFC 8754, 2).
    let mut segments: Vec<[u8; 16]> = Vec::new();
    while segments.len() <= usize::from(last) && !rest.0.is_empty() {
        segments.push(rest.pull());
    }
    let texts: Vec<String> = segments.iter().rev().map(|s| Ip6(u128::from_be_bytes(*s)).to_string()).collect();
    put!(w, "{}))", texts.join(","));
}

/// Reads what follows `tnl_push(tnl_port(`. Size and type must be those of the header that is described.
pub(crate) fn read_tunnel_push(r: &mut Reader<'_>) -> Option<TunnelPush> {
    let tunnel_port = r.closed_port()?;
    let size: usize = r.after::<u32>(",header(size=").and_then(|s| usize::try_from(s).ok())?;
    let kind = r.after(",type=")?;
    let mut header = Vec::with_capacity(64);
    r.eat(",eth(dst=")?;
    let dst = r.mac()?;
    r.eat(",src=")?;
    let src = r.mac()?;
    let ty: u16 = r.after(",dl_type=")?;
    r.eat("),")?;
    header.extend(Ethernet { dst, src, eth_type: ty.to_be_bytes() }.as_bytes());
    let v6 = ty != eth_type::IPV4;
    let computes_label = if v6 {
        read_ipv6(r, &mut header)?
    } else {
        read_ipv4(r, &mut header)?;
        false
    };
    let found = read_tunnel(r, v6, &mut header)?;
    r.eat("),out_port(")?;
    let out_port = r.closed_port()?;
    r.eat(")")?;
    let right = found == kind && header.len() == size && size <= HEADER_BYTES_MAX;
    right.then_some(TunnelPush { tunnel_port, out_port, kind, header, computes_label })
}

fn read_ipv4(r: &mut Reader<'_>, header: &mut Vec<u8>) -> Option<()> {
    let address = |r: &mut Reader<'_>| Some(u32::try_from(r.scan.ipv4()?).ok()?.to_be_bytes());
    r.eat("ipv4(src=")?;
    let src = address(r)?;
    r.eat(",dst=")?;
    let dst = address(r)?;
    let proto = r.after(",proto=")?;
    let tos = r.after(",tos=")?;
    let ttl = r.after(",ttl=")?;
    let frag = r.after::<u16>(",frag=")?.to_be_bytes();
    r.eat("),")?;
    let mut ip = Ipv4 { version_ihl: 0x45, tos, frag, ttl, proto, src, dst, ..Ipv4::default() };
    ip.checksum = checksum::checksum(ip.as_bytes());
    header.extend(ip.as_bytes());
    Some(())
}

/// Whether the flow label is to be computed.
fn read_ipv6(r: &mut Reader<'_>, header: &mut Vec<u8>) -> Option<bool> {
    r.eat("ipv6(src=")?;
    let src = r.scan.ipv6()?.to_be_bytes();
    r.eat(",dst=")?;
    let dst = r.scan.ipv6()?.to_be_bytes();
    r.eat(",label=")?;
    let computed = r.scan.eat("compute");
    let label = if computed { 0 } else { r.number::<u32>().filter(|l| l >> 20 == 0)? };
    let next = r.after(",proto=")?;
    let class: u8 = r.after(",tclass=")?;
    let hop_limit = r.after(",hlimit=")?;
    r.eat("),")?;
    let version_class_label = (6 << 28 | u32::from(class) << 20 | label).to_be_bytes();
    header.extend(Ipv6 { version_class_label, payload_len: [0; 2], next, hop_limit, src, dst }.as_bytes());
    Some(computed)
}

/// The tunnel's own header; its type.
fn read_tunnel(r: &mut Reader<'_>, v6: bool, header: &mut Vec<u8>) -> Option<u32> {
    if r.scan.eat("udp(src=") {
        let src = r.number::<u16>()?.to_be_bytes();
        let dst = r.after::<u16>(",dst=")?.to_be_bytes();
        let checksum = r.after::<u16>(",csum=")?.to_be_bytes();
        r.eat("),")?;
        header.extend(Udp { src, dst, len: [0; 2], checksum }.as_bytes());
        return read_over_udp(r, header);
    }
    if r.scan.eat("gre((flags=") {
        read_gre(r, header)?;
        return Some(if v6 { vport::IP6GRE } else { vport::GRE });
    }
    if r.scan.eat("erspan(ver=") {
        read_erspan(r, header)?;
        return Some(if v6 { vport::IP6ERSPAN } else { vport::ERSPAN });
    }
    r.eat("srv6(segments_left=")?;
    read_srv6(r, header)?;
    Some(vport::SRV6)
}

fn network_id(r: &mut Reader<'_>, word: &str) -> Option<[u8; 3]> {
    let [high, a, b, c] = r.after::<u32>(word)?.to_be_bytes();
    (high == 0).then_some([a, b, c])
}

fn read_over_udp(r: &mut Reader<'_>, header: &mut Vec<u8>) -> Option<u32> {
    if r.scan.eat("vxlan(flags=") {
        let flags = r.number::<u32>()?.to_be_bytes();
        let vni = network_id(r, ",vni=")?;
        r.eat(")")?;
        header.extend(Vxlan { flags, vni, reserved: 0 }.as_bytes());
        return Some(vport::VXLAN);
    }
    if r.scan.eat("gtpu(flags=") {
        let flags = r.number()?;
        let msgtype = r.after(",msgtype=")?;
        let [a, b, c, d] = r.after::<u32>(",teid=")?.to_be_bytes();
        r.eat(")")?;
        header.extend([flags, msgtype, 0, 0, a, b, c, d]);
        return Some(vport::GTPU);
    }
    if r.scan.eat("bareudp()") {
        return Some(vport::BAREUDP);
    }
    r.eat("geneve(")?;
    let mut flags = if r.scan.eat("oam,") { 0x80 } else { 0 };
    flags |= if r.scan.eat("crit,") { 0x40 } else { 0 };
    let vni = network_id(r, "vni=")?;
    let options = if r.scan.eat(",options(") { read_options(r)? } else { Vec::new() };
    r.eat(")")?;
    let version_len = u8::try_from(options.len() / 4).ok().filter(|words| *words < 64)?;
    header.extend(Geneve { version_len, flags, protocol: eth_type::TEB.to_be_bytes(), vni, reserved: 0 }.as_bytes());
    header.extend(options);
    Some(vport::GENEVE)
}

/// `{class=,type=,len=,0xDATA}...)`
fn read_options(r: &mut Reader<'_>) -> Option<Vec<u8>> {
    let mut options = Vec::new();
    while !r.scan.eat(")") {
        r.eat("{class=")?;
        let class = r.number::<u16>()?.to_be_bytes();
        let kind = r.after(",type=")?;
        let bytes = usize::from(r.after::<u8>(",len=").filter(|n| n % 4 == 0 && *n <= 124)?);
        let data = if bytes > 0 {
            r.eat(",")?;
            r.scan.long_int(bytes * 8)?.to_be_bytes()[VALUE_BYTES_MAX - bytes..].to_vec()
        } else {
            Vec::new()
        };
        r.eat("}")?;
        options.extend(GeneveOption { class, kind, len: u8::try_from(bytes / 4).ok()? }.as_bytes());
        options.extend(data);
        if options.len() > HEADER_BYTES_MAX {
            return None;
        }
    }
    Some(options)
}

fn read_gre(r: &mut Reader<'_>, header: &mut Vec<u8>) -> Option<()> {
    let flags: u16 = r.number()?;
    let protocol = r.after::<u16>(",proto=")?.to_be_bytes();
    r.eat(")")?;
    header.extend(Gre { flags: flags.to_be_bytes(), protocol }.as_bytes());
    for (flag, name, bytes) in GRE_WORDS {
        if flags & flag != 0 {
            r.eat(",")?;
            r.eat(name)?;
            let word: u32 = r.after("=")?;
            header.extend(if bytes == 2 { word.checked_mul(1 << 16)? } else { word }.to_be_bytes());
        }
    }
    r.eat(")")
}

fn read_erspan(r: &mut Reader<'_>, header: &mut Vec<u8>) -> Option<()> {
    let version: u8 = r.number().filter(|v| *v == 1 || *v == 2)?;
    let [sid_high, sid_low] = r.after::<u16>(",sid=").filter(|s| *s < 1024)?.to_be_bytes();
    let protocol = if version == 1 { ERSPAN_V1 } else { ERSPAN_V2 };
    header.extend(Gre { flags: GRE_SEQ.to_be_bytes(), protocol: protocol.to_be_bytes() }.as_bytes());
    header.extend([0; 4]);
    header.extend([version << 4, 0, sid_high, sid_low]);
    if version == 1 {
        header.extend(r.after::<u32>(",idx=")?.to_be_bytes());
    } else {
        let dir = r.after::<u8>(",dir=").filter(|d| *d < 2)?;
        let hwid = r.after::<u8>(",hwid=").filter(|h| *h < 64)?;
        header.extend([0, 0, 0, 0, 0, 0, hwid >> 4, hwid << 4 | dir << 3]);
    }
    r.eat(")")
}

fn read_srv6(r: &mut Reader<'_>, header: &mut Vec<u8>) -> Option<()> {
    let left = r.number()?;
    r.eat(",segs(")?;
    let mut segments = Vec::new();
    loop {
        segments.push(r.scan.ipv6()?.to_be_bytes());
        if segments.len() > SEGMENTS_MAX {
            return None;
        }
        if !r.scan.eat(",") {
            break;
        }
    }
    r.eat("))")?;
    let count = u8::try_from(segments.len()).expect("few");
    // Routing type 4 is the segment routing header (RFC 8754, 2); its next header depends on what is pushed into it.
    header.extend([0, 2 * count, 4, left, count - 1, 0, 0, 0]);
    segments.iter().rev().for_each(|s| header.extend(s));
    Some(())
}
