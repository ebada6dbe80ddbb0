//! learn(...): a rule made from the packet.

use super::Ctx;
use super::trace::Kind;
use flow::fields::Value;
use flow::key::Key;
use openflow::OfPort;
use openflow::action::{Learn, LearnDst, LearnSrc, OfAction};
use crate::flow_mod::{self, LearnedRule};

impl Ctx<'_> {
    pub(super) fn learn(&mut self, learn: &Learn) {
        // Everything that the rule is made of has decided, whether or not it is made now.
        let (mut key, mut mask) = (Key::ZERO, Key::ZERO);
        let mut actions = Vec::new();
        for spec in &learn.specs {
            let value = match &spec.src {
                LearnSrc::Field(part) => self.read(*part),
                LearnSrc::Immediate(value) => value.low(),
            };
            let ones = Value::ones(usize::from(spec.bits)).low();
            match spec.dst {
                LearnDst::Match(part) => {
                    let bits = ones << part.ofs;
                    let old = part.field.get(&key);
                    part.field.set(&mut key, old & !bits | value << part.ofs & bits);
                    let all = part.field.mask(&mask) | bits;
                    part.field.set_mask(&mut mask, all);
                }
                LearnDst::Load(part) => {
                    let bits = ones << part.ofs;
                    let load = Value::from_be_bytes(&(value << part.ofs & bits).to_be_bytes());
                    let mask = Value::from_be_bytes(&bits.to_be_bytes());
                    actions.push(OfAction::SetField { field: part.field, value: load, mask, form: openflow::action::SetForm::Load });
                }
                LearnDst::Output => {
                    let port = u32::try_from(value).unwrap_or(u32::MAX);
                    let port = OfPort::from_key(port.to_be_bytes());
                    let fits = !port.is_reserved()
                        || matches!(port, OfPort::IN_PORT | OfPort::FLOOD | OfPort::LOCAL | OfPort::ALL);
                    if fits {
                        actions.push(OfAction::Output { port, max_len: 0 });
                    }
                }
            }
        }
        if learn.fin_idle_timeout != 0 || learn.fin_hard_timeout != 0 {
            actions.insert(0, OfAction::FinTimeout { idle: learn.fin_idle_timeout, hard: learn.fin_hard_timeout });
        }
        if !self.side_effects {
            return;
        }
        let rule = LearnedRule { learn, key, mask, actions };
        match flow_mod::learn(self.world, self.bridge.id, rule, self.now) {
            Ok(learned) => {
                if let Some(dst) = learn.result_dst {
                    self.write(dst, u128::from(learned));
                }
                if !learned {
                    self.report(Kind::Detail, format_args!("Limit exceeded, learn failed"));
                }
            }
            Err(error) => {
                self.report(Kind::Error, format_args!("LEARN action execution failed ({}).", error.name()));
            }
        }
    }
}
