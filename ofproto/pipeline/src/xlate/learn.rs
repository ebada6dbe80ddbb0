//! learn(...): a rule made from the packet.
//!
//! The rule is made when the translation is over: the packet does not meet what is learned from it (decision 0156). It is made again with
//! every payment of a megaflow that came of such a translation (`Credit::Relearn`): that refreshes it, or makes it anew if it has expired
//! meanwhile.

use super::Ctx;
use super::trace::Kind;
use crate::flow_mod::{self, LearnedRule};
use crate::world::{BridgeId, World};
use flow::Msec;
use flow::fields::Value;
use flow::key::{Key, Mask};
use flow::matching::Match;
use openflow::action::{Learn, LearnDst, LearnSrc, OfAction, SetForm, Subfield};
use openflow::{OfError, OfPort};
use std::fmt::Write;
use std::sync::Arc;

/// NX_LEARN_F_*
const SEND_FLOW_REM: u16 = 1;
const WRITE_RESULT: u16 = 4;

/// A rule that `learn` makes, ready to be made again.
#[derive(Debug)]
pub struct Learned {
    bridge: BridgeId,
    learn: Learn,
    key: Key,
    mask: Mask,
    actions: Vec<OfAction>,
}

impl Learned {
    /// Adds or refreshes the rule. Gives false when the limit of `learn` is reached.
    pub fn apply(&self, world: &World, now: Msec) -> Result<bool, OfError> {
        let rule = LearnedRule { learn: &self.learn, key: self.key, mask: self.mask, actions: self.actions.clone() };
        flow_mod::learn(world, self.bridge, rule, now)
    }
}

impl Learned {
    /// Whether `learn`'s limit leaves room for it beside those of the same translation.
    fn has_room(&self, world: &World, pending: &[Arc<Self>]) -> Result<bool, OfError> {
        let place = |l: &Self| (l.bridge, l.learn.table, l.learn.priority, l.key, l.mask);
        let others = pending.iter().filter(|l| {
            let counts = (l.bridge, l.learn.table, l.learn.cookie) == (self.bridge, self.learn.table, self.learn.cookie);
            counts && place(l) != place(self) && !l.is_there(world)
        });
        let room = flow_mod::may_learn(world, self.bridge, &self.learn, (&self.key, &self.mask), others.count())?;
        Ok(room || pending.iter().any(|l| place(l) == place(self)))
    }

    /// Whether the rule is in its table.
    fn is_there(&self, world: &World) -> bool {
        flow_mod::has_learned(world, self.bridge, &self.learn, (&self.key, &self.mask), &self.actions)
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
        let room = if self.side_effects {
            learned.has_room(self.world, &self.learned)
        } else {
            // Whether there is room for the rule is known when a packet asks for it.
            self.once |= learn.limit != 0 && !learned.is_there(self.world);
            Ok(true)
        };
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
            return;
        }
        if self.side_effects {
            self.learned.push(Arc::clone(&learned));
        }
        self.credits.push(crate::effects::Credit::Relearn(learned));
    }

    /// Makes the rules that the packet has taught, now that it has met those that were there before.
    pub(super) fn make_learned(&mut self) {
        for learned in std::mem::take(&mut self.learned) {
            if let Err(error) = learned.apply(self.world, self.now) {
                self.refuse_learned(error);
            }
        }
    }

    fn refuse_learned(&mut self, error: OfError) {
        self.report_error(format_args!("LEARN action execution failed ({}).", error.name()));
    }

    /// The rule that `learn` makes of this packet.
    fn learned(&self, learn: &Learn) -> Learned {
        let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
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
                LearnDst::Match(part) => self.learn_match((&mut key, &mut mask), part, value << part.ofs, ones << part.ofs),
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
        Learned { bridge: self.bridge.id, learn: learn.clone(), key, mask, actions }
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
