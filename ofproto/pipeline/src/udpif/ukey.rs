//! Ukeys: what the slow path knows of each megaflow it has put into a datapath.
//!
//! What enters: translations (through `upcall` and `revalidate`). What leaves: for each megaflow its dependencies, the credits to
//! pay for its packets, the counters paid up to. Neighbours: `upcall` makes them, `revalidate` keeps and removes them.
//!
//! The map is sharded; a shard's lock is held for a look-up or an insertion only (by who admits a batch several, in the order of their
//! numbers). A ukey's own lock is held while something is done to its megaflow in the datapath, so that whoever holds it knows what the
//! datapath holds. Beside the map stands the index by dependencies; a ukey is in both or in neither, but for the moment of its coming or
//! going.

use super::index::{Concerned, Index, NO_SLOT};
use crate::deps::{Deps, Judged, Pending, Revision};
use crate::effects::Credit;
use crate::recirc::RecircRef;
use crate::world::BridgeId;
use flow::key::{LINE_BYTES, Lines};
use flow::seam::FlowStats;
use flow::{Actions, Key, Mask, Megaflow, Msec, Ufid, brief};
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Shards of the map.
pub const SHARDS: usize = 512;
/// Ukeys that are admitted together, as a rule.
const ADMIT_AT_ONCE: usize = 64;
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

    /// What a mask, which is this, leaves of `key`.
    #[must_use]
    fn mask_key(&self, key: &Key) -> Self {
        let mut words = SmallVec::<[u64; LINE_WORDS]>::with_capacity(self.words.len());
        let mut masks = self.words.chunks_exact(LINE_WORDS);
        for (i, line) in key.words().chunks_exact(LINE_WORDS).enumerate() {
            if self.lines.0 & 1 << i != 0
                && let Some(mask) = masks.next()
            {
                words.extend(line.iter().zip(mask).map(|(word, mask)| word & mask));
            }
        }
        Self { lines: self.lines, words }
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
    /// On the way out: perhaps still in the datapath.
    Evicted,
    /// Gone from the datapath, its last packets paid for. Another of its name may stand there by now.
    Gone,
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
    /// Of a packet's key, or of the megaflow's.
    #[must_use]
    pub fn new(ufid: Ufid, bridge: BridgeId, created_ms: Msec, key: &Key, mask: Arc<Compact>, inner: Inner) -> Self {
        Self {
            ufid,
            bridge,
            created_ms,
            short_lived: false,
            slot: AtomicU32::new(NO_SLOT),
            inner: Mutex::new(inner),
            key: mask.mask_key(key),
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

    /// Whether both are of the same megaflow.
    #[must_use]
    pub fn is_same_flow(&self, other: &Self) -> bool {
        *self.mask == *other.mask && self.key == other.key
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

fn shard_of(ufid: Ufid) -> usize {
    usize::try_from(ufid.0 % SHARDS as u128).expect("less than SHARDS")
}

/// A part of the map. A ukey bears its name itself: half of it stands here, so that only ukeys that are meant are looked at.
type Shard = HashTable<(u64, Arc<Ukey>)>;

/// The half that tells the ukeys of a shard apart. Names are keyed hashes: that is hash enough.
fn half(ufid: Ufid) -> u64 {
    u64::try_from(ufid.0 >> 64).expect("64 bits are left")
}

fn find_in(shard: &Shard, ufid: Ufid) -> Option<&Arc<Ukey>> {
    let half = half(ufid);
    shard.find(half, |(other, ukey)| *other == half && ukey.ufid == ufid).map(|(_, ukey)| ukey)
}

/// All ukeys of a datapath.
#[derive(Debug)]
pub struct UkeyMap {
    shards: Vec<Mutex<Shard>>,
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
    fn shard(&self, ufid: Ufid) -> MutexGuard<'_, Shard> {
        self.lock_shard(shard_of(ufid))
    }

    fn lock_shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        brief::lock(&self.shards[index]).expect("no holder of a ukey shard panics")
    }

    /// The ukey of that name.
    #[must_use]
    pub fn find(&self, ufid: Ufid) -> Option<Arc<Ukey>> {
        find_in(&self.shard(ufid), ufid).cloned()
    }

    /// Adds ukeys, which the caller holds, but for those of whose name there is one already; says of each whether it did. Then `file` them
    /// before they are let go of.
    #[must_use]
    pub fn admit(&self, ukeys: &[&Arc<Ukey>]) -> Vec<bool> {
        let numbers: SmallVec<[usize; ADMIT_AT_ONCE]> = ukeys.iter().map(|ukey| shard_of(ukey.ufid)).collect();
        let mut needed = numbers.clone();
        needed.sort_unstable();
        needed.dedup();
        // All at once, in their order: what is looked at lies all over the memory, and where a lock stands between two looks the one waits
        // for the other.
        let mut shards: SmallVec<[_; ADMIT_AT_ONCE]> = needed.iter().map(|number| self.lock_shard(*number)).collect();
        let places = numbers.iter().map(|number| needed.binary_search(number).expect("each number is needed"));
        let places: SmallVec<[usize; ADMIT_AT_ONCE]> = places.collect();
        for (ukey, place) in ukeys.iter().zip(&places) {
            std::hint::black_box(find_in(&shards[*place], ukey.ufid).is_some());
        }
        // Before the caller asks what has changed meanwhile, and in one order with `is_empty_now`.
        self.members.fetch_add(ukeys.len(), Ordering::AcqRel);
        let mut admitted = Vec::with_capacity(ukeys.len());
        for (ukey, place) in ukeys.iter().zip(places) {
            let known = find_in(&shards[place], ukey.ufid);
            debug_assert!(known.is_none_or(|known| known.is_same_flow(ukey)), "128 keyed bits do not collide");
            let is_new = known.is_none();
            if is_new {
                shards[place].insert_unique(half(ukey.ufid), (half(ukey.ufid), Arc::clone(ukey)), |(half, _)| *half);
            }
            admitted.push(is_new);
        }
        drop(shards);
        let refused = admitted.iter().filter(|admitted| !**admitted).count();
        self.members.fetch_sub(refused, Ordering::AcqRel);
        admitted
    }

    /// Files ukeys that were admitted, which the caller holds since then.
    pub fn file<'a>(&self, ukeys: impl Iterator<Item = (&'a Arc<Ukey>, &'a Inner)>) {
        let mut index = self.lock_index();
        // Those that come together mostly depend on the same, and are posted together.
        let (mut last, mut slots) = (None::<&Arc<Deps>>, SmallVec::<[u32; ADMIT_AT_ONCE]>::new());
        for (ukey, inner) in ukeys {
            if let Some(deps) = last.filter(|deps| !Arc::ptr_eq(deps, &inner.deps)) {
                index.post_all(deps, &slots);
                slots.clear();
            }
            let slot = index.place(ukey, &inner.deps);
            ukey.slot.store(slot, Ordering::Relaxed);
            last = Some(&inner.deps);
            slots.push(slot);
        }
        if let Some(deps) = last {
            index.post_all(deps, &slots);
        }
    }

    /// Removes exactly this ukey (not a later one of the same name), which the caller holds as `inner`. Says whether it was there.
    pub fn remove(&self, ukey: &Arc<Ukey>, inner: &Inner) -> bool {
        let mut shard = self.shard(ukey.ufid);
        let this = shard.find_entry(half(ukey.ufid), |(_, other)| Arc::ptr_eq(other, ukey));
        let there = this.map(|entry| drop(entry.remove())).is_ok();
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
        brief::lock(&self.index).expect("no holder of the index of ukeys panics")
    }

    /// A copy of a shard's list.
    #[must_use]
    pub fn in_shard(&self, index: usize) -> Vec<Arc<Ukey>> {
        let shard = self.lock_shard(index);
        // To share one is to write to it, and such writes wait for each other: what is read first comes from the memory many at a time.
        let touch = |(a, b): (Msec, bool), u: &Arc<Ukey>| (a ^ u.created_ms, b ^ u.inner.is_poisoned());
        std::hint::black_box(shard.iter().map(|(_, ukey)| ukey).fold((0, false), touch));
        shard.iter().map(|(_, ukey)| Arc::clone(ukey)).collect()
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
    use flow::ufid::ufid_of_masked;

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
        let whole = Key { eth_type: [8, 6], nw_tos: 9, metadata: [3; 8], ..key };
        let mask = Key { eth_type: [255; 2], ct_label: [15; 16], ..Key::ZERO };
        let masked = Compact::new(&mask, mask.lines()).mask_key(&whole);
        assert_eq!(masked, Compact::new(&whole.masked(&mask), mask.lines()));
    }

    fn ukey(n: u8, created_ms: Msec) -> Arc<Ukey> {
        let (key, mask) = (Key { nw_tos: n, ..Key::ZERO }, Key { nw_tos: 255, ..Key::ZERO });
        let inner = Inner {
            state: State::Visible,
            slow: 0,
            checked: Revision(0),
            paid: FlowStats::default(),
            credits: Arc::default(),
            deps: Arc::default(),
            actions: Arc::default(),
            recircs: Vec::new(),
        };
        let shared = Arc::new(Compact::new(&mask, mask.lines()));
        Arc::new(Ukey::new(ufid_of_masked(&key, &mask), BridgeId(1), created_ms, &key, shared, inner))
    }

    #[test]
    fn of_a_name_one_is_admitted() {
        let map = UkeyMap::default();
        let first: Vec<_> = (0..200).map(|n| ukey(n, 0)).collect();
        assert!(map.admit(&first.iter().collect::<Vec<_>>()).iter().all(|admitted| *admitted));
        // One that is there, one that is new, and that one again in the same batch.
        let more = [ukey(7, 1), ukey(201, 1), ukey(201, 2)];
        assert_eq!(map.admit(&more.iter().collect::<Vec<_>>()), [false, true, false]);
        assert_eq!((map.len(), map.is_empty_now()), (201, false));
        assert!(map.find(first[7].ufid).is_some_and(|u| Arc::ptr_eq(&u, &first[7])));
        let all: Vec<_> = first.iter().chain(&more[1..2]).collect();
        let held: Vec<_> = all.iter().map(|u| u.lock()).collect();
        map.file(all.iter().zip(&held).map(|(u, inner)| (*u, &**inner)));
        for (ukey, inner) in all.iter().zip(&held) {
            assert!(map.remove(ukey, inner));
        }
        assert!(map.is_empty_now() && map.is_empty(), "who was refused does not count");
    }
}
