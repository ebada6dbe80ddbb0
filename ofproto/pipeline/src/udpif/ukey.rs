//! Ukeys: what the slow path knows of each megaflow it has put into a datapath.
//!
//! What enters: translations (through `upcall` and `revalidate`). What leaves: for each megaflow its dependencies, the credits to
//! pay for its packets, the counters paid up to. Neighbours: `upcall` makes them, `revalidate` keeps and removes them.
//!
//! The map is sharded; a shard's lock is held for a look-up or an insertion only. A ukey's own lock is held while something is
//! done to its megaflow in the datapath, so that whoever holds it knows what the datapath holds. Beside the map stands the index by
//! dependencies; a ukey is in both or in neither, but for the moment of its coming or going.

use super::index::{Concerned, Index, NO_SLOT};
use crate::deps::{Deps, Judged, Pending, Revision};
use crate::effects::Credit;
use crate::recirc::RecircRef;
use crate::world::BridgeId;
use flow::hash::Map;
use flow::key::{LINE_BYTES, Lines};
use flow::seam::FlowStats;
use flow::ufid::ufid_of_masked;
use flow::{Actions, Key, Mask, Megaflow, Msec, Ufid};
use hashbrown::hash_map::Entry;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Shards of the map.
pub const SHARDS: usize = 512;
const LINE_WORDS: usize = LINE_BYTES / 8;

/// A key or mask without the lines that its mask leaves out: a tenth of the size in common cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compact {
    lines: Lines,
    /// Most have one line, which stands here.
    words: SmallVec<[u64; LINE_WORDS]>,
}

impl Compact {
    /// Keeps the lines named.
    #[must_use]
    pub fn new(key: &Key, lines: Lines) -> Self {
        let mut words = SmallVec::<[u64; LINE_WORDS]>::with_capacity(lines.0.count_ones() as usize * LINE_WORDS);
        for (i, line) in key.words().chunks_exact(LINE_WORDS).enumerate() {
            if lines.0 & 1 << i != 0 {
                words.extend_from_slice(line);
            }
        }
        Self { lines, words }
    }

    /// Whether this is the whole of `key`, whose lines are all here.
    #[must_use]
    pub fn is_all_of(&self, key: &Key) -> bool {
        let mut kept = self.words.chunks_exact(LINE_WORDS);
        key.words().chunks_exact(LINE_WORDS).enumerate().all(|(i, line)| match self.lines.0 & 1 << i {
            0 => line.iter().all(|word| *word == 0),
            _ => kept.next() == Some(line),
        })
    }

    /// Word `i` of the whole.
    #[must_use]
    pub fn word(&self, i: usize) -> u64 {
        let line = i / LINE_WORDS;
        if self.lines.0 & 1 << line == 0 {
            return 0;
        }
        let before = (self.lines.0 & ((1 << line) - 1)).count_ones() as usize;
        self.words[before * LINE_WORDS + i % LINE_WORDS]
    }

    /// The whole again.
    #[must_use]
    pub fn expand(&self) -> Key {
        let mut key = Key::ZERO;
        let mut kept = self.words.chunks_exact(LINE_WORDS);
        for (i, line) in key.words_mut().chunks_exact_mut(LINE_WORDS).enumerate() {
            if self.lines.0 & 1 << i != 0 {
                line.copy_from_slice(kept.next().expect("one chunk per line kept"));
            }
        }
        key
    }
}

/// Where a megaflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Known here, not yet in the datapath.
    Visible,
    /// In the datapath.
    Operational,
    /// Gone from the datapath, or on the way out.
    Evicted,
}

/// What changes about a ukey. What megaflows that came together have in common they share; what a round reads stands first.
#[derive(Debug)]
#[repr(C)]
pub struct Inner {
    pub state: State,
    /// `slow` of the translation: 0 for a flow that the datapath handles by itself.
    pub slow: u32,
    /// The megaflow is right as of this revision, and as of `Udpif::checked` if that is later.
    pub checked: Revision,
    /// Counters that have been paid for.
    pub paid: FlowStats,
    pub credits: Arc<Vec<Credit>>,
    pub deps: Arc<Deps>,
    pub actions: Arc<Actions>,
    pub recircs: Vec<Arc<RecircRef>>,
}

/// A megaflow of ours. A round goes over all of them, and they lie all over the memory: few lines each.
#[derive(Debug)]
#[repr(C)]
pub struct Ukey {
    pub ufid: Ufid,
    pub created_ms: Msec,
    pub bridge: BridgeId,
    /// It is exact only because there was no room for another mask: it goes as soon as it is idle.
    pub short_lived: bool,
    /// Where the index has it; changed under the index's lock only.
    slot: AtomicU32,
    /// Many megaflows have the same.
    mask: Arc<Compact>,
    /// Here the second line begins (the first holds the counts of the Arc): a round needs no others.
    inner: Mutex<Inner>,
    key: Compact,
}

const _: () = assert!(size_of::<Ukey>() <= 240, "four lines with the counts of an Arc");
const _: () = assert!(std::mem::offset_of!(Ukey, inner) + 16 == LINE_BYTES);

impl Ukey {
    /// `key` must already be masked.
    #[must_use]
    pub fn new(ufid: Ufid, bridge: BridgeId, created_ms: Msec, key: &Key, mask: Arc<Compact>, inner: Inner) -> Self {
        Self {
            ufid,
            bridge,
            created_ms,
            short_lived: false,
            slot: AtomicU32::new(NO_SLOT),
            inner: Mutex::new(inner),
            key: Compact::new(key, mask.lines),
            mask,
        }
    }

    /// In the datapath's form, masked.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key.expand()
    }

    /// In the datapath's form.
    #[must_use]
    pub fn mask(&self) -> Mask {
        self.mask.expand()
    }

    /// Whether this is the ukey of that megaflow (and not of another with the same ufid).
    #[must_use]
    pub fn is_of(&self, key: &Key, mask: &Mask) -> bool {
        self.mask.is_all_of(mask) && self.key.is_all_of(key)
    }

    /// What it matches, which other ukeys may share.
    #[must_use]
    pub fn shared_mask(&self) -> &Arc<Compact> {
        &self.mask
    }

    /// The megaflow with the actions given.
    #[must_use]
    pub fn megaflow(&self, actions: Arc<Actions>) -> Megaflow {
        Megaflow { ufid: self.ufid, key: Box::new(self.key()), mask: Box::new(self.mask()), actions }
    }

    /// Locks the changing part.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a ukey panics")
    }
}

impl Judged for Ukey {
    fn word(&self, i: usize) -> (u64, u64) {
        (self.key.word(i), self.mask.word(i))
    }
}

/// All ukeys of a datapath.
#[derive(Debug)]
pub struct UkeyMap {
    shards: Vec<Mutex<Map<Ufid, Arc<Ukey>>>>,
    index: Mutex<Index>,
    /// How many ukeys there are, or are about to be.
    members: AtomicUsize,
}

impl Default for UkeyMap {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), index: Mutex::default(), members: AtomicUsize::new(0) }
    }
}

impl UkeyMap {
    /// Names a megaflow. Equal key (masked) and mask get the same name, so that two packets that miss at once make one megaflow.
    #[must_use]
    pub fn ufid(masked_key: &Key, mask: &Mask) -> Ufid {
        ufid_of_masked(masked_key, mask)
    }

    fn shard(&self, ufid: Ufid) -> MutexGuard<'_, Map<Ufid, Arc<Ukey>>> {
        let index = usize::try_from(ufid.0 % SHARDS as u128).expect("less than SHARDS");
        self.lock_shard(index)
    }

    fn lock_shard(&self, index: usize) -> MutexGuard<'_, Map<Ufid, Arc<Ukey>>> {
        self.shards[index].lock().expect("no holder of a ukey shard panics")
    }

    /// The ukey of that name.
    #[must_use]
    pub fn find(&self, ufid: Ufid) -> Option<Arc<Ukey>> {
        self.shard(ufid).get(&ufid).cloned()
    }

    /// Adds a ukey, which the caller holds, unless there is one of its name. Says whether it did; then `file` it before it is let go of.
    pub fn admit(&self, ukey: &Arc<Ukey>) -> bool {
        let mut shard = self.shard(ukey.ufid);
        let entry = shard.entry(ukey.ufid);
        if matches!(entry, Entry::Occupied(_)) {
            return false;
        }
        // Before the caller asks what has changed meanwhile, and in one order with `is_empty_now`.
        self.members.fetch_add(1, Ordering::AcqRel);
        entry.insert(Arc::clone(ukey));
        true
    }

    /// Files ukeys that were admitted, which the caller holds since then.
    pub fn file<'a>(&self, ukeys: impl Iterator<Item = (&'a Arc<Ukey>, &'a Inner)>) {
        let mut index = self.lock_index();
        for (ukey, inner) in ukeys {
            ukey.slot.store(index.insert(ukey, &inner.deps), Ordering::Relaxed);
        }
    }

    /// Removes exactly this ukey (not a later one of the same name), which the caller holds as `inner`. Says whether it was there.
    pub fn remove(&self, ukey: &Arc<Ukey>, inner: &Inner) -> bool {
        let mut shard = self.shard(ukey.ufid);
        let there = shard.get(&ukey.ufid).is_some_and(|u| Arc::ptr_eq(u, ukey)) && shard.remove(&ukey.ufid).is_some();
        drop(shard);
        if there {
            self.lock_index().remove(ukey.slot.swap(NO_SLOT, Ordering::Relaxed), &inner.deps);
            self.members.fetch_sub(1, Ordering::AcqRel);
        }
        there
    }

    /// Gives a ukey, which the caller holds as `inner`, other dependencies. Whoever looks for the ukeys that a change concerns finds it
    /// under the old ones or the new ones: the caller asks afterwards whether a change that concerns the new ones was missed.
    pub fn refile(&self, ukey: &Arc<Ukey>, inner: &mut Inner, deps: Arc<Deps>) {
        if deps != inner.deps {
            let mut index = self.lock_index();
            let slot = ukey.slot.load(Ordering::Relaxed);
            if slot != NO_SLOT {
                ukey.slot.store(index.refile(slot, ukey, &inner.deps, &deps), Ordering::Relaxed);
            }
        }
        inner.deps = deps;
    }

    /// The ukeys that the changes can concern.
    #[must_use]
    pub fn concerned(&self, pending: &Pending) -> Concerned {
        self.lock_index().concerned(pending)
    }

    fn lock_index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().expect("no holder of the index of ukeys panics")
    }

    /// A copy of a shard's list.
    #[must_use]
    pub fn in_shard(&self, index: usize) -> Vec<Arc<Ukey>> {
        let shard = self.lock_shard(index);
        // To share one is to write to it, and such writes wait for each other: what is read first comes from the memory many at a time.
        let touch = |(a, b): (Msec, bool), u: &Arc<Ukey>| (a ^ u.created_ms, b ^ u.inner.is_poisoned());
        std::hint::black_box(shard.values().fold((0, false), touch));
        shard.values().cloned().collect()
    }

    /// How many there are in a shard.
    #[must_use]
    pub fn shard_len(&self, index: usize) -> usize {
        self.lock_shard(index).len()
    }

    /// How many there are. Walks the shards.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|i| self.shard_len(i)).sum()
    }

    /// Whether there are none, asked so that whoever sees none is before every later insertion: the thread that inserts then sees what
    /// was done before this call. Takes no lock.
    #[must_use]
    pub fn is_empty_now(&self) -> bool {
        self.members.fetch_add(0, Ordering::AcqRel) == 0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_keeps_what_its_mask_names() {
        let mut key = Key::ZERO;
        key.eth_type = [8, 0];
        key.ct_label = [7; 16];
        let compact = Compact::new(&key, key.lines());
        assert_eq!(compact.words.len(), 2 * LINE_WORDS);
        assert_eq!(compact.expand(), key);
        assert!((0..flow::key::WORDS).all(|i| compact.word(i) == key.words()[i]));
        assert_eq!(Compact::new(&key, Lines(0)).expand(), Key::ZERO);
        assert!(compact.is_all_of(&key));
        let others =
            [Key { eth_type: [8, 1], ..key }, Key { ct_label: [0; 16], ..key }, Key { nw_tos: 1, metadata: [1; 8], ..key }];
        assert!(others.iter().all(|other| !compact.is_all_of(other)));
    }

    #[test]
    fn a_name_belongs_to_key_and_mask() {
        let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
        mask.nw_dst = [255; 4];
        key.nw_dst = [1; 4];
        let name = UkeyMap::ufid(&key, &mask);
        assert_eq!(name, UkeyMap::ufid(&key, &mask));
        mask.nw_dst[3] = 0;
        assert_ne!(name, UkeyMap::ufid(&key.masked(&mask), &mask));
    }
}
