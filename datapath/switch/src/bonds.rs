//! Bonds of whose members the datapath chooses one for each packet (`lb_output`): a table of buckets for each.
//!
//! What enters: tables from the slow path, hashes of packets. What leaves: the port of a bucket; the bytes that went out by each, from which
//! the slow path learns how to balance. Neighbours: `execute`, `switch`.
//!
//! A table that is there is changed in place, bucket by bucket: whoever forwards meanwhile finds the old member or the new one. Only which
//! bonds there are is replaced as a whole.

use crate::qsbr::{Guard, Rcu, Unlinked};
use flow::DpPort;
use flow::hash::Map;
use flow::seam::{BOND_BUCKETS, BondTable, DpError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bonds at most.
pub const BONDS_MAX: usize = 4096;
const NO_PORT: u32 = u32::MAX;

/// One bond.
#[derive(Debug)]
pub struct Bond {
    members: [AtomicU32; BOND_BUCKETS],
    bytes: [AtomicU64; BOND_BUCKETS],
}

impl Bond {
    fn new() -> Self {
        Self { members: std::array::from_fn(|_| AtomicU32::new(NO_PORT)), bytes: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The port by which a packet of that hash and length leaves; the packet is counted.
    #[inline]
    pub fn choose(&self, hash: u32, len: usize) -> Option<u32> {
        let bucket = hash as usize % BOND_BUCKETS;
        let port = self.members[bucket].load(Ordering::Relaxed);
        self.bytes[bucket].fetch_add(len as u64, Ordering::Relaxed);
        (port != NO_PORT).then_some(port)
    }

    fn set(&self, table: &BondTable) {
        for (member, port) in self.members.iter().zip(table) {
            member.store(port.map_or(NO_PORT, |p| p.0), Ordering::Relaxed);
        }
    }

    fn table(&self) -> BondTable {
        std::array::from_fn(|i| Some(self.members[i].load(Ordering::Relaxed)).filter(|p| *p != NO_PORT).map(DpPort))
    }
}

type Table = Map<u32, Arc<Bond>>;

/// All bonds, by number.
#[derive(Debug)]
pub struct Bonds(Rcu<Table>);

impl Default for Bonds {
    fn default() -> Self {
        Self(Rcu::new(Box::default()))
    }
}

impl Bonds {
    /// The bond of that number.
    #[inline]
    pub fn bond<'g>(&'g self, id: u32, guard: Guard<'g>) -> Option<&'g Bond> {
        self.0.load(guard)?.get(&id).map(Arc::as_ref)
    }

    /// Only for the thread that holds the switch's control lock, as all that follows.
    fn held(&self) -> &Table {
        // SAFETY: tables are swapped under the control lock only, which the caller holds.
        unsafe { self.0.held() }.expect("there is a table from the beginning")
    }

    /// Gives a bond its members. Gives what has to wait for the workers, if the bond is new.
    pub fn set(&self, id: u32, table: &BondTable) -> Result<Option<Unlinked<Table>>, DpError> {
        if let Some(bond) = self.held().get(&id) {
            bond.set(table);
            return Ok(None);
        }
        if self.held().len() >= BONDS_MAX {
            return Err(DpError::Full("the table of bonds"));
        }
        let bond = Bond::new();
        bond.set(table);
        let mut all = self.held().clone();
        all.insert(id, Arc::new(bond));
        Ok(self.0.swap(Some(Box::new(all))))
    }

    /// Takes a bond away.
    pub fn remove(&self, id: u32) -> Option<Unlinked<Table>> {
        let mut all = self.held().clone();
        all.remove(&id)?;
        self.0.swap(Some(Box::new(all)))
    }

    /// Nothing leaves by a port any more that is about to go.
    pub fn forget_port(&self, port: DpPort) {
        for member in self.held().values().flat_map(|bond| &bond.members) {
            let _ = member.compare_exchange(port.0, NO_PORT, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Bytes by bucket since the bond came.
    #[must_use]
    pub fn bytes(&self, id: u32) -> Option<[u64; BOND_BUCKETS]> {
        let bond = self.held().get(&id)?;
        Some(std::array::from_fn(|i| bond.bytes[i].load(Ordering::Relaxed)))
    }

    /// All bonds in order of number, as `dpif-netdev/bond-show` tells them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut ids: Vec<u32> = self.held().keys().copied().collect();
        ids.sort_unstable();
        let mut out = String::new();
        for id in ids {
            if out.is_empty() {
                out.push_str("Bonds:\n");
            }
            out += &format!("  bond-id {id}:\n");
            for (bucket, port) in self.held()[&id].table().iter().enumerate() {
                let port = port.map_or(NO_PORT, |p| p.0);
                out += &format!("    bucket {bucket} - member {port}\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_lead_to_members_and_count() {
        let bonds = Bonds::default();
        assert_eq!(bonds.text(), "");
        let mut table = [Some(DpPort(3)); BOND_BUCKETS];
        table[1] = None;
        assert!(bonds.set(7, &table).unwrap().is_some(), "a new one replaces the table of all");
        table[2] = Some(DpPort(4));
        assert!(bonds.set(7, &table).unwrap().is_none(), "changed in place");
        let bond = Arc::clone(&bonds.held()[&7]);
        assert_eq!([0, 1, 2, 256, 513].map(|hash| bond.choose(hash, 60)), [Some(3), None, Some(4), Some(3), None]);
        assert_eq!(bonds.bytes(7).unwrap()[..3], [120, 120, 60]);
        bonds.forget_port(DpPort(3));
        assert_eq!([0, 2].map(|hash| bond.choose(hash, 1)), [None, Some(4)]);
        assert!(bonds.text().starts_with("Bonds:\n  bond-id 7:\n    bucket 0 - member 4294967295\n"));
        assert!(bonds.remove(7).is_some() && bonds.remove(7).is_none());
        assert_eq!(bonds.bytes(7), None);
    }
}
