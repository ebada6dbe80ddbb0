//! Datums: what one column of one row holds.
//!
//! A datum is a sorted set of atoms, or a map from such a set to atoms. A scalar is a set of one. Datums are immutable
//! and shared: cloning one costs a reference count, so that rows can be copied freely on write. The accessors
//! ([`Datum::as_str`], [`Datum::str_map`], ...) are what the daemon and the tools read columns with.

use crate::atom::{Atom, UuidNames, unwrap_tagged};
use crate::error::{Error, Result, Tag};
use crate::types::Type;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A set or map of atoms, sorted by key, no key twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Datum(Arc<Inner>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Inner {
    keys: Vec<Atom>,
    /// As many as keys if `map`, else none.
    values: Vec<Atom>,
    map: bool,
}

impl Datum {
    /// The empty set.
    #[must_use]
    pub fn empty_set() -> Self {
        Self::from_sorted_set(Vec::new())
    }

    /// The empty map.
    #[must_use]
    pub fn empty_map() -> Self {
        Self::from_sorted_map(Vec::new())
    }

    /// A set; duplicates are dropped.
    pub fn set<T: Into<Atom>>(atoms: impl IntoIterator<Item = T>) -> Self {
        let mut keys: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        keys.sort_unstable();
        keys.dedup();
        Self::from_sorted_set(keys)
    }

    /// A map; of pairs with the same key the last one stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let sorted: BTreeMap<Atom, Atom> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Self::from_sorted_map(sorted.into_iter().collect())
    }

    /// One atom, or the empty set.
    pub fn optional<T: Into<Atom>>(atom: Option<T>) -> Self {
        atom.map_or_else(Self::empty_set, |a| Self::from(a.into()))
    }

    fn from_sorted_set(keys: Vec<Atom>) -> Self {
        Self(Arc::new(Inner { keys, values: Vec::new(), map: false }))
    }

    fn from_sorted_map(pairs: Vec<(Atom, Atom)>) -> Self {
        let (keys, values) = pairs.into_iter().unzip();
        Self(Arc::new(Inner { keys, values, map: true }))
    }

    /// Members, or keys of a map, in order.
    #[must_use]
    pub fn keys(&self) -> &[Atom] {
        &self.0.keys
    }

    /// Values of a map, in the order of their keys; nothing for a set.
    #[must_use]
    pub fn values(&self) -> &[Atom] {
        &self.0.values
    }

    /// Pairs of a map in the order of their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        self.0.keys.iter().zip(&self.0.values)
    }

    /// Whether it is a map.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.0.map
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// No members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }

    /// Whether `key` is a member or a key.
    #[must_use]
    pub fn contains(&self, key: &Atom) -> bool {
        self.0.keys.binary_search(key).is_ok()
    }

    /// The value at `key` of a map.
    #[must_use]
    pub fn value_of(&self, key: &Atom) -> Option<&Atom> {
        self.0.keys.binary_search(key).ok().and_then(|i| self.0.values.get(i))
    }

    // ---- accessors -------------------------------------------------------------------------------------------------

    /// The only member.
    #[must_use]
    pub fn as_atom(&self) -> Option<&Atom> {
        match self.0.keys.as_slice() {
            [one] if !self.0.map => Some(one),
            _ => None,
        }
    }

    /// The string of a scalar or a filled optional.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_atom().and_then(Atom::as_str)
    }

    /// The integer of a scalar or a filled optional.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        self.as_atom().and_then(Atom::as_int)
    }

    /// The boolean of a scalar or a filled optional.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        self.as_atom().and_then(Atom::as_bool)
    }

    /// The real of a scalar or a filled optional.
    #[must_use]
    pub fn as_real(&self) -> Option<f64> {
        self.as_atom().and_then(Atom::as_real)
    }

    /// The UUID of a scalar or a filled optional.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_atom().and_then(Atom::as_uuid)
    }

    /// Members as strings.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.0.keys.iter().filter_map(Atom::as_str)
    }

    /// Members as integers.
    pub fn ints(&self) -> impl Iterator<Item = i64> {
        self.0.keys.iter().filter_map(Atom::as_int)
    }

    /// Members as UUIDs (of a map: its values, if those are the UUIDs).
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.0.keys.iter().chain(&self.0.values).filter_map(Atom::as_uuid)
    }

    /// String value of a string-keyed map.
    #[must_use]
    pub fn str_value(&self, key: &str) -> Option<&str> {
        let found = self.0.keys.binary_search_by(|k| k.as_str().unwrap_or("").cmp(key)).ok()?;
        self.0.values.get(found).and_then(Atom::as_str)
    }

    /// A string-to-string map.
    #[must_use]
    pub fn str_map(&self) -> BTreeMap<String, String> {
        self.pairs().filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned()))).collect()
    }

    // ---- the wire --------------------------------------------------------------------------------------------------

    /// RFC 7047 `<value>`: a set of one is the bare atom.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if self.0.map {
            let pairs = self.pairs().map(|(k, v)| Value::Array(vec![k.to_json(), v.to_json()])).collect();
            return Value::Array(vec![Value::from("map"), Value::Array(pairs)]);
        }
        match self.0.keys.as_slice() {
            [one] => one.to_json(),
            many => {
                let atoms = many.iter().map(Atom::to_json).collect();
                Value::Array(vec![Value::from("set"), Value::Array(atoms)])
            }
        }
    }

    /// Parses `<value>` and checks it against `ty`.
    pub fn from_json(ty: &Type, json: &Value, mut names: Option<&mut (dyn UuidNames + '_)>) -> Result<Self> {
        let tagged_set = json.as_array().and_then(|a| a.first()).and_then(Value::as_str) == Some("set");
        if !ty.is_map() && !tagged_set {
            return parse_atom(&ty.key, json, &mut names).map(Self::from);
        }
        let class = if ty.is_map() { "map" } else { "set" };
        let inner = unwrap_tagged(json, class, Value::is_array)
            .and_then(Value::as_array)
            .ok_or_else(|| Error::syntax(json, format!("expected [\"{class}\", <array>]")))?;
        check_count(ty, class, inner.len(), json)?;
        let Some(value_type) = &ty.value else {
            let mut keys = Vec::with_capacity(inner.len());
            for element in inner {
                keys.push(parse_atom(&ty.key, element, &mut names)?);
            }
            keys.sort_unstable();
            return if keys.windows(2).any(|w| w[0] == w[1]) {
                Err(Error::new(Tag::OvsdbError, "set contains duplicate"))
            } else {
                Ok(Self::from_sorted_set(keys))
            };
        };
        let mut pairs = Vec::with_capacity(inner.len());
        for element in inner {
            let Some([key, value]) = element.as_array().map(Vec::as_slice) else {
                return Err(Error::syntax(element, "expected 2-element array"));
            };
            pairs.push((parse_atom(&ty.key, key, &mut names)?, parse_atom(value_type, value, &mut names)?));
        }
        pairs.sort_unstable();
        if pairs.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err(Error::new(Tag::OvsdbError, "map contains duplicate key"));
        }
        Ok(Self::from_sorted_map(pairs))
    }

    /// Whether every member obeys `ty`'s constraints (the number of members apart).
    pub fn check(&self, ty: &Type) -> Result<()> {
        self.0.keys.iter().try_for_each(|k| ty.key.check(k))?;
        match &ty.value {
            Some(value) => self.0.values.iter().try_for_each(|v| value.check(v)),
            None => Ok(()),
        }
    }

    // ---- set algebra -----------------------------------------------------------------------------------------------

    /// Members of `self` and of `other`; where both have a key, `self`'s value stays (RFC 7047 `insert` mutation).
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(Atom, Option<Atom>)> = self.entries().collect();
        all.extend(other.entries().filter(|(k, _)| !self.contains(k)));
        Self::from_entries(all, self.0.map)
    }

    /// Members of `self` that `other` does not name. If `other` is a map its values must match too; if it is a set its
    /// members are keys (RFC 7047 `delete` mutation).
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let kept = self.entries().filter(|(k, v)| match other.0.keys.binary_search(k) {
            Err(_) => true,
            Ok(i) => other.0.map && other.0.values.get(i) != v.as_ref(),
        });
        Self::from_entries(kept.collect(), self.0.map)
    }

    /// Whether every member (pair) of `other` is in `self`.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.0.keys.iter().enumerate().all(|(j, key)| self.has_pair(key, other.0.values.get(j)))
    }

    /// Whether no member (pair) of `other` is in `self`.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        !other.0.keys.iter().enumerate().any(|(j, key)| self.has_pair(key, other.0.values.get(j)))
    }

    fn has_pair(&self, key: &Atom, value: Option<&Atom>) -> bool {
        self.0.keys.binary_search(key).is_ok_and(|i| !self.0.map || self.0.values.get(i) == value)
    }

    /// What `update2` and the journal carry to turn `self` into `new`: for a type of at most one member the new
    /// datum, else the members only one of them has, and for maps the pairs whose value changed.
    #[must_use]
    pub fn diff(&self, new: &Self, ty: &Type) -> Self {
        if !ty.is_composite() {
            return new.clone();
        }
        let gone = self.entries().filter(|(k, _)| !new.contains(k));
        let changed = new.entries().filter(|(k, v)| !self.has_pair(k, v.as_ref()));
        Self::from_entries(gone.chain(changed).collect(), self.0.map)
    }

    /// Undoes [`Datum::diff`]: `old.apply(&old.diff(&new))` is `new`.
    pub fn apply(&self, diff: &Self, ty: &Type) -> Result<Self> {
        if !ty.is_composite() {
            return Ok(diff.clone());
        }
        let result = self.diff(diff, ty);
        let n = u32::try_from(result.len()).unwrap_or(u32::MAX);
        if n < ty.min || n > ty.max {
            return Err(Error::new(Tag::OvsdbError, "Datum crated by diff has size error"));
        }
        Ok(result)
    }

    /// The datum without the members for which `keep` says no; of a map, `keep` sees key and value.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(&Atom, Option<&Atom>) -> bool) -> Self {
        let kept = self.entries().filter(|(k, v)| keep(k, v.as_ref()));
        Self::from_entries(kept.collect(), self.0.map)
    }

    /// Members as pairs whose second half is empty for a set.
    fn entries(&self) -> impl Iterator<Item = (Atom, Option<Atom>)> + '_ {
        self.0.keys.iter().enumerate().map(|(i, k)| (k.clone(), self.0.values.get(i).cloned()))
    }

    fn from_entries(mut entries: Vec<(Atom, Option<Atom>)>, map: bool) -> Self {
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let (keys, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        Self(Arc::new(Inner { keys, values: values.into_iter().flatten().collect(), map }))
    }

    /// Order for OVS's `compare` of two datums: by members, shorter first among equal prefixes.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
}

fn parse_atom(base: &crate::types::BaseType, json: &Value, names: &mut Option<&mut (dyn UuidNames + '_)>) -> Result<Atom> {
    let atom = match names {
        Some(names) => Atom::from_json(base.atomic, json, Some(&mut Reborrow(*names)))?,
        None => Atom::from_json(base.atomic, json, None)?,
    };
    base.check(&atom)?;
    Ok(atom)
}

/// Passes a borrowed name table on without giving it away.
struct Reborrow<'a>(&'a mut dyn UuidNames);

impl UuidNames for Reborrow<'_> {
    fn resolve(&mut self, name: &str) -> Uuid {
        self.0.resolve(name)
    }
}

fn check_count(ty: &Type, class: &str, n: usize, json: &Value) -> Result<()> {
    if n >= ty.min as usize && n <= ty.max as usize {
        return Ok(());
    }
    Err(Error::syntax(
        json,
        if ty.min == 1 && ty.max == 1 {
            format!("{class} must have exactly one member but {n} are present")
        } else {
            format!("{class} must have {} to {} members but {n} are present", ty.min, ty.max)
        },
    ))
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self::from_sorted_set(vec![atom])
    }
}

macro_rules! from_scalar {
    ($($ty:ty),+) => { $(impl From<$ty> for Datum { fn from(v: $ty) -> Self { Self::from(Atom::from(v)) } })+ };
}
from_scalar!(i64, i32, u32, u16, f64, bool, &str, String, &String, Uuid);

impl From<&BTreeMap<String, String>> for Datum {
    fn from(map: &BTreeMap<String, String>) -> Self {
        Self::map(map.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }
}
