//! Who gives when a MAC table is full: the bundle behind which most entries were learned, and of those the one unused for longest.
//!
//! What enters: entries as they are learned, used, and go. What leaves: the entry to evict. Neighbour: `mac`.
//!
//! Bundles stand in a heap by the number of their entries, so that a bundle that floods the table with addresses loses its own; nothing
//! here takes longer than the logarithm of the table's size, for it is just such a flood that makes it run.

use crate::bridge::BundleId;
use flow::Msec;
use flow::hash::Map;
use std::collections::BTreeSet;

/// When an entry expires, and which it is.
pub(crate) type Stamp = (Msec, u16, [u8; 6]);

/// Learned entries by bundle. Static ones are not here: they never give.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    /// Bundles, the fullest first: a binary heap.
    heap: Vec<BundleId>,
    place: Map<BundleId, usize>,
    learned: Map<BundleId, BTreeSet<Stamp>>,
}

impl Fairness {
    /// An entry is learned.
    pub(crate) fn add(&mut self, bundle: BundleId, stamp: Stamp) {
        self.learned.entry(bundle).or_default().insert(stamp);
        let at = *self.place.entry(bundle).or_insert_with(|| {
            self.heap.push(bundle);
            self.heap.len() - 1
        });
        self.rise(at);
    }

    /// An entry goes.
    pub(crate) fn remove(&mut self, bundle: BundleId, stamp: &Stamp) {
        let Some(of_bundle) = self.learned.get_mut(&bundle) else { return };
        if !of_bundle.remove(stamp) {
            return;
        }
        let is_last = of_bundle.is_empty();
        let Some(at) = self.place.get(&bundle).copied() else { return };
        if !is_last {
            self.sink(at);
            return;
        }
        self.learned.remove(&bundle);
        self.place.remove(&bundle);
        self.heap.swap_remove(at);
        if let Some(moved) = self.heap.get(at).copied() {
            self.place.insert(moved, at);
            self.rise(at);
            self.sink(self.place[&moved]);
        }
    }

    /// An entry is used again.
    pub(crate) fn refresh(&mut self, bundle: BundleId, old: &Stamp, new: Stamp) {
        if let Some(of_bundle) = self.learned.get_mut(&bundle)
            && of_bundle.remove(old)
        {
            of_bundle.insert(new);
        }
    }

    /// The VLAN and MAC of the entry that gives.
    pub(crate) fn victim(&self) -> Option<(u16, [u8; 6])> {
        let (_, vlan, mac) = self.learned.get(self.heap.first()?)?.first()?;
        Some((*vlan, *mac))
    }

    /// All entries expire that much later.
    pub(crate) fn shift(&mut self, by: Msec) {
        for of_bundle in self.learned.values_mut() {
            *of_bundle = of_bundle.iter().map(|(at, vlan, mac)| (at + by, *vlan, *mac)).collect();
        }
    }

    fn count(&self, at: usize) -> usize {
        self.learned.get(&self.heap[at]).map_or(0, BTreeSet::len)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place.insert(self.heap[a], a);
        self.place.insert(self.heap[b], b);
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.count((at - 1) / 2) < self.count(at) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                return;
            }
            let right_is_fuller = left + 1 < self.heap.len() && self.count(left + 1) > self.count(left);
            let below = left + usize::from(right_is_fuller);
            if self.count(at) >= self.count(below) {
                return;
            }
            self.swap(at, below);
            at = below;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::extract_gen::PacketGen;

    /// The twin: a list.
    #[test]
    fn the_fullest_gives_its_oldest() {
        let mut gen_ = PacketGen::new(3);
        let mut fair = Fairness::default();
        let mut list: Vec<(BundleId, Stamp)> = Vec::new();
        for n in 0..5000 {
            let bundle = BundleId(u32::try_from(gen_.below(6)).unwrap());
            match gen_.below(4) {
                0 | 1 => {
                    let stamp = (n, 0, [2, 0, 0, 0, u8::try_from(n >> 8).unwrap(), u8::try_from(n & 0xff).unwrap()]);
                    fair.add(bundle, stamp);
                    list.push((bundle, stamp));
                }
                2 if !list.is_empty() => {
                    let (bundle, stamp) = list.swap_remove(gen_.below(list.len()));
                    fair.remove(bundle, &stamp);
                }
                _ if !list.is_empty() => {
                    let at = gen_.below(list.len());
                    let (bundle, old) = list[at];
                    list[at].1 = (n, old.1, old.2);
                    fair.refresh(bundle, &old, list[at].1);
                }
                _ => {}
            }
            let count = |b: BundleId| list.iter().filter(|(of, _)| *of == b).count();
            let most = (0..6).map(|b| count(BundleId(b))).max().unwrap();
            match fair.victim() {
                None => assert!(list.is_empty()),
                Some((_, mac)) => {
                    let (bundle, stamp) = list.iter().find(|(_, s)| s.2 == mac).unwrap();
                    assert_eq!(count(*bundle), most);
                    assert!(list.iter().filter(|(b, _)| b == bundle).all(|(_, s)| s >= stamp));
                }
            }
        }
    }
}
