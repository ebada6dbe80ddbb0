//! Groups, and the other actions that choose among ports by a hash: bundle, multipath.
//!
//! A select group without a method of its own, or with `dp_hash`, has the datapath hash the packet: the first translation ends in
//! `hash(...),recirc(N)`, the second matches the low bits of the hash and picks the bucket from a table of up to 256 places.
//! Which hash values lead to which bucket is our own affair; that few flows move when a bucket dies is not.

use super::Ctx;
use super::actions::Next;
use super::trace::Kind;
use crate::deps::Object;
use crate::effects::{Credit, XlateError};
use crate::group::{Bucket, Group, Method};
use flow::flow_hash::{self, HashFields as FlowHash};
use flow::key::{Key, Mask};
use openflow::action::{Bundle, HashFields, Multipath};
use openflow::message::GroupType;
use openflow::{GroupId, OfPort};
use std::sync::Arc;

/// Longest chain of watched groups.
const CHAIN_MAX: u32 = 128;
/// A link number of `multipath` is searched for so often.
const ITERATIONS_MAX: u32 = 64;

impl Ctx<'_> {
    /// group:N
    pub(super) fn run_group(&mut self, id: GroupId, last: bool) -> Next {
        if !self.may_resubmit() {
            return Next::On;
        }
        self.deps.object(Object::Group(self.bridge.id, id));
        let Some(group) = self.bridge.groups.get(&id).cloned() else {
            self.report(Kind::Warn, format_args!("output to nonexistent group {}", id.0));
            return Next::Stop;
        };
        match group.kind {
            GroupType::All | GroupType::Indirect => {
                for (i, bucket) in group.buckets.iter().enumerate() {
                    self.run_bucket(bucket, last && i + 1 == group.buckets.len());
                }
                self.credits.push(Credit::Tally(Arc::clone(&group.tally)));
                Next::On
            }
            GroupType::FastFailover => {
                let bucket = self.first_live(&group, 0);
                self.run_chosen(&group, bucket, last)
            }
            GroupType::Select => match self.select(&group) {
                Ok(bucket) => self.run_chosen(&group, bucket, last),
                Err(again) => again,
            },
        }
    }

    fn run_chosen(&mut self, group: &Group, bucket: Option<&Bucket>, last: bool) -> Next {
        let Some(bucket) = bucket else {
            self.report(Kind::Detail, format_args!("no live bucket"));
            return Next::On;
        };
        self.report(Kind::Detail, format_args!("using bucket {}", bucket.id));
        self.run_bucket(bucket, last);
        self.credits.push(Credit::Tally(Arc::clone(&group.tally)));
        Next::On
    }

    /// A bucket works on a copy: what it does to the packet is not seen by the next, nor after the group. Its actions are an action
    /// set (OpenFlow 1.3 section 5.6.1).
    fn run_bucket(&mut self, bucket: &Bucket, last: bool) {
        let node = self.report(Kind::Bucket, format_args!("bucket {}", bucket.id));
        let before = self.enter(node);
        self.credits.push(Credit::Tally(Arc::clone(&bucket.tally)));
        let ordered = super::action_set::in_order(&bucket.actions);
        let (key, mark) = (self.key, self.mark());
        let (was_mpls, written) = (self.was_mpls, self.written);
        let outer = (std::mem::take(&mut self.exit), self.freeze.take());
        let was_in_bucket = std::mem::replace(&mut self.in_bucket, true);
        self.depth += 1;
        self.run_actions(&ordered, last);
        self.depth -= 1;
        self.in_bucket = was_in_bucket;
        if self.freeze.is_some() {
            self.finish_freezing();
        }
        (self.exit, self.freeze) = outer;
        self.end_copy(mark, last);
        self.key = key;
        (self.was_mpls, self.written) = (was_mpls, written);
        // What goes wrong in one bucket is no reason not to run the next; only the bounds end it all.
        if matches!(self.error, Some(XlateError::TooManyMplsLabels | XlateError::UnsupportedPacketType)) {
            self.error = None;
        }
        self.enter(before);
    }

    /// The bucket of a select group; `Err` when the packet has to go round first.
    fn select<'g>(&mut self, group: &'g Group) -> Result<Option<&'g Bucket>, Next> {
        if self.was_mpls {
            self.freeze_here();
            return Err(Next::Again);
        }
        match &group.method {
            Method::Datapath { alg, basis, places } => {
                let hash = u32::from_be_bytes(self.key.dp_hash);
                // No datapath computes 0: it says that there is no hash yet.
                if hash == 0 {
                    self.report(Kind::Detail, format_args!("selection method in use: dp_hash, recirculating"));
                    self.freeze_here().hash = Some((*alg, *basis));
                    return Err(Next::Again);
                }
                let low = u32::try_from(places.len() - 1).unwrap_or(u32::MAX);
                let matched = u32::from_be_bytes(self.mask.dp_hash) | low;
                self.mask.dp_hash = matched.to_be_bytes();
                let start = usize::try_from(hash & low).unwrap_or(0);
                let chosen = places[start..].iter().chain(&places[..start]);
                Ok(chosen.map(|i| &group.buckets[*i]).find(|b| self.is_live(group, b, 0)))
            }
            Method::Fields => {
                let basis = self.hash_named_fields(group);
                Ok(self.best_live(group, basis))
            }
            Method::Default => {
                let basis = self.hash(HashFields::SymmetricL4, 0);
                Ok(self.best_live(group, basis))
            }
        }
    }

    /// Hash of the fields that the group names, which go into the mask; those that the packet does not have count for nothing.
    fn hash_named_fields(&mut self, group: &Group) -> u32 {
        let mut present = Key::ZERO;
        for (field, bits) in &group.selection.fields {
            if self.has_field(*field) {
                let all = field.mask(&present) | bits.low();
                field.set_mask(&mut present, all);
            }
        }
        self.mask.or_with(&present);
        let param = group.selection.param;
        let basis = u32::try_from((param ^ param >> 32) & 0xffff_ffff).unwrap_or(0);
        flow_hash::hash_masked(&self.key, &present, basis)
    }

    /// Highest-scoring live bucket: weight times a hash of the packet and the bucket, so that few flows move when buckets change.
    fn best_live<'g>(&mut self, group: &'g Group, basis: u32) -> Option<&'g Bucket> {
        let mut best: Option<(u64, &Bucket)> = None;
        for bucket in &group.buckets {
            if !self.is_live(group, bucket, 0) {
                self.report_dead(bucket);
                continue;
            }
            let score = u64::from(score(bucket.id, basis) & 0xffff) * u64::from(bucket.weight);
            self.report(Kind::Detail, format_args!("bucket {}: score {score}", bucket.id));
            if best.is_none_or(|(s, _)| score >= s) {
                best = Some((score, bucket));
            }
        }
        best.map(|(_, bucket)| bucket)
    }

    fn first_live<'g>(&mut self, group: &'g Group, depth: u32) -> Option<&'g Bucket> {
        for bucket in &group.buckets {
            if self.is_live(group, bucket, depth) {
                return Some(bucket);
            }
            self.report_dead(bucket);
        }
        None
    }

    fn report_dead(&mut self, bucket: &Bucket) {
        if self.trace.is_none() {
            return;
        }
        let mut why = String::new();
        if bucket.watch_port != OfPort::ANY {
            let port = u32::from_be_bytes(bucket.watch_port.to_key());
            why = format!("port {}", flow::oftext::format_port(port, &flow::forms::NoNames));
        }
        if bucket.watch_group != GroupId::ANY {
            let and = if why.is_empty() { "" } else { " and " };
            why = format!("{why}{and}port {}", bucket.watch_group.0);
        }
        self.report(Kind::Detail, format_args!("bucket {}: not live due to {why}", bucket.id));
    }

    fn is_live(&mut self, group: &Group, bucket: &Bucket, depth: u32) -> bool {
        if depth >= CHAIN_MAX {
            self.report_error(format_args!("bucket chaining exceeded {CHAIN_MAX} links"));
            return false;
        }
        if group.kind == GroupType::Select && bucket.weight == 0 {
            return false;
        }
        if bucket.watch_port == OfPort::ANY && bucket.watch_group == GroupId::ANY {
            return true;
        }
        if bucket.watch_port != OfPort::ANY && self.port(bucket.watch_port).is_some_and(crate::bridge::Port::is_live) {
            return true;
        }
        if bucket.watch_group == GroupId::ANY {
            return false;
        }
        self.deps.object(Object::Group(self.bridge.id, bucket.watch_group));
        let Some(group) = self.bridge.groups.get(&bucket.watch_group).cloned() else { return false };
        self.first_live(&group, depth + 1).is_some()
    }

    /// A hash of header fields, and its fields into the mask.
    fn hash(&mut self, fields: HashFields, basis: u32) -> u32 {
        let fields = FlowHash::by_number(fields as u16).expect("both enums have OVS's numbers");
        fields.unwildcard(&self.key, &mut self.mask);
        fields.hash(&self.key, basis)
    }

    /// multipath(...): a link number into a field.
    pub(super) fn multipath(&mut self, m: &Multipath) {
        let hash = self.hash(m.fields, u32::from(m.basis));
        let links = u32::from(m.max_link) + 1;
        let link = match m.algorithm {
            0 => hash % links,
            1 => {
                if links == 1 {
                    0
                } else {
                    u32::try_from((u64::from(hash) * u64::from(links)) >> 32).unwrap_or(0)
                }
            }
            2 => (0..links).max_by_key(|link| (score(*link, hash), std::cmp::Reverse(*link))).unwrap_or(0),
            _ => {
                // Iterates until a number falls among the links (Linux's bonding calls it so too).
                let modulus = links.max(m.arg).max(1).next_power_of_two();
                let mut h = hash;
                (0..ITERATIONS_MAX)
                    .map(|_| {
                        h = score(0, h);
                        h & (modulus - 1)
                    })
                    .find(|l| *l < links)
                    .unwrap_or(hash % links)
            }
        };
        self.unwildcard(m.dst);
        self.write_unseen(m.dst, u128::from(link));
        self.report_value(m.dst);
    }

    /// bundle(...) and bundle_load(...): a live member, to send to or to write into a field.
    pub(super) fn bundle(&mut self, bundle: &Bundle, last: bool) {
        let member = if bundle.algorithm == 0 {
            bundle.members.iter().copied().find(|m| self.is_usable(*m))
        } else {
            let hash = self.hash(bundle.fields, u32::from(bundle.basis));
            let live: Vec<(u32, OfPort)> =
                (0u32..).zip(&bundle.members).filter(|(_, m)| self.is_usable(**m)).map(|(i, m)| (i, *m)).collect();
            live.into_iter().max_by_key(|(i, _)| (score(*i, hash), std::cmp::Reverse(*i))).map(|(_, m)| m)
        };
        let port = member.unwrap_or(OfPort::ANY);
        match bundle.dst {
            Some(dst) => {
                self.unwildcard(dst);
                self.write_unseen(dst, u128::from(u32::from_be_bytes(port.to_key()) & 0xffff));
                self.report_value(dst);
            }
            None => self.output(port, 0, last),
        }
    }

    /// Whether a member of a bundle may be chosen.
    fn is_usable(&mut self, port: OfPort) -> bool {
        match port {
            OfPort::IN_PORT | OfPort::TABLE | OfPort::NORMAL | OfPort::FLOOD | OfPort::ALL | OfPort::ANY => true,
            OfPort::CONTROLLER => false,
            _ => self.port(port).is_some_and(crate::bridge::Port::is_live),
        }
    }
}

/// How high one of several equals scores for a hash.
fn score(number: u32, hash: u32) -> u32 {
    let mut key = Key::ZERO;
    key.dp_hash = number.to_be_bytes();
    let mask: Mask = Key { dp_hash: [0xff; 4], ..Key::ZERO };
    flow_hash::hash_masked(&key, &mask, hash)
}
