//! Seeded, fast hash tables for everything inside; the one place that names the hasher.

/// A hash map: hashbrown with ahash, keyed at random, so that no peer can aim at a bucket.
pub type Map<K, V> = hashbrown::HashMap<K, V, ahash::RandomState>;
/// A hash set like `Map`.
pub type Set<K> = hashbrown::HashSet<K, ahash::RandomState>;
/// The hasher of both, for those who hash without a table.
pub type Hasher = ahash::RandomState;
