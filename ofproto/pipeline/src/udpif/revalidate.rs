//! Revalidation: rounds over all megaflows, and `settle`, which answers for all changes made before it.
//!
//! What enters: the change log, the datapath's counters, time. What leaves: payments; megaflows kept, replaced or deleted.
//! Neighbours: `ukey`, `limit`, `upcall`; why it is right stands in the parent.

use super::common::Last;
use super::index::Concerned;
use super::limit::{Pressure, adapt, worth_revalidating};
use super::ukey::{Inner, SHARDS, State, Ukey};
use super::upcall::{installed, mask_to_datapath, pay};
use super::{
    DELETED_CHANGED, DELETED_EXPENSIVE, DELETED_IDLE, DELETED_UNWANTED, DUMPED_NEW_FLOW, Purpose, REVALIDATE_MISSED_DP_FLOW,
    REVALIDATED, Request, UPCALL_FLOW_LIMIT_KILL, Udpif,
};
use crate::config::UpcallConfig;
use crate::deps::{Pending, Revision};
use crate::effects::{Credit, Payment};
use crate::world::World;
use flow::clock::now_ms;
use flow::hash::Set;
use flow::seam::{FlowPut, FlowStats, PutMode};
use flow::{Msec, Ufid};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Idle time after which an exact megaflow goes that stands for a wider one.
const SHORT_LIFE_MS: Msec = 1_000;
/// Megaflows deleted in one call of the datapath.
const DELETE_BATCH: usize = 50;
/// Megaflows that `settle` looks at under one read lock of the world.
const SETTLE_BATCH: usize = 64;
/// Credits whose payments are gathered at once.
const TILL_MAX: usize = 8;
/// A megaflow is translated again so often when something that it depends on changes meanwhile; then it is deleted.
const RENEWALS_MAX: usize = 3;

/// What is to become of a megaflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Delete(Reason),
}

/// Why it goes; each raises its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Idle,
    Changed,
    Expensive,
    Missing,
    Purge,
    Unwanted,
}

impl Reason {
    fn count(self) {
        match self {
            Self::Idle => DELETED_IDLE.inc(),
            Self::Changed => DELETED_CHANGED.inc(),
            Self::Expensive => DELETED_EXPENSIVE.inc(),
            Self::Missing => REVALIDATE_MISSED_DP_FLOW.inc(),
            Self::Purge => {}
            Self::Unwanted => DELETED_UNWANTED.inc(),
        }
    }
}

/// What a round goes by.
struct Terms {
    now: Msec,
    pressure: Pressure,
    last_round_ms: Msec,
    config: UpcallConfig,
    /// Changes up to here are to be judged.
    upto: Revision,
    /// What they are.
    pending: Pending,
    /// What the datapath asks to be rid of.
    unwanted: Set<Ufid>,
}

/// Megaflows are translated again, one after the other: what one comes to the next share, as those that come new do.
struct Again<'a> {
    world: &'a World,
    now: Msec,
    last: &'a mut Last,
}

impl Udpif {
    /// One round: pays what the datapath has counted, deletes idle megaflows, translates again what a change concerns.
    pub fn round(&self, now: Msec) {
        let _one = self.round.lock().expect("no round panics");
        let started = now_ms();
        let config = self.config();
        let (limit, flows) = (self.limit.load(Ordering::Relaxed), self.flow_count());
        let pressure = Pressure::of(flows, limit, &config);
        if pressure.kill_all {
            UPCALL_FLOW_LIMIT_KILL.inc();
        }
        let last_round_ms = self.rounds.lock().expect("no holder of the figures panics").took_ms;
        let unwanted = self.dp.unwanted().into_iter().collect();
        let upto = self.changes.now();
        let pending = self.changes.pending(self.checked());
        let terms = Terms { now, pressure, last_round_ms, config, upto, pending, unwanted };
        let mut last = Last::default();
        for shard in 0..SHARDS {
            self.round_over(shard, &terms, &mut last);
        }
        self.checked.fetch_max(terms.upto.0, Ordering::AcqRel);
        self.sweep_strangers();
        self.send_asks(now);
        self.forget_lingering(now);
        let took_ms = (now_ms() - started).max(1);
        self.limit.store(adapt(limit, flows, took_ms, config.flow_limit), Ordering::Relaxed);
        let mut rounds = self.rounds.lock().expect("no holder of the figures panics");
        rounds.last_start_ms = now;
        rounds.took_ms = took_ms;
        rounds.avg_flows = usize::midpoint(rounds.avg_flows, flows);
        rounds.max_flows = rounds.max_flows.max(flows);
    }

    /// Whether a round is due: the period is over, or something has changed.
    #[must_use]
    pub fn is_due(&self, now: Msec) -> bool {
        let last = self.rounds.lock().expect("no holder of the figures panics").last_start_ms;
        !self.switches.paused.load(Ordering::Acquire)
            && (now - last >= self.config().max_revalidator_ms || self.changes.now().0 > self.checked.load(Ordering::Acquire))
    }

    fn round_over(&self, shard: usize, terms: &Terms, last: &mut Last) {
        let ukeys = self.ukeys.in_shard(shard);
        if ukeys.is_empty() {
            return;
        }
        let ufids: Vec<_> = ukeys.iter().map(|u| u.ufid).collect();
        let mut stats = Vec::with_capacity(ufids.len());
        self.dp.stats_of(&ufids, &mut stats);
        let world = self.world.read().expect("no holder of the world panics");
        let (mut doomed, mut till) = (Vec::new(), Till::default());
        let mut again = Again { world: &world, now: terms.now, last };
        for (ukey, stats) in ukeys.into_iter().zip(stats) {
            let mut inner = ukey.lock();
            // It may have been on its way there when all were asked for.
            let now_there = || self.dp.get(ukey.ufid).ok().map(|dump| dump.stats);
            let stats = stats.or_else(|| if inner.state == State::Operational { now_there() } else { None });
            let verdict = match (inner.state, stats) {
                (State::Visible | State::Gone, _) => Verdict::Keep,
                // Another thread is at it; this round may only end when it is gone from the datapath.
                (State::Evicted, _) => Verdict::Delete(Reason::Purge),
                (State::Operational, None) => Verdict::Delete(Reason::Missing),
                (State::Operational, Some(stats)) => {
                    till.take(&mut inner, &stats, &world);
                    self.judge(&ukey, &mut inner, &stats, terms, &mut again)
                }
            };
            if let Verdict::Delete(reason) = verdict {
                reason.count();
                // Whoever finds it on its way out takes it for paid up to here.
                std::mem::take(&mut till).pay(&world);
                inner.state = State::Evicted;
                drop(inner);
                doomed.push(ukey);
            }
        }
        till.pay(&world);
        self.delete(&doomed, &world, terms.now);
    }

    fn judge(&self, ukey: &Arc<Ukey>, inner: &mut Inner, stats: &FlowStats, terms: &Terms, again: &mut Again<'_>) -> Verdict {
        let used_ms = if stats.used_ms == 0 { ukey.created_ms } else { stats.used_ms };
        if terms.pressure.is_idle(used_ms, terms.now) || ukey.short_lived && terms.now - used_ms > SHORT_LIFE_MS {
            return Verdict::Delete(Reason::Idle);
        }
        if terms.unwanted.contains(&ukey.ufid) {
            return Verdict::Delete(Reason::Unwanted);
        }
        let since = self.right_as_of(inner);
        if since >= terms.upto
            || !terms.pending.concerns(&inner.deps, ukey.as_ref())
            || !self.changes.concerns(since, &inner.deps, ukey.as_ref())
        {
            return Verdict::Keep;
        }
        if !worth_revalidating(stats.packets, terms.now - used_ms, terms.last_round_ms, &terms.config) {
            return Verdict::Delete(Reason::Expensive);
        }
        self.renew(ukey, inner, again)
    }

    /// Translates a megaflow again and replaces its actions where they differ, until nothing that concerns it has changed meanwhile
    /// (see the parent, 2). The ukey is locked by the caller.
    fn renew(&self, ukey: &Arc<Ukey>, inner: &mut Inner, again: &mut Again<'_>) -> Verdict {
        for _ in 0..RENEWALS_MAX {
            let verdict = self.renew_once(ukey, inner, again);
            if verdict != Verdict::Keep || !self.changes.concerns(inner.checked, &inner.deps, ukey.as_ref()) {
                return verdict;
            }
        }
        Verdict::Delete(Reason::Changed)
    }

    fn renew_once(&self, ukey: &Arc<Ukey>, inner: &mut Inner, again: &mut Again<'_>) -> Verdict {
        let Again { world, now, last } = again;
        let (world, now) = (*world, *now);
        REVALIDATED.inc();
        let checked = self.changes.now();
        let (key, mask) = (ukey.key(), ukey.mask());
        let Some(at) = self.locate(world, &key) else {
            return Verdict::Delete(Reason::Changed);
        };
        let mut t = self.translator.translate(Request {
            world,
            bridge: at.bridge,
            in_port: at.in_port,
            key: &at.key,
            packet: None,
            now,
            purpose: Purpose::Revalidation,
        });
        mask_to_datapath(world, &at, &key, &mut t.mask);
        // Bits that decide now but are not in the mask: the megaflow is too wide.
        if t.error.is_some() || t.once || !t.mask.is_subset_of(&mask) {
            self.linger(t.recircs, now);
            return Verdict::Delete(Reason::Changed);
        }
        let actions = installed(t.slow, &last.actions(t.actions), at.bridge, at.in_port);
        if actions != inner.actions {
            let put = FlowPut { flow: ukey.megaflow(Arc::clone(&actions)), mode: PutMode::Modify, clear_stats: false };
            let result = self.dp.put(std::slice::from_ref(&put)).pop();
            self.mutations.fetch_add(1, Ordering::AcqRel);
            if !matches!(result, Some(Ok(()))) {
                self.linger(t.recircs, now);
                return Verdict::Delete(Reason::Changed);
            }
        }
        inner.actions = actions;
        self.ukeys.refile(ukey, inner, last.deps(t.deps));
        inner.credits = last.credits(t.credits);
        inner.slow = t.slow;
        let mut old = std::mem::replace(&mut inner.recircs, t.recircs);
        old.retain(|held| !inner.recircs.iter().any(|now| Arc::ptr_eq(held, now)));
        self.linger(old, now);
        inner.checked = checked;
        Verdict::Keep
    }

    /// Deletes megaflows whose ukeys are marked `Evicted`, pays their last packets, and forgets them, in this order. Those that another thread
    /// is at are gone and paid for, too, when this returns (see the parent, 3).
    pub(super) fn delete(&self, doomed: &[Arc<Ukey>], world: &World, now: Msec) {
        for batch in doomed.chunks(DELETE_BATCH) {
            let _one = self.deleting.lock().expect("nobody who deletes panics");
            let batch: Vec<_> = batch.iter().filter(|ukey| ukey.lock().state == State::Evicted).collect();
            if batch.is_empty() {
                continue;
            }
            let ufids: Vec<_> = batch.iter().map(|u| u.ufid).collect();
            let results = self.dp.del(&ufids);
            self.mutations.fetch_add(1, Ordering::AcqRel);
            for (ukey, result) in batch.into_iter().zip(results) {
                let mut inner = ukey.lock();
                inner.state = State::Gone;
                if let Ok(stats) = result {
                    pay_up(&mut inner, &stats, world);
                }
                inner.credits.iter().for_each(|credit| credit.end(world));
                self.let_go(std::mem::take(&mut inner.recircs), now);
                if self.ukeys.remove(ukey, &inner) {
                    self.flows.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Returns when no packet can any longer be forwarded by a megaflow that a change completed before the call made stale.
    pub fn settle(&self) {
        let upto = self.changes.now();
        let since = self.checked();
        if since < upto {
            // Without megaflows there is nothing to look at, and a barrier behind each of many flow-mods should cost no more.
            if !self.ukeys.is_empty_now() {
                let (pending, mut last) = (self.changes.pending(since), Last::default());
                let mut over = |ukeys: &[Arc<Ukey>]| self.settle_over(ukeys, &pending, &mut last);
                match self.ukeys.concerned(&pending) {
                    Concerned::All => (0..SHARDS).for_each(|shard| over(&self.ukeys.in_shard(shard))),
                    Concerned::These(ukeys) => ukeys.chunks(SETTLE_BATCH).for_each(over),
                }
            }
            self.checked.fetch_max(upto.0, Ordering::AcqRel);
        }
        let mutations = self.mutations.load(Ordering::Acquire);
        if mutations > self.quiesced.load(Ordering::Acquire) {
            self.dp.quiesce();
            self.quiesced.fetch_max(mutations, Ordering::AcqRel);
        }
    }

    /// Whether `settle` would have nothing to wait for just now.
    #[must_use]
    pub fn settles_at_once(&self) -> bool {
        let quiet = self.mutations.load(Ordering::Acquire) == self.quiesced.load(Ordering::Acquire);
        quiet && (self.checked() == self.changes.now() || self.ukeys.is_empty_now())
    }

    fn settle_over(&self, ukeys: &[Arc<Ukey>], pending: &Pending, last: &mut Last) {
        if ukeys.is_empty() {
            return;
        }
        let now = now_ms();
        // Asked in one go, and before: figures that are older than those paid for are passed over.
        let mut stats = Vec::with_capacity(ukeys.len());
        self.dp.stats_of(&ukeys.iter().map(|u| u.ufid).collect::<Vec<_>>(), &mut stats);
        let world = self.world.read().expect("no holder of the world panics");
        let mut doomed = Vec::new();
        let mut again = Again { world: &world, now, last };
        for (ukey, stats) in ukeys.iter().zip(stats) {
            let mut inner = ukey.lock();
            match inner.state {
                State::Visible | State::Gone => continue,
                // Another thread is at it; it is gone from the datapath when we have deleted it as well.
                State::Evicted => {}
                State::Operational => {
                    if !pending.concerns(&inner.deps, ukey.as_ref())
                        || !self.changes.concerns(self.right_as_of(&inner), &inner.deps, ukey.as_ref())
                    {
                        continue;
                    }
                    if let Some(stats) = &stats {
                        pay_up(&mut inner, stats, &world);
                    }
                    match self.renew(ukey, &mut inner, &mut again) {
                        Verdict::Keep => continue,
                        Verdict::Delete(reason) => reason.count(),
                    }
                    inner.state = State::Evicted;
                }
            }
            drop(inner);
            doomed.push(Arc::clone(ukey));
        }
        self.delete(&doomed, &world, now);
    }

    /// Since when changes can have made a megaflow doubtful. Whoever publishes `checked` has looked at every ukey that was in the
    /// map, and one that came later was compared with all changes before then as it came (see the parent, 2).
    fn right_as_of(&self, inner: &Inner) -> Revision {
        inner.checked.max(self.checked())
    }

    /// Up to which revision every megaflow has been checked; the log may forget what is older.
    #[must_use]
    pub fn checked(&self) -> Revision {
        Revision(self.checked.load(Ordering::Acquire))
    }

    /// Deletes every megaflow, also those that are not ours; every packet is paid for afterwards.
    pub fn purge(&self) {
        // A round pays for many megaflows at once, some time after it has written down that they are paid for.
        let _no_round = self.round.lock().expect("no round panics");
        let now = now_ms();
        for shard in 0..SHARDS {
            let world = self.world.read().expect("no holder of the world panics");
            let ukeys = self.ukeys.in_shard(shard);
            for ukey in &ukeys {
                let mut inner = ukey.lock();
                if inner.state == State::Operational {
                    inner.state = State::Evicted;
                    Reason::Purge.count();
                }
            }
            self.delete(&ukeys, &world, now);
        }
        self.delete_strangers();
    }

    /// Deletes what stands in the datapath without a ukey, at once. While nobody else deletes, there is no doubt: a ukey is in the map before its
    /// megaflow is put, and leaves it under this lock.
    fn delete_strangers(&self) {
        let _one = self.deleting.lock().expect("nobody who deletes panics");
        let mut strangers = Vec::new();
        self.dp.dump(&mut |dump| {
            if self.ukeys.find(dump.flow.ufid).is_none() {
                strangers.push(dump.flow.ufid);
            }
            true
        });
        for batch in strangers.chunks(DELETE_BATCH) {
            self.dp.del(batch);
        }
        self.mutations.fetch_add(1, Ordering::AcqRel);
    }

    /// Deletes megaflows that stand in the datapath without a ukey: left from an earlier life, or put there by others. One that
    /// is on its way into the map looks the same, so a flow must be seen so in two rounds.
    pub(super) fn sweep_strangers(&self) {
        // In this order: ours are counted before they are put, so that a handler at work does not look like a stranger. To look for
        // one is to walk over all megaflows.
        let there = self.dp.stats().flows;
        let known = u64::try_from(self.flow_count()).unwrap_or(u64::MAX);
        let mut before = self.strangers.lock().expect("no holder of the strangers panics");
        if there <= known {
            before.clear();
            return;
        }
        let mut strangers = Set::default();
        self.dp.dump(&mut |dump| {
            if self.ukeys.find(dump.flow.ufid).is_none() {
                strangers.insert(dump.flow.ufid);
            }
            true
        });
        let (twice, once): (Vec<_>, Vec<_>) = strangers.into_iter().partition(|u| before.contains(u));
        *before = once.into_iter().collect();
        drop(before);
        for batch in twice.chunks(DELETE_BATCH) {
            self.dp.del(batch);
            self.mutations.fetch_add(1, Ordering::AcqRel);
            DUMPED_NEW_FLOW.add(batch.len() as u64);
        }
    }
}

/// Pays for what the datapath has counted since the last time. Figures older than those paid for are ignored.
fn pay_up(inner: &mut Inner, stats: &FlowStats, world: &World) {
    if let Some(payment) = settle_up(inner, stats) {
        pay(&inner.credits, &payment, world);
    }
}

/// What has been counted since the last time, which counts as paid for from now on.
fn settle_up(inner: &mut Inner, stats: &FlowStats) -> Option<Payment> {
    let packets = stats.packets.checked_sub(inner.paid.packets).filter(|p| *p > 0)?;
    let bytes = stats.bytes.saturating_sub(inner.paid.bytes);
    inner.paid = *stats;
    Some(Payment { packets, bytes, used_ms: stats.used_ms, tcp_flags: stats.tcp_flags })
}

/// Payments of megaflows that share their credits, made as one: the counters of a rule are not written for each of its megaflows.
#[derive(Default)]
struct Till(SmallVec<[(Arc<Vec<Credit>>, Payment); TILL_MAX]>);

impl Till {
    fn take(&mut self, inner: &mut Inner, stats: &FlowStats, world: &World) {
        let Some(payment) = settle_up(inner, stats) else { return };
        if let Some((_, sum)) = self.0.iter_mut().find(|(credits, _)| Arc::ptr_eq(credits, &inner.credits)) {
            sum.packets += payment.packets;
            sum.bytes += payment.bytes;
            sum.used_ms = sum.used_ms.max(payment.used_ms);
            sum.tcp_flags |= payment.tcp_flags;
        } else if self.0.len() < TILL_MAX && Arc::strong_count(&inner.credits) > 1 {
            self.0.push((Arc::clone(&inner.credits), payment));
        } else {
            pay(&inner.credits, &payment, world);
        }
    }

    fn pay(self, world: &World) {
        self.0.iter().for_each(|(credits, sum)| pay(credits, sum, world));
    }
}
