//! The common packet in few steps: of a connection that the first bucket names, where neither has anything that few have.
//!
//! What enters: packets of a batch with what `seek` found. What leaves: the same packets tracked. Neighbours: `track`, whose `track_one` says
//! what a packet is, and which takes the others; a property test holds both ways to the same results.
//!
//! The commonest have a way of their own (`short`): packets of UDP before this one, those of TCP in their turn. What it did not take goes
//! through here, in order: no connection of UDP that it moved is made or ended by them.
//!
//! Which direction a packet goes, and whether its connection is translated, differs from packet to packet: both are worked out and one is
//! chosen, where a branch would be mispredicted half of the time. The loop is compiled twice (`wide`).

use super::entry::{ASSURED, NAT_DST, NAT_SRC, NONE, RELATED};
use super::seek::{Wanted, all};
use super::tcp::Verdict;
use super::track::{self, DNAT, EST, Handle, INV, LABEL_AND_TUPLE, NEW, RPL, SNAT, Spec};
use super::version::{Four, Six};
use super::{Ct, Local, helper, stage};
use crate::parsed::{Parsed, UNTOLD};
use crate::search::bits;
use flow::wire::ip_proto;
use port::Packet;
use std::sync::atomic::Ordering;

impl Ct {
    /// Tracks packets one after the other. `wide` only where `wide::on` says so.
    #[inline]
    pub(super) fn pass(
        &self,
        local: &mut Local,
        packets: (&mut [Packet], &mut [Parsed]),
        spec: &Spec<'_>,
        wanted: &Wanted,
        wide: bool,
    ) {
        #[cfg(target_arch = "x86_64")]
        if wide {
            // SAFETY: the caller says that the processor has these features.
            return unsafe { self.pass_wide(local, packets, spec, wanted) };
        }
        self.pass_as::<false>(local, packets, spec, wanted);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn pass_wide(&self, local: &mut Local, packets: (&mut [Packet], &mut [Parsed]), spec: &Spec<'_>, wanted: &Wanted) {
        self.pass_as::<true>(local, packets, spec, wanted);
    }

    #[inline(always)]
    fn pass_as<const WIDE: bool>(
        &self,
        local: &mut Local,
        (packets, parsed): (&mut [Packet], &mut [Parsed]),
        spec: &Spec<'_>,
        wanted: &Wanted,
    ) {
        let plain = spec.is_plain();
        let common = if plain { wanted.seen & !(wanted.related | wanted.unknown) } else { 0 };
        let ([four, six], passing) = ([wanted.fresh.four, wanted.fresh.six].map(|of| of.tcp & common), self.passing(spec));
        let done = if plain { self.pass_udp_as((&mut *packets, &mut *parsed), spec, (&passing, wanted), WIDE) } else { 0 };
        for i in bits(all(packets.len()) & !done) {
            let (packet, parsed) = (&mut packets[i], &mut parsed[i]);
            let done = if four >> i & 1 != 0 {
                self.track_tcp::<Four>(packet, parsed, (spec, &passing), (wanted, i))
            } else {
                six >> i & 1 != 0 && self.track_tcp::<Six>(packet, parsed, (spec, &passing), (wanted, i))
            };
            if !done {
                self.track_other(local, (packet, parsed), spec, (wanted, i, common));
            }
        }
    }

    #[inline(never)]
    fn track_other(
        &self,
        local: &mut Local,
        (packet, parsed): (&mut Packet, &mut Parsed),
        spec: &Spec<'_>,
        (wanted, i, common): (&Wanted, usize, u32),
    ) {
        if common >> i & 1 == 0 || !self.track_common(packet, parsed, spec, (wanted, i)) {
            self.track_one(local, packet, parsed, spec, wanted.lookup(i));
        }
    }

    /// A packet with a tuple of its own, under an action that `is_plain`. False, and nothing done, for those that are not common.
    #[inline]
    pub(super) fn track_common(
        &self,
        packet: &mut Packet,
        parsed: &mut Parsed,
        spec: &Spec<'_>,
        (wanted, i): (&Wanted, usize),
    ) -> bool {
        let (tuple, candidate) = (&wanted.tuple(i), wanted.candidates[i]);
        let entry = self.slab.at(candidate);
        let flags = entry.flags.load(Ordering::Acquire);
        let (forward, backward) = entry.directions(tuple, flags);
        let rare = (parsed.key.ct_state & (SNAT | DNAT) != 0)
            | (parsed.found.lines.0 & LABEL_AND_TUPLE.0 != 0)
            | (candidate == NONE)
            | (flags & RELATED != 0)
            | (entry.helper.load(Ordering::Relaxed) != helper::NONE);
        if rare | !entry.is_alive(spec.now_ms) | !(forward | backward) {
            return false;
        }
        let reply = !forward;
        let mut state = EST | (u8::from(reply) * RPL);
        if tuple.proto() == ip_proto::TCP {
            if flags & ASSURED == 0 {
                entry.came_by(reply, track::in_port(parsed));
            }
            match self.advance_tcp(packet, parsed, entry, reply, spec.now_ms) {
                Verdict::Valid(_) => {}
                Verdict::Opening(_) => state = NEW,
                Verdict::Invalid => state = INV,
                // Which has changed nothing.
                Verdict::Restart => return false,
            }
        } else {
            let step = stage::step(tuple.is_icmp(), flags, reply);
            if (step.flags & !flags != 0) | step.new {
                return false;
            }
            self.extend(entry, step.stage, spec.now_ms);
        }
        let handle = Handle { number: candidate, reply, related: false };
        if spec.nat.is_some() && state != INV && flags & (NAT_SRC | NAT_DST) != 0 {
            track::translate(packet, parsed, entry, handle, &mut state);
        }
        track::write_first(parsed, (state, spec.zone, entry.mark.load(Ordering::Relaxed)), tuple.proto());
        parsed.conn = handle.pack() | UNTOLD;
        true
    }
}
