//! The megaflow classifier: for a packet that no cache knows, the megaflow whose masked key it has.
//!
//! What enters: slots and their shapes, from the control thread. What leaves: subtables of slot numbers, which `search` takes the keys of a
//! batch through. Neighbours: `search`, `slots` (what numbers name), `shape` (hashing under a mask), `flows` (the writer's owner).
//!
//! # Structure
//!
//! Tuple space search, one space per input port: a space is a list of subtables, one per mask, and a subtable is a hash table of
//! slot numbers under the masked key. Megaflows that the slow path installs do not overlap unless they do the same, so the first
//! subtable that matches decides and the order only matters for speed: subtables with more hits come first (`sort`).
//!
//! A subtable with up to `FEW_MAX` megaflows names them beside its table (`few`): packets are compared with them, and nothing is hashed.
//!
//! # Concurrency: what holds
//!
//! - Workers read under a guard and take no lock. There is one writer (the owner of `ClassifierWriter`, behind the switch's mutex).
//! - The list of a space is copied on write, and replaced as a whole (`Rcu`). That happens once per mask, not per megaflow.
//! - Within a subtable's table entries are published in place: the slot number is stored first, then its tag (Release). An entry
//!   never moves while its table lives, so a lookup cannot miss a megaflow that was there before it began and is there after.
//!   A table that is half full is copied into one of twice the size, and replaced: insertion is O(1) amortised.
//! - `few` names all megaflows of a table until there is one too many, which can be found by its tag before the first name goes; from then on the
//!   table has no names. One that again has few is replaced by a small one that has. Names stand without gaps: where one goes the last takes
//!   its place. It is written there before it is taken from its old place (Release), and names are read from the last to the first
//!   (Acquire): whoever no longer sees the old place sees the new one.
//! - A tag that was read before its entry was replaced leads to another slot number; comparing decides, as always.

use crate::qsbr::{Epoch, Guard, Limbo, Rcu, Unlinked};
use crate::shape::{FirstHash, Shape};
use crate::slots::{NO_SLOT, SlotWriter};
use crate::tags::{self, WAYS};
use flow::Key;
use flow::hash::Map;
use flow::key::{DATAPATH_LINES, LINE_BYTES, WORDS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Input ports with a space of their own; higher numbers (there are none but "no port") share one.
pub const SPACES: usize = 65_536;
/// Masks that packets of one input port are searched under at most: a search that finds nothing then costs about what the upcall costs
/// that follows it. Exact masks that stand in for others come on top: there are only a few kinds of packets.
pub const MASKS_PER_PORT_MAX: usize = 256;
/// Of a port that has too many masks so many are given up at a time.
const COLD_MAX: usize = MASKS_PER_PORT_MAX / 8;
/// Masks with more megaflows than this are not given up.
const COLD_FLOWS_MAX: usize = 256;
/// Packets in a batch: bits in the set of packets still looked for.
pub const BATCH: usize = 32;

#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct Bucket {
    tags: [AtomicU64; 2],
    pub(crate) slots: [AtomicU32; WAYS],
    /// Entries whose home is this bucket or one before it, and that found it full: lookups go on while this is not 0.
    pub(crate) passed: AtomicU32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

/// A hash table of slot numbers.
pub(crate) struct Table {
    pub(crate) buckets: Box<[Bucket]>,
    mask: usize,
    /// The slots of all entries, from the first place on; `NO_SLOT` in the first place if there are too many.
    pub(crate) few: [AtomicU32; FEW_MAX],
}

impl Table {
    fn new(buckets: usize) -> Self {
        let n = buckets.next_power_of_two();
        let few = std::array::from_fn(|_| AtomicU32::new(NO_SLOT));
        Self { buckets: (0..n).map(|_| Bucket::default()).collect(), mask: n - 1, few }
    }

    fn home(&self, hash: u64) -> usize {
        home(&self.buckets, hash)
    }

    fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Adds an entry. The caller keeps the table half empty, so that there always is a way.
    fn insert(&self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at];
            let now = bucket.words(Ordering::Relaxed);
            let free = tags::equal(now, 0);
            if free != 0 {
                let way = free.trailing_zeros() as usize;
                bucket.slots[way].store(slot, Ordering::Relaxed);
                let (word, value) = tags::with_lane(now, way, tags::tag_of(hash));
                bucket.tags[word].store(value, Ordering::Release);
                return;
            }
            bucket.passed.store(bucket.passed.load(Ordering::Relaxed) + 1, Ordering::Release);
            at = (at + 1) & self.mask;
        }
    }

    /// Removes the entry of `slot`; false if there is none.
    fn remove(&self, hash: u64, slot: u32) -> bool {
        let home = self.home(hash);
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            let now = bucket.words(Ordering::Relaxed);
            let mut same = tags::equal(now, tags::tag_of(hash));
            while same != 0 {
                let way = same.trailing_zeros() as usize;
                same &= same - 1;
                if bucket.slots[way].load(Ordering::Relaxed) == slot {
                    let (word, value) = tags::with_lane(now, way, 0);
                    bucket.tags[word].store(value, Ordering::Release);
                    self.unpass(home, at);
                    return true;
                }
            }
            if bucket.passed.load(Ordering::Relaxed) == 0 {
                return false;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Takes back that an entry went past the buckets from `home` to before `end`.
    fn unpass(&self, home: usize, end: usize) {
        let mut at = home;
        while at != end {
            let passed = &self.buckets[at].passed;
            passed.store(passed.load(Ordering::Relaxed) - 1, Ordering::Release);
            at = (at + 1) & self.mask;
        }
    }

    /// Names an entry that has just been added to `entries - 1` others, or leaves off naming.
    fn name(&self, slot: u32, entries: usize) {
        match self.few.get(entries - 1) {
            // Where there have been too many the first place stays empty.
            Some(place) if entries == 1 || self.has_names() => place.store(slot, Ordering::Release),
            _ => self.few[0].store(NO_SLOT, Ordering::Release),
        }
    }

    /// Takes the name of an entry away.
    fn unname(&self, slot: u32) {
        let used = self.few.iter().take_while(|place| place.load(Ordering::Relaxed) != NO_SLOT).count();
        let at = self.few[..used].iter().position(|place| place.load(Ordering::Relaxed) == slot);
        if let (Some(at), Some(last)) = (at, used.checked_sub(1)) {
            self.few[at].store(self.few[last].load(Ordering::Relaxed), Ordering::Release);
            self.few[last].store(NO_SLOT, Ordering::Release);
        }
    }

    fn has_names(&self) -> bool {
        self.few[0].load(Ordering::Relaxed) != NO_SLOT
    }

    /// The slots of all entries.
    fn entries(&self) -> impl Iterator<Item = u32> + '_ {
        self.buckets.iter().flat_map(|b| {
            let used = !tags::equal(b.words(Ordering::Relaxed), 0);
            (0..WAYS).filter(move |w| used & 1 << w != 0).map(|w| b.slots[w].load(Ordering::Relaxed))
        })
    }
}

impl Bucket {
    #[inline]
    pub(crate) fn words(&self, order: Ordering) -> [u64; 2] {
        [self.tags[0].load(order), self.tags[1].load(order)]
    }
}

/// Megaflows of one input port with one mask, as workers see them.
pub struct Subtable {
    pub(crate) shape: Arc<Shape>,
    /// The short way to hash, where there is one.
    pub(crate) first: Option<(FirstHash, usize)>,
    pub(crate) table: Rcu<Table>,
    /// Packets that matched here; approximate when several workers count.
    pub(crate) hits: AtomicU64,
}

impl std::fmt::Debug for Subtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subtable").field("words", &self.shape.n_words()).finish_non_exhaustive()
    }
}

/// A port's subtables, in the order of search.
pub(crate) type Space = Box<[Arc<Subtable>]>;

/// What workers search.
pub struct Classifier {
    spaces: Box<[Rcu<Space>]>,
    others: Rcu<Space>,
    /// How many subtables each of them has, the others last: for who has no guard.
    masks: Box<[AtomicUsize]>,
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").finish_non_exhaustive()
    }
}

impl Classifier {
    /// Without megaflows.
    #[must_use]
    pub fn new() -> (Arc<Self>, ClassifierWriter) {
        let spaces = (0..SPACES).map(|_| Rcu::empty()).collect();
        let masks = (0..=SPACES).map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Self { spaces, others: Rcu::empty(), masks });
        let (spaces, shapes) = (Map::default(), Map::default());
        (Arc::clone(&shared), ClassifierWriter { shared, spaces, shapes, last: None, crowded: Vec::new() })
    }

    #[inline]
    pub(crate) fn space(&self, in_port: u32) -> &Rcu<Space> {
        self.spaces.get(in_port as usize).unwrap_or(&self.others)
    }

    /// How many subtables packets from `in_port` have to go through at most.
    #[inline]
    pub fn n_subtables(&self, in_port: u32, guard: Guard<'_>) -> usize {
        self.space(in_port).load(guard).map_or(0, |s| s.len())
    }

    /// Whether an input port has fewer masks than it may have. Handlers ask for each translation, and not behind each other.
    #[must_use]
    pub fn has_room(&self, in_port: u32) -> bool {
        self.masks[space_index(in_port)].load(Ordering::Relaxed) < MASKS_PER_PORT_MAX
    }
}

/// A subtable as the writer keeps it.
#[derive(Debug)]
struct Owned {
    subtable: Arc<Subtable>,
    entries: usize,
    capacity: usize,
    /// Hits at the last sort.
    hits_before: u64,
    recent: u64,
    /// Packets of all its megaflows when the coldest masks were last looked for.
    packets_before: u64,
}

/// The right to change a classifier; there is one. Shapes are kept here, so that equal masks are one.
#[derive(Debug)]
pub struct ClassifierWriter {
    shared: Arc<Classifier>,
    /// By input port (`SPACES` for all that share one): the subtables in the order of search.
    spaces: Map<usize, Vec<Owned>>,
    shapes: Map<Box<[u64; WORDS]>, Arc<Shape>>,
    /// The shape that was asked for last: most megaflows have the mask of the one before them.
    last: Option<Arc<Shape>>,
    /// Spaces in which there was no room for a mask since the coldest were last looked for.
    crowded: Vec<usize>,
}

/// What a change has unlinked: to be kept until the grace period that the caller begins after it is over.
#[derive(Debug, Default)]
#[must_use]
pub struct Removed {
    table: Option<Unlinked<Table>>,
    space: Option<Unlinked<Space>>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("buckets", &self.buckets.len()).finish()
    }
}

impl Removed {
    /// Keeps what was unlinked before `epoch` began.
    pub fn keep(self, limbo: &mut Limbo, epoch: Epoch) {
        limbo.keep_memory(epoch, self.table);
        limbo.keep_memory(epoch, self.space);
    }

    /// Whether nothing was unlinked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_none() && self.space.is_none()
    }
}

const FIRST_BUCKETS: usize = 4;
/// Entries that go from one table into another at a time.
const REBUILD_STEP: usize = 32;
/// Megaflows that packets are compared with one after the other: their lines and the mask fit the vector registers.
pub(crate) const FEW_MAX: usize = 4;
const DATAPATH_WORDS: usize = DATAPATH_LINES * LINE_BYTES / 8;

impl ClassifierWriter {
    /// The shape of `mask`: the one in use, or a new one.
    pub fn shape(&mut self, mask: &Key) -> Arc<Shape> {
        if let Some(last) = self.last.as_ref().filter(|last| last.mask.words() == mask.words()) {
            return Arc::clone(last);
        }
        let known = self.shapes.get(mask.words()).cloned();
        let shape = known.unwrap_or_else(|| {
            let shape = Arc::new(Shape::new(mask));
            self.shapes.insert(Box::new(*mask.words()), Arc::clone(&shape));
            shape
        });
        self.last = Some(Arc::clone(&shape));
        shape
    }

    /// Masks in use.
    #[must_use]
    pub fn n_masks(&self) -> usize {
        self.shapes.len()
    }

    /// Subtables of an input port.
    #[must_use]
    pub fn n_subtables(&self, in_port: u32) -> usize {
        self.spaces.get(&space_index(in_port)).map_or(0, Vec::len)
    }

    /// Fetches what `insert` will look at, for a megaflow with the mask that was asked for last.
    pub fn fetch(&self, key: &Key, mask: &Key) {
        if let Some(shape) = self.last.as_ref().filter(|last| last.mask.words() == mask.words()) {
            self.fetch_at(key, shape, shape.hash(key.words()));
        }
    }

    /// Fetches what `insert_hashed` will look at.
    pub fn fetch_at(&self, key: &Key, shape: &Arc<Shape>, hash: u64) {
        let space = self.spaces.get(&space_index(u32::from_be_bytes(key.in_port)));
        if let Some(owned) = space.and_then(|space| space.iter().find(|o| Arc::ptr_eq(&o.subtable.shape, shape))) {
            owned.with_table(|table| crate::prefetch(&raw const table.buckets[table.home(hash)]));
        }
    }

    /// Makes a live slot findable.
    #[cfg(test)]
    pub fn insert(&mut self, slot: u32, slots: &SlotWriter) -> Removed {
        self.insert_hashed(slot, slots.entry(slot).hash(), slots)
    }

    /// Makes a live slot findable, of which the hash under its mask is known.
    pub fn insert_hashed(&mut self, slot: u32, hash: u64, slots: &SlotWriter) -> Removed {
        let entry = slots.entry(slot);
        debug_assert_eq!(hash, entry.hash());
        let shape = &entry.head().shape;
        let index = space_index(entry.in_port());
        let space = self.spaces.entry(index).or_default();
        if let Some(owned) = space.iter_mut().find(|o| Arc::ptr_eq(&o.subtable.shape, shape)) {
            let table = owned.make_room(slots);
            owned.entries += 1;
            owned.with_table(|table| {
                table.insert(hash, slot);
                table.name(slot, owned.entries);
            });
            return Removed { table, space: None };
        }
        let table = Table::new(FIRST_BUCKETS);
        table.insert(hash, slot);
        table.name(slot, 1);
        let capacity = table.capacity();
        let subtable = Arc::new(Subtable {
            shape: Arc::clone(shape),
            first: shape.first(),
            table: Rcu::new(Box::new(table)),
            hits: AtomicU64::new(0),
        });
        space.push(Owned { subtable, entries: 1, capacity, hits_before: 0, recent: 0, packets_before: 0 });
        Removed { table: None, space: self.publish(index) }
    }

    /// Makes a slot, which is still what it was when it was inserted, no longer findable.
    pub fn remove(&mut self, slot: u32, slots: &SlotWriter) -> Removed {
        let entry = slots.entry(slot);
        let shape = Arc::clone(&entry.head().shape);
        let index = space_index(entry.in_port());
        let Some(space) = self.spaces.get_mut(&index) else {
            return Removed::default();
        };
        let Some(at) = space.iter().position(|o| Arc::ptr_eq(&o.subtable.shape, &shape)) else {
            return Removed::default();
        };
        let owned = &mut space[at];
        if !owned.with_table(|table| table.remove(entry.hash(), slot)) {
            return Removed::default();
        }
        owned.entries -= 1;
        if owned.entries > 0 {
            return Removed { table: owned.unname(slot, slots), space: None };
        }
        space.remove(at);
        let last_of_port = space.is_empty();
        let removed = Removed { table: None, space: self.publish(index) };
        if last_of_port {
            self.spaces.remove(&index);
        }
        removed
    }

    /// Forgets shapes that no megaflow uses. To be called after grace periods, when slots have let go of theirs.
    pub fn drop_unused_shapes(&mut self) {
        self.last = None;
        self.shapes.retain(|_, shape| Arc::strong_count(shape) > 1);
    }

    /// Puts the subtables with the most hits since the last call first.
    pub fn sort(&mut self, mut keep: impl FnMut(Removed)) {
        let mut changed = Vec::new();
        for (index, space) in &mut self.spaces {
            for owned in space.iter_mut() {
                let hits = owned.subtable.hits.load(Ordering::Relaxed);
                // Half of what was counts on, so that the order does not flutter.
                owned.recent = owned.recent / 2 + hits.wrapping_sub(owned.hits_before);
                owned.hits_before = hits;
            }
            if !space.is_sorted_by(|a, b| a.recent >= b.recent) {
                space.sort_by_key(|o| std::cmp::Reverse(o.recent));
                changed.push(*index);
            }
        }
        for index in changed {
            keep(Removed { table: None, space: self.publish(index) });
        }
    }

    /// Whether a megaflow with `mask` may be put at an input port: the mask is there already, or there is room for one more.
    pub fn has_room(&mut self, in_port: u32, mask: &Key) -> bool {
        let index = space_index(in_port);
        let Some(space) = self.spaces.get(&index).filter(|space| space.len() >= MASKS_PER_PORT_MAX) else {
            return true;
        };
        // What only the pipeline has is no part of a subtable's mask.
        let same = |other: &Key| other.words()[..DATAPATH_WORDS] == mask.words()[..DATAPATH_WORDS];
        let known = space.iter().any(|owned| same(&owned.subtable.shape.mask));
        if !known && !self.crowded.contains(&index) {
            self.crowded.push(index);
        }
        known
    }

    /// The slots of the masks that are hit least, at ports that had no room since the last call: masks with less than a quarter of the
    /// packets that the port's masks have on average. `packets` says how many a slot has had; what the signature cache
    /// found counts, therefore, although no search did.
    pub fn coldest(&mut self, packets: impl Fn(u32) -> u64) -> Vec<u32> {
        let mut cold = Vec::new();
        for index in std::mem::take(&mut self.crowded) {
            let Some(space) = self.spaces.get_mut(&index) else { continue };
            let mut rates: Vec<(u64, usize)> = Vec::with_capacity(space.len());
            for (at, owned) in space.iter_mut().enumerate() {
                let sum = owned.with_table(|table| table.entries().map(&packets).sum::<u64>());
                rates.push((sum.saturating_sub(owned.packets_before), at));
                owned.packets_before = sum;
            }
            let average = rates.iter().map(|(rate, _)| rate).sum::<u64>() / rates.len().max(1) as u64;
            rates.retain(|(rate, at)| rate * 4 <= average && space[*at].entries <= COLD_FLOWS_MAX);
            rates.sort_unstable();
            for (_, at) in rates.iter().take(COLD_MAX) {
                space[*at].with_table(|table| cold.extend(table.entries()));
            }
        }
        cold
    }

    /// The live slot that `key` matches, whatever its mask. For the control thread.
    #[must_use]
    pub fn find(&self, key: &Key, slots: &SlotWriter) -> Option<u32> {
        let space = self.spaces.get(&space_index(u32::from_be_bytes(key.in_port)))?;
        space.iter().find_map(|owned| {
            let shape = &owned.subtable.shape;
            let hash = shape.hash(key.words());
            owned.with_table(|table| candidates(table, hash).find(|slot| is_of(key, *slot, shape, slots)))
        })
    }

    fn publish(&self, index: usize) -> Option<Unlinked<Space>> {
        let cell = self.shared.spaces.get(index).unwrap_or(&self.shared.others);
        self.shared.masks[index].store(self.spaces.get(&index).map_or(0, Vec::len), Ordering::Relaxed);
        let list: Space = self.spaces.get(&index)?.iter().map(|o| Arc::clone(&o.subtable)).collect();
        cell.swap((!list.is_empty()).then(|| Box::new(list)))
    }
}

/// Where a hash's chain begins. The number of buckets is a power of two.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are what is asked for")]
pub(crate) fn home(buckets: &[Bucket], hash: u64) -> usize {
    hash as usize & (buckets.len() - 1)
}

fn space_index(in_port: u32) -> usize {
    (in_port as usize).min(SPACES)
}

fn is_of(key: &Key, slot: u32, shape: &Shape, slots: &SlotWriter) -> bool {
    let entry = slots.entry(slot);
    *entry.line0() == shape.masked_line(key, 0) && *entry.head().rest == *shape.rest(key)
}

/// Slots whose tag is that of `hash`, in the order of a lookup.
fn candidates(table: &Table, hash: u64) -> impl Iterator<Item = u32> + '_ {
    let mut at = table.home(hash);
    let mut more = true;
    std::iter::from_fn(move || {
        if !more {
            return None;
        }
        let bucket = &table.buckets[at];
        let same = tags::equal(bucket.words(Ordering::Relaxed), tags::tag_of(hash));
        more = bucket.passed.load(Ordering::Relaxed) != 0;
        at = (at + 1) & table.mask;
        Some((0..WAYS).filter(move |w| same & 1 << w != 0).map(|w| bucket.slots[w].load(Ordering::Relaxed)))
    })
    .flatten()
}

impl Owned {
    fn with_table<R>(&self, f: impl FnOnce(&Table) -> R) -> R {
        // SAFETY: only the writer replaces the table, and it is borrowed for the time of the call (`self` is part of it).
        let table = unsafe { self.subtable.table.held() };
        f(table.expect("a subtable has a table as long as it lives"))
    }

    /// Takes the name of an entry that was removed away. A table that has come to have few entries again gives way to a small one.
    fn unname(&mut self, slot: u32, slots: &SlotWriter) -> Option<Unlinked<Table>> {
        if self.entries > FEW_MAX {
            return None;
        }
        if self.with_table(Table::has_names) {
            self.with_table(|table| table.unname(slot));
            return None;
        }
        self.rebuild(FIRST_BUCKETS, slots)
    }

    /// Replaces the table by one of twice the size when it is half full.
    fn make_room(&mut self, slots: &SlotWriter) -> Option<Unlinked<Table>> {
        if (self.entries + 1) * 2 <= self.capacity {
            return None;
        }
        let buckets = self.with_table(|old| old.buckets.len() * 2);
        self.rebuild(buckets, slots)
    }

    /// Replaces the table by one of that many buckets, with names if it has few entries.
    fn rebuild(&mut self, buckets: usize, slots: &SlotWriter) -> Option<Unlinked<Table>> {
        let new = self.with_table(|old| {
            let new = Table::new(buckets);
            let all: Vec<u32> = old.entries().collect();
            let mut entries = 0;
            for some in all.chunks(REBUILD_STEP) {
                // They and their new places lie all over the memory.
                some.iter().for_each(|slot| slots.prefetch(*slot));
                let mut hashes = [0; REBUILD_STEP];
                for (hash, slot) in hashes.iter_mut().zip(some) {
                    *hash = slots.entry(*slot).hash();
                    crate::prefetch(&raw const new.buckets[new.home(*hash)]);
                }
                for (hash, slot) in hashes.iter().zip(some) {
                    entries += 1;
                    new.insert(*hash, *slot);
                    new.name(*slot, entries);
                }
            }
            new
        });
        self.capacity = new.capacity();
        self.subtable.table.swap(Some(Box::new(new)))
    }
}
