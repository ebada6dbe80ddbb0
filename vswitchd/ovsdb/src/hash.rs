//! The hash containers of this crate: seeded, so that a peer cannot choose colliding keys.
//!
//! The same choice as `flow::hash`, repeated here because this crate depends on no other of ours.

/// A seeded hash map.
pub type Map<K, V> = hashbrown::HashMap<K, V, ahash::RandomState>;
/// A seeded hash set.
pub type Set<K> = hashbrown::HashSet<K, ahash::RandomState>;
