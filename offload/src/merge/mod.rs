//! Established connections as rules of their own: the whole way of one connection's packets through connection tracking, composed into one
//! megaflow with neither `ct` nor recirculation, which `plan` then treats like any other.
//!
//! What enters: megaflows of the software table, established connections. What leaves: composed megaflows, each with the megaflows and
//! connections that it stands and falls with. Pure. Neighbours: `walk` (one packet's way), `tiered::connections` (which keeps them).
//!
//! # What holds
//!
//! - The composed megaflow matches one direction of one connection to the bit (addresses, protocol, ports, as far as the way does not
//!   write them first; no fragment; TCP segments with ACK and without SYN, FIN, RST), and of the rest of the packet whatever any megaflow
//!   on the way matched.
//! - For such a packet every `ct` on the way says the same each time: established, with this mark, label and tuple, translated to this
//!   tuple. So each match on what `ct` says is true or false now, and translation is a rewrite of constants. What a `ct` would change
//!   (a mark that is not yet so, a forced commit, a helper's work) cannot be composed.
//! - Matches on what was rewritten on the way are decided by the constant that was written; those on what the packet brought become
//!   matches of the composed megaflow.
//! - Actions stand in the order in which they were met. A copy sent before a `ct` is sent as it was then.

mod walk;

use crate::refusal::{Reason, Refusal};
use flow::conntrack::{CtEntry, CtTuple};
use flow::hash::Map;
use flow::ufid::ufid_of_masked;
use flow::{Action, DpPort, Megaflow, Ufid};
use std::sync::Arc;
use walk::Walk;

/// Megaflows on the way of a packet, at most.
pub const STEPS_MAX: usize = 6;
/// Composed megaflows of one direction of one connection, at most.
pub const WAYS_MAX: usize = 8;

/// Names a connection: its zone and the tuple of its original direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub zone: u16,
    pub orig: CtTuple,
}

impl ConnId {
    /// Of a connection.
    #[must_use]
    pub const fn of(entry: &CtEntry) -> Self {
        Self { zone: entry.zone, orig: entry.orig }
    }
}

/// Connections, by the tuples of both directions.
#[derive(Debug, Default)]
pub struct Connections {
    all: Map<ConnId, CtEntry>,
    /// Zone and tuple of a packet; whether it is an answer.
    by_tuple: Map<(u16, CtTuple), (ConnId, bool)>,
}

impl Connections {
    /// The connection of a packet with that tuple in a zone, and whether the packet is an answer.
    #[must_use]
    pub fn find(&self, zone: u16, tuple: &CtTuple) -> Option<(&CtEntry, bool)> {
        let (id, reply) = self.by_tuple.get(&(zone, *tuple))?;
        self.all.get(id).map(|entry| (entry, *reply))
    }

    #[must_use]
    pub fn get(&self, id: &ConnId) -> Option<&CtEntry> {
        self.all.get(id)
    }

    /// Adds one, or replaces what was known of it.
    pub fn insert(&mut self, entry: CtEntry) {
        let id = ConnId::of(&entry);
        self.remove(&id);
        self.by_tuple.insert((entry.zone, entry.orig), (id, false));
        self.by_tuple.insert((entry.zone, entry.reply), (id, true));
        self.all.insert(id, entry);
    }

    pub fn remove(&mut self, id: &ConnId) {
        let Some(entry) = self.all.remove(id) else { return };
        for tuple in [entry.orig, entry.reply] {
            // Answers of one that went may have become another's way there.
            if self.by_tuple.get(&(id.zone, tuple)).is_some_and(|(owner, _)| owner == id) {
                self.by_tuple.remove(&(id.zone, tuple));
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Their names.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.all.keys().copied()
    }
}

/// Megaflows that packets of connections pass: those with a `ct`, and those behind a recirculation.
#[derive(Debug, Default)]
pub struct Ways {
    /// First megaflows of a way, by their port and the zone of their first `ct`.
    heads: Map<(DpPort, u16), Map<Ufid, Arc<Megaflow>>>,
    /// Later ones, by recirculation id.
    later: Map<u32, Map<Ufid, Arc<Megaflow>>>,
    at: Map<Ufid, At>,
}

/// Where a megaflow of a way is found.
#[derive(Clone, Copy, Debug)]
enum At {
    Head(DpPort, u16),
    Later(u32),
}

impl Ways {
    /// Takes note of a megaflow, if packets of connections may pass it; whether they may.
    pub fn put(&mut self, flow: &Megaflow) -> bool {
        self.del(flow.ufid);
        let recirc = u32::from_be_bytes(flow.key.recirc_id);
        let slot = if recirc != 0 {
            self.at.insert(flow.ufid, At::Later(recirc));
            self.later.entry(recirc).or_default()
        } else if let Some(zone) = first_zone(flow) {
            let port = DpPort(u32::from_be_bytes(flow.key.in_port));
            self.at.insert(flow.ufid, At::Head(port, zone));
            self.heads.entry((port, zone)).or_default()
        } else {
            return false;
        };
        slot.insert(flow.ufid, Arc::new(flow.clone()));
        true
    }

    /// Forgets one.
    pub fn del(&mut self, ufid: Ufid) {
        match self.at.remove(&ufid) {
            Some(At::Head(port, zone)) => drop_from(&mut self.heads, &(port, zone), ufid),
            Some(At::Later(recirc)) => drop_from(&mut self.later, &recirc, ufid),
            None => {}
        }
    }

    fn heads(&self, port: DpPort, zone: u16) -> impl Iterator<Item = &Arc<Megaflow>> {
        self.heads.get(&(port, zone)).into_iter().flat_map(Map::values)
    }

    fn later(&self, recirc: u32) -> impl Iterator<Item = &Arc<Megaflow>> {
        self.later.get(&recirc).into_iter().flat_map(Map::values)
    }
}

fn drop_from<K: std::hash::Hash + Eq>(map: &mut Map<K, Map<Ufid, Arc<Megaflow>>>, key: &K, ufid: Ufid) {
    if let Some(slot) = map.get_mut(key) {
        slot.remove(&ufid);
        if slot.is_empty() {
            map.remove(key);
        }
    }
}

fn first_zone(flow: &Megaflow) -> Option<u16> {
    flow.actions.iter().find_map(|a| if let Action::Ct(ct) = a { Some(ct.zone) } else { None })
}

/// A composed megaflow, and what it stands and falls with.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    pub flow: Megaflow,
    /// The megaflows of its way, in order.
    pub parts: Vec<Ufid>,
    /// The connections that each `ct` found.
    pub conns: Vec<ConnId>,
}

/// Whether a connection can have rules of its own at all.
///
/// # Errors
/// Why not: a helper reads its packets, it belongs to another one, or tracking of its protocol looks at more than addresses and ports.
pub fn admissible(entry: &CtEntry) -> Result<(), Refusal> {
    let no = |what: &str| Err(Refusal::new(Reason::Connection, what));
    match () {
        () if !entry.established => no("not established"),
        () if entry.helper.is_some() => no("helper"),
        () if entry.parent.is_some() => no("related"),
        () if !matches!(entry.orig.proto, 6 | 17) => no("protocol"),
        () => Ok(()),
    }
}

/// Every way that packets of one direction of a connection take from the port that they come in by, from a first megaflow with a `ct` of its
/// zone to an end, as far as the megaflows are there and the connections are known. `reply`: the direction of the answers.
#[must_use]
pub fn merge(entry: &CtEntry, reply: bool, ways: &Ways, conns: &Connections) -> Vec<Merged> {
    let tuple = if reply { entry.reply } else { entry.orig };
    let mut out = Vec::new();
    let Some(port) = entry.ports[usize::from(reply)] else { return out };
    for head in ways.heads(port, entry.zone) {
        if let Some(walk) = Walk::begin(&tuple) {
            go(walk, head, ways, conns, &mut out);
        }
    }
    out
}

/// Goes through one megaflow, and on to each that may come next.
fn go(walk: Walk, flow: &Megaflow, ways: &Ways, conns: &Connections, out: &mut Vec<Merged>) {
    let mut walk = walk;
    if out.len() >= WAYS_MAX || walk.steps() >= STEPS_MAX {
        return;
    }
    match walk.pass(flow, conns) {
        None => {}
        Some(walk::Next::End) => out.extend(walk.end()),
        Some(walk::Next::Recirc(id)) => ways.later(id).for_each(|next| go(walk.clone(), next, ways, conns, out)),
    }
}

/// The name of a composed megaflow.
fn named(flow: Megaflow) -> Megaflow {
    let ufid = ufid_of_masked(&flow.key.masked(&flow.mask), &flow.mask);
    Megaflow { ufid, ..flow }
}

#[cfg(test)]
mod tests;
