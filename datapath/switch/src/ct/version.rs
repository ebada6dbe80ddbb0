//! What the versions of IP differ in on the shortest way (`short`).
//!
//! What enters: connections, and what packets are looked up by. What leaves: directions, translated packets, numbers that loops are compiled with.
//! Neighbours: `short`, `eight` and `sums`, whose loops exist once for each version, made of one source.

use super::entry::{Entry, FOUR, NAT};
use super::seek::Wanted;
use super::short::{Kinds, Short};
use super::track::{self, Handle};
use super::tuple::Tuple;
use super::{nat, packet};
use crate::parsed::Parsed;
use flow::extract::NetworkLayer;
use port::Packet;

/// A version of IP.
pub(super) trait Version {
    const NETWORK: NetworkLayer;
    /// Bytes of a header without options and extensions.
    const HEADER: usize;
    /// Those of them, from the first, of which the header has a sum of its own.
    const SUMMED: usize;
    /// Where in the header the addresses begin, which are its last fields.
    const ADDRESSES: usize;
    /// A UDP packet without a checksum is whole (RFC 768; RFC 8200, 8.1).
    const FORGIVES: bool;
    /// What translation changes sums by is kept with a connection.
    const KEEPS_CHANGES: bool;
    /// A connection's flags that tell the version.
    const FLAG: u32;

    /// Packets that are over it.
    fn of(short: Short) -> Kinds;

    /// Whether checksums are right, of a packet that is not short.
    fn sums_are_right(data: &[u8], parsed: &Parsed) -> bool;

    /// Whether packet `i` is of the side that began the connection, and whether of the answering one.
    fn directions(entry: Entry<'_>, flags: u32, wanted: &Wanted, i: usize) -> (bool, bool);

    /// Changes a packet of `UDP` or TCP that is of a connection with `NAT`. False, and nothing done, if that takes `track::translate`.
    fn translate<const UDP: bool>(packet: &mut Packet, parsed: &mut Parsed, connection: (Entry<'_>, u32, Handle)) -> bool;
}

/// IPv4.
pub(super) struct Four;
/// IPv6.
pub(super) struct Six;

impl Version for Four {
    const NETWORK: NetworkLayer = NetworkLayer::Ipv4;
    const HEADER: usize = 20;
    const SUMMED: usize = 20;
    const ADDRESSES: usize = 12;
    const FORGIVES: bool = true;
    const KEEPS_CHANGES: bool = true;
    const FLAG: u32 = FOUR;

    #[inline(always)]
    fn of(short: Short) -> Kinds {
        short.four
    }

    #[inline(always)]
    fn sums_are_right(data: &[u8], parsed: &Parsed) -> bool {
        packet::common_sums_are_right(data, parsed)
    }

    #[inline(always)]
    fn directions(entry: Entry<'_>, _: u32, wanted: &Wanted, i: usize) -> (bool, bool) {
        entry.directions_v4(wanted.words(i))
    }

    #[inline(always)]
    fn translate<const UDP: bool>(
        packet: &mut Packet,
        parsed: &mut Parsed,
        (entry, _, handle): (Entry<'_>, u32, Handle),
    ) -> bool {
        // What packets of the other direction are, turned round, is what the packet shall be.
        let [ends, last] = entry.side_v4(!handle.reply);
        let to = (ends.rotate_left(32), Tuple::turned_last(last));
        let changes = entry.changes_v4(handle.reply);
        if UDP {
            nat::apply_short::<{ nat::UP_TO_SUM_OF_UDP }>(packet, parsed, to, changes)
        } else {
            nat::apply_short::<{ nat::UP_TO_SUM_OF_TCP }>(packet, parsed, to, changes)
        }
    }
}

impl Version for Six {
    const NETWORK: NetworkLayer = NetworkLayer::Ipv6;
    const HEADER: usize = 40;
    const SUMMED: usize = 0;
    const ADDRESSES: usize = 8;
    const FORGIVES: bool = false;
    const KEEPS_CHANGES: bool = false;
    const FLAG: u32 = 0;

    #[inline(always)]
    fn of(short: Short) -> Kinds {
        short.six
    }

    #[inline(always)]
    fn sums_are_right(data: &[u8], parsed: &Parsed) -> bool {
        packet::segment_over_ipv6_is_right(data, parsed)
    }

    #[inline(always)]
    fn directions(entry: Entry<'_>, flags: u32, wanted: &Wanted, i: usize) -> (bool, bool) {
        entry.directions_v6(&wanted.whole(i), flags)
    }

    #[inline(always)]
    fn translate<const UDP: bool>(
        packet: &mut Packet,
        parsed: &mut Parsed,
        (entry, flags, handle): (Entry<'_>, u32, Handle),
    ) -> bool {
        debug_assert!(flags & NAT != 0, "callers have looked");
        track::retarget(packet, parsed, entry, handle, flags);
        true
    }
}
