//! A forwarding thread's core: from a batch received to megaflows, and on to their actions.
//!
//! What enters: batches from `worker` (received) and `switch` (executed). What leaves: packets to `outlets`, misses to `upcall`, figures to
//! `stats`. Neighbours: `cache`, `classifier`, `slots` (lookup), `execute` (actions).
//!
//! # One round
//!
//! Each stage goes over the whole batch before the next begins, and asks for the memory that the next will need:
//! extract keys; hash them, fetch buckets; look at buckets, fetch megaflows; compare; search the classifier for the rest; hand up what
//! has no megaflow; carry out the others, those of one megaflow together. Statistics are added once per megaflow and batch.
//!
//! Where an input port has no more than `DIRECT_MAX` subtables the classifier is asked at once: hashing a few masked words and looking
//! at one bucket costs no more than the signature cache would, and does not depend on the number of flows.

use crate::bundle::{Bundle, Spares};
use crate::cache::{Cache, Inserted};
use crate::classifier::{BATCH, Classifier, Search};
use crate::config::Live;
use crate::counters::{CACHE_EVICTED, DROP_RX_INVALID, DROP_UPCALL_ERROR};
use crate::hash::LineHash;
use crate::meter::Meters;
use crate::outlets::Outlets;
use crate::parsed::Parsed;
use crate::qsbr::{Epochs, Guard, MEMBERS_MAX};
use crate::slots::{Entry, NO_SLOT, NOT_QUICK, Slots};
use crate::stats::{Shard, Work, add};
use crate::tunnel::Sequences;
use crate::upcall::{PortQueue, Upcalls};
use crossbeam_utils::CachePadded;
use flow::DpPort;
use flow::clock::Msec;
use flow::extract::PacketMeta;
use flow::seam::{Upcall, UpcallKind};
use port::{Batch, GsoKind, Packet};
use std::sync::Arc;
use std::sync::OnceLock;

/// Up to so many subtables are searched without asking the signature cache.
pub const DIRECT_MAX: usize = 1;
/// Bytes of the shortest frame that is one.
const FRAME_MIN: usize = 14;

/// What all forwarding threads and the control thread share.
#[derive(Debug)]
pub struct Shared {
    pub slots: Arc<Slots>,
    pub classifier: Arc<Classifier>,
    pub epochs: Arc<Epochs>,
    pub meters: Meters,
    pub upcalls: Upcalls,
    pub live: Live,
    pub sequences: Sequences,
    /// For packets whose input port is not one of ours.
    pub strangers: Arc<PortQueue>,
    /// By seat.
    pub shards: Box<[OnceLock<Shard>]>,
    pub work: Box<[CachePadded<Work>]>,
    hash: LineHash,
}

impl Shared {
    /// Nothing in it yet.
    #[must_use]
    pub fn new(slots: Arc<Slots>, classifier: Arc<Classifier>) -> Self {
        Self {
            slots,
            classifier,
            epochs: Epochs::new(),
            meters: Meters::default(),
            upcalls: Upcalls::default(),
            live: Live::default(),
            sequences: Sequences::default(),
            strangers: PortQueue::new(DpPort(u32::MAX)),
            shards: (0..MEMBERS_MAX).map(|_| OnceLock::new()).collect(),
            work: (0..MEMBERS_MAX).map(|_| CachePadded::default()).collect(),
            hash: LineHash::new(),
        }
    }
}

/// What a thread may read until its next quiescent point.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'g> {
    pub shared: &'g Shared,
    pub guard: Guard<'g>,
}

/// A forwarding thread's own state.
#[derive(Debug)]
pub struct Core {
    pub outlets: Outlets,
    pub spares: Spares,
    cache: Cache,
    pub seat: usize,
    pub now_ms: Msec,
    /// How deep in recirculation the current round is.
    pub depth: u32,
    pub random: u64,
    hashes: [u64; BATCH],
}

impl Core {
    /// For the member in `seat`, with a cache for `flows` flows.
    #[must_use]
    pub fn new(seat: usize, flows: usize) -> Self {
        Self {
            outlets: Outlets::default(),
            spares: Spares::default(),
            cache: Cache::new(flows),
            seat,
            now_ms: 0,
            depth: 0,
            random: crate::hash::random() | 1,
            hashes: [0; BATCH],
        }
    }

    /// Replaces the cache by an empty one for `flows` flows.
    pub fn resize_cache(&mut self, flows: usize) {
        self.cache = Cache::new(flows);
    }

    /// Forwards a received batch, and leaves it empty.
    pub fn receive(&mut self, scope: Scope<'_>, in_port: DpPort, batch: &mut Batch) {
        let mut bundle = self.spares.take();
        std::mem::swap(&mut bundle.packets, batch);
        if bundle.packets.iter().any(|p| p.len() < FRAME_MIN) {
            let before = bundle.packets.len();
            bundle.split(|_, packet| packet.len() >= FRAME_MIN, None);
            DROP_RX_INVALID.add((before - bundle.packets.len()) as u64);
        }
        let meta = PacketMeta { in_port, vlan_limit: scope.shared.live.vlan_limit(), ..PacketMeta::default() };
        for (packet, parsed) in bundle.packets.iter().zip(&mut bundle.parsed) {
            parsed.read(packet.data(), &meta);
        }
        add(&self.work(scope.shared).received, bundle.packets.len() as u64);
        self.round(scope, bundle);
    }

    /// This thread's figures.
    #[inline]
    pub fn work<'s>(&self, shared: &'s Shared) -> &'s Work {
        &shared.work[self.seat]
    }

    /// Finds the megaflow of each packet and carries it out. The keys are extracted already.
    pub fn round(&mut self, scope: Scope<'_>, mut bundle: Box<Bundle>) {
        let n = bundle.packets.len();
        if n == 0 {
            return self.spares.give(bundle);
        }
        let mut found: [Option<Entry<'_>>; BATCH] = [None; BATCH];
        let missing = self.look_up(scope, &mut bundle.parsed[..n], &mut found);
        let work = self.work(scope.shared);
        add(&work.hit, n as u64 - u64::from(missing.count_ones()));
        if missing != 0 {
            add(&work.missed, missing.count_ones().into());
        }
        self.count(scope.shared, &bundle, &found[..n]);
        let first = found[0];
        match first {
            Some(entry) if found[..n].iter().all(|f| f.is_some_and(|f| f.number == entry.number)) => {
                if entry.quick() == NOT_QUICK {
                    self.carry_out(scope, entry, bundle);
                } else {
                    self.outlets.send_all(entry.quick(), &mut bundle.packets);
                    self.spares.give(bundle);
                }
            }
            Some(_) | None => self.part(scope, bundle, &found[..n]),
        }
    }

    fn carry_out(&mut self, scope: Scope<'_>, entry: Entry<'_>, bundle: Box<Bundle>) {
        match entry.head.program.load(scope.guard) {
            Some(program) => self.run(scope, bundle, &program.actions),
            None => self.spares.give(bundle),
        }
    }

    /// A batch of several megaflows: single outputs at once, in order; packets of other megaflows are gathered first.
    fn part<'g>(&mut self, scope: Scope<'g>, mut bundle: Box<Bundle>, found: &[Option<Entry<'g>>]) {
        let mut groups: [Option<(Entry<'g>, Box<Bundle>)>; BATCH] = [const { None }; BATCH];
        let mut n_groups = 0;
        let mut packets = std::mem::take(&mut bundle.packets);
        for (i, packet) in packets.drain().enumerate() {
            let Some(entry) = found[i] else {
                self.miss(scope.shared, packet, &bundle.parsed[i]);
                continue;
            };
            let quick = entry.quick();
            if quick != NOT_QUICK {
                self.outlets.send(quick, packet);
                continue;
            }
            let known = groups[..n_groups].iter_mut().flatten().find(|(e, _)| e.number == entry.number);
            let group = match known {
                Some((_, group)) => group,
                None => {
                    n_groups += 1;
                    &mut groups[n_groups - 1].insert((entry, self.spares.take())).1
                }
            };
            group.push(packet, &bundle.parsed[i]);
        }
        self.spares.give(bundle);
        for (entry, group) in groups.into_iter().flatten() {
            self.carry_out(scope, entry, group);
        }
    }

    /// Finds megaflows: a bit for each packet that has none.
    fn look_up<'g>(&mut self, scope: Scope<'g>, parsed: &mut [Parsed], found: &mut [Option<Entry<'g>>; BATCH]) -> u32 {
        let n = parsed.len();
        let all = if n == BATCH { u32::MAX } else { (1 << n) - 1 };
        let shared = scope.shared;
        let in_port = u32::from_be_bytes(parsed[0].key.in_port);
        let direct = shared.classifier.n_subtables(in_port, scope.guard) <= DIRECT_MAX;
        let missing = if direct { all } else { self.look_in_cache(scope, parsed, found) };
        if missing == 0 {
            return 0;
        }
        let mut search = Search { slots: &shared.slots, parsed, live: missing, found, searched: 0 };
        shared.classifier.lookup(&mut search, scope.guard);
        let (lost, searched) = (search.live, search.searched);
        add(&self.work(shared).mask_hit, searched);
        if !direct {
            self.remember(missing & !lost, found);
        }
        lost
    }

    fn look_in_cache<'g>(&mut self, scope: Scope<'g>, parsed: &mut [Parsed], found: &mut [Option<Entry<'g>>; BATCH]) -> u32 {
        let shared = scope.shared;
        let n = parsed.len();
        let mut hashes = [0; BATCH];
        shared.hash.hash_all(parsed, &mut hashes[..n]);
        for hash in &hashes[..n] {
            self.cache.prefetch(*hash);
        }
        let mut slots = [NO_SLOT; BATCH];
        for (slot, hash) in slots.iter_mut().zip(&hashes[..n]) {
            *slot = self.cache.candidate(*hash);
            shared.slots.prefetch(*slot);
        }
        let mut missing = 0u32;
        for (i, parsed) in parsed.iter_mut().enumerate() {
            match shared.slots.entry(slots[i], scope.guard) {
                Some(entry) if entry.matches(parsed) => found[i] = Some(entry),
                Some(_) | None => missing |= 1 << i,
            }
        }
        add(&self.work(shared).cache_hits, n as u64 - u64::from(missing.count_ones()));
        self.hashes = hashes;
        missing
    }

    /// Puts what the classifier found into the cache.
    fn remember(&mut self, mut which: u32, found: &[Option<Entry<'_>>; BATCH]) {
        let mut evicted = 0;
        while which != 0 {
            let i = which.trailing_zeros() as usize;
            which &= which - 1;
            if let Some(entry) = found[i]
                && self.cache.insert(self.hashes[i], entry.number) == Inserted::Evicted
            {
                evicted += 1;
            }
        }
        if evicted > 0 {
            CACHE_EVICTED.add(evicted);
        }
    }

    /// Adds to the megaflows' cells: neighbouring packets of one megaflow together.
    fn count(&self, shared: &Shared, bundle: &Bundle, found: &[Option<Entry<'_>>]) {
        let Some(shard) = shared.shards[self.seat].get() else {
            return;
        };
        let (mut slot, mut packets, mut bytes, mut flags) = (NO_SLOT, 0u64, 0u64, 0u16);
        let flush = |slot: u32, packets, bytes, flags| {
            if let Some(cell) = shard.cell(slot) {
                cell.count(packets, bytes, self.now_ms, flags);
            }
        };
        for ((packet, parsed), entry) in bundle.packets.iter().zip(&bundle.parsed).zip(found) {
            let Some(entry) = entry else { continue };
            if entry.number != slot {
                if packets > 0 {
                    flush(slot, packets, bytes, flags);
                }
                (slot, packets, bytes, flags) = (entry.number, 0, 0, 0);
            }
            packets += 1;
            bytes += packet.len() as u64;
            flags |= parsed.tcp_flags();
        }
        if packets > 0 {
            flush(slot, packets, bytes, flags);
        }
    }

    /// Hands a packet without megaflow up.
    fn miss(&self, shared: &Shared, packet: Packet, parsed: &Parsed) {
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
            let key = parsed.whole();
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
    use crate::slots::SlotWriter;
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
