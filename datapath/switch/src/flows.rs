//! The megaflow table as the control thread keeps it: what is put, found, counted and deleted.
//!
//! What enters: puts and deletes of the seam. What leaves: slots and their place in the classifier; dumps and statistics.
//! Neighbours: `slots`, `classifier` (which it alone writes), `qsbr` (what is unlinked waits there), `switch` (which holds the lock).
//!
//! Statistics are exact: a delete waits for the workers' current batches before it reads the last figures, and the figures of a slot
//! that was replaced are read as long as the slot waits to be used again, and then added to what the flow carries along.

use crate::classifier::{ClassifierWriter, Removed};
use crate::counters::FLOW_TABLE_FULL;
use crate::forward::Shared;
use crate::names::Names;
use crate::program::Program;
use crate::qsbr::{Limbo, Rcu, Unlinked, Waiting};
use crate::shape::Shape;
use crate::slots::{CHUNK, CHUNKS_MAX, FLOWS_MAX, Fresh, Head, SlotWriter};
use crate::stats::Shard;
use flow::clock::Msec;
use flow::hash::Map;
use flow::key::{DATAPATH_LINES, LINE_BYTES};
use flow::seam::{DpError, FlowDump, FlowPut, FlowStats, NewFlow, Placement, PutMode};
use flow::{Key, Megaflow, Ufid};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often subtables are sorted by hits.
const SORT_MS: Msec = 1_000;
/// Megaflows that the slow path is asked to delete at a time.
const UNWANTED_MAX: usize = 1 << 14;
/// Megaflows whose figures are asked for at a time: everything about them is fetched before anything of it is read.
pub const STATS_STEP: usize = 32;
/// Megaflows that are created together: all that they look at is fetched first.
const PUT_STEP: usize = 32;
/// When fewer slots than so many are free, room for more is made: as many as some handlers fill while one of them makes it.
const FREE_LOW: usize = CHUNK / 4;
const LINE_WORDS: usize = LINE_BYTES / 8;
const DATAPATH_WORDS: usize = DATAPATH_LINES * LINE_WORDS;

/// A mask as megaflows are put under it.
struct Looks {
    shape: Arc<Shape>,
    /// It has bits of what only a connection knows.
    asks: bool,
}

/// What a megaflow carries along from before it was replaced or cleared.
#[derive(Debug, Default)]
struct Past {
    /// Counts from before the present slot.
    before: FlowStats,
    /// What was counted when the counters were cleared.
    cleared: FlowStats,
    /// Slots that were replaced and may still be counted on.
    olds: Vec<u32>,
}

/// What a megaflow has only for dumps: its place among the others, and what the key that was put has outside its mask, as a few words.
#[derive(Debug, Default)]
struct Told {
    /// A bit for each word of the key that has something.
    which: u128,
    /// Most have no more than stand here.
    words: SmallVec<[u64; 4]>,
    /// In which order megaflows came; goes round after four milliards.
    serial: u32,
}

const _: () = assert!(size_of::<Told>() <= LINE_BYTES);

/// By slot, in pieces as slots are: none of it moves when more come.
#[derive(Debug, Default)]
struct Tolds(Vec<Box<[Told]>>);

impl Tolds {
    fn of(&self, slot: u32) -> &Told {
        &self.0[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn prefetch(&self, slot: u32) {
        crate::prefetch(self.of(slot));
    }

    fn set(&mut self, slot: u32, told: Told) -> Told {
        std::mem::replace(&mut self.0[slot as usize / CHUNK][slot as usize % CHUNK], told)
    }
}

const _: () = assert!(DATAPATH_WORDS <= 128);

impl Told {
    fn new(key: &Key, mask: &Key) -> Self {
        let open = |i: usize| key.words()[i] & !mask.words()[i];
        let (mut which, mut words) = (0u128, SmallVec::new());
        for line in (0..DATAPATH_WORDS).step_by(LINE_WORDS) {
            // Most lines of most keys have nothing.
            if (line..line + LINE_WORDS).fold(0, |any, i| any | open(i)) == 0 {
                continue;
            }
            for i in (line..line + LINE_WORDS).filter(|i| open(*i) != 0) {
                which |= 1u128 << i;
                words.push(open(i));
            }
        }
        Self { which, words, serial: 0 }
    }

    /// A masked key with what is outside the mask.
    fn fill(&self, masked: &Key) -> Option<Box<Key>> {
        let mut key = (self.which != 0).then(|| Box::new(*masked))?;
        let places = (0..DATAPATH_WORDS).filter(|i| self.which & 1u128 << *i != 0);
        for (i, word) in places.zip(self.words.iter()) {
            key.words_mut()[i] |= word;
        }
        Some(key)
    }
}

/// Whether a mask has bits of what only a connection knows (`ct::Ct::tell`).
fn looks_at_connection(mask: &Key) -> bool {
    let Key { ct_label, ct_nw_src, ct_nw_dst, ct_ipv6_src, ct_ipv6_dst, ct_tp_src, ct_tp_dst, .. } = mask;
    let tuple = [*ct_nw_src, *ct_nw_dst] != [[0; 4]; 2] || [*ct_tp_src, *ct_tp_dst] != [[0; 2]; 2];
    tuple || [*ct_label, *ct_ipv6_src, *ct_ipv6_dst] != [[0; 16]; 3]
}

/// Memory for more megaflows: a chunk of slots, and what stands beside them. Most of what it costs is that nobody has touched it before.
#[derive(Debug)]
pub struct Room {
    slots: Fresh,
    told: Box<[Told]>,
}

impl Room {
    /// The chunk that comes after `chunks` others; `None` when there may be no more.
    #[must_use]
    pub fn after(chunks: usize) -> Option<Self> {
        let slots = Fresh::after(chunks)?;
        Some(Self { slots, told: (0..CHUNK).map(|_| Told::default()).collect() })
    }
}

/// What is made of new megaflows by who has no right to change the table: others wait for that.
#[derive(Debug)]
pub struct Prepared(Vec<Result<Parts, DpError>>);

#[derive(Debug)]
struct Parts {
    program: Box<Program>,
    told: Told,
}

impl Prepared {
    /// One for each of the megaflows, in their order.
    #[must_use]
    pub fn new(batch: &[NewFlow<'_>]) -> Self {
        let parts = |flow: &NewFlow<'_>| {
            let program = Box::new(Program::new(Arc::clone(flow.actions))?);
            Ok(Parts { program, told: Told::new(flow.key, flow.mask) })
        };
        Self(batch.iter().map(parts).collect())
    }
}

/// The table and the right to change it.
#[derive(Debug)]
pub struct FlowTable {
    shared: Arc<Shared>,
    slots: SlotWriter,
    classifier: ClassifierWriter,
    names: Names,
    told: Tolds,
    /// By slot, of megaflows that were replaced or cleared: few.
    pasts: Map<u32, Past>,
    /// Flows whose `olds` name a slot.
    old_owner: Map<u32, Ufid>,
    /// Slots of megaflows that look at a connection's label or tuple, until no worker can find them any more.
    asking: Map<u32, ()>,
    limbo: Limbo,
    sorted_ms: Msec,
    next_serial: u32,
    /// Megaflows of masks that others need the room of.
    unwanted: Vec<Ufid>,
    /// Somebody makes room for more megaflows.
    is_room_made: bool,
}

/// What a put did, for the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    Added,
    /// The actions before.
    Modified(Arc<flow::Actions>),
}

impl FlowTable {
    /// The writers' owner.
    #[must_use]
    pub fn new(shared: Arc<Shared>, slots: SlotWriter, classifier: ClassifierWriter) -> Self {
        let (pasts, old_owner, asking) = (Map::default(), Map::default(), Map::default());
        let (names, told, limbo, unwanted) = (Names::default(), Tolds::default(), Limbo::default(), Vec::new());
        let (sorted_ms, next_serial, is_room_made) = (0, 0, false);
        Self {
            shared,
            slots,
            classifier,
            names,
            told,
            pasts,
            old_owner,
            asking,
            limbo,
            sorted_ms,
            next_serial,
            unwanted,
            is_room_made,
        }
    }

    /// Megaflows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Masks in use.
    #[must_use]
    pub fn n_masks(&self) -> usize {
        self.classifier.n_masks()
    }

    /// Makes room in a new member's shard.
    pub fn welcome(&self, seat: usize) {
        self.shared.shards[seat].get_or_init(Default::default).grow(self.slots.chunks());
    }

    /// Fetches what putting these megaflows will look at: it lies all over the memory, so that one would wait for it after the other.
    pub fn fetch(&self, batch: &[FlowPut]) {
        for put in batch {
            std::hint::black_box(self.names.guess(put.flow.ufid));
            self.classifier.fetch(&put.flow.key, &put.flow.mask);
        }
    }

    /// Creates or replaces a megaflow.
    pub fn put(&mut self, put: &FlowPut) -> Result<Done, DpError> {
        let flow = &put.flow;
        let mask = normal(&flow.mask)?;
        let program = Box::new(Program::new(Arc::clone(&flow.actions))?);
        if let Some(slot) = self.find(flow.ufid) {
            return match put.mode {
                PutMode::Create => Err(DpError::Exists),
                PutMode::Modify | PutMode::CreateOrModify => self.modify(put, slot, &mask, program).map(Done::Modified),
            };
        }
        if put.mode == PutMode::Modify {
            return Err(DpError::NoFlow);
        }
        self.check_free(&flow.key, &flow.actions)?;
        let looks = self.looks(&mask);
        let hash = looks.shape.hash(flow.key.words());
        let parts = Parts { program, told: Told::new(&flow.key, &mask) };
        let added = self.add((flow.ufid, &flow.key), &looks, hash, parts);
        drop(looks);
        if added.is_err() {
            self.classifier.drop_unused_shapes();
        }
        added.map(|()| Done::Added)
    }

    /// Creates megaflows, as `put` does. What is known by a mask is worked out once for those that share it.
    pub fn put_new(&mut self, batch: &[NewFlow<'_>], prepared: Prepared) -> Vec<Result<(), DpError>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut parts = prepared.0.into_iter();
        for alike in batch.chunk_by(|a, b| Arc::ptr_eq(a.mask, b.mask)).flat_map(|run| run.chunks(PUT_STEP)) {
            let mask = match normal(alike[0].mask) {
                Ok(mask) => mask,
                Err(error) => {
                    results.extend(alike.iter().zip(&mut parts).map(|_| Err(error.clone())));
                    continue;
                }
            };
            let (first, looks) = (results.len(), self.looks(&mask));
            let hashes = self.fetch_new(alike, &looks);
            // Errors are written where there are any: who copies a result that was just made waits for all that was stored for the megaflow.
            results.extend(alike.iter().map(|_| Ok(())));
            for (((flow, hash), result), parts) in alike.iter().zip(hashes).zip(&mut results[first..]).zip(&mut parts) {
                if let Err(error) = parts.and_then(|parts| self.create(flow, &looks, hash, parts)) {
                    *result = Err(error);
                }
            }
            drop(looks);
            if results[first..].iter().any(Result::is_err) {
                // Nobody may have come to use it.
                self.classifier.drop_unused_shapes();
            }
        }
        results
    }

    /// Fetches what creating these megaflows will look at; the hashes of their keys.
    fn fetch_new(&self, alike: &[NewFlow<'_>], looks: &Looks) -> [u64; PUT_STEP] {
        let mut hashes = [0; PUT_STEP];
        // Another handler may have used them last, or made them.
        for slot in self.slots.next_free(alike.len()) {
            self.slots.prefetch(slot);
            self.told.prefetch(slot);
        }
        for (hash, flow) in hashes.iter_mut().zip(alike) {
            *hash = looks.shape.hash(flow.key.words());
            std::hint::black_box(self.names.guess(flow.ufid));
            self.classifier.fetch_at(flow.key, &looks.shape, *hash);
        }
        hashes
    }

    fn create(&mut self, flow: &NewFlow<'_>, looks: &Looks, hash: u64, parts: Parts) -> Result<(), DpError> {
        if self.find(flow.ufid).is_some() {
            return Err(DpError::Exists);
        }
        self.check_free(flow.key, flow.actions)?;
        self.add((flow.ufid, flow.key), looks, hash, parts)
    }

    /// Refuses a packet that another megaflow has already: one with the same actions is as good, with others nobody knows which is right.
    fn check_free(&self, key: &Key, actions: &Arc<flow::Actions>) -> Result<(), DpError> {
        match self.classifier.find(key, &self.slots) {
            None => Ok(()),
            Some(slot) if *self.actions(slot) == **actions => Err(DpError::Exists),
            Some(_) => Err(DpError::Overlap),
        }
    }

    /// Adds a megaflow of a name that there is not yet.
    fn add(&mut self, (ufid, key): (Ufid, &Key), looks: &Looks, hash: u64, parts: Parts) -> Result<(), DpError> {
        let slot = self.link((ufid, key), looks, hash, parts.program)?;
        self.told.set(slot, Told { serial: self.next_serial, ..parts.told });
        self.next_serial = self.next_serial.wrapping_add(1);
        self.names.insert(ufid, slot);
        Ok(())
    }

    fn find(&self, ufid: Ufid) -> Option<u32> {
        self.names.find(ufid, &self.slots)
    }

    fn looks(&mut self, mask: &Key) -> Looks {
        Looks { shape: self.classifier.shape(mask), asks: looks_at_connection(mask) }
    }

    fn actions(&self, slot: u32) -> Arc<flow::Actions> {
        // SAFETY: programs are swapped by `modify` only, which needs `&mut self`.
        let program = unsafe { self.slots.entry(slot).head().program.held() };
        Arc::clone(&program.expect("a live slot has a program").actions)
    }

    /// Puts a megaflow into a slot and makes it findable. What the key has outside the mask does not matter; `hash` is that under the mask.
    fn link(&mut self, (ufid, key): (Ufid, &Key), looks: &Looks, hash: u64, program: Box<Program>) -> Result<u32, DpError> {
        if self.slots.n_free() == 0 {
            self.reclaim();
        }
        if self.slots.n_free() == 0 {
            let Some(room) = Room::after(self.slots.chunks()) else {
                FLOW_TABLE_FULL.inc();
                return Err(DpError::Full("the flow table"));
            };
            drop(self.add_room(room));
        }
        let shape = Arc::clone(&looks.shape);
        let quick = program.quick();
        let rest = shape.rest(key);
        if looks.asks {
            self.shared.ct_asked.fetch_add(1, Ordering::Release);
        }
        let slot = self.slots.fill(key, Head { ufid, shape, rest, program: Rcu::new(program) }, quick);
        if looks.asks {
            self.asking.insert(slot, ());
        }
        let removed = self.classifier.insert_hashed(slot, hash, &self.slots);
        self.keep(removed);
        Ok(slot)
    }

    /// Asks for room for more megaflows, once, before there is none: it is to come after so many chunks.
    pub fn ask_for_room(&mut self) -> Option<usize> {
        let is_short = self.slots.n_free() < FREE_LOW && self.slots.chunks() < CHUNKS_MAX;
        let asks = is_short && !std::mem::replace(&mut self.is_room_made, is_short);
        asks.then(|| self.slots.chunks())
    }

    /// Takes the room that was asked for; gives back what came too late.
    pub fn take_room(&mut self, room: Option<Room>) -> Option<Room> {
        self.is_room_made = false;
        room.and_then(|room| self.add_room(room).err())
    }

    fn add_room(&mut self, Room { slots, told }: Room) -> Result<(), Room> {
        match self.slots.add(slots) {
            Ok(()) => {
                self.told.0.push(told);
                self.shards().iter().for_each(|shard| shard.grow(self.slots.chunks()));
                Ok(())
            }
            Err(slots) => Err(Room { slots, told }),
        }
    }

    fn keep(&mut self, removed: Removed) {
        if !removed.is_empty() {
            removed.keep(&mut self.limbo, self.shared.epochs.advance());
        }
    }

    /// Replaces the megaflow in a slot.
    fn modify(&mut self, put: &FlowPut, mut slot: u32, mask: &Key, program: Box<Program>) -> Result<Arc<flow::Actions>, DpError> {
        let (ufid, key) = (put.flow.ufid, &put.flow.key.masked(mask));
        let old_actions = self.actions(slot);
        let entry = self.slots.entry(slot);
        if entry.head().shape.mask == *mask && *entry.key() == *key {
            let quick = program.quick();
            let old: Option<Unlinked<Program>> = entry.head().program.swap(Some(program));
            self.slots.set_quick(slot, quick);
            self.limbo.keep_memory(self.shared.epochs.advance(), old);
        } else {
            // Make before break, with a grace period between: a search that went past the place of the new one before it was there
            // must still find the old one. Both may be found for a moment, which a put promises nothing about.
            let looks = self.looks(mask);
            let new = self.link((ufid, key), &looks, looks.shape.hash(key.words()), program)?;
            let told = self.told.set(slot, Told::default());
            self.told.set(new, told);
            self.shared.epochs.wait(self.shared.epochs.advance());
            self.names.pass(ufid, new, &self.slots);
            self.unlink(slot);
            self.limbo.keep(self.shared.epochs.advance(), Waiting::Slot(slot));
            self.old_owner.insert(slot, ufid);
            let mut past = self.pasts.remove(&slot).unwrap_or_default();
            past.olds.push(slot);
            self.pasts.insert(new, past);
            slot = new;
        }
        if put.clear_stats {
            let counted = self.counted(slot, &self.shards());
            self.pasts.entry(slot).or_default().cleared = counted;
        }
        Ok(old_actions)
    }

    /// Takes a slot out of the classifier and kills it. It still has to wait in limbo.
    fn unlink(&mut self, slot: u32) {
        let removed = self.classifier.remove(slot, &self.slots);
        self.slots.kill(slot);
        self.keep(removed);
    }

    /// Deletes megaflows; the last figures of each.
    pub fn del(&mut self, batch: &[Ufid]) -> Vec<Result<FlowStats, DpError>> {
        let found: Vec<_> = batch.iter().map(|ufid| self.names.remove(*ufid, &self.slots)).collect();
        for slot in found.iter().flatten() {
            self.unlink(*slot);
        }
        let epoch = self.shared.epochs.advance();
        if found.iter().any(Option::is_some) {
            self.shared.epochs.wait(epoch);
        }
        let mut results = Vec::with_capacity(batch.len());
        for slot in found {
            let Some(slot) = slot else {
                results.push(Err(DpError::NoFlow));
                continue;
            };
            results.push(Ok(self.stats(slot, &self.shards())));
            self.told.set(slot, Told::default());
            self.limbo.keep(epoch, Waiting::Slot(slot));
            for old in self.pasts.remove(&slot).map(|past| past.olds).unwrap_or_default() {
                self.old_owner.remove(&old);
            }
        }
        self.reclaim();
        results
    }

    /// Deletes all.
    pub fn flush(&mut self) {
        let all: Vec<Ufid> = self.names.slots().map(|slot| self.slots.entry(slot).head().ufid).collect();
        self.del(&all);
    }

    /// Gives back what has waited long enough.
    fn reclaim(&mut self) {
        let mut any = false;
        while let Some(waiting) = self.limbo.pop(&self.shared.epochs) {
            match waiting {
                Waiting::Memory(memory) => drop(memory),
                Waiting::Slot(slot) => self.release(slot),
            }
            any = true;
        }
        if any && self.limbo.is_empty() {
            self.classifier.drop_unused_shapes();
        }
    }

    fn release(&mut self, slot: u32) {
        if let Some(owner) = self.old_owner.remove(&slot) {
            let mut last = FlowStats::default();
            add_cells(slot, &self.shards(), &mut last);
            if let Some(past) = self.find(owner).and_then(|slot| self.pasts.get_mut(&slot)) {
                past.olds.retain(|s| *s != slot);
                past.before = sum(past.before, last);
            }
        }
        for shard in self.shards() {
            shard.zero(slot);
        }
        if self.asking.remove(&slot).is_some() {
            self.shared.ct_asked.fetch_sub(1, Ordering::Release);
        }
        // SAFETY: slots enter limbo once, when they are killed, with an epoch that began after that; `pop` says that it has passed.
        unsafe { self.slots.release(slot) };
    }

    /// The cells of those who forward, or have.
    fn shards(&self) -> SmallVec<[&Shard; 8]> {
        self.shared.shards.iter().filter_map(|s| s.get()).collect()
    }

    fn counted(&self, slot: u32, shards: &[&Shard]) -> FlowStats {
        let mut stats = FlowStats::default();
        add_cells(slot, shards, &mut stats);
        if let Some(past) = self.pasts.get(&slot) {
            stats = sum(stats, past.before);
            past.olds.iter().for_each(|old| add_cells(*old, shards, &mut stats));
        }
        stats
    }

    fn stats(&self, slot: u32, shards: &[&Shard]) -> FlowStats {
        let mut stats = self.counted(slot, shards);
        if let Some(past) = self.pasts.get(&slot) {
            stats.packets = stats.packets.wrapping_sub(past.cleared.packets);
            stats.bytes = stats.bytes.wrapping_sub(past.cleared.bytes);
        }
        if stats.packets == 0 {
            (stats.used_ms, stats.tcp_flags) = (0, 0);
        }
        stats
    }

    /// The figures of up to `STATS_STEP` megaflows. They lie all over the memory, so that to fetch them one after the other would be nearly
    /// all of the work.
    pub fn stats_of(&self, batch: &[Ufid], out: &mut Vec<Option<FlowStats>>) {
        let shards = self.shards();
        for slot in batch.iter().filter_map(|ufid| self.names.guess(*ufid)) {
            self.slots.prefetch(slot);
            shards.iter().for_each(|shard| shard.prefetch(slot));
        }
        out.extend(batch.iter().map(|ufid| self.find(*ufid).map(|slot| self.stats(slot, &shards))));
    }

    /// One megaflow with its figures.
    pub fn get(&self, ufid: Ufid) -> Result<FlowDump, DpError> {
        self.find(ufid).map(|slot| self.dump_one(slot)).ok_or(DpError::NoFlow)
    }

    fn dump_one(&self, slot: u32) -> FlowDump {
        let entry = self.slots.entry(slot);
        let flow = Megaflow {
            ufid: entry.head().ufid,
            key: entry.key(),
            mask: Box::new(entry.head().shape.mask),
            actions: self.actions(slot),
        };
        let stats = self.stats(slot, &self.shards());
        FlowDump { unmasked: self.told.of(slot).fill(&flow.key), flow, stats, placement: Placement::Software }
    }

    /// The megaflows in up to `n` slots from slot `from` on, older ones first; where to go on, `None` at the end.
    pub fn dump_some(&self, from: u32, n: u32, out: &mut Vec<FlowDump>) -> Option<u32> {
        let end = u32::try_from(self.slots.chunks() * CHUNK).expect("FLOWS_MAX fits");
        let to = from.saturating_add(n).min(end);
        let mut found = Vec::new();
        for slot in from..to {
            if self.slots.is_live(slot) {
                found.push((self.told.of(slot).serial, self.dump_one(slot)));
            }
        }
        found.sort_unstable_by_key(|(serial, _)| *serial);
        out.extend(found.into_iter().map(|(_, dump)| dump));
        (to < end).then_some(to)
    }

    /// What has to be done now and then: subtables by hits, memory back.
    pub fn tend(&mut self, now_ms: Msec) {
        self.reclaim();
        if now_ms - self.sorted_ms >= SORT_MS {
            self.sorted_ms = now_ms;
            let mut unlinked = Vec::new();
            self.classifier.sort(|removed| unlinked.push(removed));
            for removed in unlinked {
                self.keep(removed);
            }
            self.find_unwanted();
        }
    }

    /// Whether a megaflow with this mask may be put.
    pub fn has_mask_room(&mut self, mask: &Key, in_port: u32) -> bool {
        self.classifier.has_room(in_port, mask)
    }

    fn find_unwanted(&mut self) {
        let shards: SmallVec<[&Shard; 8]> = self.shared.shards.iter().filter_map(|s| s.get()).collect();
        let packets = |slot| {
            let mut stats = FlowStats::default();
            add_cells(slot, &shards, &mut stats);
            stats.packets
        };
        let cold = self.classifier.coldest(packets);
        self.unwanted.extend(cold.into_iter().map(|slot| self.slots.entry(slot).head().ufid));
        self.unwanted.truncate(UNWANTED_MAX);
    }

    /// Takes the names of megaflows that are in others' way.
    pub fn take_unwanted(&mut self) -> Vec<Ufid> {
        std::mem::take(&mut self.unwanted)
    }

    /// Keeps something that others unlinked.
    pub fn keep_memory<T: Send + 'static>(&mut self, what: Option<Unlinked<T>>) {
        self.limbo.keep_memory(self.shared.epochs.advance(), what);
    }
}

fn sum(a: FlowStats, b: FlowStats) -> FlowStats {
    FlowStats {
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
        used_ms: a.used_ms.max(b.used_ms),
        tcp_flags: a.tcp_flags | b.tcp_flags,
    }
}

fn add_cells(slot: u32, shards: &[&Shard], stats: &mut FlowStats) {
    shards.iter().for_each(|shard| shard.add_to(slot, stats));
}

/// A mask as the datapath can match it: without what only the pipeline has.
fn normal(mask: &Key) -> Result<Cow<'_, Key>, DpError> {
    if mask.in_port != [0xff; 4] {
        tracing::error!(target: "dpif_netdev", rl = 60, burst = 5, "failed to put flow: in_port is not an exact match");
        return Err(DpError::Invalid("in_port must be matched exactly".to_owned()));
    }
    if mask.words()[DATAPATH_WORDS..].iter().all(|word| *word == 0) {
        return Ok(Cow::Borrowed(mask));
    }
    let mut own = *mask;
    own.words_mut()[DATAPATH_WORDS..].fill(0);
    Ok(Cow::Owned(own))
}

const _: () = assert!(FLOWS_MAX < u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_the_mask_comes_back() {
        let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
        (key.nw_src, key.nw_proto, key.eth_type) = ([10, 0, 0, 1], 6, [8, 0]);
        mask.eth_type = [0xff; 2];
        let masked = key.masked(&mask);
        assert_eq!(Told::new(&key, &mask).fill(&masked).as_deref(), Some(&key));
        assert_eq!(Told::new(&masked, &mask).fill(&masked), None);
    }
}
