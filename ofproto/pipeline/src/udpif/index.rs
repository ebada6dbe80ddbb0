//! Which megaflows can a change concern: an index from what translations depended on to ukeys, so that a barrier costs what it
//! concerns and not what is installed.
//!
//! What enters: ukeys with their dependencies, as they come, go, and are translated again. What leaves: for the changes since some
//! revision, every ukey that `Pending::concerns` says yes to, and perhaps a few more (which are only looked at for nothing).
//! Neighbours: `ukey` keeps it in step with its map, `revalidate` asks, `deps` says what a change is.
//!
//! # Shape
//!
//! Objects (ports, groups, MACs) have *postings*: the slots of the ukeys that looked at them. Rule changes have no name under which a
//! ukey could be filed: any bits may be in common. So ukeys are filed by *class*: the words of their mask, and the tables that
//! they consulted with the words that were still as in the packet. Within a class everything that a rule is compared with lies in
//! columns, one per word of the mask; a rule change is a pass over one or two columns of eight bytes per megaflow (200,000 of
//! them: about a tenth of a millisecond), instead of a walk over as many ukeys in as many cache lines.
//!
//! What concerns everything (a bridge's settings, `Everything`, a history that is forgotten) is not indexed: `Concerned::All`.

use super::posting::Posting;
use super::ukey::{Compact, Ukey};
use crate::column::{Column, RUN};
use crate::deps::{Deps, JUDGED_WORDS, Judged, Object, Pending, RuleChange};
use crate::world::BridgeId;
use flow::hash::Map;
use openflow::{OfPort, TableId};
use smallvec::SmallVec;
use std::sync::Arc;

/// Stands for "no slot": a ukey that is not filed.
pub(super) const NO_SLOT: u32 = u32::MAX;
/// Stands in the column of input ports where lookups had different ones.
const ANY_PORT: u32 = u32::MAX;

/// Which ukeys a set of changes can concern.
#[derive(Debug)]
pub enum Concerned {
    All,
    These(Vec<Arc<Ukey>>),
}

/// What a class has in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct ClassKey {
    /// Index and bits of the words of the mask by which rules are judged, those that are not zero.
    words: Box<[(u8, u64)]>,
    /// Tables consulted, with the words that were as in the packet.
    tables: Box<[(BridgeId, TableId, u64)]>,
}

impl ClassKey {
    fn has_tables_of(&self, deps: &Deps) -> bool {
        self.tables.iter().copied().eq(deps.tables().iter().map(|t| (t.bridge, t.table, t.known())))
    }
}

/// Ukeys of one class, in columns. All columns are as long as `slots`.
#[derive(Debug)]
struct Class {
    key: ClassKey,
    slots: Column<u32>,
    /// Per word of the class's mask the ukeys' key words.
    words: Box<[Column<u64>]>,
    /// Per table the lowest priority that won, and the input port of the lookups.
    tables: Box<[(Column<i32>, Column<u32>)]>,
}

/// Where a ukey is filed.
#[derive(Debug)]
struct Filed {
    ukey: Arc<Ukey>,
    class: u32,
    row: u32,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Column<Option<Filed>>,
    free: Vec<u32>,
    classes: Vec<Class>,
    by_key: Map<ClassKey, u32>,
    by_table: Map<(BridgeId, TableId), Vec<u32>>,
    postings: Map<Object, Posting>,
    /// The class of the last ukey that came, and its mask: most that come have the same mask as the one before, and nothing has to be
    /// made to compare by. Numbers of classes change only where one is forgotten.
    last: Option<(Arc<Compact>, u32)>,
}

impl Index {
    /// Files a ukey; gives its slot.
    pub(super) fn insert(&mut self, ukey: &Arc<Ukey>, deps: &Deps) -> u32 {
        let slot = self.place(ukey, deps);
        self.post_all(deps, &[slot]);
        slot
    }

    /// Files ukeys that have been placed under the objects that they depend on.
    pub(super) fn post_all(&mut self, deps: &Deps, placed: &[u32]) {
        let slots = self.slots.len();
        for object in deps.objects().iter().filter(|o| is_posted(o)) {
            let posting = self.postings.entry(*object).or_default();
            placed.iter().for_each(|slot| posting.insert(*slot, slots));
        }
    }

    /// Files a ukey under its class alone; gives its slot. `post_all` has to follow.
    pub(super) fn place(&mut self, ukey: &Arc<Ukey>, deps: &Deps) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("megaflows are far fewer than 2^32")
        });
        let class = self.class_of(ukey, deps);
        let row = self.classes[class as usize].push(slot, ukey, deps);
        self.slots[slot as usize] = Some(Filed { ukey: Arc::clone(ukey), class, row });
        slot
    }

    /// Takes out the ukey in a slot, filed under `deps`.
    pub(super) fn remove(&mut self, slot: u32, deps: &Deps) {
        let Some(filed) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.free.push(slot);
        for object in deps.objects() {
            self.unpost(object, slot);
        }
        let class = &mut self.classes[filed.class as usize];
        class.swap_remove(filed.row as usize);
        // What stood last stands in its place now.
        if let Some(moved) = class.slots.get(filed.row as usize).copied()
            && let Some(moved) = &mut self.slots[moved as usize]
        {
            moved.row = filed.row;
        }
        self.shrink(filed.class);
    }

    /// Files a ukey under other dependencies; gives its slot. Most that are translated again stay in their class.
    pub(super) fn refile(&mut self, slot: u32, ukey: &Arc<Ukey>, old: &Deps, new: &Deps) -> u32 {
        let place = |deps: &Deps| deps.tables().iter().map(|t| (t.bridge, t.table, t.known())).collect::<SmallVec<[_; 4]>>();
        let filed = self.slots.get(slot as usize).and_then(Option::as_ref).map(|f| (f.class, f.row));
        let Some((class, row)) = filed.filter(|_| place(old) == place(new)) else {
            self.remove(slot, old);
            return self.insert(ukey, new);
        };
        self.classes[class as usize].set_row(row as usize, new);
        for gone in old.objects().iter().filter(|o| !new.objects().contains(o)) {
            self.unpost(gone, slot);
        }
        for come in new.objects().iter().filter(|o| is_posted(o) && !old.objects().contains(o)) {
            self.post(*come, slot);
        }
        slot
    }

    fn post(&mut self, object: Object, slot: u32) {
        let slots = self.slots.len();
        self.postings.entry(object).or_default().insert(slot, slots);
    }

    fn unpost(&mut self, object: &Object, slot: u32) {
        if let Some(of_object) = self.postings.get_mut(object) {
            of_object.remove(slot);
            if of_object.is_empty() {
                self.postings.remove(object);
            }
        }
    }

    /// Every ukey that something in `pending` can concern.
    #[must_use]
    pub(super) fn concerned(&self, pending: &Pending) -> Concerned {
        if pending.is_everything() {
            return Concerned::All;
        }
        let mut hits = Vec::new();
        for object in pending.objects() {
            match object {
                Object::Everything | Object::Bridge(_) => return Concerned::All,
                Object::Table(bridge, table) => {
                    for class in self.by_table.get(&(*bridge, *table)).into_iter().flatten() {
                        hits.extend(self.classes[*class as usize].slots.iter());
                    }
                    self.write_posting(object, &mut hits);
                }
                Object::Port(..)
                | Object::Bundle(..)
                | Object::Ports(_)
                | Object::Group(..)
                | Object::Mac(_)
                | Object::Meters(_)
                | Object::Route(_)
                | Object::Routes
                | Object::Neighbour(_)
                | Object::Tunnels(_)
                | Object::Listening => {
                    self.write_posting(object, &mut hits);
                }
            }
        }
        for ((bridge, table), change) in pending.rules() {
            for class in self.by_table.get(&(*bridge, *table)).into_iter().flatten() {
                self.classes[*class as usize].meeting((*bridge, *table), change, &mut hits);
            }
        }
        hits.sort_unstable();
        hits.dedup();
        let ukey = |slot: u32| self.slots[slot as usize].as_ref().map(|f| Arc::clone(&f.ukey));
        Concerned::These(hits.into_iter().filter_map(ukey).collect())
    }

    fn write_posting(&self, object: &Object, hits: &mut Vec<u32>) {
        if let Some(posting) = self.postings.get(object) {
            posting.write(hits);
        }
    }

    fn class_of(&mut self, ukey: &Ukey, deps: &Deps) -> u32 {
        if let Some((mask, class)) = &self.last
            && mask == ukey.shared_mask()
            && self.classes[*class as usize].key.has_tables_of(deps)
        {
            return *class;
        }
        let class = self.find_class(ukey, deps);
        self.last = Some((Arc::clone(ukey.shared_mask()), class));
        class
    }

    fn find_class(&mut self, ukey: &Ukey, deps: &Deps) -> u32 {
        let words = (0..JUDGED_WORDS).map(|i| (i, ukey.word(i).1)).filter(|(_, mask)| *mask != 0);
        let index = |i| u8::try_from(i).expect("JUDGED_WORDS is small");
        let key = ClassKey {
            words: words.map(|(i, mask)| (index(i), mask)).collect(),
            tables: deps.tables().iter().map(|t| (t.bridge, t.table, t.known())).collect(),
        };
        if let Some(class) = self.by_key.get(&key) {
            return *class;
        }
        let class = Class::new(key.clone());
        let number = u32::try_from(self.classes.len()).expect("no more classes than megaflows");
        for (bridge, table, _) in &key.tables {
            let of_table = self.by_table.entry((*bridge, *table)).or_default();
            if of_table.last() != Some(&number) {
                of_table.push(number);
            }
        }
        self.by_key.insert(key, number);
        self.classes.push(class);
        number
    }

    /// Forgets a class that has become empty; the last takes its number.
    fn shrink(&mut self, number: u32) {
        if !self.classes[number as usize].slots.is_empty() {
            return;
        }
        self.last = None;
        let gone = self.classes.swap_remove(number as usize);
        self.by_key.remove(&gone.key);
        for (bridge, table, _) in &gone.key.tables {
            if let Some(of_table) = self.by_table.get_mut(&(*bridge, *table)) {
                of_table.retain(|c| *c != number);
                if of_table.is_empty() {
                    self.by_table.remove(&(*bridge, *table));
                }
            }
        }
        let last = u32::try_from(self.classes.len()).expect("no more classes than megaflows");
        let Some(moved) = self.classes.get(number as usize) else { return };
        for slot in moved.slots.iter() {
            if let Some(filed) = &mut self.slots[*slot as usize] {
                filed.class = number;
            }
        }
        for (bridge, table, _) in &moved.key.tables {
            for class in self.by_table.get_mut(&(*bridge, *table)).into_iter().flatten().filter(|c| **c == last) {
                *class = number;
            }
        }
        self.by_key.insert(moved.key.clone(), number);
    }
}

/// Whether an object has postings: not those whose change concerns all.
fn is_posted(object: &Object) -> bool {
    match object {
        Object::Port(..)
        | Object::Bundle(..)
        | Object::Ports(_)
        | Object::Group(..)
        | Object::Mac(_)
        | Object::Meters(_)
        | Object::Route(_)
        | Object::Routes
        | Object::Neighbour(_)
        | Object::Tunnels(_)
        | Object::Listening
        | Object::Table(..) => true,
        Object::Bridge(_) | Object::Everything => false,
    }
}

impl Class {
    fn new(key: ClassKey) -> Self {
        let words = key.words.iter().map(|_| Column::default()).collect();
        let tables = key.tables.iter().map(|_| (Column::default(), Column::default())).collect();
        Self { key, slots: Column::default(), words, tables }
    }

    fn push(&mut self, slot: u32, ukey: &Ukey, deps: &Deps) -> u32 {
        let row = u32::try_from(self.slots.len()).expect("megaflows are far fewer than 2^32");
        self.slots.push(slot);
        for ((i, _), column) in self.key.words.iter().zip(&mut self.words) {
            column.push(ukey.word(usize::from(*i)).0);
        }
        for (dep, (priorities, ports)) in deps.tables().iter().zip(&mut self.tables) {
            priorities.push(dep.min_priority);
            ports.push(dep.in_port.map_or(ANY_PORT, port_word));
        }
        row
    }

    /// What a row's lookups have come to be.
    fn set_row(&mut self, row: usize, deps: &Deps) {
        for (dep, (priorities, ports)) in deps.tables().iter().zip(&mut self.tables) {
            priorities[row] = dep.min_priority;
            ports[row] = dep.in_port.map_or(ANY_PORT, port_word);
        }
    }

    fn swap_remove(&mut self, row: usize) {
        self.slots.swap_remove(row);
        for column in &mut self.words {
            column.swap_remove(row);
        }
        for (priorities, ports) in &mut self.tables {
            priorities.swap_remove(row);
            ports.swap_remove(row);
        }
    }

    /// The slots of those that consulted the table and may have a packet in common with the rule.
    fn meeting(&self, table: (BridgeId, TableId), change: &RuleChange, hits: &mut Vec<u32>) {
        for ((bridge, id, known), (priorities, ports)) in self.key.tables.iter().zip(&self.tables) {
            if (*bridge, *id) != table {
                continue;
            }
            let judged = self.key.words.iter().zip(&self.words).filter(|((i, _), _)| known & 1 << i != 0);
            let wanted = judged.filter_map(|((i, mask), column)| {
                let (value, wanted) = change.word(*i)?;
                (wanted & mask != 0).then_some(Wanted { column, value, bits: wanted & mask })
            });
            let mut columns: Vec<Wanted<'_>> = wanted.collect();
            // A word of which much is wanted leaves few rows, so that the others are hardly looked at.
            columns.sort_by_key(|c| std::cmp::Reverse(c.bits.count_ones()));
            let (port, port_bits) = change.in_port();
            let meets = |row: usize| {
                change.priority() >= priorities[row] && (ports[row] == ANY_PORT || (ports[row] ^ port) & port_bits == 0)
            };
            each_match(&columns, self.slots.len(), |row| {
                if meets(row) {
                    hits.push(self.slots[row]);
                }
            });
        }
    }
}

/// What a change wants of a column: a value in the bits named.
#[derive(Clone, Copy, Debug)]
struct Wanted<'c> {
    column: &'c Column<u64>,
    value: u64,
    bits: u64,
}

/// Calls `each` with every row, of `len`, that has what is wanted of all columns.
fn each_match(columns: &[Wanted<'_>], len: usize, mut each: impl FnMut(usize)) {
    for start in (0..len).step_by(RUN) {
        let end = len.min(start + RUN);
        // Without a branch per row the compiler makes this a few wide instructions.
        let some =
            |c: &Wanted<'_>| c.column.run(start, end).iter().fold(false, |some, word| some | ((word ^ c.value) & c.bits == 0));
        if !columns.iter().all(some) {
            continue;
        }
        for row in start..end {
            if columns.iter().all(|c| (c.column[row] ^ c.value) & c.bits == 0) {
                each(row);
            }
        }
    }
}

fn port_word(port: OfPort) -> u32 {
    u32::from_be_bytes(port.to_key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deps::{ChangeLog, MacKey, Revision};
    use crate::udpif::ukey::{Inner, State};
    use flow::extract_gen::PacketGen;
    use flow::seam::FlowStats;
    use flow::ufid::ufid_of_masked;
    use flow::{Key, Mask};
    use openflow::GroupId;

    const BR: BridgeId = BridgeId(1);

    fn random_key(g: &mut PacketGen) -> Key {
        let byte = |g: &mut PacketGen| u8::try_from(g.below(3)).unwrap();
        let nw_dst = [10, 0, byte(g), byte(g)];
        let eth_dst = [2, 0, 0, 0, 0, byte(g)];
        let port = u32::try_from(g.below(3)).unwrap() + 1;
        Key { nw_dst, eth_dst, in_port: port.to_be_bytes(), nw_ttl: byte(g), ..Key::ZERO }
    }

    fn random_mask(g: &mut PacketGen) -> Mask {
        let mut mask = Key::ZERO;
        if g.below(2) == 0 {
            mask.nw_dst = [[255, 255, 255, 0], [255; 4], [255, 255, 255, 1]][g.below(3)];
        }
        if g.below(2) == 0 {
            mask.eth_dst = [255; 6];
        }
        if g.below(2) == 0 {
            mask.nw_ttl = 255;
        }
        mask
    }

    fn random_deps(g: &mut PacketGen, key: &Key) -> Deps {
        let mut deps = Deps::default();
        for _ in 0..=g.below(3) {
            let mut at_lookup = *key;
            if g.below(3) == 0 {
                at_lookup.nw_dst = [9; 4];
            }
            let table = TableId(u8::try_from(g.below(2)).unwrap());
            let priority = i32::try_from(g.below(4)).unwrap() - 1;
            deps.table(BR, table, (priority >= 0).then_some(priority), &at_lookup, key);
        }
        for _ in 0..g.below(3) {
            deps.object(random_object(g));
        }
        deps
    }

    fn random_object(g: &mut PacketGen) -> Object {
        let n = u32::try_from(g.below(3)).unwrap();
        match g.below(6) {
            0 => Object::Port(BR, OfPort(n)),
            1 => Object::Ports(BR),
            2 => Object::Group(BR, GroupId(n)),
            3 => Object::Mac(MacKey { bridge: BR, vlan: 0, mac: [2, 0, 0, 0, 0, u8::try_from(n).unwrap()] }),
            4 => Object::Meters(BR),
            _ => Object::Table(BR, TableId(1)),
        }
    }

    /// Ukeys with the same mask share it, as those that come one after the other do.
    fn ukey(g: &mut PacketGen, masks: &mut Vec<Arc<Compact>>) -> (Arc<Ukey>, Deps) {
        let (key, mut mask) = (random_key(g), random_mask(g));
        mask.in_port = [255; 4];
        let deps = random_deps(g, &key);
        let key = key.masked(&mask);
        let inner = Inner {
            state: State::Operational,
            actions: Arc::default(),
            deps: Arc::new(deps.clone()),
            checked: Revision(0),
            credits: Arc::default(),
            recircs: Vec::new(),
            paid: FlowStats::default(),
            slow: 0,
        };
        let known = masks.iter().find(|known| known.expand() == mask).cloned();
        let shared = known.unwrap_or_else(|| Arc::new(Compact::new(&mask, mask.lines())));
        masks.push(Arc::clone(&shared));
        (Arc::new(Ukey::new(ufid_of_masked(&key, &mask), BR, 0, &key, shared, inner)), deps)
    }

    /// The twin: each ukey asked by itself.
    #[test]
    fn finds_every_ukey_that_a_change_concerns() {
        let mut found = 0;
        for seed in 0..200 {
            let mut g = PacketGen::new(seed);
            let mut index = Index::default();
            let mut filed: Vec<(u32, Arc<Ukey>, Deps)> = Vec::new();
            let mut masks = Vec::new();
            for _ in 0..300 {
                if !filed.is_empty() && g.below(4) == 0 {
                    let (slot, _, deps) = filed.swap_remove(g.below(filed.len()));
                    index.remove(slot, &deps);
                    continue;
                }
                if !filed.is_empty() && g.below(2) == 0 {
                    let at = g.below(filed.len());
                    let (slot, ukey, deps) = &mut filed[at];
                    let mut new = if g.below(3) == 0 { random_deps(&mut g, &ukey.key()) } else { deps.clone() };
                    new.object(random_object(&mut g));
                    if g.below(2) == 0 {
                        new.table(BR, TableId(u8::try_from(g.below(2)).unwrap()), None, &Key::ZERO, &Key::ZERO);
                    }
                    *slot = index.refile(*slot, ukey, deps, &new);
                    *deps = new;
                    continue;
                }
                let (ukey, deps) = ukey(&mut g, &mut masks);
                filed.push((index.insert(&ukey, &deps), ukey, deps));
            }
            let log = ChangeLog::default();
            for _ in 0..=g.below(2) {
                if g.below(2) == 0 {
                    log.object(random_object(&mut g));
                } else {
                    let (key, mut mask) = (random_key(&mut g), random_mask(&mut g));
                    mask.in_port = [[0; 4], [255; 4]][g.below(2)];
                    let table = TableId(u8::try_from(g.below(2)).unwrap());
                    log.rule(BR, table, i32::try_from(g.below(3)).unwrap(), &key.masked(&mask), &mask);
                }
            }
            let pending = log.pending(Revision(0));
            let Concerned::These(got) = index.concerned(&pending) else { panic!("nothing concerns all") };
            for (_, ukey, deps) in &filed {
                let listed = got.iter().any(|u| Arc::ptr_eq(u, ukey));
                assert_eq!(listed, pending.concerns(deps, ukey.as_ref()), "seed {seed}: {deps:?} {pending:?}");
                found += usize::from(listed);
            }
            for (slot, _, deps) in filed {
                index.remove(slot, &deps);
            }
            assert!(index.classes.is_empty() && index.postings.is_empty() && index.by_table.is_empty(), "seed {seed}");
        }
        assert!(found > 1000, "the cases must not be empty: {found}");
    }

    #[test]
    fn what_concerns_all_says_so() {
        let log = ChangeLog::default();
        log.object(Object::Bridge(BR));
        assert!(matches!(Index::default().concerned(&log.pending(Revision(0))), Concerned::All));
        let seen = log.now();
        log.forget(seen);
        assert!(matches!(Index::default().concerned(&log.pending(seen)), Concerned::These(_)));
        assert!(matches!(Index::default().concerned(&log.pending(Revision(0))), Concerned::All));
    }
}
