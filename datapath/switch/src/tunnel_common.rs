//! VXLAN and Geneve over IPv4 taken off a whole batch at once, as long as no packet has anything that few have.
//!
//! What enters: packets whose outer headers were extracted, and what kind of tunnel the port is. What leaves: the inner packets with keys of
//! their own, as `tunnel_pop` makes them one by one; or nothing done. Neighbours: `execute` (the caller), `tunnel_pop` (which takes all others, and
//! is the plain twin), `parse` (inner packets are extracted like those that come from a port).
//!
//! Common is: IPv4 without options, UDP without checksum, a tunnel header of eight bytes that says nothing but a network identifier.

use crate::bundle::Bundle;
use crate::parse::{Parser, parse};
use crate::parsed::Parsed;
use crate::tunnel_pop::{Decap, FIXED_LINES, FRAME_MIN};
use flow::checksum::Sum;
use flow::extract::{Arrival, NetworkLayer, PacketMeta};
use flow::key::{Key, LINE_BYTES, TUN_KEY};
use flow::wire::ip_proto;
use port::{Checksum, Packet};

const IPV4: usize = 20;
const UDP: usize = 8;
/// The tunnel's own header.
const TUNNEL: usize = 8;
const HEADERS: usize = IPV4 + UDP + TUNNEL;
const LINE_WORDS: usize = LINE_BYTES / 8;
/// Words of the lines that hold tunnel fields of fixed size.
const FIXED_WORDS: std::ops::Range<usize> = 3 * LINE_WORDS..5 * LINE_WORDS;
const _: () = assert!(FIXED_LINES.0 == 0b1_1000);
const _: () = assert!(core::mem::offset_of!(Key, tun_id) / LINE_BYTES == 3);
const _: () = assert!(core::mem::offset_of!(Key, tun_tp_src) / LINE_BYTES == 4);

/// Bits of a tunnel header that are looked at, and what they are in a common one.
#[derive(Clone, Copy)]
struct Form {
    mask: u64,
    value: u64,
}

const fn form(decap: Decap) -> Option<Form> {
    match decap {
        // RFC 7348 section 5: the VNI is there, everything else is zero.
        Decap::Vxlan { .. } => Some(Form { mask: 0xffff_ffff_0000_00ff, value: 0x0800_0000_0000_0000 }),
        // RFC 8926 section 3.4: version 0, no options, no flags; transparent Ethernet bridging.
        Decap::Geneve => Some(Form { mask: 0xffff_ffff_0000_0000, value: 0x0000_6558_0000_0000 }),
        Decap::Gre | Decap::Erspan | Decap::Gtpu | Decap::Bareudp { .. } | Decap::Srv6 | Decap::None => None,
    }
}

/// Takes the outer headers of all packets off. False, and nothing done, unless all are common. `wide` only where `wide::on` says so.
pub(crate) fn strip(bundle: &mut Bundle, decap: Decap, meta: &PacketMeta<'_>, (wide, parser): (bool, &mut Parser)) -> bool {
    let Some(form) = form(decap) else { return false };
    let n = bundle.packets.len();
    if !bundle.packets.iter().zip(&bundle.parsed).all(|(packet, parsed)| is_common(packet, parsed, form)) {
        return false;
    }
    for (packet, parsed) in bundle.packets.iter_mut().zip(&mut bundle.parsed) {
        take_off(packet, parsed);
    }
    // A short inner frame has a key, too.
    parse(bundle, &Arrival::new(*meta), wide, parser);
    for parsed in &mut bundle.parsed[..n] {
        parsed.found.lines.0 |= FIXED_LINES.0;
    }
    true
}

/// Everything from the IPv4 header to that of the tunnel.
#[inline]
fn headers<'p>(packet: &'p Packet, parsed: &Parsed) -> Option<&'p [u8; HEADERS]> {
    packet.data().get(usize::from(parsed.found.l3)..)?.first_chunk()
}

#[inline]
fn is_common(packet: &Packet, parsed: &Parsed, form: Form) -> bool {
    let (at, key, len) = (&parsed.found, &parsed.key, packet.len());
    let (l4, end) = (usize::from(at.l4), len - usize::from(at.l2_pad));
    let udp = (at.network == NetworkLayer::Ipv4) & (at.transport == ip_proto::UDP) & (key.nw_frag == 0);
    let whole = (l4 == usize::from(at.l3) + IPV4) & (l4 + UDP + TUNNEL <= end) & (len > FRAME_MIN);
    if !(udp & whole & packet.is_plain()) {
        return false;
    }
    let Some(headers) = headers(packet, parsed) else { return false };
    let inner = packet.as_ptr().wrapping_add(l4 + UDP + TUNNEL);
    crate::prefetch(inner);
    let [.., sum0, sum1, t0, t1, t2, t3, t4, t5, t6, t7] = *headers;
    let tunnel = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
    let plain = (headers[0] == 0x45) & ([sum0, sum1] == [0, 0]) & (tunnel & form.mask == form.value);
    plain && (packet.checksum() == Checksum::Good || Sum::default().plus(&headers[..IPV4]).is_right())
}

/// Puts what the outer header says into the key, and takes it off.
#[inline]
fn take_off(packet: &mut Packet, parsed: &mut Parsed) {
    let [_, tos, _, _, _, _, _, _, ttl, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3, rest @ ..] =
        *headers(packet, parsed).expect("`is_common` has seen them");
    let [sp0, sp1, dp0, dp1, _, _, _, _, _, _, _, _, v0, v1, v2, _] = rest;
    let key = &mut parsed.key;
    key.words_mut()[FIXED_WORDS].fill(0);
    key.tun_id = [0, 0, 0, 0, 0, v0, v1, v2];
    (key.tun_src, key.tun_dst) = ([s0, s1, s2, s3], [d0, d1, d2, d3]);
    (key.tun_tos, key.tun_ttl) = (tos, ttl);
    key.tun_flags = TUN_KEY.to_be_bytes();
    (key.tun_tp_src, key.tun_tp_dst) = ([sp0, sp1], [dp0, dp1]);
    let pulled = packet.pull_front(usize::from(parsed.found.l4) + UDP + TUNNEL);
    debug_assert!(pulled, "`is_common` has seen that there is so much");
    packet.set_checksum(Checksum::Unknown);
}
