//! A prefix trie: tells which prefix lengths of the rules can match a value, and how many leading bits of the value that took.
//!
//! The classifier skips every subtable whose prefix length cannot match; the bits looked at go into the megaflow's mask. Values are
//! left-aligned in 128 bits, so one form serves IPv4 (32 bits), IPv6 (128) and pairs of transport ports (32).

use crate::column::Column;

/// What a lookup found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Bit n: some rule has a prefix of n + 1 bits that the value begins with.
    pub(crate) lengths: u128,
    /// Leading bits of the value that decided it.
    pub(crate) looked_at: u8,
}

impl Found {
    /// Whether a rule with a prefix of `len` (>= 1) bits can match.
    pub(crate) fn has(&self, len: u8) -> bool {
        self.lengths >> (len - 1) & 1 != 0
    }
}

/// No node.
const NONE: u32 = u32::MAX;

/// A node of 32 bytes: a million rules have two million.
#[derive(Debug)]
struct Node {
    /// Left-aligned bits of this edge, below those of the parents.
    bits: u128,
    edges: [u32; 2],
    /// Rules that end here.
    rules: u32,
    len: u8,
}

const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    fn leaf(bits: u128, len: u8) -> Self {
        Self { bits: keep(bits, len), edges: [NONE; 2], rules: 1, len }
    }

    fn is_leaf(&self) -> bool {
        self.edges == [NONE; 2]
    }
}

/// Prefixes with the number of rules that have each.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Column<Node>,
    /// The first node that is not in use; each leads to the next by its first edge.
    free: u32,
    root: u32,
    /// Bits of the values.
    width: u8,
}

/// Where a node hangs.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Edge(u32, usize),
}

impl Trie {
    pub(crate) fn new(width: u8) -> Self {
        Self { nodes: Column::default(), free: NONE, root: NONE, width }
    }

    fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    fn at(&self, link: Link) -> u32 {
        match link {
            Link::Root => self.root,
            Link::Edge(id, side) => self.nodes[id as usize].edges[side],
        }
    }

    fn set(&mut self, link: Link, id: u32) {
        match link {
            Link::Root => self.root = id,
            Link::Edge(parent, side) => self.nodes[parent as usize].edges[side] = id,
        }
    }

    fn add(&mut self, node: Node) -> u32 {
        if let Some(free) = self.nodes.get_mut(self.free as usize) {
            let id = std::mem::replace(&mut self.free, free.edges[0]);
            *free = node;
            return id;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 rules fit the memory")
    }

    fn give_back(&mut self, id: u32) {
        self.nodes[id as usize].edges[0] = self.free;
        self.free = id;
    }

    /// Adds a rule whose prefix is the first `len` (>= 1) bits of `value`.
    pub(crate) fn insert(&mut self, value: u128, len: u8) {
        let (mut link, mut bits, mut left) = (Link::Root, value, len);
        loop {
            let id = self.at(link);
            let Some(node) = self.node(id) else {
                let leaf = self.add(Node::leaf(bits, left));
                return self.set(link, leaf);
            };
            let same = common(node.bits, bits, node.len.min(left));
            if same < node.len {
                self.split(id, same);
            }
            if same == left {
                self.nodes[id as usize].rules += 1;
                return;
            }
            bits = shift(bits, same);
            left -= same;
            link = Link::Edge(id, first(bits));
        }
    }

    /// Cuts an edge after `at` bits.
    fn split(&mut self, id: u32, at: u8) {
        let node = &mut self.nodes[id as usize];
        let rest = Node { bits: shift(node.bits, at), edges: node.edges, rules: node.rules, len: node.len - at };
        *node = Node { bits: keep(node.bits, at), edges: [NONE; 2], rules: 0, len: at };
        let side = first(rest.bits);
        let rest = self.add(rest);
        self.set(Link::Edge(id, side), rest);
    }

    /// Takes away a rule that `insert` added.
    pub(crate) fn remove(&mut self, value: u128, len: u8) {
        self.remove_below(Link::Root, value, len);
    }

    fn remove_below(&mut self, link: Link, value: u128, len: u8) {
        let id = self.at(link);
        let Some(node) = self.node(id) else { return };
        let node_len = node.len;
        if len < node_len || common(node.bits, value, node_len) < node_len {
            return;
        }
        if len == node_len {
            let node = &mut self.nodes[id as usize];
            node.rules = node.rules.saturating_sub(1);
        } else {
            let rest = shift(value, node_len);
            self.remove_below(Link::Edge(id, first(rest)), rest, len - node_len);
        }
        let node = &self.nodes[id as usize];
        let joined = match node.edges {
            _ if node.rules > 0 => return,
            [NONE, NONE] => NONE,
            [only, NONE] | [NONE, only] => {
                // One edge left: join it to this one.
                let (bits, len) = (node.bits, node.len);
                let below = &mut self.nodes[only as usize];
                below.bits = bits | below.bits >> u32::from(len).min(127);
                below.len += len;
                only
            }
            [_, _] => return,
        };
        self.set(link, joined);
        self.give_back(id);
    }

    /// Which prefixes match `value`.
    pub(crate) fn lookup(&self, value: u128) -> Found {
        let mut lengths = 0;
        let mut done = 0u8;
        let mut bits = value;
        let mut above: Option<&Node> = None;
        let mut at = self.root;
        loop {
            let Some(node) = self.node(at) else {
                // A dead end; where the other edge exists, the bit that chose this one decided.
                let extra = u8::from(above.is_some_and(|n| !n.is_leaf()));
                return Found { lengths, looked_at: done + extra };
            };
            let same = common(node.bits, bits, node.len);
            done += same;
            if same < node.len {
                return Found { lengths, looked_at: done + 1 };
            }
            if node.rules > 0 && done > 0 {
                lengths |= 1 << (done - 1);
            }
            if done >= self.width {
                return Found { lengths, looked_at: self.width };
            }
            bits = shift(bits, same);
            above = Some(node);
            at = node.edges[first(bits)];
        }
    }
}

/// The first `len` bits of `bits`, the rest zero.
fn keep(bits: u128, len: u8) -> u128 {
    if len == 0 { 0 } else { bits >> (128 - u32::from(len)) << (128 - u32::from(len)) }
}

fn shift(bits: u128, by: u8) -> u128 {
    bits.checked_shl(u32::from(by)).unwrap_or(0)
}

fn first(bits: u128) -> usize {
    usize::from(bits >> 127 != 0)
}

/// Leading bits that are the same, `len` at most.
fn common(a: u128, b: u128, len: u8) -> u8 {
    #[allow(clippy::cast_possible_truncation, reason = "at most 128")]
    let same = (a ^ b).leading_zeros() as u8;
    same.min(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> u128 {
        u128::from(u32::from_be_bytes([a, b, c, d])) << 96
    }

    #[test]
    fn names_matching_lengths_and_bits() {
        let mut trie = Trie::new(32);
        assert_eq!(trie.lookup(v4(1, 2, 3, 4)), Found { lengths: 0, looked_at: 0 });
        trie.insert(v4(10, 0, 0, 0), 8);
        trie.insert(v4(10, 1, 0, 0), 16);
        let found = trie.lookup(v4(10, 1, 2, 3));
        assert!(found.has(8) && found.has(16) && !found.has(24));
        assert_eq!(found.looked_at, 16);
        assert_eq!(trie.lookup(v4(138, 0, 0, 0)), Found { lengths: 0, looked_at: 1 });
        trie.remove(v4(10, 1, 0, 0), 16);
        assert_eq!(trie.lookup(v4(10, 1, 2, 3)).looked_at, 8);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn agrees_with_a_list(rules in prop::collection::vec((any::<u32>(), 1u8..=32), 0..40),
                              dropped in prop::collection::vec(any::<bool>(), 40),
                              value in any::<u32>(), noise in any::<u32>(), near in 0usize..40) {
            let wide = |v: u32| u128::from(v) << 96;
            let mut trie = Trie::new(32);
            for (v, len) in &rules { trie.insert(wide(*v), *len); }
            let mut kept = Vec::new();
            for (i, (v, len)) in rules.iter().enumerate() {
                if dropped[i] { trie.remove(wide(*v), *len); } else { kept.push((*v, *len)); }
            }
            // Half of the values lie near a rule, else nearly nothing matches.
            let value = rules.get(near).map_or(value, |(v, _)| v ^ (noise >> 20));
            let lengths = |value: u32| kept.iter().fold(0u128, |a, (v, len)| {
                if (v ^ value).leading_zeros() >= u32::from(*len) { a | 1 << (len - 1) } else { a }
            });
            let found = trie.lookup(wide(value));
            prop_assert_eq!(found.lengths, lengths(value));
            // Any value with the same leading bits has the same answer.
            let low = if found.looked_at >= 32 { 0 } else { u32::MAX >> found.looked_at };
            prop_assert_eq!(lengths(value ^ (noise & low)), found.lengths);
        }
    }
}
