//! Asks a device by netlink what its hardware takes: the rules of `crate::probe`, one after another, each gone before the next comes.
//!
//! What enters: the devices to ask with. What leaves: what is lacking, with the driver's words. Neighbours: `client`, `crate::probe`.
//!
//! Nothing of anybody else's is touched: each rule is created exclusively, at a preference behind all of ours (or, on a device that knows low
//! ones only, at the last of those), and only what was created is deleted. It bears our mark, so that a sweep finds it if this program ends in between.

use super::answer::Answer;
use super::attributes::Writer;
use super::client::{MAGIC, Netlink, Tc, judge};
use super::numbers::errno::{EINVAL, ENODEV, ENOENT, ENOTSUPP, EOPNOTSUPP};
use super::preferences::LOW_MAX;
use super::read::filter;
use super::write::{create, delete};
use super::{Devices, FilterId, matches};
use crate::hardware::HardwareError;
use crate::probe::{Bench, Lacks, questions};
use crate::refusal::{Reason, Refusal};
use crate::rule::Rule;

/// Where the first question stands; each has a preference of its own, as their protocols differ.
const PRIO: u16 = 0x8000;
const COOKIE: [u8; 16] = {
    let mut cookie = *b"0000000000000000";
    let mut at = 0;
    while at < MAGIC.len() {
        cookie[at] = MAGIC[at];
        at += 1;
    }
    cookie
};

/// What became of a question.
enum Answered {
    Taken,
    /// Plainly refused, or taken in another way than asked.
    Refused(String),
    /// Something else was in the way: a full table, another's filter at that place, a driver that is busy.
    Open,
}

impl<N: Netlink, D: Devices> Tc<N, D> {
    /// What a port lacks. `None` if it does not even take a rule that only sends packets on, or there is no second port to send to: then
    /// nothing is known of it.
    ///
    /// # Errors
    /// If the back end does not answer, or a rule could not be taken out again: the device has to be swept.
    pub fn probe(&self, bench: &Bench) -> Result<Option<Lacks>, HardwareError> {
        let mut lacks = Lacks::default();
        let asked = questions(bench);
        if bench.port.is_some() && asked.first().is_none_or(|(feature, _)| feature.is_some()) {
            return Ok(None);
        }
        let mut low = None;
        for (prio, (feature, rule)) in (PRIO..).zip(&asked) {
            match (self.ask_where(bench, &mut low, prio, rule)?, feature) {
                (Answered::Taken, _) | (Answered::Open, Some(_)) => {}
                (Answered::Refused(words), Some(feature)) => lacks.add(*feature, words),
                (Answered::Refused(_) | Answered::Open, None) => return Ok(None),
            }
        }
        lacks.low = low == Some(true);
        Ok(Some(lacks))
    }

    /// Asks where rules are taken, which the first that is taken shows.
    fn ask_where(&self, bench: &Bench, low: &mut Option<bool>, prio: u16, rule: &Rule) -> Result<Answered, HardwareError> {
        let answered = self.ask(bench, if *low == Some(true) { LOW_MAX } else { prio }, rule)?;
        match (&answered, *low) {
            (Answered::Taken, None) => *low = Some(false),
            (Answered::Refused(_), None) => {
                let second = self.ask(bench, LOW_MAX, rule)?;
                if matches!(second, Answered::Taken) {
                    *low = Some(true);
                    return Ok(second);
                }
            }
            (Answered::Taken | Answered::Refused(_), Some(_)) | (Answered::Open, _) => {}
        }
        Ok(answered)
    }

    fn ask(&self, bench: &Bench, prio: u16, rule: &Rule) -> Result<Answered, HardwareError> {
        let Some(hook) = bench.hook(rule.port) else { return Ok(Answered::Open) };
        let id = FilterId { hook, chain: 0, prio, handle: 1, protocol: matches::protocol(&rule.link) };
        let (mut request, sequence) = (Writer::default(), self.sequence());
        if create(&mut request, sequence, id, rule, &COOKIE, bench).is_err() {
            return Ok(Answered::Open);
        }
        let reply = self.deliver(&request, sequence).map_err(|e| HardwareError::List(e.to_string()))?;
        let answer = reply.answer();
        match answer.error {
            0 => {
                self.unask(id)?;
                Ok(read(&answer, rule, bench).map_or_else(|why| Answered::Refused(why.to_string()), |()| Answered::Taken))
            }
            EINVAL | EOPNOTSUPP | ENOTSUPP => Ok(Answered::Refused(answer.said())),
            _ => Ok(Answered::Open),
        }
    }

    fn unask(&self, id: FilterId) -> Result<(), HardwareError> {
        let reply = self.send(self.sequence(), |out, n| delete(out, n, id));
        let reply = reply.map_err(|e| HardwareError::Remove(e.to_string()))?;
        let answer = reply.answer();
        if matches!(answer.error, 0 | ENOENT | ENODEV) { Ok(()) } else { Err(HardwareError::Remove(answer.said())) }
    }
}

/// Whether the echo is what was asked for, in hardware.
fn read(answer: &Answer<'_>, rule: &Rule, bench: &Bench) -> Result<(), Refusal> {
    let no = |what: &str| Refusal::new(Reason::Echo, what);
    let echo = answer.messages.first().ok_or_else(|| no("no echo"))?;
    judge(&filter(echo, bench).map_err(|e| no(&e.to_string()))?, rule, bench.width(rule.port))
}
