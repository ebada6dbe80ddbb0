//! Groups: what they are made of and what group-mods do to them.
//!
//! What enters: group-mods (through `conn`). What leaves: groups for translation and for statistics. Neighbours: `xlate::group`
//! runs them, `flow_mod` removes rules that refer to a deleted one.
//!
//! A group is immutable behind an `Arc`; a modification makes a new one that keeps the counters of the buckets it kept.

use crate::rule::Tally;
use flow::Msec;
use openflow::action::OfAction;
use openflow::message::{GroupType, SelectionMethod};
use openflow::{GroupId, OfPort};
use std::sync::Arc;

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
}
