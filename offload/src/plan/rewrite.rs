//! `set(...)` of packet headers: words of pedit, and the checksums that follow from them.

use crate::headers::{HEADERS, HeaderRow};
use crate::keys::{Known, When};
use crate::refusal::{Reason, Refusal};
use crate::rule::{Act, CSUM_ICMP, CSUM_IPV4, CSUM_TCP, CSUM_UDP, Header, Word};
use flow::action::{SetAttr, SetField};
use flow::key::Key;
use flow::wire::ip_proto;

/// Longest header of `HEADERS`.
const IMAGE: usize = 40;

/// One set as a pedit action, and which checksums it spoils.
pub(super) fn pedit(set: &SetField, known: Known<'_>) -> Result<(Act, u32), Refusal> {
    let Some(row) = HEADERS.iter().find(|r| r.attr == set.attr) else {
        return Err(Refusal::new(Reason::Action, format!("set({})", name(set.attr))));
    };
    let (mut value, mut mask) = ([0u8; IMAGE], [0u8; IMAGE]);
    let mut left = set.mask;
    let mut l4 = false;
    for f in row.fields {
        let bits = f.place.read(&left);
        if bits == 0 {
            continue;
        }
        f.write(&mut value, f.place.read(&set.value) & bits);
        f.write(&mut mask, bits);
        f.place.write(&mut left, 0);
        l4 |= f.in_l4_sum;
    }
    if left != Key::ZERO {
        return Err(Refusal::new(Reason::ActionOption, format!("set({})", name(set.attr))));
    }
    let spoiled = spoiled(row, l4, known)?;
    Ok((Act::Pedit { header: row.header, words: words(&value, &mask, row.len) }, spoiled))
}

fn words(value: &[u8], mask: &[u8], len: usize) -> Vec<Word> {
    let word = |image: &[u8], at: usize| u32::from_be_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]);
    let at = (0..len).step_by(4);
    let all =
        at.map(|at| Word { at: u32::try_from(at).expect("a header is short"), value: word(value, at), mask: word(mask, at) });
    all.filter(|w| w.mask != 0).collect()
}

/// Which checksums have to be made anew, given that the header is there at all.
fn spoiled(row: &HeaderRow, l4: bool, known: Known<'_>) -> Result<u32, Refusal> {
    let need = |when: When| {
        if known.is(when) { Ok(()) } else { Err(Refusal::new(Reason::Protocol, format!("set({})", name(row.attr)))) }
    };
    let header = match row.header {
        Header::Eth => When::Always,
        Header::Ipv4 => When::Ipv4,
        Header::Ipv6 => When::Ipv6,
        Header::Tcp => When::Tcp,
        Header::Udp => When::Udp,
    };
    need(header)?;
    let own = if row.header == Header::Ipv4 { CSUM_IPV4 } else { 0 };
    if !l4 {
        return Ok(own);
    }
    // The sum of a fragmented datagram covers all its fragments: hardware sees one.
    if !known.is_whole() {
        return Err(Refusal::new(Reason::Fragment, format!("set({})", name(row.attr))));
    }
    match known.ip_proto() {
        Some(ip_proto::TCP) => Ok(own | CSUM_TCP),
        Some(ip_proto::UDP) => Ok(own | CSUM_UDP),
        Some(ip_proto::ICMPV6) if known.is(When::Ipv6) => Ok(own | CSUM_ICMP),
        // Its sum does not cover the addresses (RFC 792).
        Some(ip_proto::ICMP) if known.is(When::Ipv4) => Ok(own),
        // These have no sum over the pseudo header that OVS would update.
        Some(ip_proto::IGMP | ip_proto::SCTP | ip_proto::GRE) => Ok(own),
        Some(_) | None => Err(Refusal::new(Reason::Protocol, format!("set({})", name(row.attr)))),
    }
}

/// The attribute's name in OVS's text.
const fn name(attr: SetAttr) -> &'static str {
    match attr {
        SetAttr::Priority => "skb_priority",
        SetAttr::Mark => "skb_mark",
        SetAttr::Eth => "eth",
        SetAttr::Ipv4 => "ipv4",
        SetAttr::Ipv6 => "ipv6",
        SetAttr::Tcp => "tcp",
        SetAttr::Udp => "udp",
        SetAttr::Sctp => "sctp",
        SetAttr::Icmp => "icmp",
        SetAttr::Icmpv6 => "icmpv6",
        SetAttr::Arp => "arp",
        SetAttr::Nd => "nd",
        SetAttr::NdExt => "nd_ext",
        SetAttr::Mpls => "mpls",
        SetAttr::Nsh => "nsh",
        SetAttr::Pbb => "pbb",
        SetAttr::Tunnel => "tunnel",
    }
}
