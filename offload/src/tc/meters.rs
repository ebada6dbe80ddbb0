//! Police actions that stand by themselves: one for each meter that rules of a datapath name, made before the first of them and removed
//! after the last.
//!
//! What enters: meters with their limits. What leaves: `RTM_NEWACTION`, `RTM_DELACTION` and `RTM_GETACTION`; counters; what was refused and
//! why. Neighbours: `acts` (the options of the action), `client`.
//!
//! # What holds
//!
//! - An action is made exclusively, only in hardware (`skip_sw`), and bears our mark; one of somebody else's at that index refuses ours. Only what
//!   was made so is changed and removed.
//! - What comes back is to be the limit that was asked for, in hardware; otherwise the action is removed and counts as refused.
//! - A filter never gives its cookie to a shared action: that would be the action's from then on.

use super::Devices;
use super::acts::{kind_of, put_meter, read_meter};
use super::answer::Answer;
use super::attributes::{Attribute, NESTED, ReadError, Writer, attributes, find};
use super::client::{MAGIC, Netlink, Tc, messages};
use super::numbers::errno::{EEXIST, ENOENT, EPERM};
use super::numbers::{LARGE_DUMP, RTM_DELACTION, RTM_GETACTION, RTM_NEWACTION, TCA_ACT_TAB, TCA_ROOT_FLAGS, act};
use super::write::{F_ACK, F_CREATE, F_DUMP, F_ECHO, F_EXCL, F_REPLACE, F_REQUEST, HEADER, TCAMSG, close, open};
use crate::hardware::{Found, HardwareError, MeterCounts};
use crate::meters::Limit;
use crate::refusal::{Reason, Refusal};
use std::time::Duration;

const KIND: &str = "police";
/// How often, and after how long, an action that filters still name is tried again.
const TURNS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// A police action, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Police {
    pub index: u32,
    pub limit: Limit,
    pub cookie: Vec<u8>,
    /// In how many devices it is.
    pub in_hw_count: u32,
    pub counts: MeterCounts,
}

/// Appends a message that makes an action, or changes the limit of one that is there. `flags` are `act::SKIP_*`.
pub fn make(out: &mut Writer, sequence: u32, index: u32, limit: &Limit, flags: u32, change: bool) {
    let how = if change { F_REPLACE } else { F_EXCL };
    message(out, RTM_NEWACTION, F_REQUEST | F_ACK | F_ECHO | F_CREATE | how, sequence, |out| {
        let table = out.nest(TCA_ACT_TAB);
        let one = out.nest(1);
        out.put_text(act::KIND, KIND);
        let options = out.nest(act::OPTIONS | NESTED);
        put_meter(out, index, limit, true);
        out.end(options);
        out.put(act::COOKIE, &cookie(index));
        out.put(act::FLAGS, [flags.to_ne_bytes(), flags.to_ne_bytes()].as_flattened());
        out.end(one);
        out.end(table);
    });
}

/// Appends a message that removes an action; the kernel tells its last counters.
pub fn remove(out: &mut Writer, sequence: u32, index: u32) {
    message(out, RTM_DELACTION, F_REQUEST | F_ACK | F_ECHO, sequence, |out| {
        let table = out.nest(TCA_ACT_TAB);
        let one = out.nest(1);
        out.put_text(act::KIND, KIND);
        out.put_u32(act::INDEX, index);
        out.end(one);
        out.end(table);
    });
}

/// Appends a message that asks for all police actions there are.
pub fn list(out: &mut Writer, sequence: u32) {
    message(out, RTM_GETACTION, F_REQUEST | F_DUMP, sequence, |out| {
        let table = out.nest(TCA_ACT_TAB);
        let one = out.nest(1);
        out.put_text(act::KIND, KIND);
        out.end(one);
        out.end(table);
        out.put(TCA_ROOT_FLAGS, [LARGE_DUMP.to_ne_bytes(), LARGE_DUMP.to_ne_bytes()].as_flattened());
    });
}

/// Appends a message that shows actions, as the kernel does.
pub(crate) fn show(out: &mut Writer, kind: u16, sequence: u32, all: &[Police]) {
    message(out, kind, 0, sequence, |out| {
        let table = out.nest(TCA_ACT_TAB);
        for (order, police) in (1..).zip(all) {
            let one = out.nest(order);
            out.put_text(act::KIND, KIND);
            let stats = out.nest(act::STATS);
            let MeterCounts { packets, bytes, dropped } = police.counts;
            let few = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_ne_bytes();
            out.put(act::STATS_BASIC, &[&bytes.to_ne_bytes()[..], &few(packets), &[0; 4]].concat());
            out.put(act::STATS_PACKETS64, &packets.to_ne_bytes());
            out.put(act::STATS_QUEUE, &[&[0; 8][..], &few(dropped), &[0; 8]].concat());
            out.end(stats);
            let options = out.nest(act::OPTIONS | NESTED);
            put_meter(out, police.index, &police.limit, false);
            out.end(options);
            out.put(act::COOKIE, &police.cookie);
            out.put_u32(act::IN_HW_COUNT, police.in_hw_count);
            out.end(one);
        }
        out.end(table);
    });
}

fn message(out: &mut Writer, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Writer)) {
    let start = open(out, kind, flags, sequence);
    out.bytes.extend_from_slice(&[0; TCAMSG]);
    body(out);
    close(out, start);
}

fn cookie(index: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&MAGIC);
    out[4..].copy_from_slice(&index.to_be_bytes());
    out
}

/// The police actions of a message, those whose limit is one that a meter may have.
///
/// # Errors
/// For a message that is cut short.
pub fn read(bytes: &[u8]) -> Result<Vec<Police>, ReadError> {
    let list = bytes.get(HEADER + TCAMSG..).ok_or(ReadError::Missing("the actions of a message"))?;
    let Some(table) = find(&attributes(list)?, TCA_ACT_TAB) else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for order in table.nested()? {
        let parts = order.nested()?;
        if kind_of(&parts) != KIND {
            continue;
        }
        let cookie = find(&parts, act::COOKIE).map_or_else(Vec::new, |c| c.payload.to_vec());
        let in_hw_count = find(&parts, act::IN_HW_COUNT).map_or(Ok(0), Attribute::u32)?;
        // Somebody else's may be of any form, and is none of a meter.
        if let Ok((index, limit, counts)) = read_meter(&parts) {
            out.push(Police { index, limit, cookie, in_hw_count, counts });
        }
    }
    Ok(out)
}

/// The action that an answer shows.
fn shown(answer: &Answer<'_>) -> Option<Police> {
    read(answer.messages.first()?).ok()?.pop()
}

impl<N: Netlink, D: Devices> Tc<N, D> {
    /// Makes the action of a meter, or changes its limit.
    ///
    /// # Errors
    /// The reason, in the driver's words where it gave any. The meter is then as it was before.
    pub fn put_meter(&self, meter: u32, limit: Limit) -> Result<(), Refusal> {
        let index = self.devices().police(meter);
        let change = self.has_meter(meter);
        let no = |what: String| Refusal::new(Reason::Driver, format!("meter({meter}): {what}"));
        let reply = self.send(self.sequence(), |out, n| make(out, n, index, &limit, act::SKIP_SW, change));
        let reply = reply.map_err(|e| no(e.to_string()))?;
        let answer = reply.answer();
        // One of ours whose answer was lost, or of an earlier life, is none that anybody needs.
        if answer.error == EEXIST && !change && self.sweep_meters().is_ok_and(|swept| swept > 0) {
            return self.put_meter(meter, limit);
        }
        if answer.error != 0 {
            return Err(no(answer.said()));
        }
        let echo = shown(&answer);
        let right = |police: &Police| police.index == index && police.limit == limit && police.in_hw_count > 0;
        self.know_meter(meter, true);
        if echo.as_ref().is_some_and(right) {
            return Ok(());
        }
        // Where rules name it, it goes with them.
        let _ = self.take_meter(meter);
        Err(Refusal::new(Reason::Echo, format!("meter({meter})")))
    }

    /// Removes the action of a meter; its last counters.
    ///
    /// # Errors
    /// If it is still there, as it is while a rule names it.
    pub fn take_meter(&self, meter: u32) -> Result<MeterCounts, HardwareError> {
        if !self.has_meter(meter) {
            return Ok(MeterCounts::default());
        }
        let last = self.remove_police(self.devices().police(meter))?;
        let all = |last: MeterCounts| MeterCounts { dropped: self.dropped(meter, last.dropped).unwrap_or_default(), ..last };
        // One that somebody removed tells nothing any more.
        let counts = last.map_or_else(MeterCounts::default, all);
        self.know_meter(meter, false);
        Ok(counts)
    }

    /// Its last counters, if it was there. The kernel lets go of it a moment after the last filter that names it has gone, which is waited for.
    fn remove_police(&self, index: u32) -> Result<Option<MeterCounts>, HardwareError> {
        let mut said = String::new();
        for turn in 0..TURNS_MAX {
            if turn > 0 {
                std::thread::sleep(PAUSE);
            }
            let reply = self.send(self.sequence(), |out, n| remove(out, n, index));
            let reply = reply.map_err(|e| HardwareError::Remove(e.to_string()))?;
            let answer = reply.answer();
            if matches!(answer.error, 0 | ENOENT) {
                return Ok(shown(&answer).map(|police| police.counts));
            }
            said = answer.said();
            if answer.error != EPERM {
                break;
            }
        }
        Err(HardwareError::Remove(said))
    }

    /// The counters of every meter that was put there and still is. `None` if they cannot be asked for now.
    pub fn meters(&self) -> Option<Vec<(u32, MeterCounts)>> {
        let known = |p: Police| {
            let meter = self.devices().meter(p.index)?;
            Some((meter, MeterCounts { dropped: self.dropped(meter, p.counts.dropped)?, ..p.counts }))
        };
        Some(self.all_police().ok()?.into_iter().filter_map(known).collect())
    }

    /// What there is of our actions, and what is lacking. `right` says what limit a meter should have.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn audit_meters(&self, right: &dyn Fn(u32) -> Option<Limit>) -> Result<Vec<(u32, Option<Found>)>, HardwareError> {
        let mut missing: Vec<u32> = self.table().meters.keys().copied().collect();
        let mut out = Vec::new();
        for police in self.all_police()? {
            let Some(meter) = self.devices().meter(police.index) else { continue };
            let known = self.has_meter(meter);
            missing.retain(|m| *m != meter);
            let found = match right(meter).filter(|_| known) {
                None if police.cookie == cookie(police.index) => Found::Stray,
                None => continue,
                Some(limit) if limit != police.limit || police.cookie != cookie(police.index) => Found::Other,
                Some(_) if police.in_hw_count == 0 => Found::NotInHardware,
                Some(_) => Found::Right,
            };
            out.push((meter, Some(found)));
        }
        out.extend(missing.into_iter().map(|meter| (meter, None)));
        out.sort_unstable_by_key(|(meter, _)| *meter);
        Ok(out)
    }

    /// Removes actions that bear our mark and are of no meter that we know. One that a filter of somebody else's names stays.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn sweep_meters(&self) -> Result<usize, HardwareError> {
        let stray = |p: &Police| p.cookie == cookie(p.index) && self.devices().meter(p.index).is_some_and(|m| !self.has_meter(m));
        let strays = self.all_police()?.into_iter().filter(stray);
        Ok(strays.filter(|p| self.remove_police(p.index).is_ok()).count())
    }

    fn all_police(&self) -> Result<Vec<Police>, HardwareError> {
        let bytes = self.list_by(self.sequence(), list)?;
        Ok(messages(&bytes).filter_map(|m| read(m).ok()).flatten().collect())
    }
}
