//! learn(...): a rule made from the packet.
//!
//! The rule is made when the translation is over: the packet does not meet what is learned from it (decision 0156). It is made again with
//! every payment of a megaflow that came of such a translation (`Credit::Relearn`): that refreshes it, or makes it anew if it has expired
//! meanwhile.

use super::trace::Kind;
use super::{Ctx, LEARNED_MAX};
use crate::effects::Credit;
use crate::flow_mod::{self, Journal, LearnedRule};
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::fields::Value;
use flow::key::{Key, Mask};
use flow::matching::Match;
use openflow::action::{Learn, LearnDst, LearnSrc, OfAction, SetForm, Subfield};
use openflow::{OfError, OfPort};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

flow::counters! {
    LEARN_TOO_MANY = "xlate_learn_too_many", "rules not learned because their packet had taught as many as one may";
    LEARN_LATE = "xlate_learn_late", "rules not learned because the room that they had been promised was gone when they were made";
}

/// NX_LEARN_F_*
const SEND_FLOW_REM: u16 = 1;
const WRITE_RESULT: u16 = 4;

/// A rule that `learn` makes, ready to be made again.
#[derive(Debug)]
pub struct Learned {
    pub(super) bridge: BridgeId,
    pub(super) learn: Learn,
    pub(super) key: Key,
    pub(super) mask: Mask,
    actions: Vec<OfAction>,
}

impl Learned {
    /// Adds or refreshes the rule. Gives false when the limit of `learn` is reached.
    pub fn apply(&self, world: &World, now: Msec, journal: &mut Journal) -> Result<bool, OfError> {
        flow_mod::learn(world, self.bridge, &self.rule(), now, journal)
    }

    fn rule(&self) -> LearnedRule<'_> {
        LearnedRule { learn: &self.learn, key: &self.key, mask: &self.mask, actions: &self.actions }
    }
}

impl Ctx<'_> {
    pub(super) fn learn(&mut self, learn: &Learn) {
        // Everything that the rule is made of has decided, whether or not it is made now.
        for spec in &learn.specs {
            if let LearnSrc::Field(part) = &spec.src {
                self.unwildcard(*part);
            }
        }
        if self.is_dry() {
            self.report(Kind::Warn, format_args!("suppressing side effects, so learn action ignored"));
            return;
        }
        let learned = Arc::new(self.learned(learn));
        self.report_learned(&learned);
        let room = self.gather_learned(learned);
        if learn.limit != 0 {
            self.deps.whole_table(self.bridge.id, learn.table);
        }
        let success = match room {
            Ok(success) => success,
            Err(error) => return self.refuse_learned(error),
        };
        if let Some(dst) = learn.result_dst.filter(|_| learn.flags & WRITE_RESULT != 0) {
            self.unwildcard(dst);
            self.write_unseen(dst, u128::from(success));
            self.report_value(dst);
        }
        if !success {
            self.report(Kind::Detail, format_args!("Limit exceeded, learn failed"));
        }
    }

    /// Sees to it that the rule is made. Gives false where there is no room for it.
    fn gather_learned(&mut self, learned: Arc<Learned>) -> Result<bool, OfError> {
        let (rule, limit) = (learned.rule(), learned.learn.limit);
        let pending = self.learned.in_place_of(&learned);
        if pending.is_some_and(|last| last.rule().is_same(&rule)) {
            return Ok(true);
        }
        // Who makes no rules need not know how many there will be.
        let asks = self.side_effects || limit != 0;
        let existing = if asks { flow_mod::in_place(self.world, learned.bridge, &rule) } else { None };
        let is_there = pending.is_none() && existing.as_ref().is_some_and(|old| rule.is(old));
        let old_cookie = pending.map(|last| last.learn.cookie).or_else(|| existing.map(|old| old.cookie.load(Ordering::Relaxed)));
        if self.side_effects {
            let coming = self.learned.more_beside(&learned);
            if !flow_mod::may_learn(self.world, learned.bridge, &learned.learn, is_there, coming)? {
                return Ok(false);
            }
        } else {
            // Whether there is room for the rule is known when a packet asks for it.
            self.once |= limit != 0 && !is_there;
        }
        if self.learned.len() >= LEARNED_MAX {
            LEARN_TOO_MANY.inc();
            return Ok(false);
        }
        self.learned.push(Arc::clone(&learned), old_cookie);
        // A packet-out is alone: it teaches once, in its place among what its connection asks for.
        if !self.in_packet_out {
            self.credits.push(Credit::Relearn(learned));
        }
        Ok(true)
    }

    /// Makes the rules that the packet has taught, now that it has met those that were there before. Of a packet-out, what has changed is
    /// given, to be told, or undone with the rest of a bundle; one that has failed is refused and teaches nothing.
    pub(super) fn make_learned(&mut self) -> Journal {
        let learned = self.learned.take();
        let mut journal = Journal::default();
        if !self.side_effects || self.in_packet_out && self.error.is_some() {
            return journal;
        }
        for learned in learned {
            match learned.apply(self.world, self.now, &mut journal) {
                Ok(true) => {}
                Ok(false) => LEARN_LATE.inc(),
                Err(error) => self.refuse_learned(error),
            }
        }
        if self.in_packet_out {
            return journal;
        }
        journal.commit(self.world);
        Journal::default()
    }

    fn refuse_learned(&mut self, error: OfError) {
        self.report_error(format_args!("LEARN action execution failed ({}).", error.name()));
    }

    /// The rule that `learn` makes of this packet.
    fn learned(&self, learn: &Learn) -> Learned {
        let mut matching = Match::default();
        let mut actions = Vec::new();
        if learn.fin_idle_timeout != 0 || learn.fin_hard_timeout != 0 {
            actions.push(OfAction::FinTimeout { idle: learn.fin_idle_timeout, hard: learn.fin_hard_timeout });
        }
        for spec in &learn.specs {
            let ones = Value::ones(usize::from(spec.bits)).low();
            let value = ones
                & match &spec.src {
                    LearnSrc::Field(part) => self.value(*part),
                    LearnSrc::Immediate(value) => value.low(),
                };
            match spec.dst {
                LearnDst::Match(part) => {
                    self.learn_match((&mut matching.key, &mut matching.mask), part, value << part.ofs, ones << part.ofs);
                    matching.imply_ethernet(part.field);
                }
                LearnDst::Load(part) => {
                    let mask = Value::from(ones << part.ofs);
                    let value = Value::from(value << part.ofs);
                    actions.push(OfAction::SetField { field: part.field, value, mask, form: SetForm::Load });
                }
                LearnDst::Output => {
                    let port = OfPort::from_key(u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
                    if !port.is_reserved() || matches!(port, OfPort::IN_PORT | OfPort::FLOOD | OfPort::LOCAL | OfPort::ALL) {
                        actions.push(OfAction::Output { port, max_len: 0 });
                    }
                }
            }
        }
        Learned { bridge: self.bridge.id, learn: learn.clone(), key: matching.key, mask: matching.mask, actions }
    }

    /// Adds some bits of a field to the match of the rule that is made.
    fn learn_match(&self, (key, mask): (&mut Key, &mut Mask), part: Subfield, value: u128, bits: u128) {
        let value = value & bits;
        match part.field.tun_metadata_number() {
            None => {
                let old = part.field.get(key);
                part.field.set(key, old & !bits | value);
                let all = part.field.mask(mask) | bits;
                part.field.set_mask(mask, all);
            }
            Some(n) => {
                // An option's place is the bridge's affair; that it is there is matched as well.
                let options = &self.bridge.tunnel_options;
                let bits = Value::from(bits);
                let old = options.get(key, n).without(&bits);
                options.set(key, n, &old.or(&Value::from(value)));
                let all = options.get(mask, n).or(&bits);
                options.set(mask, n, &all);
            }
        }
    }

    fn report_learned(&mut self, learned: &Learned) {
        let Some(trace) = &mut self.trace else { return };
        let learn = &learned.learn;
        let matching = flow::oftext::format_match(&Match::new(&learned.key, &learned.mask));
        let gap = if matching.is_empty() { "" } else { " " };
        let mut text = format!("table={} {matching}{gap}priority={}", learn.table.0, learn.priority);
        let numbers = [(" idle=", learn.idle_timeout), (" hard=", learn.hard_timeout)];
        let mut put = |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("writing to a string cannot fail");
        if learn.cookie != 0 {
            put(format_args!(" cookie={:#x}", learn.cookie));
        }
        for (name, number) in numbers.into_iter().filter(|(_, n)| *n != 0) {
            put(format_args!("{name}{number}"));
        }
        if learn.flags & SEND_FLOW_REM != 0 {
            put(format_args!(" send_flow_rem"));
        }
        put(format_args!(" actions={}", (trace.action_text)(&learned.actions)));
        trace.add(Kind::Detail, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Translation;
    use crate::scenario::{Scenario, config};
    use crate::xlate::{XlateIn, translate};

    /// What a packet by port 1 comes to.
    fn send(s: &Scenario) -> Translation {
        let world = s.slowpath.read_world();
        let mut key = Key::ZERO;
        key.in_port = OfPort(1).to_key();
        let bridge = world.bridge_named("br0").unwrap().id;
        translate(&world, XlateIn { packet: Some(&[0; 64]), side_effects: true, ..XlateIn::new(bridge, &key, 0) })
    }

    fn rules(s: &Scenario, table: usize) -> usize {
        s.slowpath.read_world().bridge_named("br0").unwrap().tables[table].len()
    }

    /// Two rules take each other's place again and again.
    #[test]
    fn a_packet_teaches_so_much_and_no_more() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        let pair = "learn(table=2,NXM_OF_ETH_SRC[]),learn(table=2,NXM_OF_ETH_SRC[],load:1->NXM_NX_REG0[])";
        let learns = vec![pair; 32].join(",");
        s.flow_mod("br0", &format!("table=1,actions={learns}")).unwrap();
        let passes = |n: usize| vec!["resubmit(,1)"; n].join(",");
        s.flow_mod("br0", &format!("actions={}", passes(LEARNED_MAX / 64))).unwrap();
        let relearns = |t: Translation| t.credits.iter().filter(|c| matches!(c, Credit::Relearn(_))).count();
        let before = LEARN_TOO_MANY.count();
        assert_eq!(relearns(send(&s)), LEARNED_MAX);
        assert_eq!(LEARN_TOO_MANY.count(), before);
        s.flow_mod("br0", &format!("actions={}", passes(LEARNED_MAX / 64 + 1))).unwrap();
        assert_eq!(relearns(send(&s)), LEARNED_MAX);
        // The last that was pending is the same as every other one that is learned now.
        assert_eq!(LEARN_TOO_MANY.count() - before, 32);
        assert_eq!(rules(&s, 2), 1);
    }

    #[test]
    fn a_rule_that_cannot_be_made_drops_no_packet() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.flow_mod("br0", "actions=learn(table=2,NXM_OF_ETH_SRC[]),output:1").unwrap();
        s.slowpath.write_world().bridges.values_mut().for_each(|b| b.tables[2].config.flow_limit = Some(0));
        let dropped = send(&s).dropped.unwrap();
        assert_eq!((&*dropped.reason, rules(&s, 2)), ("skipping output to input port", 0));
    }

    #[test]
    fn a_packet_out_that_fails_teaches_nothing() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.flow_mod("br0", "table=1,actions=learn(table=2,NXM_OF_ETH_SRC[]),resubmit(,1)").unwrap();
        let out = |actions: &str| {
            let (actions, _) = openflow::text::parse_actions(actions, &openflow::text::Names::default()).unwrap();
            let world = s.slowpath.read_world();
            let bridge = world.bridge_named("br0").unwrap().id;
            let more = XlateIn::new(bridge, &Key::ZERO, 0);
            let t = translate(&world, XlateIn { actions: Some(&actions), side_effects: true, in_packet_out: true, ..more });
            (t.error.is_some(), t.learned.changes.len())
        };
        assert_eq!((out("resubmit(,1)"), rules(&s, 2)), ((true, 0), 0));
        assert_eq!((out("learn(table=2,NXM_OF_ETH_SRC[])"), rules(&s, 2)), ((false, 1), 1));
    }

    /// A bundle that fails undoes that, too.
    #[test]
    fn what_a_packet_out_refreshes_can_be_undone() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.flow_mod("br0", "actions=learn(table=2,hard_timeout=9,NXM_OF_ETH_SRC[])").unwrap();
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap();
        let out = |now| {
            let more = XlateIn::new(bridge.id, &Key::ZERO, now);
            translate(&world, XlateIn { side_effects: true, in_packet_out: true, ..more }).learned
        };
        let modified_ms =
            || flow_mod::rules_of(&bridge.tables[2], |_| true).first().map(|r| r.life.modified_ms.load(Ordering::Relaxed));
        out(10).commit(&world);
        let again = out(20);
        assert_eq!(modified_ms(), Some(20));
        again.revert(&world);
        assert_eq!((modified_ms(), out(5).changes.len()), (Some(10), 0));
    }

    /// Between the question and the making another packet has taken the room.
    #[test]
    fn room_that_is_gone_when_the_rule_is_made() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        s.flow_mod("br0", "actions=learn(table=2,cookie=5,limit=1,NXM_OF_ETH_SRC[])").unwrap();
        let world = s.slowpath.read_world();
        let bridge = world.bridge_named("br0").unwrap().id;
        let key = |mac| Key { in_port: OfPort(1).to_key(), eth_src: [0, 0, 0, 0, 0, mac], ..Key::ZERO };
        let (first, second) = (key(1), key(2));
        let input = |key| XlateIn { packet: Some(&[0; 64]), side_effects: true, ..XlateIn::new(bridge, key, 0) };
        let (mut slow, mut quick) = (Ctx::new(&world, input(&first)), Ctx::new(&world, input(&second)));
        slow.run();
        quick.run();
        let before = LEARN_LATE.count();
        quick.make_learned();
        assert_eq!(LEARN_LATE.count(), before);
        slow.make_learned();
        assert_eq!(LEARN_LATE.count(), before + 1);
        drop(world);
        assert_eq!(rules(&s, 2), 1);
    }

    /// Seen in OVS 3.1 beside ours: to learn is to modify strictly.
    #[test]
    fn a_rule_that_is_there_is_modified() {
        let s = Scenario::new(&config(&["br0 p1@1"]));
        let learn = |flags: &str, to: u16| {
            let what = format!(
                "learn(table=2,cookie=5,priority=7,idle_timeout=50,hard_timeout=60{flags},NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"
            );
            s.flow_mod("br0", &format!("actions={what}")).unwrap();
            let world = s.slowpath.read_world();
            let key = Key { in_port: OfPort(u32::from(to)).to_key(), eth_src: [0, 0, 0, 0, 0, 1], ..Key::ZERO };
            let bridge = world.bridge_named("br0").unwrap().id;
            let now = flow::clock::now_ms() + 5000;
            let input = XlateIn { packet: Some(&[0; 64]), side_effects: true, ..XlateIn::new(bridge, &key, now) };
            assert_eq!(translate(&world, input).error, None);
            now
        };
        let by_hand =
            "table=2,cookie=9,priority=7,importance=3,reset_counts,dl_src=00:00:00:00:00:01,idle_timeout=30,actions=drop";
        s.flow_mod("br0", by_hand).unwrap();
        let rule = || {
            let world = s.slowpath.read_world();
            let found = flow_mod::rules_of(&world.bridge_named("br0").unwrap().tables[2], |_| true);
            assert_eq!(found.len(), 1, "it has the place of the one put by hand");
            Arc::clone(&found[0])
        };
        let before = rule();
        before.credit(3, 300, before.life.created_ms + 10);
        let last =
            |rule: &crate::rule::Rule| (rule.life.used_ms.load(Ordering::Relaxed), rule.life.modified_ms.load(Ordering::Relaxed));
        let now = learn(",send_flow_rem", 1);
        let after = rule();
        assert_eq!((after.cookie.load(Ordering::Relaxed), after.timeouts_s()), (5, (30, 0)));
        assert_eq!((after.flags, after.importance, &after.life.tally.read()), (before.flags, 3, &(3, 300)));
        assert_eq!((after.life.created_ms, last(&after)), (before.life.created_ms, (before.life.created_ms + 10, now)));
        assert_eq!(after.actions[..], [OfAction::Output { port: OfPort(1), max_len: 0 }]);
        // Once more the same: nothing but its age since it was modified becomes another.
        let now = learn("", 1);
        assert!(Arc::ptr_eq(&rule(), &after));
        assert_eq!(last(&after), (before.life.created_ms + 10, now));
    }
}
