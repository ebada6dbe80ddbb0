//! The common packet in few steps: of a connection that the first bucket names, where neither has anything that few have.
//!
//! What enters: packets of a batch with what `seek` found. What leaves: the same packets tracked. Neighbours: `track`, whose `track_one` says
//! what a packet is, and which takes the others; a property test holds both ways to the same results.
//!
//! The commonest are those of UDP over IPv4 whose connection is established, under the default timeouts: `track_short` has nothing else in it, so
//! that what it needs fits the processor's registers. Other common ones go through `track_common`.
//!
//! Which direction a packet goes, and whether its connection is translated, differs from packet to packet: both are worked out and one is
//! chosen, where a branch would be mispredicted half of the time. The loop is compiled twice (`wide`).

use super::entry::{ASSURED, DEAD, LIVE, NAT, NAT_DST, NAT_SRC, NONE, RELATED, SEVERAL};
use super::seek::Wanted;
use super::tcp::Verdict;
use super::track::{self, DNAT, EST, Handle, INV, LABEL_AND_TUPLE, NEW, RPL, SNAT, Spec};
use super::tuple::Tuple;
use super::{Ct, Local, helper, nat, stage};
use crate::parsed::{Parsed, UNTOLD};
use flow::clock::Msec;
use flow::conntrack::CtStage;
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
        self.pass_as(local, packets, spec, wanted);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn pass_wide(&self, local: &mut Local, packets: (&mut [Packet], &mut [Parsed]), spec: &Spec<'_>, wanted: &Wanted) {
        self.pass_as(local, packets, spec, wanted);
    }

    #[inline(always)]
    fn pass_as(&self, local: &mut Local, (packets, parsed): (&mut [Packet], &mut [Parsed]), spec: &Spec<'_>, wanted: &Wanted) {
        let common = if spec.is_plain() { wanted.seen & !wanted.related } else { 0 };
        let short = common & wanted.short;
        let until_ms = self.short_until_ms(spec);
        for (i, (packet, parsed)) in packets.iter_mut().zip(parsed).enumerate() {
            if short >> i & 1 == 0 || !self.track_short(packet, parsed, (spec, until_ms), (wanted, i)) {
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

    /// When an established connection of UDP expires that has a packet now, under the default timeouts.
    pub(super) fn short_until_ms(&self, spec: &Spec<'_>) -> Msec {
        spec.now_ms + self.policies.timeout_ms(0, CtStage::UdpMultiple)
    }

    /// A packet with `words`, under an action that `is_plain`. False, and nothing done, for those that are not of an established connection of
    /// UDP under the default timeouts, or have anything that few have.
    #[inline(always)]
    pub(super) fn track_short(
        &self,
        packet: &mut Packet,
        parsed: &mut Parsed,
        (spec, until_ms): (&Spec<'_>, Msec),
        (wanted, i): (&Wanted, usize),
    ) -> bool {
        const LOOKED_AT: u32 = LIVE | DEAD | RELATED | SEVERAL | ASSURED;
        const USUAL: u32 = LIVE | SEVERAL | ASSURED;
        const UDP: u64 = (ip_proto::UDP as u64) << 48;
        let (words, number) = (wanted.words[i], wanted.candidates[i]);
        // Where there is none it is the entry of nobody, which is not live.
        let entry = self.slab.at(number);
        let flags = entry.flags.load(Ordering::Acquire);
        let (forward, backward) = entry.directions_v4(words, flags);
        let usual = (flags & LOOKED_AT == USUAL)
            & (words.1 & (0xff << 48) == UDP)
            & (forward | backward)
            & entry.is_usual()
            & (entry.expires_ms.load(Ordering::Relaxed) > spec.now_ms)
            & (parsed.key.ct_state & (SNAT | DNAT) == 0)
            & (parsed.found.lines.0 & LABEL_AND_TUPLE.0 == 0);
        if !usual {
            return false;
        }
        let reply = !forward;
        let mut state = EST | (u8::from(reply) * RPL);
        if spec.nat.is_some() && flags & (NAT_SRC | NAT_DST) != 0 {
            if flags & NAT != 0 {
                // What packets of the other direction are, turned round, is what the packet shall be.
                let (ends, last) = entry.words_v4(forward);
                let to = (ends.rotate_left(32), Tuple::turned_last(last));
                if !nat::apply_short(packet, parsed, to) {
                    return false;
                }
            }
            let (source, destination) = if reply { (NAT_DST, NAT_SRC) } else { (NAT_SRC, NAT_DST) };
            state |= (u8::from(flags & source != 0) * SNAT) | (u8::from(flags & destination != 0) * DNAT);
        }
        entry.expire_at(until_ms);
        track::write_first(parsed, (state, spec.zone, entry.mark.load(Ordering::Relaxed)), ip_proto::UDP);
        parsed.conn = Handle { number, reply, related: false }.pack() | UNTOLD;
        true
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
