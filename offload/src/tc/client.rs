//! The `tc` back end: rules put into a device's table by netlink, each verified by what comes back.
//!
//! What enters: plans and cookies. What leaves: messages to whatever answers netlink (the kernel, or the model); what was installed, or
//! the reason why not. Neighbours: `write`, `read`, `tiered`.
//!
//! # What holds
//!
//! - A filter that was taken but is not in hardware, or in fewer devices than its hook has, or that reads back as another rule, is
//!   removed before `install` returns: it counts as refused.
//! - If that removal fails, the port is dirty: nothing more is installed on it until `sweep` has found it clean.
//! - Every filter's first action has a cookie that begins with `MAGIC`. `sweep` removes those, and touches no others.
//! - Preferences are one per set of masks, counted, and given back with their last filter.

use super::attributes::{Attribute, Writer, attributes, find};
use super::numbers::{TCA_KIND, TCA_OPTIONS, act, flower};
use super::read::{Filter, Message, filter, message};
use super::write::{HEADER, TCMSG, create, delete, dump, query};
use super::{Devices, FilterId, Hook, matches};
use crate::keys::FlowerKey;
use crate::refusal::{Reason, Refusal};
use crate::rule::Rule;
use flow::hash::{Map, Set};
use flow::{DpPort, Ufid};
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How cookies of ours begin.
pub const MAGIC: [u8; 4] = *b"FRRL";
/// Preferences that are ours; lower ones are left to others.
pub const PRIO_MIN: u16 = 0x4000;
pub const PRIO_MAX: u16 = 0x7fff;
/// `NLMSG_ERROR`
const ERROR: u16 = 2;
/// `NLMSG_DONE`
const DONE: u16 = 3;
/// Flags of an error's message: the request is cut, texts follow.
const CAPPED: u16 = 0x100;
const TEXTS: u16 = 0x200;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;

/// Something that answers route netlink.
pub trait Netlink: Send + Sync + fmt::Debug {
    /// Sends a request of one message; gives the bytes of all messages of the answer, up to and with the acknowledgement or the
    /// end of the dump.
    ///
    /// # Errors
    /// Of the socket, not of the request.
    fn talk(&self, request: &[u8]) -> io::Result<Vec<u8>>;
}

/// Packets and bytes that a filter has counted since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HwStats {
    pub packets: u64,
    pub bytes: u64,
}

/// Why a filter could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule could not be removed: {0}")]
pub struct RemoveError(pub String);

/// What a set of filters has in common that share a preference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Masks {
    hook: Hook,
    chain: u32,
    protocol: u16,
    items: Vec<(FlowerKey, u128)>,
    fragment: Option<u32>,
    ct_state: Option<u16>,
    /// Whether id and priority of each tag are matched.
    tags: [Option<(bool, bool)>; 2],
    /// Of a tunnel: id, flags, Geneve options, group policy.
    tunnel: Option<(bool, u16, bool, bool)>,
}

#[derive(Debug, Default)]
struct Table {
    installed: Map<Ufid, (FilterId, DpPort, Masks)>,
    prios: Map<Masks, (u16, u32)>,
    used: Set<u16>,
    next_handle: u32,
    sequence: u32,
    dirty: Set<DpPort>,
}

/// The back end.
#[derive(Debug)]
pub struct Tc<N, D> {
    link: N,
    devices: D,
    table: Mutex<Table>,
}

/// An answer taken apart.
struct Answer<'a> {
    messages: Vec<&'a [u8]>,
    error: i32,
    text: String,
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

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table as it was between two steps.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a rule into hardware.
    ///
    /// # Errors
    /// The reason, in the driver's words where it gave any. Nothing of the rule is then left, or the port is marked dirty.
    pub fn install(&self, ufid: Ufid, rule: &Rule) -> Result<(), Refusal> {
        let mut table = self.table();
        if table.dirty.contains(&rule.port) {
            return Err(Refusal::of_port(Reason::PortDirty, rule.port));
        }
        let ifindex = self.devices.ifindex(rule.port).ok_or_else(|| Refusal::of_port(Reason::InPort, rule.port))?;
        let hook = Hook::Ingress { ifindex };
        let masks = masks(hook, rule);
        let prio = table.take_prio(&masks).ok_or_else(|| Refusal::new(Reason::TableFull, "preferences"))?;
        table.next_handle = table.next_handle % 0x7fff_ffff + 1;
        let id = FilterId { hook, chain: rule.chain, prio, handle: table.next_handle, protocol: masks.protocol };
        let result = self.install_as(&mut table, id, ufid, rule);
        if result.is_err() {
            table.give_prio(&masks);
        } else {
            table.installed.insert(ufid, (id, rule.port, masks));
        }
        result
    }

    fn install_as(&self, table: &mut Table, id: FilterId, ufid: Ufid, rule: &Rule) -> Result<(), Refusal> {
        let mut request = Writer::default();
        create(&mut request, table.sequence(), id, rule, &cookie(ufid), &self.devices)?;
        let bytes = self.link.talk(&request.bytes).map_err(|e| Refusal::new(Reason::Driver, e.to_string()))?;
        let answer = Answer::of(&bytes);
        if answer.error != 0 {
            let reason = if answer.error == ENOSPC { Reason::TableFull } else { Reason::Driver };
            return Err(Refusal::new(reason, answer.said()));
        }
        let verdict = answer.messages.first().map_or_else(
            || Err(Refusal::new(Reason::Echo, "no echo")),
            |echo| judge(&filter(echo, &self.devices).map_err(|e| Refusal::new(Reason::Echo, e.to_string()))?, rule),
        );
        if verdict.is_err() && self.delete(table, id).is_err() {
            table.dirty.insert(rule.port);
        }
        verdict
    }

    /// Takes a rule out of hardware; gives its last counters.
    ///
    /// # Errors
    /// If it may still be there: its port is dirty then.
    pub fn remove(&self, ufid: Ufid) -> Result<HwStats, RemoveError> {
        let mut table = self.table();
        let Some((id, port, masks)) = table.installed.get(&ufid).cloned() else {
            return Ok(HwStats::default());
        };
        let last = self.ask(&mut table, id).unwrap_or_default();
        if let Err(error) = self.delete(&mut table, id) {
            table.dirty.insert(port);
            return Err(error);
        }
        table.installed.remove(&ufid);
        table.give_prio(&masks);
        Ok(last)
    }

    fn delete(&self, table: &mut Table, id: FilterId) -> Result<(), RemoveError> {
        let mut request = Writer::default();
        delete(&mut request, table.sequence(), id);
        let bytes = self.link.talk(&request.bytes).map_err(|e| RemoveError(e.to_string()))?;
        let answer = Answer::of(&bytes);
        if answer.error == 0 || answer.error == ENOENT { Ok(()) } else { Err(RemoveError(answer.said())) }
    }

    fn ask(&self, table: &mut Table, id: FilterId) -> Option<HwStats> {
        let mut request = Writer::default();
        query(&mut request, table.sequence(), id);
        let bytes = self.link.talk(&request.bytes).ok()?;
        let answer = Answer::of(&bytes);
        let (packets, bytes) = filter(answer.messages.first()?, &self.devices).ok()?.counters();
        Some(HwStats { packets, bytes })
    }

    /// The counters of a rule; `None` if hardware has it no longer.
    pub fn stats(&self, ufid: Ufid) -> Option<HwStats> {
        let mut table = self.table();
        let id = table.installed.get(&ufid)?.0;
        self.ask(&mut table, id)
    }

    /// Removes every filter of ours from a port, and gives how many there were. Afterwards the port is clean.
    ///
    /// # Errors
    /// If the filters cannot be listed or one cannot be removed.
    pub fn sweep(&self, port: DpPort) -> Result<usize, RemoveError> {
        let mut table = self.table();
        let Some(ifindex) = self.devices.ifindex(port) else {
            return Ok(0);
        };
        let mut request = Writer::default();
        dump(&mut request, table.sequence(), Hook::Ingress { ifindex });
        let bytes = self.link.talk(&request.bytes).map_err(|e| RemoveError(e.to_string()))?;
        let mut swept = 0;
        for bytes in Answer::of(&bytes).messages {
            if let Ok(Message::Flower(id)) = message(bytes)
                && first_cookie(bytes).is_some_and(|c| c.starts_with(&MAGIC))
            {
                self.delete(&mut table, id)?;
                swept += 1;
            }
        }
        let gone: Vec<Ufid> = table.installed.iter().filter(|(_, (_, p, _))| *p == port).map(|(u, _)| *u).collect();
        for ufid in gone {
            if let Some((_, _, masks)) = table.installed.remove(&ufid) {
                table.give_prio(&masks);
            }
        }
        table.dirty.remove(&port);
        Ok(swept)
    }
}

/// Whether what came back is what was asked for, in hardware.
fn judge(echo: &Filter, rule: &Rule) -> Result<(), Refusal> {
    if echo.rule(rule.port, rule.nought.clone()) != *rule {
        return Err(Refusal::new(Reason::Echo, "rule"));
    }
    // One device per ingress; a count that is not told is not believed to be enough.
    if !echo.in_hw || echo.in_hw_count < 1 {
        return Err(Refusal::new(Reason::NotInHardware, ""));
    }
    Ok(())
}

fn cookie(ufid: Ufid) -> [u8; 16] {
    let mut out = ufid.0.to_be_bytes();
    out[..4].copy_from_slice(&MAGIC);
    out
}

/// The cookie of the first action, of whatever form the filter is otherwise.
fn first_cookie(bytes: &[u8]) -> Option<Vec<u8>> {
    let list = attributes(bytes.get(HEADER + TCMSG..)?).ok()?;
    debug_assert!(find(&list, TCA_KIND).is_some());
    let options = find(&list, TCA_OPTIONS)?.nested().ok()?;
    let orders = find(&options, flower::ACT)?.nested().ok()?;
    let first = orders.iter().min_by_key(|a| a.kind)?.nested().ok()?;
    find(&first, act::COOKIE).map(|c| c.payload.to_vec())
}

fn masks(hook: Hook, rule: &Rule) -> Masks {
    let tag = |t: Option<crate::rule::Tag>| t.map(|t| (t.vid.is_some(), t.pcp.is_some()));
    let tunnel = rule.tunnel.as_ref().map(|t| (t.id.is_some(), t.flags_mask, t.geneve.is_some(), t.gbp.is_some()));
    Masks {
        hook,
        chain: rule.chain,
        protocol: matches::protocol(&rule.link),
        items: rule.items.iter().map(|i| (i.key, i.mask)).collect(),
        fragment: rule.fragment.map(|f| f.mask),
        ct_state: rule.ct_state.map(|s| s.mask),
        tags: rule.link.tags.map(tag),
        tunnel,
    }
}

impl Table {
    fn sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn take_prio(&mut self, masks: &Masks) -> Option<u16> {
        if let Some((prio, users)) = self.prios.get_mut(masks) {
            *users += 1;
            return Some(*prio);
        }
        let prio = (PRIO_MIN..=PRIO_MAX).find(|p| !self.used.contains(p))?;
        self.used.insert(prio);
        self.prios.insert(masks.clone(), (prio, 1));
        Some(prio)
    }

    fn give_prio(&mut self, masks: &Masks) {
        let Some((prio, users)) = self.prios.get_mut(masks) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.used.remove(prio);
            self.prios.remove(masks);
        }
    }
}

impl<'a> Answer<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut out = Self { messages: Vec::new(), error: 0, text: String::new() };
        let mut rest = bytes;
        while rest.len() >= HEADER {
            let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if len < HEADER || len > rest.len() {
                out.error = -1;
                break;
            }
            let (one, after) = rest.split_at(len);
            rest = after.get(len.next_multiple_of(4) - len..).unwrap_or(&[]);
            match u16::from_ne_bytes([one[4], one[5]]) {
                ERROR => out.read_error(one),
                DONE => break,
                _ => out.messages.push(one),
            }
        }
        out
    }

    fn read_error(&mut self, one: &[u8]) {
        let Some(code) = one.get(HEADER..).and_then(|b| b.first_chunk::<4>()) else {
            return;
        };
        self.error = -i32::from_ne_bytes(*code);
        let flags = u16::from_ne_bytes([one[6], one[7]]);
        let request = one.get(HEADER + 4..).and_then(|b| b.first_chunk::<4>()).map_or(0, |l| u32::from_ne_bytes(*l) as usize);
        let at = HEADER + 4 + if flags & CAPPED != 0 { HEADER } else { request };
        if flags & TEXTS != 0
            && let Some(Ok(texts)) = one.get(at..).map(attributes)
        {
            // NLMSGERR_ATTR_MSG
            self.text = find(&texts, 1).map_or_else(String::new, |a: Attribute<'_>| a.text().to_owned());
        }
    }

    fn said(&self) -> String {
        let system = io::Error::from_raw_os_error(self.error);
        if self.text.is_empty() { system.to_string() } else { format!("{} ({system})", self.text) }
    }
}
