//! Recirculation ids: names for a translation that goes on when the datapath has done its part (conntrack, hash, MPLS).
//!
//! What enters: translation asks for an id and gives what it wants to find again. What leaves: a counted reference; the id is
//! free once no megaflow and no packet under way names it. Equal states share an id, but for one that is kept for packets under way only,
//! since its megaflows are gone (`Lingering`). Neighbours: `xlate` (frozen state), `udpif` (megaflows hold references).

use crate::xlate::frozen::FrozenState;
use flow::hash::Map;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Largest id given out (28 bits, as in OVS 3.7).
pub const RECIRC_ID_MAX: u32 = (1 << 28) - 1;

/// A held id with the state to go on from. Dropping the last reference frees the id.
pub struct RecircRef {
    pub id: u32,
    pub state: Arc<FrozenState>,
    digest: u64,
    /// How many of the references are `Lingering`.
    lingering: AtomicUsize,
    home: Weak<Mutex<Ids>>,
}

impl fmt::Debug for RecircRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recirc({:#x})", self.id)
    }
}

/// A reference that is held for packets under way.
#[derive(Debug)]
pub struct Lingering(Arc<RecircRef>);

impl Lingering {
    /// From now on the reference is for packets under way.
    #[must_use]
    pub fn new(held: Arc<RecircRef>) -> Self {
        held.lingering.fetch_add(1, Ordering::AcqRel);
        Self(held)
    }

    /// A megaflow that named the id is gone. If only packets under way still bear it, an equal state gets a fresh id from now on.
    pub fn retire(&self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut ids = home.lock().expect("no holder of the id table panics");
        // Nobody comes by another reference but under this lock, or from one that is held.
        if Arc::strong_count(&self.0) <= self.lingering.load(Ordering::Acquire) {
            ids.forget_state(self);
        }
    }
}

impl Deref for Lingering {
    type Target = RecircRef;

    fn deref(&self) -> &RecircRef {
        &self.0
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // Before the reference itself goes: who counts both meanwhile believes that somebody else has it, and keeps its state.
        self.lingering.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for RecircRef {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut ids = home.lock().expect("no holder of the id table panics");
        if ids.live.get(&self.id).is_some_and(|r| r.strong_count() == 0) {
            ids.live.remove(&self.id);
        }
        ids.forget_state(self);
    }
}

#[derive(Default)]
struct Ids {
    last: u32,
    live: Map<u32, Weak<RecircRef>>,
    /// Ids by a digest of their state.
    by_state: Map<u64, Vec<u32>>,
}

impl Ids {
    fn forget_state(&mut self, of: &RecircRef) {
        if let Some(same) = self.by_state.get_mut(&of.digest) {
            same.retain(|id| *id != of.id);
            if same.is_empty() {
                self.by_state.remove(&of.digest);
            }
        }
    }
}

/// The ids of all bridges.
#[derive(Default)]
pub struct Recircs {
    ids: Arc<Mutex<Ids>>,
    hasher: ahash::RandomState,
}

impl fmt::Debug for Recircs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recircs({})", self.len())
    }
}

impl Recircs {
    /// The id of `state`: the one that an equal state has already, else a fresh one; `None` when all are taken.
    #[must_use]
    pub fn allocate(&self, state: Arc<FrozenState>) -> Option<Arc<RecircRef>> {
        let digest = self.digest(&state);
        self.allocate_as(digest, state)
    }

    /// The same for a state whose digest is known.
    fn allocate_as(&self, digest: u64, state: Arc<FrozenState>) -> Option<Arc<RecircRef>> {
        // References are dropped outside of the lock: dropping the last one takes it.
        let mut looked_at = Vec::new();
        let mut ids = self.lock();
        for id in ids.by_state.get(&digest).into_iter().flatten() {
            let held = ids.live.get(id).and_then(Weak::upgrade);
            if let Some(held) = held {
                if held.state == state {
                    return Some(held);
                }
                looked_at.push(held);
            }
        }
        if ids.live.len() >= RECIRC_ID_MAX as usize {
            return None;
        }
        loop {
            ids.last = if ids.last >= RECIRC_ID_MAX { 1 } else { ids.last + 1 };
            let id = ids.last;
            if !ids.live.contains_key(&id) {
                let held =
                    Arc::new(RecircRef { id, state, digest, lingering: AtomicUsize::new(0), home: Arc::downgrade(&self.ids) });
                ids.live.insert(id, Arc::downgrade(&held));
                ids.by_state.entry(digest).or_default().push(id);
                drop(ids);
                return Some(held);
            }
        }
    }

    /// The state behind an id that a packet came back with.
    #[must_use]
    pub fn find(&self, id: u32) -> Option<Arc<RecircRef>> {
        self.lock().live.get(&id)?.upgrade()
    }

    /// Ids in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Whether none is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn digest(&self, state: &FrozenState) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        state.bridge.hash(&mut hasher);
        state.table.hash(&mut hasher);
        state.metadata.words().hash(&mut hasher);
        state.stack.hash(&mut hasher);
        (state.steps.len(), state.action_set.len(), &state.userdata).hash(&mut hasher);
        hasher.finish()
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().expect("no holder of the id table panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::BridgeId;
    use flow::Key;
    use openflow::TableId;

    fn state(table: u8) -> Arc<FrozenState> {
        Arc::new(FrozenState {
            bridge: BridgeId(1),
            table: TableId(table),
            metadata: Key::ZERO,
            written: Key::ZERO,
            conntracked: false,
            stack: vec![],
            mirrors: 0,
            steps: vec![],
            action_set: vec![],
            userdata: vec![],
        })
    }

    #[test]
    fn an_id_lives_as_long_as_its_references() {
        let ids = Recircs::default();
        let a = ids.allocate(state(1)).unwrap();
        let b = ids.allocate(state(2)).unwrap();
        assert_eq!((a.id, b.id), (1, 2));
        assert_eq!(ids.allocate(state(1)).unwrap().id, 1, "an equal state has the same id");
        assert_eq!(ids.find(2).unwrap().state.table, TableId(2));
        let again = ids.allocate(state(2)).unwrap();
        let b = Lingering::new(b);
        b.retire();
        assert_eq!(ids.allocate(state(2)).unwrap().id, 2, "others hold it");
        // The megaflow that names it and the one that it leads to go together.
        let again = Lingering::new(again);
        again.retire();
        assert!(ids.find(2).is_some(), "packets under way find it");
        let fresh = ids.allocate(state(2)).unwrap();
        assert_eq!(fresh.id, 3, "nobody else gets it");
        drop((again, b));
        assert_eq!(ids.allocate(state(2)).unwrap().id, 3, "the fresh one is shared");
        drop(fresh);
        assert!(ids.find(2).is_none());
        assert_eq!(ids.allocate(state(3)).unwrap().id, 4, "not the same again at once");
        assert_eq!(ids.len(), 1);
    }

    /// Many more allocations than are held at a time: nothing stays behind.
    #[test]
    fn nothing_leaks() {
        let ids = Recircs::default();
        let mut held = std::collections::VecDeque::new();
        for n in 0..20_000u32 {
            let one = state(u8::try_from(n % 200).unwrap());
            let metadata = Key { metadata: u64::from(n).to_be_bytes(), ..Key::ZERO };
            held.push_back(ids.allocate(Arc::new(FrozenState { metadata, ..(*one).clone() })).unwrap());
            if held.len() > 64 {
                held.pop_front();
            }
        }
        assert_eq!((ids.len(), ids.lock().by_state.len()), (64, 64));
        held.clear();
        assert!(ids.is_empty() && ids.lock().by_state.is_empty());
    }

    /// Many allocations by two threads, some of equal states, some retired, from shortly before the last id on: none is held by two states, and
    /// in the end nothing is held. States stand for themselves by their digests here: what is tested is the table of ids. The example
    /// `recirc_ids` does ten million.
    #[test]
    fn two_threads_leave_nothing() {
        const EACH: u64 = 100_000;
        const HELD: usize = 64;
        let ids = Recircs::default();
        ids.lock().last = RECIRC_ID_MAX - 20_000;
        let one = state(1);
        std::thread::scope(|scope| {
            for thread in 0..2u64 {
                let (ids, one) = (&ids, &one);
                scope.spawn(move || {
                    let mut held: [Option<Arc<RecircRef>>; HELD] = [const { None }; HELD];
                    let mut under_way = None;
                    for n in 0..EACH {
                        // Every fourth state is one that the other thread has, too.
                        let digest = if n % 4 == 0 { n } else { n << 1 | thread | 1 << 63 };
                        let id = ids.allocate_as(digest, Arc::clone(one)).unwrap();
                        assert!(id.digest == digest && (1..=RECIRC_ID_MAX).contains(&id.id));
                        if n % 1024 == 0 {
                            assert!(ids.find(id.id).is_some_and(|found| Arc::ptr_eq(&found, &id)));
                            assert!(ids.len() <= 2 * HELD + 4);
                            let late: &mut Lingering = under_way.insert(Lingering::new(id));
                            late.retire();
                            continue;
                        }
                        held[usize::try_from(n % 64).unwrap()] = Some(id);
                    }
                });
            }
        });
        assert!(ids.is_empty() && ids.lock().by_state.is_empty());
        assert!(ids.lock().last < RECIRC_ID_MAX - 20_000, "they have come round");
    }

    #[test]
    fn ids_come_round() {
        let ids = Recircs::default();
        ids.lock().last = RECIRC_ID_MAX - 1;
        let last = ids.allocate(state(1)).unwrap();
        let first = ids.allocate(state(2)).unwrap();
        assert_eq!((last.id, first.id), (RECIRC_ID_MAX, 1));
        ids.lock().last = RECIRC_ID_MAX - 1;
        assert_eq!(ids.allocate(state(3)).unwrap().id, 2, "those in use are passed over");
    }
}
