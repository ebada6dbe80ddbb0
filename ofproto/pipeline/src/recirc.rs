//! Recirculation ids: names for a translation that goes on when the datapath has done its part (conntrack, hash, MPLS).
//!
//! What enters: translation asks for an id and gives what it wants to find again. What leaves: a counted reference; the id is
//! free once no megaflow and no packet under way names it. Neighbours: `xlate` (frozen state), `udpif` (megaflows hold references).

use flow::hash::Map;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

/// Largest id given out (28 bits, as in OVS 3.7).
pub const RECIRC_ID_MAX: u32 = (1 << 28) - 1;

/// A held id with the state to go on from. Dropping the last reference frees the id.
pub struct RecircRef {
    pub id: u32,
    /// The frozen state; its type is translation's.
    pub state: Arc<dyn Any + Send + Sync>,
    home: Weak<Mutex<Ids>>,
}

impl fmt::Debug for RecircRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recirc({:#x})", self.id)
    }
}

impl Drop for RecircRef {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            let mut ids = home.lock().expect("no holder of the id table panics");
            if ids.live.get(&self.id).is_some_and(|r| r.strong_count() == 0) {
                ids.live.remove(&self.id);
            }
        }
    }
}

#[derive(Default)]
struct Ids {
    next: u32,
    live: Map<u32, Weak<RecircRef>>,
}

/// The ids of all bridges.
#[derive(Default)]
pub struct Recircs {
    ids: Arc<Mutex<Ids>>,
}

impl fmt::Debug for Recircs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recircs({})", self.len())
    }
}

impl Recircs {
    /// Gives a fresh id for `state`, `None` when all are taken.
    #[must_use]
    pub fn allocate(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<RecircRef>> {
        let mut ids = self.ids.lock().expect("no holder of the id table panics");
        if ids.live.len() >= RECIRC_ID_MAX as usize {
            return None;
        }
        loop {
            ids.next = if ids.next >= RECIRC_ID_MAX { 1 } else { ids.next + 1 };
            let id = ids.next;
            if !ids.live.contains_key(&id) {
                let held = Arc::new(RecircRef { id, state, home: Arc::downgrade(&self.ids) });
                ids.live.insert(id, Arc::downgrade(&held));
                return Some(held);
            }
        }
    }

    /// The state behind an id that a packet came back with.
    #[must_use]
    pub fn find(&self, id: u32) -> Option<Arc<RecircRef>> {
        self.ids.lock().expect("no holder of the id table panics").live.get(&id)?.upgrade()
    }

    /// Ids in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.lock().expect("no holder of the id table panics").live.len()
    }

    /// Whether none is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lives_as_long_as_its_references() {
        let ids = Recircs::default();
        let a = ids.allocate(Arc::new("a")).unwrap();
        let b = ids.allocate(Arc::new("b")).unwrap();
        assert_eq!((a.id, b.id), (1, 2));
        assert_eq!(*ids.find(2).unwrap().state.downcast_ref::<&str>().unwrap(), "b");
        drop(b);
        assert!(ids.find(2).is_none());
        assert_eq!(ids.allocate(Arc::new("c")).unwrap().id, 3, "not the same again at once");
        assert_eq!(ids.len(), 1);
    }
}
