//! Groups: what they are made of and what group-mods do to them.
//!
//! What enters: group-mods (through `conn`). What leaves: groups for translation and for statistics. Neighbours: `xlate::group`
//! runs them, `flow_mod` removes rules that refer to a deleted one.
//!
//! A group is immutable behind an `Arc`; a modification makes a new one that keeps the counters of the buckets it kept.

use crate::rule::Tally;
use flow::Msec;
use flow::action::HashAlg;
use openflow::action::OfAction;
use openflow::message::{GroupType, SelectionMethod};
use openflow::{GroupId, OfPort};
use std::sync::Arc;

/// Most and least places in the table of a group that the datapath hashes for.
const PLACES_MAX: u64 = 256;
const PLACES_MIN: u64 = 16;

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub id: u32,
    pub weight: u16,
    pub watch_port: OfPort,
    pub watch_group: GroupId,
    pub actions: Vec<OfAction>,
    pub tally: Arc<Tally>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: GroupId,
    pub kind: GroupType,
    pub buckets: Vec<Bucket>,
    pub selection: SelectionMethod,
    pub tally: Arc<Tally>,
    pub created_ms: Msec,
    /// How a select group chooses; see `Group::with_method`.
    pub method: Method,
}

/// How a select group chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The datapath hashes; places lead to buckets (by index).
    Datapath { alg: HashAlg, basis: u32, places: Vec<usize> },
    /// By named fields.
    Fields,
    /// By addresses and ports, in the slow path.
    #[default]
    Default,
}

/// Why the datapath does not hash for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NoPlaces {
    #[error("Don't apply dp_hash method without buckets.")]
    NoBuckets,
    #[error("Total weight is zero. No active buckets.")]
    NoWeight,
    #[error("Too many hash values required: {0}")]
    TooMany(u64),
}

impl Group {
    /// The group with its way of choosing worked out; that is told in the log, as OVS tells it.
    #[must_use]
    pub fn with_method(self) -> Self {
        let method = if self.kind == GroupType::Select { self.choose_method() } else { Method::Default };
        Self { method, ..self }
    }

    fn choose_method(&self) -> Method {
        let selection = &self.selection;
        tracing::debug!(target: "ofproto_dpif", "Constructing select group {}", self.id.0);
        match selection.method.as_str() {
            "hash" => {
                tracing::debug!(target: "ofproto_dpif", "Selection method specified: hash.");
                if !selection.fields.is_empty() {
                    let names: Vec<String> = selection.fields.iter().map(|(field, _)| field.to_string()).collect();
                    tracing::debug!(target: "ofproto_dpif", "Hash fields: {}", names.join(","));
                    return Method::Fields;
                }
                tracing::debug!(target: "ofproto_dpif", "No hash fields. Falling back to default hash method.");
                Method::Default
            }
            "dp_hash" => {
                tracing::debug!(target: "ofproto_dpif", "Selection method specified: dp_hash.");
                let alg = if selection.param >> 32 == 1 { HashAlg::SymL4 } else { HashAlg::L4 };
                self.hashed_by_datapath(alg, u32::try_from(selection.param & 0xffff_ffff).expect("masked to 32 bits"))
            }
            _ => {
                tracing::debug!(target: "ofproto_dpif", "No selection method specified. Trying dp_hash.");
                self.hashed_by_datapath(HashAlg::SymL4, 0)
            }
        }
    }

    fn hashed_by_datapath(&self, alg: HashAlg, basis: u32) -> Method {
        match self.places() {
            Ok(places) => {
                let (count, number) = (places.len(), if alg == HashAlg::L4 { 0 } else { 1 });
                tracing::debug!(target: "ofproto_dpif", "Use dp_hash with {count} hash values using algorithm {number}.");
                Method::Datapath { alg, basis, places }
            }
            Err(why) => {
                tracing::debug!(target: "ofproto_dpif", "  {why}");
                tracing::debug!(target: "ofproto_dpif", "Falling back to default hash method.");
                Method::Default
            }
        }
    }

    /// Gives each place of a table to a bucket, in proportion to the weights (Webster's method of apportionment).
    fn places(&self) -> Result<Vec<usize>, NoPlaces> {
        if self.buckets.is_empty() {
            return Err(NoPlaces::NoBuckets);
        }
        let weights: Vec<u64> = self.buckets.iter().map(|b| u64::from(b.weight)).collect();
        let total: u64 = weights.iter().sum();
        let least = weights.iter().copied().filter(|w| *w > 0).min().ok_or(NoPlaces::NoWeight)?;
        tracing::debug!(target: "ofproto_dpif", "  Minimum weight: {least}, total weight: {total}");
        let wanted = total.div_ceil(least).next_power_of_two().max(PLACES_MIN);
        let count = usize::try_from(wanted).ok().filter(|_| wanted <= PLACES_MAX).ok_or(NoPlaces::TooMany(wanted))?;
        tracing::debug!(target: "ofproto_dpif", "  Using {count} hash values:");
        // A quotient weight/divisor is compared by cross multiplication; of equal ones the first bucket wins.
        let mut divisors = vec![1u64; weights.len()];
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let mut winner = 0;
            for i in 1..weights.len() {
                if weights[i] * divisors[winner] > weights[winner] * divisors[i] {
                    winner = i;
                }
            }
            divisors[winner] += 2;
            places.push(winner);
        }
        for (bucket, (weight, divisor)) in self.buckets.iter().zip(weights.iter().zip(divisors)) {
            let hundredths = weight * wanted * 100 / total;
            let (whole, part, hits) = (hundredths / 100, hundredths % 100, divisor / 2);
            let id = bucket.id;
            tracing::debug!(target: "ofproto_dpif", "  Bucket {id}: weight={weight}, target={whole}.{part:02} hits={hits}");
        }
        Ok(places)
    }
}
