//! The pseudo-field IPV6_EXTHDR of OpenFlow 1.3+: which extension headers an IPv6 packet has, and whether they stand as they should.
//!
//! What enters: the headers of a packet, one by one, as extraction walks over them. What leaves: nine bits, which lie above the flow label
//! in `Key::ipv6_label` (decision 0098). Neighbours: `extract` gathers them; its twin in `extract_slow` works them out by another way.
//!
//! A header is out of sequence when the headers are no part, in its order, of the list that RFC 8200 section 4.1 prefers: hop-by-hop
//! options, destination options, routing, fragment, authentication, encapsulated payload, destination options once more; last of all stands
//! "no next header". What is behind an encrypted payload or in a later fragment is not seen.

use crate::key::IPV6_LABEL;
use crate::wire::ip_proto;

/// "No next header" (59) was met.
pub const NONEXT: u16 = 1;
/// There is an encapsulating security payload.
pub const ESP: u16 = 1 << 1;
/// There is an authentication header.
pub const AUTH: u16 = 1 << 2;
/// There are destination options, once or twice.
pub const DEST: u16 = 1 << 3;
/// There is a fragment header, be it of a whole packet (RFC 6946).
pub const FRAG: u16 = 1 << 4;
/// There is a routing header.
pub const ROUTER: u16 = 1 << 5;
/// The first extension header has hop-by-hop options; where they stand elsewhere, `UNSEQ` tells.
pub const HOP: u16 = 1 << 6;
/// A header came again that should not: any the second time, destination options the third.
pub const UNREP: u16 = 1 << 7;
/// The headers are not in the preferred order.
pub const UNSEQ: u16 = 1 << 8;

/// The extension headers that were met so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    bits: u16,
    /// Kinds met, each by its bit: `bits` says less of hop-by-hop options.
    met: u16,
    /// How often destination options were met, up to two.
    dests: u8,
    /// Place in the preferred order that was reached.
    reached: u8,
}

impl Chain {
    /// Another header; one that is none of IPv6's own counts for nothing.
    pub(crate) fn meet(&mut self, proto: u8) {
        let (kind, place) = match proto {
            ip_proto::HOP_BY_HOP => (HOP, 1),
            ip_proto::DEST_OPTIONS => (DEST, if self.reached < 2 { 2 } else { 7 }),
            ip_proto::ROUTING => (ROUTER, 3),
            ip_proto::FRAGMENT => (FRAG, 4),
            ip_proto::AH => (AUTH, 5),
            ip_proto::ESP => (ESP, 6),
            ip_proto::NONE => (NONEXT, 8),
            _ => return,
        };
        let again = if kind == DEST { self.dests == 2 } else { self.met & kind != 0 };
        if again {
            self.bits |= UNREP;
        }
        if place <= self.reached {
            self.bits |= UNSEQ;
        }
        if kind != HOP || self.met == 0 {
            self.bits |= kind;
        }
        self.met |= kind;
        self.dests += u8::from(kind == DEST && self.dests < 2);
        self.reached = self.reached.max(place);
    }

    /// What stands in `Key::ipv6_label` above the label.
    pub(crate) fn above_label(self) -> u32 {
        u32::from(self.bits) << IPV6_LABEL.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ip_proto::{AH, DEST_OPTIONS, FRAGMENT, HOP_BY_HOP, NONE, ROUTING, TCP};

    fn bits(headers: &[u8]) -> u16 {
        let mut chain = Chain::default();
        headers.iter().for_each(|h| chain.meet(*h));
        chain.bits
    }

    #[test]
    fn every_header_has_its_bit() {
        assert_eq!(bits(&[]), 0);
        assert_eq!(bits(&[TCP]), 0);
        for (header, bit) in [
            (NONE, 0x001),
            (ip_proto::ESP, 0x002),
            (AH, 0x004),
            (DEST_OPTIONS, 0x008),
            (FRAGMENT, 0x010),
            (ROUTING, 0x020),
            (HOP_BY_HOP, 0x040),
        ] {
            assert_eq!(bits(&[header]), bit, "{header}");
        }
    }

    #[test]
    fn the_preferred_order_is_that_of_rfc_8200() {
        let whole = [HOP_BY_HOP, DEST_OPTIONS, ROUTING, FRAGMENT, AH, ip_proto::ESP, DEST_OPTIONS, NONE];
        assert_eq!(bits(&whole), 0x7f);
        // Each header may be absent; the first destination options can do for the last.
        for absent in 0u16..1 << whole.len() {
            let some: Vec<u8> = whole.iter().enumerate().filter(|(n, _)| absent >> n & 1 == 0).map(|(_, h)| *h).collect();
            assert_eq!(bits(&some) & (UNREP | UNSEQ), 0, "{some:?}");
        }
        for pair in whole.windows(2).filter(|pair| !pair.contains(&DEST_OPTIONS)) {
            assert_eq!(bits(&[pair[1], pair[0]]) & (UNREP | UNSEQ), UNSEQ, "{pair:?}");
        }
        assert_eq!(bits(&[FRAGMENT, DEST_OPTIONS, AH]), DEST | FRAG | AUTH | UNSEQ);
        assert_eq!(bits(&[DEST_OPTIONS, DEST_OPTIONS, ROUTING]), DEST | ROUTER | UNSEQ);
        assert_eq!(
            bits(&[DEST_OPTIONS, HOP_BY_HOP]),
            DEST | UNSEQ,
            "options for every hop count as such in the first place only"
        );
    }

    #[test]
    fn destination_options_may_come_twice_and_nothing_else() {
        assert_eq!(bits(&[DEST_OPTIONS, DEST_OPTIONS]), DEST);
        assert_eq!(bits(&[DEST_OPTIONS, ROUTING, DEST_OPTIONS]), DEST | ROUTER);
        assert_eq!(bits(&[DEST_OPTIONS, DEST_OPTIONS, DEST_OPTIONS]), DEST | UNREP | UNSEQ);
        for (header, bit) in [(HOP_BY_HOP, HOP), (ROUTING, ROUTER), (FRAGMENT, FRAG), (AH, AUTH)] {
            assert_eq!(bits(&[header, header]), bit | UNREP | UNSEQ, "{header}");
        }
    }
}
