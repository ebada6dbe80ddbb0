//! The way up: packets for which there is no megaflow, or that an action sends to userspace, become upcalls.
//!
//! What enters: packets with their keys. What leaves: upcalls in the queue of the packet's input port (`upcall`), or a counted loss.
//! Neighbours: `forward` and `execute`, the callers.

use crate::counters::DROP_UPCALL_ERROR;
use crate::forward::{Core, Shared};
use crate::parsed::Parsed;
use crate::stats::add;
use flow::seam::{Upcall, UpcallKind};
use port::{GsoKind, Packet};

impl Core {
    /// Hands a packet without megaflow up.
    pub(crate) fn miss(&self, shared: &Shared, packet: Packet, parsed: &Parsed) {
        if !self.hand_up(shared, packet, parsed, |_| ()) {
            DROP_UPCALL_ERROR.inc();
        }
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
        let in_port = u32::from_be_bytes(parsed.key.in_port);
        let queue = self.outlets.outlet(in_port).map_or(&shared.strangers, |o| &o.upcalls);
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
            });
            fill(&mut upcall);
            shared.upcalls.push(queue, upcall)
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
}
