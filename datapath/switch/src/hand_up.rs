//! The way up: packets for which there is no megaflow, or that an action sends to userspace, become upcalls.
//!
//! What enters: packets with their keys. What leaves: upcalls in the lane of the receive queue that the packet came by (`upcall`), or a counted loss.
//! Neighbours: `forward` and `execute`, the callers.

use crate::bundle::Bundle;
use crate::counters::DROP_UPCALL_ERROR;
use crate::forward::{Core, Shared};
use crate::parcel::Parcel;
use crate::parsed::{Parsed, UNTOLD};
use crate::slots::Entry;
use crate::stats::add;
use crate::upcall::Lane;
use flow::seam::{Upcall, UpcallKind};
use port::{GsoKind, Packet};
use std::sync::Arc;

impl Core {
    /// Hands a packet without megaflow up.
    pub(crate) fn miss(&mut self, shared: &Shared, mut packet: Packet, parsed: &Parsed) {
        let all = match packet.gso().kind {
            GsoKind::None => {
                // A checksum that cannot be completed is the sender's affair.
                let _ = port::offload::complete(&mut packet);
                self.hand_up_miss(shared, &packet, parsed)
            }
            GsoKind::Tcp4 | GsoKind::Tcp6 | GsoKind::Udp => self.hand_up(shared, packet, parsed, |_| ()),
        };
        if !all {
            DROP_UPCALL_ERROR.inc();
        }
    }

    /// Queues a finished packet without megaflow; false (and counted) if it is lost.
    fn hand_up_miss(&mut self, shared: &Shared, packet: &Packet, parsed: &Parsed) -> bool {
        // What only a connection knows has to be asked for; that is for the way that has room for everything.
        if parsed.conn & UNTOLD != 0 || !Parcel::fits(packet.len(), parsed.found.lines) {
            return self.hand_up_one(shared, packet, parsed, &|_| ());
        }
        let mut own = std::mem::take(&mut self.parcels);
        let queue = self.queue_of(shared, parsed.key.in_port);
        let queued = shared.upcalls.has_room(queue) && {
            let mut parcel = shared.upcalls.parcels.take(&mut own);
            parcel.fill(packet.data(), (&parsed.key, parsed.found.lines), self.now_ms);
            shared.upcalls.push(queue, parcel).map_err(|parcel| own.push(parcel)).is_ok()
        };
        self.parcels = own;
        if !queued {
            add(&self.work(shared).lost, 1);
        }
        queued
    }

    /// The input port of the first packet that found nothing, if the lane of this batch there is full: what else came from there need not be tried.
    #[inline]
    pub(crate) fn full_port(&self, shared: &Shared, bundle: &Bundle, found: &[Option<Entry<'_>>]) -> Option<[u8; 4]> {
        let first = found.iter().position(Option::is_none)?;
        let in_port = bundle.parsed[first].key.in_port;
        (!shared.upcalls.would_take(self.queue_of(shared, in_port))).then_some(in_port)
    }

    /// Counts packets without megaflow that found the queue of their port full.
    pub(crate) fn turn_away(&self, shared: &Shared, in_port: [u8; 4], packets: u64) {
        self.queue_of(shared, in_port).lose(packets);
        add(&self.work(shared).lost, packets);
        DROP_UPCALL_ERROR.add(packets);
    }

    fn queue_of<'s>(&'s self, shared: &'s Shared, in_port: [u8; 4]) -> &'s Arc<Lane> {
        let port = self.outlets.outlet(u32::from_be_bytes(in_port)).map_or(&shared.strangers, |o| &o.upcalls);
        port.lane(self.rx_queue)
    }

    /// Queues a packet for userspace; false (and counted) if it, or a part of it, is lost. Userspace sees finished packets: a GSO
    /// frame goes up in the pieces that a wire would carry, since what comes back by `execute` has no GSO mark.
    pub fn hand_up(&self, shared: &Shared, mut packet: Packet, parsed: &Parsed, fill: impl Fn(&mut Upcall)) -> bool {
        if packet.gso().kind == GsoKind::None {
            // A checksum that cannot be completed is the sender's affair.
            let _ = port::offload::complete(&mut packet);
            return self.hand_up_one(shared, &packet, parsed, &fill);
        }
        let mut all = true;
        let cut = port::offload::segment(&packet, &mut |piece| all &= self.hand_up_one(shared, &piece, parsed, &fill));
        all && cut.is_ok()
    }

    fn hand_up_one(&self, shared: &Shared, packet: &Packet, parsed: &Parsed, fill: &impl Fn(&mut Upcall)) -> bool {
        let queue = self.queue_of(shared, parsed.key.in_port);
        let queued = shared.upcalls.has_room(queue) && {
            let mut key = parsed.whole();
            shared.ct.tell_key(parsed, &mut key);
            let mut upcall = Box::new(Upcall {
                kind: UpcallKind::Miss,
                key,
                full_len: u32::try_from(packet.len()).unwrap_or(u32::MAX),
                packet: packet.data().to_vec(),
                actions: None,
                out_tunnel: None,
                queued_ms: self.now_ms,
                rx_queue: self.rx_queue,
            });
            fill(&mut upcall);
            let mut parcel = shared.upcalls.parcels.take_one();
            parcel.hold(upcall);
            shared.upcalls.push(queue, parcel).is_ok()
        };
        if !queued {
            add(&self.work(shared).lost, 1);
        }
        queued
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;
    use crate::slots::SlotWriter;
    use flow::extract::PacketMeta;
    use port::{Checksum, Gso, offload};
    use std::time::Duration;

    fn key() -> flow::Key {
        let mut key = flow::Key::ZERO;
        (key.eth_type, key.nw_proto, key.nw_ttl) = ([8, 0], 6, 64);
        (key.nw_src, key.nw_dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        key
    }

    /// What comes back by `execute` has no GSO mark, so large frames go up as a wire would carry them.
    #[test]
    fn a_gso_frame_goes_up_in_finished_pieces() {
        let (slots, _slot_writer) = SlotWriter::new();
        let (classifier, _classifier_writer) = Classifier::new();
        let shared = Shared::new(slots, classifier);
        let core = Core::new(0, 16);
        let bytes = flow::compose::compose(&key(), flow::compose::Payload::Len(2500));
        let mut packet = Packet::from_bytes(&bytes).unwrap();
        packet.set_checksum(Checksum::Partial { start: 34, offset: 16 });
        packet.set_gso(Gso { kind: GsoKind::Tcp4, size: 1000, ecn: false });
        let mut parsed = Parsed::new();
        parsed.read(packet.data(), &PacketMeta::default());
        assert!(core.hand_up(&shared, packet, &parsed, |_| ()));
        let mut ups = Vec::new();
        shared.upcalls.take(0, 10, Duration::ZERO, &mut ups);
        assert_eq!(ups.iter().map(|u| u.packet.len()).collect::<Vec<_>>(), [1054, 1054, 554]);
        for up in &ups {
            assert_eq!(offload::verify(&up.packet), (offload::Verdict::Good, offload::Verdict::Good));
        }
    }

    /// A full queue costs its port the packets, each of which is counted once, and nobody anything else.
    #[test]
    fn what_finds_the_queue_full_is_turned_away_and_counted() {
        use crate::forward::Scope;
        use crate::upcall::QUEUE_MAX;
        use port::BATCH_MAX;
        use std::sync::atomic::Ordering::Relaxed;
        let (slots, _slot_writer) = SlotWriter::new();
        let (classifier, _classifier_writer) = Classifier::new();
        let shared = Shared::new(slots, classifier);
        let mut member = shared.epochs.join().unwrap();
        member.online();
        let mut core = Core::new(member.seat(), 16);
        let bytes = flow::compose::compose(&key(), flow::compose::Payload::Len(20));
        let batches = QUEUE_MAX / BATCH_MAX;
        for i in 0..batches + 2 {
            for _ in 0..BATCH_MAX {
                core.inbox().push(Packet::from_bytes(&bytes).unwrap()).unwrap();
            }
            core.received(Scope { shared: &shared, guard: member.guard() }, flow::DpPort(9));
            let (queued, lost) = shared.strangers.counts();
            let full = i.saturating_sub(batches - 1) * BATCH_MAX;
            assert_eq!((queued, lost), (((i + 1) * BATCH_MAX - full) as u64, full as u64));
            assert_eq!(core.work(&shared).lost.load(Relaxed), lost);
        }
        let mut ups = Vec::new();
        shared.upcalls.take(0, QUEUE_MAX + 1, Duration::ZERO, &mut ups);
        assert_eq!(ups.len(), QUEUE_MAX);
    }
}
