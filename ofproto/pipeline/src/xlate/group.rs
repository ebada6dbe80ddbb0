//! Groups, and the other actions that choose among ports by a hash: bundle, multipath.

use super::Ctx;
use super::trace::Kind;
use crate::deps::Object;
use crate::effects::Credit;
use crate::group::{Bucket, Group};
use super::hash::{self, feed, mix};
use openflow::action::{Bundle, HashFields, Multipath};
use openflow::message::GroupType;
use openflow::{GroupId, OfPort};
use std::sync::Arc;

/// Longest chain of groups and watched groups.
const CHAIN_MAX: u32 = 32;

impl Ctx<'_> {
    /// group:N
    pub(super) fn run_group(&mut self, id: GroupId, last: bool) {
        self.deps.object(Object::Group(self.bridge.id, id));
        let Some(group) = self.bridge.groups.get(&id).cloned() else {
            self.report(Kind::Warn, format_args!("output to nonexistent group {}", id.0));
            return;
        };
        if self.group_depth >= CHAIN_MAX {
            self.fail(
                crate::effects::XlateError::RecursionTooDeep,
                format_args!("bucket chaining exceeded {CHAIN_MAX} links"),
            );
            return;
        }
        self.group_depth += 1;
        let was_in_group = std::mem::replace(&mut self.in_group, true);
        self.credits.push(Credit::Tally(Arc::clone(&group.tally)));
        match group.kind {
            GroupType::All => {
                for (i, bucket) in group.buckets.iter().enumerate() {
                    self.run_bucket(bucket, last && i + 1 == group.buckets.len());
                }
            }
            GroupType::Indirect => {
                if let Some(bucket) = group.buckets.first() {
                    self.run_bucket(bucket, last);
                }
            }
            GroupType::FastFailover => match group.buckets.iter().find(|b| self.is_live(b, 0)) {
                Some(bucket) => {
                    self.report(Kind::Detail, format_args!("using bucket {}", bucket.id));
                    self.run_bucket(bucket, last);
                }
                None => {
                    self.report(Kind::Detail, format_args!("no live bucket"));
                }
            },
            GroupType::Select => self.select(&group, last),
        }
        self.in_group = was_in_group;
        self.group_depth -= 1;
    }

    /// A bucket works on a copy: what it does to the packet is not seen by the next, nor after the group.
    fn run_bucket(&mut self, bucket: &Bucket, last: bool) {
        let node = self.report(Kind::Bucket, format_args!("bucket {}", bucket.id));
        let before = self.enter(node);
        self.credits.push(Credit::Tally(Arc::clone(&bucket.tally)));
        let set = std::mem::replace(&mut self.action_set, bucket.actions.clone());
        // A bucket's actions are an action set (OpenFlow 1.3 section 5.6.1).
        self.in_clone(last, |_| {});
        self.action_set = set;
        self.enter(before);
    }

    /// Highest-scoring live bucket: weight times a hash of the packet and the bucket, so that few flows move when buckets change.
    fn select(&mut self, group: &Group, last: bool) {
        let basis = self.select_basis(group);
        let best = group
            .buckets
            .iter()
            .filter(|b| b.weight > 0 && self.is_live(b, 0))
            .max_by_key(|b| (u64::from(mix(basis ^ b.id) & 0xffff) * u64::from(b.weight), std::cmp::Reverse(b.id)))
            .map(|b| b.id);
        match group.buckets.iter().find(|b| Some(b.id) == best) {
            Some(bucket) => {
                self.report(Kind::Detail, format_args!("using bucket {}", bucket.id));
                self.run_bucket(bucket, last);
            }
            None => {
                self.report(Kind::Detail, format_args!("no live bucket"));
            }
        }
    }

    /// The hash that a select group decides by; the fields it takes in go into the mask.
    fn select_basis(&mut self, group: &Group) -> u32 {
        let mut basis = mix(u32::try_from(group.selection.param & 0xffff_ffff).expect("masked to 32 bits"));
        if group.selection.method == "hash" {
            for (field, bits) in &group.selection.fields {
                let (field, bits) = (*field, bits.low());
                if !self.has_field(field) {
                    continue;
                }
                let part = Self::whole(field);
                let all = field.mask(&self.mask) | bits;
                field.set_mask(&mut self.mask, all);
                let value = self.value(part) & bits;
                basis = feed(basis, &value.to_be_bytes());
            }
            return basis;
        }
        self.hash(HashFields::SymmetricL4, basis)
    }

    fn is_live(&mut self, bucket: &Bucket, depth: u32) -> bool {
        let unwatched = bucket.watch_port == OfPort::ANY && bucket.watch_group == GroupId::ANY;
        if unwatched || depth > CHAIN_MAX {
            return unwatched;
        }
        if bucket.watch_port != OfPort::ANY && self.port(bucket.watch_port).is_some_and(crate::bridge::Port::is_live) {
            return true;
        }
        if bucket.watch_group == GroupId::ANY {
            return false;
        }
        self.deps.object(Object::Group(self.bridge.id, bucket.watch_group));
        let Some(group) = self.bridge.groups.get(&bucket.watch_group).cloned() else { return false };
        group.buckets.iter().any(|b| self.is_live(b, depth + 1))
    }

    /// A hash of header fields, and its fields into the mask.
    fn hash(&mut self, fields: HashFields, basis: u32) -> u32 {
        hash::hash(fields, &self.key, &mut self.mask, basis)
    }

    /// multipath(...): a link number into a field.
    pub(super) fn multipath(&mut self, m: &Multipath) {
        let hash = self.hash(m.fields, u32::from(m.basis));
        let links = u32::from(m.max_link) + 1;
        let link = match m.algorithm {
            0 => hash % links,
            1 => {
                if links == 1 { 0 } else { u32::try_from(u64::from(hash) * u64::from(links) >> 32).unwrap_or(0) }
            }
            2 => (0..links).max_by_key(|link| (mix(hash ^ link), std::cmp::Reverse(*link))).unwrap_or(0),
            _ => {
                // Iterates until a number falls among the links (Linux's bonding calls it so too).
                let modulus = links.max(m.arg).max(1).next_power_of_two();
                let mut h = hash;
                (0..64)
                    .map(|_| {
                        h = mix(h);
                        h & (modulus - 1)
                    })
                    .find(|l| *l < links)
                    .unwrap_or(hash % links)
            }
        };
        self.write(m.dst, u128::from(link));
        let (field, now) = (m.dst.field, self.value(Self::whole(m.dst.field)));
        self.report(Kind::Detail, format_args!("{field} is now {now:#x}"));
    }

    /// bundle(...) and bundle_load(...): a live member, to send to or to write into a field.
    pub(super) fn bundle(&mut self, bundle: &Bundle, last: bool) {
        let usable = |ctx: &mut Self, port: OfPort| {
            port == OfPort::LOCAL || ctx.port(port).is_some_and(|p| p.is_up() || p.is_live())
        };
        let member = if bundle.algorithm == 0 {
            bundle.members.iter().copied().find(|m| usable(self, *m))
        } else {
            let hash = self.hash(bundle.fields, u32::from(bundle.basis));
            let live: Vec<(u32, OfPort)> =
                (0u32..).zip(&bundle.members).filter(|(_, m)| usable(self, **m)).map(|(i, m)| (i, *m)).collect();
            live.into_iter().max_by_key(|(i, _)| (mix(hash ^ i), std::cmp::Reverse(*i))).map(|(_, m)| m)
        };
        match bundle.dst {
            Some(dst) => {
                let port = member.unwrap_or(OfPort::ANY);
                self.write(dst, u128::from(u32::from_be_bytes(port.to_key())));
            }
            None => {
                if let Some(port) = member {
                    self.output(port, 0, last);
                }
            }
        }
    }
}
