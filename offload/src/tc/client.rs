//! The `tc` back end: rules put into a device's table by netlink, each verified by what comes back.
//!
//! What enters: plans and names. What leaves: messages to whatever answers netlink (the kernel, or the model); what was installed, or
//! the reason why not. Neighbours: `write`, `read`, `answer`, `table`, `tiered`.
//!
//! # What holds
//!
//! - A filter that was taken but is not in hardware, or in fewer devices than its hook has, or that reads back as another rule, is
//!   removed before `install` returns: it counts as refused.
//! - If that removal fails, the port is dirty: nothing more is installed on it until `sweep` has found it clean.
//! - Every filter's first action of its own has a cookie that begins with `MAGIC`. `sweep` removes those, and touches no others.
//! - The queueing discipline that filters hang from (clsact, or an ingress of somebody else's) is made where there is none, and never
//!   removed: others may hang their filters from it.
//! - Requests go in batches: one message of the socket carries up to `BATCH_MAX` of them.

use super::answer::{Answer, Reply, answers};
use super::attributes::{Writer, attributes, find};
use super::numbers::errno::{EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC};
use super::numbers::{TCA_OPTIONS, act, flower};
use super::preferences::Masks;
use super::read::{Filter, Message, filter, glance, message};
use super::table::{Place, Table};
use super::write::{HEADER, TCMSG, clsact, create, delete, dump, query};
use super::{Devices, FilterId, Hook, acts};
use crate::hardware::{Found, HardwareError, HwStats, Sight};
use crate::refusal::{Reason, Refusal};
use crate::rule::Rule;
use flow::hash::{Map, Set};
use flow::{DpPort, Ufid};
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How cookies of ours begin.
pub const MAGIC: [u8; 4] = *b"FRRL";
/// Requests that are sent together.
const BATCH_MAX: usize = 64;
/// Most rules are no longer than this.
const RULE_BYTES: usize = 512;

/// Something that answers route netlink.
pub trait Netlink: Send + Sync + fmt::Debug {
    /// Sends requests, one message after another; gives the bytes of all messages of the answers, up to and with each one's
    /// acknowledgement or end of its dump.
    ///
    /// # Errors
    /// Of the socket, not of the requests.
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>>;

    /// What others did since the last call, as it is told without a request: messages, but for those that `talk` led to. Never blocks. Whoever tells
    /// nothing by itself says so by default.
    ///
    /// # Errors
    /// Of the socket.
    fn news(&self) -> io::Result<News> {
        Ok(News::default())
    }
}

/// Messages that nobody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    pub bytes: Vec<u8>,
    /// Some were lost.
    pub overrun: bool,
}

/// Where a rule is, if it is.
type Where = Option<(FilterId, DpPort)>;

/// The back end.
#[derive(Debug)]
pub struct Tc<N, D> {
    link: N,
    devices: D,
    table: Mutex<Table>,
}

impl<N: Netlink, D: Devices> Tc<N, D> {
    /// Over something that answers, with the ports' devices.
    pub fn new(link: N, devices: D) -> Self {
        Self { link, devices, table: Mutex::default() }
    }

    /// What answers.
    pub const fn link(&self) -> &N {
        &self.link
    }

    /// The ports' devices.
    pub const fn devices(&self) -> &D {
        &self.devices
    }

    /// The number of a single request.
    pub(super) fn sequence(&self) -> u32 {
        self.table().sequences(1)
    }

    /// Sends one request, which `write` makes with its number; what came back.
    pub(super) fn send(&self, sequence: u32, write: impl FnOnce(&mut Writer, u32)) -> io::Result<Reply> {
        let mut request = Writer::default();
        write(&mut request, sequence);
        self.deliver(&request, sequence)
    }

    /// The same of a request that is written.
    pub(super) fn deliver(&self, request: &Writer, sequence: u32) -> io::Result<Reply> {
        self.link.talk(&request.bytes).map(|bytes| Reply { bytes, sequence })
    }

    /// Whether a meter has an action of ours.
    pub(super) fn has_meter(&self, meter: u32) -> bool {
        self.table().meters.contains_key(&meter)
    }

    pub(super) fn know_meter(&self, meter: u32, there: bool) {
        let mut table = self.table();
        if there {
            table.meters.entry(meter).or_default();
        } else {
            table.meters.remove(&meter);
        }
    }

    /// What a meter has dropped in all, by what the kernel says, which begins at nought again after 32 bits. `None` if it is none of ours.
    pub(super) fn dropped(&self, meter: u32, said: u64) -> Option<u64> {
        let mut table = self.table();
        let all = table.meters.get_mut(&meter)?;
        let low = |n: u64| u32::try_from(n & 0xffff_ffff).expect("32 bits");
        *all += u64::from(low(said).wrapping_sub(low(*all)));
        Some(*all)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table as it was between two steps.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rules that are installed, preferences that they use, ports that wait for a sweep.
    pub fn usage(&self) -> (usize, usize, Vec<DpPort>) {
        let table = self.table();
        let mut dirty: Vec<DpPort> = table.dirty.iter().copied().collect();
        dirty.sort_unstable();
        (table.len(), table.preferences.taken(), dirty)
    }

    /// Makes sure that filters can be hung from a device.
    ///
    /// # Errors
    /// The kernel's, if it has no such device or takes no queueing discipline for it.
    pub fn prepare(&self, ifindex: u32) -> Result<(), HardwareError> {
        let reply = self.send(self.sequence(), |out, n| clsact(out, n, ifindex));
        let reply = reply.map_err(|e| HardwareError::Clsact(e.to_string()))?;
        let answer = reply.answer();
        if matches!(answer.error, 0 | EEXIST) { Ok(()) } else { Err(HardwareError::Clsact(answer.said())) }
    }

    /// Puts a rule into hardware.
    ///
    /// # Errors
    /// The reason, in the driver's words where it gave any. Nothing of the rule is then left, or the port is marked dirty.
    pub fn install(&self, ufid: Ufid, rule: &Rule) -> Result<(), Refusal> {
        self.install_all(&[(ufid, rule)]).pop().unwrap_or_else(|| Err(Refusal::new(Reason::Driver, "no answer")))
    }

    /// Puts many in; the results stand in the order of the batch.
    pub fn install_all(&self, batch: &[(Ufid, &Rule)]) -> Vec<Result<(), Refusal>> {
        let mut table = self.table();
        batch.chunks(BATCH_MAX).flat_map(|some| self.install_some(&mut table, some)).collect()
    }

    fn install_some(&self, table: &mut Table, batch: &[(Ufid, &Rule)]) -> Vec<Result<(), Refusal>> {
        let first = table.sequences(batch.len());
        let mut request = Writer { bytes: Vec::with_capacity(batch.len() * RULE_BYTES) };
        let places: Vec<Result<Place, Refusal>> = (first..)
            .zip(batch)
            .map(|(n, (ufid, rule))| {
                let place = self.place(table, rule)?;
                if let Err(refusal) = create(&mut request, n, place.id, rule, &cookie(*ufid), &self.devices) {
                    table.give_back(&place);
                    return Err(refusal);
                }
                Ok(place)
            })
            .collect();
        let bytes = if request.bytes.is_empty() { Ok(Vec::new()) } else { self.link.talk(&request.bytes) };
        let answers = bytes.as_ref().map(|bytes| answers(bytes, first, batch.len())).unwrap_or_default();
        let lost = bytes.as_ref().err().map(ToString::to_string);
        places
            .into_iter()
            .enumerate()
            .zip(batch)
            .map(|((i, place), (ufid, rule))| {
                let mut place = place?;
                let verdict = match answers.get(i) {
                    Some(answer) => self.verdict(table, &mut place, *ufid, rule, answer),
                    // Nobody knows whether it is there.
                    None => {
                        table.dirty.insert(place.port);
                        Err(Refusal::new(Reason::Driver, lost.clone().unwrap_or_default()))
                    }
                };
                match &verdict {
                    Ok(()) => table.add(*ufid, place),
                    Err(_) => table.give_back(&place),
                }
                verdict
            })
            .collect()
    }

    /// Where a rule is to stand.
    fn place(&self, table: &mut Table, rule: &Rule) -> Result<Place, Refusal> {
        if table.dirty.contains(&rule.port) {
            return Err(Refusal::of_port(Reason::PortDirty, rule.port));
        }
        let hook = self.devices.hook(rule.port).ok_or_else(|| Refusal::of_port(Reason::InPort, rule.port))?;
        let masks = Masks::of(hook, rule);
        let place = table.place(rule.chain, rule.port, masks, self.devices.preferences(rule.port));
        place.ok_or_else(|| Refusal::new(Reason::TableFull, "preferences"))
    }

    fn verdict(&self, table: &mut Table, place: &mut Place, ufid: Ufid, rule: &Rule, answer: &Answer<'_>) -> Result<(), Refusal> {
        let (reply, second);
        let mut answer = answer;
        let is_mended = match (answer.error, place.id.hook) {
            // Somebody took away the queueing discipline: a new one.
            (EINVAL | ENOENT, Hook::Ingress { ifindex }) => self.remake(table, ifindex),
            // Somebody has a filter where this one was to stand: another handle.
            (EEXIST, _) => {
                table.pass_over(place);
                true
            }
            _ => false,
        };
        if is_mended {
            let (mut request, sequence) = (Writer::default(), table.sequences(1));
            create(&mut request, sequence, place.id, rule, &cookie(ufid), &self.devices)?;
            reply = self.deliver(&request, sequence).map_err(|e| {
                // Nobody knows whether it is there.
                table.dirty.insert(place.port);
                Refusal::new(Reason::Driver, e.to_string())
            })?;
            second = reply.answer();
            answer = &second;
        }
        if answer.error == EEXIST {
            // The next try is somewhere else.
            table.pass_over(place);
        }
        let Place { id, port, .. } = *place;
        if answer.error != 0 {
            let reason = match answer.error {
                ENOSPC => Reason::TableFull,
                ENODEV => Reason::InPort,
                _ => Reason::Driver,
            };
            return Err(Refusal::new(reason, answer.said()));
        }
        let verdict = answer.messages.first().map_or_else(
            || Err(Refusal::new(Reason::Echo, "no echo")),
            |echo| {
                let read = filter(echo, &self.devices).map_err(|e| Refusal::new(Reason::Echo, e.to_string()))?;
                judge(&read, rule, self.devices.width(port))
            },
        );
        if verdict.is_err() && self.delete(table, id).is_err() {
            table.dirty.insert(port);
        }
        verdict
    }

    /// Whether the device had no queueing discipline and has one now.
    pub(super) fn remake(&self, table: &mut Table, ifindex: u32) -> bool {
        self.send(table.sequences(1), |out, n| clsact(out, n, ifindex)).is_ok_and(|reply| reply.answer().error == 0)
    }

    /// Takes a rule out of hardware; gives its last counters.
    ///
    /// # Errors
    /// If it may still be there: its port is dirty then.
    pub fn remove(&self, ufid: Ufid) -> Result<HwStats, HardwareError> {
        self.remove_all(&[ufid]).pop().unwrap_or_else(|| Ok(HwStats::default()))
    }

    /// Takes many out; the results stand in the order of the batch. One that is not there had no packets.
    pub fn remove_all(&self, batch: &[Ufid]) -> Vec<Result<HwStats, HardwareError>> {
        let mut table = self.table();
        batch.chunks(BATCH_MAX).flat_map(|some| self.remove_some(&mut table, some)).collect()
    }

    fn remove_some(&self, table: &mut Table, batch: &[Ufid]) -> Vec<Result<HwStats, HardwareError>> {
        let first = table.sequences(batch.len());
        let mut request = Writer::default();
        let there: Vec<Where> = batch.iter().map(|u| table.get(*u).map(|i| (i.id, i.port))).collect();
        for (n, (id, _)) in (first..).zip(&there).filter_map(|(n, t)| t.as_ref().map(|t| (n, t))) {
            delete(&mut request, n, *id);
        }
        let bytes = if request.bytes.is_empty() { Ok(Vec::new()) } else { self.link.talk(&request.bytes) };
        let answers = bytes.as_ref().map(|bytes| answers(bytes, first, batch.len())).unwrap_or_default();
        // Those who were faster have told the last counters.
        self.hear(table);
        let one = |(i, (ufid, there)): (usize, (&Ufid, Where))| {
            let told = table.heard.forget(*ufid).unwrap_or_default();
            let Some((id, port)) = there else { return Ok(HwStats::default()) };
            let said = match (answers.get(i), &bytes) {
                (Some(answer), _) if is_gone(answer, id.hook) => {
                    table.take(*ufid);
                    // The kernel tells what it deletes, with the last counters.
                    let last = answer.messages.first().and_then(|m| glance(m)).filter(|g| g.cookie == cookie(*ufid));
                    return Ok(last.map_or(told, |g| g.stats));
                }
                (Some(answer), _) => answer.said(),
                (None, Err(error)) => error.to_string(),
                (None, Ok(_)) => String::new(),
            };
            table.dirty.insert(port);
            Err(HardwareError::Remove(said))
        };
        batch.iter().zip(there).enumerate().map(one).collect()
    }

    fn delete(&self, table: &mut Table, id: FilterId) -> Result<(), HardwareError> {
        let reply = self.send(table.sequences(1), |out, n| delete(out, n, id));
        let reply = reply.map_err(|e| HardwareError::Remove(e.to_string()))?;
        let answer = reply.answer();
        if is_gone(&answer, id.hook) { Ok(()) } else { Err(HardwareError::Remove(answer.said())) }
    }

    /// The counters of a rule; `None` if hardware has it no longer.
    pub fn stats(&self, ufid: Ufid) -> Option<HwStats> {
        let mut table = self.table();
        let id = table.get(ufid)?.id;
        let reply = self.send(table.sequences(1), |out, n| query(out, n, id)).ok()?;
        let answer = reply.answer();
        let seen = glance(answer.messages.first()?)?;
        (seen.cookie == cookie(ufid)).then_some(seen.stats)
    }

    /// The counters of every rule, one dump per device. A rule that is missing in a dump, or in whose place somebody else's is, is lost: hardware
    /// has it no longer.
    ///
    /// Rules of a device whose dump failed are not in the result.
    pub fn counters(&self) -> Vec<(Ufid, Option<HwStats>)> {
        let mut table = self.table();
        let hooks: Map<Hook, DpPort> = table.all().map(|i| (i.id.hook, i.port)).collect();
        let mut out = Vec::with_capacity(table.len());
        let mut asked: Set<Hook> = Set::default();
        table.begin_look();
        for (hook, port) in hooks {
            let Ok(bytes) = self.list(&mut table, hook) else { continue };
            asked.insert(hook);
            let width = self.devices.width(port);
            let there = messages(&bytes).filter_map(glance).filter(|g| g.in_hw && g.in_hw_count >= width);
            out.extend(there.filter_map(|g| Some((table.see(g.id, g.cookie)?, Some(g.stats)))));
        }
        out.extend(table.unseen(&asked).map(|ufid| (ufid, None)));
        out
    }

    /// All bytes of a dump, without a look inside.
    fn list(&self, table: &mut Table, hook: Hook) -> Result<Vec<u8>, HardwareError> {
        self.list_by(table.sequences(1), |out, n| dump(out, n, hook))
    }

    /// The same of whatever `write` asks for.
    pub(super) fn list_by(&self, sequence: u32, write: impl FnOnce(&mut Writer, u32)) -> Result<Vec<u8>, HardwareError> {
        let reply = self.send(sequence, write).map_err(|e| HardwareError::List(e.to_string()))?;
        let answer = reply.answer();
        if answer.error == 0 { Ok(reply.bytes) } else { Err(HardwareError::List(answer.said())) }
    }

    /// What a port's table has of ours, and what it lacks. `right` says what rule a megaflow should have.
    ///
    /// # Errors
    /// If the filters cannot be listed.
    pub fn audit(&self, port: DpPort, right: &dyn Fn(Ufid) -> Option<Rule>) -> Result<Vec<Sight>, HardwareError> {
        let Some(hook) = self.devices.hook(port) else { return Ok(Vec::new()) };
        // `right` takes locks of its own, under which others wait for the table: it is asked when the table is free.
        let (bytes, there): (Vec<u8>, Map<FilterId, Ufid>) = {
            let mut table = self.table();
            let bytes = self.list(&mut table, hook)?;
            (bytes, table.all().filter(|i| i.port == port).map(|i| (i.id, i.ufid)).collect())
        };
        let width = self.devices.width(port);
        let mut sights = Vec::new();
        let mut seen: Set<Ufid> = Set::default();
        for bytes in messages(&bytes) {
            let Ok(Message::Flower(id)) = message(bytes) else { continue };
            let ufid = there.get(&id).copied();
            if ufid.is_none() && !is_ours(bytes) {
                continue;
            }
            seen.extend(ufid);
            let found = ufid.map_or(Found::Stray, |ufid| compare(bytes, &self.devices, right(ufid).as_ref(), width));
            sights.push(Sight { port, chain: id.chain, prio: id.prio, handle: id.handle, ufid, found: Some(found) });
        }
        for (id, ufid) in there.iter().filter(|(_, ufid)| !seen.contains(*ufid)) {
            sights.push(Sight { port, chain: id.chain, prio: id.prio, handle: id.handle, ufid: Some(*ufid), found: None });
        }
        sights.sort_unstable_by_key(|s| (s.chain, s.prio, s.handle));
        Ok(sights)
    }

    /// Removes every filter of ours from a port, and gives how many there were. Afterwards the port is clean.
    ///
    /// # Errors
    /// If the filters cannot be listed or one cannot be removed.
    pub fn sweep(&self, port: DpPort) -> Result<usize, HardwareError> {
        let Some(hook) = self.devices.hook(port) else {
            return Ok(0);
        };
        let swept = self.sweep_those(hook, &|_, _| true)?;
        let mut table = self.table();
        self.drop_all(&mut table, port);
        Ok(swept)
    }

    /// Removes every filter of ours from a device, also of an earlier life of this program.
    ///
    /// # Errors
    /// As `sweep`.
    pub fn sweep_device(&self, ifindex: u32) -> Result<usize, HardwareError> {
        self.sweep_those(Hook::Ingress { ifindex }, &|_, _| true)
    }

    /// Removes those that bear our mark, but are no rules that we know of.
    ///
    /// # Errors
    /// As `sweep`.
    pub fn sweep_strays(&self, port: DpPort) -> Result<usize, HardwareError> {
        let hook = self.devices.hook(port);
        hook.map_or(Ok(0), |hook| self.sweep_those(hook, &|table, id| table.find(id).is_none()))
    }

    fn sweep_those(&self, hook: Hook, which: &dyn Fn(&Table, FilterId) -> bool) -> Result<usize, HardwareError> {
        let mut table = self.table();
        let bytes = self.list(&mut table, hook)?;
        let (mut swept, mut foreign) = (0, Set::default());
        for bytes in messages(&bytes) {
            let Ok(Message::Flower(id) | Message::Foreign(id)) = message(bytes) else { continue };
            if !is_ours(bytes) {
                // A preference itself is shown without a handle, also one of ours.
                foreign.extend((id.handle != 0).then_some(id.prio));
            } else if which(&table, id) {
                self.delete(&mut table, id)?;
                swept += 1;
            }
        }
        table.preferences.leave(hook, foreign);
        Ok(swept)
    }

    fn drop_all(&self, table: &mut Table, port: DpPort) {
        self.hear(table);
        let gone: Vec<Ufid> = table.all().filter(|i| i.port == port).map(|i| i.ufid).collect();
        for ufid in gone {
            table.heard.forget(ufid);
            table.take(ufid);
        }
        table.dirty.remove(&port);
    }

    /// Forgets a port's rules: its device is gone, and they with it.
    pub fn forget(&self, port: DpPort) {
        let mut table = self.table();
        self.drop_all(&mut table, port);
    }
}

/// Whether a deletion left nothing behind. A block without devices is no block any more, and invalid.
fn is_gone(answer: &Answer<'_>, hook: Hook) -> bool {
    matches!(answer.error, 0 | ENOENT | ENODEV) || answer.error == EINVAL && matches!(hook, Hook::Block { .. })
}

/// The messages in the bytes of a dump.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
        let one = bytes.get(..len).filter(|_| len >= HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(one)
    })
}

/// Whether what came back is what was asked for, in hardware.
pub(super) fn judge(echo: &Filter, rule: &Rule, width: u32) -> Result<(), Refusal> {
    if !echo.is(rule) {
        return Err(Refusal::new(Reason::Echo, "rule"));
    }
    // One device per ingress, all members of a bond; a count that is not told is not believed to be enough.
    if !echo.in_hw || echo.in_hw_count < width {
        let what = if width > 1 { format!("{}of{width}", echo.in_hw_count) } else { String::new() };
        return Err(Refusal::new(Reason::NotInHardware, what));
    }
    Ok(())
}

fn compare(bytes: &[u8], devices: &dyn Devices, right: Option<&Rule>, width: u32) -> Found {
    let Ok(read) = filter(bytes, devices) else { return Found::Other };
    match right {
        Some(rule) if !read.is(rule) => Found::Other,
        None => Found::Stray,
        Some(_) if !read.in_hw || read.in_hw_count < width => Found::NotInHardware,
        Some(_) => Found::Right,
    }
}

/// What marks the rule of a megaflow.
pub(super) fn cookie(ufid: Ufid) -> [u8; 16] {
    let mut out = ufid.0.to_be_bytes();
    out[..4].copy_from_slice(&MAGIC);
    out
}

/// Whether a filter of flower bears our mark, of whatever form it is otherwise.
fn is_ours(bytes: &[u8]) -> bool {
    let first_cookie = || {
        let list = attributes(bytes.get(HEADER + TCMSG..)?).ok()?;
        let options = find(&list, TCA_OPTIONS)?.nested().ok()?;
        let orders = find(&options, flower::ACT)?.nested().ok()?;
        // A meter's action bears our mark in whatever filter names it.
        let own = orders.iter().filter(|a| !acts::is_shared(a.payload)).min_by_key(|a| a.kind)?.nested().ok()?;
        find(&own, act::COOKIE).map(|c| c.payload.starts_with(&MAGIC))
    };
    first_cookie().unwrap_or(false)
}
