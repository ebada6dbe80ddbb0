//! An eSwitch in memory: it is programmed by the same netlink bytes as the kernel, and forwards packets by what it was told.
//!
//! What enters: tc-flower messages (`Netlink::talk`); packets of its ports (`receive`). What leaves: echoes, acknowledgements, errors with
//! texts, dumps, as the kernel sends them, and to whoever else programs it what was changed; packets, or the statement that no rule was there.
//! Neighbours: `tc` (the codec), `packet` (what rules do). It decides by the attributes of the message, not by a megaflow, and changes bytes in its own way: it is the
//! other side of the differential test.

mod blocks;
mod buckets;
pub mod direct;
mod listeners;
mod packet;
mod police;
mod tunnels;

pub use tunnels::{Tunnel, Tunnels};

use crate::rule::{Act, IS_FRAGMENT};
use crate::tc::acts::{self, ReadAct};
use crate::tc::attributes::Writer;
use crate::tc::client::{Netlink, News};
use crate::tc::numbers::errno::{EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC, EOPNOTSUPP};
use crate::tc::numbers::{
    IN_HW, RTM_DELACTION, RTM_DELQDISC, RTM_DELTFILTER, RTM_GETACTION, RTM_GETQDISC, RTM_GETTFILTER, RTM_NEWACTION, RTM_NEWQDISC,
    RTM_NEWTFILTER, SKIP_SW, TCA_KIND, TCA_OPTIONS, act, flower,
};
use crate::tc::read::{Filter, Message, filter, message};
use crate::tc::write::{F_EXCL, HEADER};
use crate::tc::{Devices, FilterId, Hook};
use blocks::Blocks;
use buckets::Buckets;
use flow::DpPort;
use listeners::Listeners;
use packet::Frame;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rounds that a packet may go through chains.
const ROUNDS_MAX: u32 = 16;

/// What goes wrong, and how large it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rules that fit.
    pub capacity: usize,
    /// Meters that fit.
    pub meters: usize,
    /// The highest preference that it knows.
    pub preference_max: u16,
    /// Of the creations, counted from 0: those that the driver refuses with a text.
    pub refuse: Vec<u64>,
    /// Those that it takes without putting them into hardware.
    pub not_in_hw: Vec<u64>,
    /// Those that it changes: the last action becomes a drop.
    pub corrupt: Vec<u64>,
    /// Those that it puts into one device fewer than share the block.
    pub partial: Vec<u64>,
    /// Whether its ports can share a block.
    pub shares: bool,
    /// Of the deletions: those that fail.
    pub keep: Vec<u64>,
    /// Whether counters are as they were when they were last asked for, as a driver's that polls its hardware. A deletion tells the last.
    pub lag: bool,
    /// Kinds of actions, as tc names them, that it does not have.
    pub without: Vec<String>,
    /// Interfaces that it has; none: any.
    pub ports: Vec<u32>,
    pub tunnels: Tunnels,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            meters: 1 << 18,
            preference_max: u16::MAX,
            refuse: Vec::new(),
            not_in_hw: Vec::new(),
            corrupt: Vec::new(),
            partial: Vec::new(),
            shares: true,
            keep: Vec::new(),
            lag: false,
            without: Vec::new(),
            ports: Vec::new(),
            tunnels: Tunnels::default(),
        }
    }
}

#[derive(Debug)]
struct Stored {
    filter: Filter,
    /// What its actions do, and the filter as it is shown: only the kind of message, the sequence number and the counters differ.
    acts: Arc<[Act]>,
    shown: Shown,
    packets: u64,
    bytes_counted: u64,
    /// The counters that the next one who asks is told, if they lag.
    told: (u64, u64),
}

impl Stored {
    fn new(filter: Filter) -> Self {
        let acts = filter.acts.iter().map(|a| a.act.clone()).collect();
        let shown = shown(&filter);
        Self { filter, acts, shown, packets: 0, bytes_counted: 0, told: (0, 0) }
    }

    /// What whoever asks is told.
    fn counters(&mut self, lag: bool) -> (u64, u64) {
        let now = (self.packets, self.bytes_counted);
        if lag { std::mem::replace(&mut self.told, now) } else { now }
    }
}

/// Where a filter is found: port (or block, whose numbers no interface has), chain, preference, handle.
type At = (u32, u32, u16, u32);

#[derive(Debug, Default)]
struct State {
    filters: BTreeMap<At, Stored>,
    blocks: Blocks,
    buckets: Buckets,
    /// The cookies of meters' actions.
    marks: BTreeMap<u32, Vec<u8>>,
    listeners: Listeners,
    created: u64,
    deleted: u64,
}

/// Who `Netlink::talk` speaks for.
const FIRST: u32 = 0;

/// The eSwitch. Interface n is port n.
#[derive(Debug)]
pub struct Model {
    options: Options,
    state: Mutex<State>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No rule: software gets it, unchanged.
    Missed,
    /// A rule sent it on, into a chain where there was none.
    MissedInChain(u32),
    /// Sent, in order: port, into the host, bytes. Empty: dropped by a rule.
    Done(Vec<Sent>),
}

/// A packet sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub port: DpPort,
    pub ingress: bool,
    pub bytes: Vec<u8>,
}

/// Interface n is port n.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameNumbers;

impl Devices for SameNumbers {
    fn ifindex(&self, port: DpPort) -> Option<u32> {
        Some(port.0)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        Some(DpPort(ifindex))
    }
}

impl Model {
    /// Empty.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut state = State::default();
        state.listeners.join(FIRST);
        Self { options, state: Mutex::new(state) }
    }

    /// From now on somebody with a number of its own is told of what the others do.
    pub fn join(&self, who: u32) {
        self.state().listeners.join(who);
    }

    /// It is gone.
    pub fn leave(&self, who: u32) {
        self.state().listeners.leave(who);
    }

    /// What the others did since somebody asked the last time.
    pub fn news_of(&self, who: u32) -> News {
        self.state().listeners.take(who)
    }

    /// Requests of somebody.
    ///
    /// # Errors
    /// For bytes that are no messages.
    pub fn talk_as(&self, who: u32, requests: &[u8]) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let mut out = Writer { bytes: Vec::with_capacity(2 * requests.len()) };
        let mut rest = requests;
        while let Some(len) = rest.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l) as usize) {
            let Some(request) = rest.get(..len).filter(|_| len >= HEADER) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
            let start = out.bytes.len();
            let result = self.one(&mut state, request, &mut out);
            if result.is_ok() {
                // Others are told what whoever asked is answered; of a queueing discipline that went, what was asked for.
                match kind(request) {
                    RTM_NEWTFILTER | RTM_DELTFILTER | RTM_NEWACTION | RTM_DELACTION => {
                        state.listeners.tell(who, &out.bytes[start..]);
                    }
                    RTM_DELQDISC => state.listeners.tell(who, request),
                    _ => {}
                }
            }
            acknowledge(&mut out, request, result);
        }
        Ok(out.bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state as it was between two messages.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rules that it holds.
    pub fn rules(&self) -> usize {
        self.state().filters.len()
    }

    /// Loses every rule, as a driver that resets its hardware does.
    pub fn lose_all(&self) {
        self.state().filters.clear();
    }

    /// Loses one rule of many, the same for the same `which`.
    pub fn lose(&self, which: usize) {
        let mut state = self.state();
        let nth = which % state.filters.len().max(1);
        if let Some(at) = state.filters.keys().nth(nth).copied() {
            state.filters.remove(&at);
        }
    }

    /// Somebody else removes one rule of many, the same for the same `which`.
    pub fn remove_as(&self, who: u32, which: usize) {
        let mut state = self.state();
        let nth = which % state.filters.len().max(1);
        let Some(at) = state.filters.keys().nth(nth).copied() else { return };
        if let Some(gone) = state.filters.remove(&at) {
            let mut out = Writer::default();
            gone.shown.show(RTM_DELTFILTER, 0, (gone.packets, gone.bytes_counted), &mut out);
            state.listeners.tell(who, &out.bytes);
        }
    }

    /// A line for each rule: port, chain, preference, handle, counters, what it does.
    pub fn table(&self) -> String {
        let state = self.state();
        let line = |((port, chain, prio, handle), s): (&At, &Stored)| {
            let acts: Vec<String> = s.filter.acts.iter().map(|a| format!("{:?}", a.act)).collect();
            let (packets, bytes, acts) = (s.packets, s.bytes_counted, acts.join(", "));
            format!("dev {port} chain {chain} pref {prio} handle {handle:#x} packets:{packets} bytes:{bytes} {acts}\n")
        };
        state.filters.iter().map(line).collect()
    }

    /// Meters that it has.
    pub fn meters(&self) -> usize {
        self.state().buckets.len()
    }

    /// Loses all meters, although rules name them.
    pub fn lose_meters(&self) {
        self.state().buckets = Buckets::default();
    }

    /// Puts a rule there that nobody asked for, beside another.
    pub fn duplicate(&self, handle: u32) {
        let mut state = self.state();
        let Some((at, stored)) = state.filters.iter().next() else { return };
        let (mut at, mut filter) = (*at, stored.filter.clone());
        (at.3, filter.id.handle) = (handle, handle);
        state.filters.insert(at, Stored::new(filter));
    }

    /// A packet comes in by a port.
    pub fn receive(&self, port: DpPort, bytes: &[u8]) -> Outcome {
        let mut state = self.state();
        if let Some(inner) = self.options.tunnels.decapsulate(port, bytes) {
            let ifindex = DpPort(inner.ifindex);
            let outcome = self.pass(&mut state, ifindex, Frame::decapsulated(inner.bytes, inner.fields));
            if outcome != Outcome::Missed {
                return outcome;
            }
        }
        self.pass(&mut state, port, Frame::new(bytes.to_vec()))
    }

    /// A packet meets the rules of a device.
    fn pass(&self, state: &mut State, port: DpPort, mut frame: Frame) -> Outcome {
        let (mut sent, mut chain) = (Vec::new(), 0);
        for _ in 0..ROUNDS_MAX {
            let table = state.blocks.of(port.0).unwrap_or(port.0);
            let near = (table, chain, 0, 0)..=(table, chain, u16::MAX, u32::MAX);
            let key = frame.key(port);
            let Some((_, rule)) = state.filters.range_mut(near).find(|(_, s)| packet::matches(&s.filter.matches, &key)) else {
                return if chain == 0 { Outcome::Missed } else { Outcome::MissedInChain(chain) };
            };
            rule.packets += 1;
            rule.bytes_counted += frame.bytes.len() as u64;
            let acts = Arc::clone(&rule.acts);
            let buckets = &mut state.buckets;
            let mut admit = |meter, len| buckets.admit(meter, len);
            match packet::run(&mut frame, &acts, &self.options.tunnels, &mut admit, &mut sent) {
                Some(next) => chain = next,
                None => return Outcome::Done(sent),
            }
        }
        Outcome::Done(sent)
    }

    fn create(&self, state: &mut State, request: &[u8], out: &mut Writer) -> Result<(), (i32, &'static str)> {
        let nth = state.created;
        state.created += 1;
        let mut read = filter(request, &SameNumbers).map_err(|_| (EINVAL, "the rule cannot be read"))?;
        let at = at_of(read.id);
        let width = match read.id.hook {
            Hook::Ingress { .. } => 1,
            Hook::Block { number } => state.blocks.width(number).ok_or((EINVAL, "no device shares this block"))?,
        };
        let exclusive = request.get(6..8).is_some_and(|f| u16::from_ne_bytes([f[0], f[1]]) & F_EXCL != 0);
        if exclusive && state.filters.contains_key(&at) {
            return Err((EEXIST, "Filter already exists"));
        }
        if self.options.refuse.contains(&nth) {
            return Err((EOPNOTSUPP, "the model refuses this rule on purpose"));
        }
        if read.id.prio > self.options.preference_max {
            return Err((EOPNOTSUPP, "the preference is out of range"));
        }
        if state.filters.len() >= self.options.capacity {
            return Err((ENOSPC, "the table is full"));
        }
        check(&read, &self.options.tunnels, at.0)?;
        self.has(&read, at.0, state)?;
        name_meters(&mut read, &state.buckets)?;
        if self.options.corrupt.contains(&nth)
            && let Some(last) = read.acts.last_mut()
        {
            last.act = Act::Drop;
        }
        read.in_hw = !self.options.not_in_hw.contains(&nth);
        read.in_hw_count = if read.in_hw { width - u32::from(self.options.partial.contains(&nth)) } else { 0 };
        let stored = Stored::new(read);
        stored.shown.show(RTM_NEWTFILTER, sequence(request), (0, 0), out);
        state.filters.insert(at, stored);
        Ok(())
    }
}

impl Netlink for Model {
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        self.talk_as(FIRST, requests)
    }

    fn news(&self) -> io::Result<News> {
        Ok(self.news_of(FIRST))
    }
}

impl Model {
    fn one(&self, state: &mut State, request: &[u8], out: &mut Writer) -> Result<(), (i32, &'static str)> {
        match kind(request) {
            RTM_NEWTFILTER => self.create(state, request, out),
            RTM_DELTFILTER => self.delete(state, request, out),
            RTM_GETTFILTER => answer(state, self.options.lag, request, out),
            RTM_NEWACTION => police::make(state, &self.options, request, out),
            RTM_DELACTION => police::remove(state, request, out),
            RTM_GETACTION => police::list(state, request, out),
            RTM_NEWQDISC => blocks::join(state, self.options.shares, request),
            RTM_DELQDISC => blocks::leave(state, request),
            RTM_GETQDISC => blocks::tell(state, request, out),
            _ => Err((EOPNOTSUPP, "messages of this kind are not modelled")),
        }
    }

    fn delete(&self, state: &mut State, request: &[u8], out: &mut Writer) -> Result<(), (i32, &'static str)> {
        let nth = state.deleted;
        state.deleted += 1;
        let at = named(request).ok_or((EINVAL, "no filter is named"))?;
        if self.options.keep.contains(&nth) {
            return Err((EINVAL, "the model keeps this rule on purpose"));
        }
        if at.3 == 0 {
            return empty(state, request, at, out);
        }
        let gone = state.filters.remove(&at).ok_or((ENOENT, "no such filter"))?;
        gone.shown.show(RTM_DELTFILTER, sequence(request), (gone.packets, gone.bytes_counted), out);
        Ok(())
    }
}

impl Model {
    /// Whether it has the ports and actions that a rule names.
    fn has(&self, read: &Filter, table: u32, state: &State) -> Result<(), (i32, &'static str)> {
        let known = |port: u32| self.options.ports.is_empty() || self.options.ports.contains(&port);
        if !known(table) && state.blocks.width(table).is_none() {
            return Err((ENODEV, "no such port"));
        }
        for ReadAct { act, .. } in &read.acts {
            if let Act::Output { port, ingress, .. } = act
                && (*ingress || !known(port.0))
            {
                return Err((EOPNOTSUPP, "the output is no port of this switch"));
            }
            if self.options.without.iter().any(|kind| kind == acts::kind(act)) {
                return Err((EOPNOTSUPP, "the hardware has no such action"));
            }
        }
        Ok(())
    }
}

/// Removes all filters of a preference, or of all of a chain; they are not told one by one.
fn empty(state: &mut State, request: &[u8], at: At, out: &mut Writer) -> Result<(), (i32, &'static str)> {
    let (table, chain, prio, _) = at;
    let before = state.filters.len();
    state.filters.retain(|(t, c, p, _), _| (*t, *c) != (table, chain) || prio != 0 && *p != prio);
    if state.filters.len() == before {
        return Err((ENOENT, "no such preference"));
    }
    let start = out.bytes.len();
    out.bytes.extend_from_slice(request);
    out.bytes[start + 6..start + 8].fill(0);
    Ok(())
}

fn kind(request: &[u8]) -> u16 {
    request.get(4..6).map_or(0, |k| u16::from_ne_bytes([k[0], k[1]]))
}

fn sequence(request: &[u8]) -> u32 {
    request.get(8..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_ne_bytes(*b))
}

const fn at_of(id: FilterId) -> At {
    let table = match id.hook {
        Hook::Ingress { ifindex } => ifindex,
        Hook::Block { number } => number,
    };
    (table, id.chain, id.prio, id.handle)
}

/// The filter that a request names. Requests have another type than answers; the fixed part is the same.
fn named(request: &[u8]) -> Option<At> {
    let mut as_answer = request.to_vec();
    as_answer.get_mut(4..6)?.copy_from_slice(&RTM_NEWTFILTER.to_ne_bytes());
    match message(&as_answer).ok()? {
        Message::Flower(id) | Message::Foreign(id) => Some(at_of(id)),
    }
}

/// One filter, or all of a port.
fn answer(state: &mut State, lag: bool, request: &[u8], out: &mut Writer) -> Result<(), (i32, &'static str)> {
    let at = named(request).ok_or((EINVAL, "no filter is named"))?;
    let sequence = sequence(request);
    if at.3 != 0 {
        let stored = state.filters.get_mut(&at).ok_or((ENOENT, "no such filter"))?;
        let counters = stored.counters(lag);
        stored.shown.show(RTM_NEWTFILTER, sequence, counters, out);
        return Ok(());
    }
    let table = state.blocks.of(at.0).unwrap_or(at.0);
    for (_, stored) in state.filters.range_mut((table, 0, 0, 0)..=(table, u32::MAX, u16::MAX, u32::MAX)) {
        let counters = stored.counters(lag);
        stored.shown.show(RTM_NEWTFILTER, sequence, counters, out);
    }
    Ok(())
}

/// What this model cannot do, as a driver says it.
fn check(read: &Filter, tunnels: &Tunnels, ifindex: u32) -> Result<(), (i32, &'static str)> {
    if read.matches.tunnel.is_some() != tunnels.at(ifindex).is_some() {
        return Err((EOPNOTSUPP, "no tunnel device"));
    }
    if read.matches.fragment.is_some_and(|f| f.mask & !(IS_FRAGMENT | 2) != 0) {
        return Err((EOPNOTSUPP, "unknown flags"));
    }
    let strange = |a: &Act| {
        let metadata = matches!(a, Act::Skbedit(_) | Act::Sample { .. });
        metadata
            || matches!(a, Act::Ct(_) | Act::CtClear | Act::EthPush { .. } | Act::EthPop)
            || tunnels.devices.is_empty() && matches!(a, Act::TunnelSet(_) | Act::TunnelRelease)
    };
    if read.acts.iter().any(|a| strange(&a.act)) {
        return Err((EOPNOTSUPP, "an action is not modelled"));
    }
    Ok(())
}

/// A filter that names a meter gets the action that is there, whatever limit it says.
fn name_meters(read: &mut Filter, buckets: &Buckets) -> Result<(), (i32, &'static str)> {
    for one in &mut read.acts {
        if let Act::Police { meter, limit } = &mut one.act {
            *limit = buckets.limit(*meter).ok_or((EINVAL, "no such police action"))?;
        }
    }
    Ok(())
}

/// A filter as the kernel shows it, in hardware or not, with places for the counters of each action.
#[derive(Debug)]
struct Shown {
    bytes: Vec<u8>,
    counters: Vec<usize>,
}

impl Shown {
    fn show(&self, kind: u16, sequence: u32, (packets, bytes): (u64, u64), out: &mut Writer) {
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&self.bytes);
        let new = &mut out.bytes[start..];
        new[4..6].copy_from_slice(&kind.to_ne_bytes());
        new[8..12].copy_from_slice(&sequence.to_ne_bytes());
        for at in &self.counters {
            new[*at..at + 8].copy_from_slice(&bytes.to_ne_bytes());
            new[at + 8..at + 12].copy_from_slice(&u32::try_from(packets).unwrap_or(u32::MAX).to_ne_bytes());
        }
    }
}

fn shown(read: &Filter) -> Shown {
    use crate::tc::matches;
    let mut out = Writer::default();
    let mut counters = Vec::with_capacity(read.acts.len());
    let rule = read.rule(DpPort(0), Box::new(flow::Key::ZERO));
    crate::tc::write::fixed(&mut out, RTM_NEWTFILTER, 0, read.id);
    out.put_text(TCA_KIND, "flower");
    let options = out.nest(TCA_OPTIONS);
    matches::put(&mut out, &rule);
    let list = out.nest(flower::ACT);
    for (order, one) in read.acts.iter().enumerate() {
        let order = u16::try_from(order + 1).unwrap_or(u16::MAX);
        // Every port has a device here.
        let start = out.bytes.len();
        let _ = acts::put(&mut out, order, &one.act, &one.cookie, &SameNumbers);
        let stats = out.nest(act::STATS);
        out.put(act::STATS_BASIC, &[0; 16]);
        counters.push(out.bytes.len() - 16);
        out.end(stats);
        // The statistics stand inside the action's nest.
        let len = u16::try_from(out.bytes.len() - start).unwrap_or(u16::MAX);
        out.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
    out.end(list);
    let not = crate::tc::numbers::NOT_IN_HW;
    out.put_u32(flower::FLAGS, SKIP_SW | if read.in_hw { IN_HW } else { not });
    out.put_u32(flower::IN_HW_COUNT, read.in_hw_count);
    out.end(options);
    crate::tc::write::finish(&mut out);
    Shown { bytes: out.bytes, counters }
}

/// `NLMSG_ERROR` with code and text; code 0 acknowledges.
fn acknowledge(out: &mut Writer, request: &[u8], result: Result<(), (i32, &'static str)>) {
    let (code, text) = result.err().unwrap_or((0, ""));
    let start = out.bytes.len();
    let mut message = vec![0; 4];
    message.extend_from_slice(&2u16.to_ne_bytes());
    message.extend_from_slice(&0x300u16.to_ne_bytes());
    message.extend_from_slice(request.get(8..HEADER).unwrap_or(&[0; 8]));
    message.extend_from_slice(&(-code).to_ne_bytes());
    message.extend_from_slice(request.get(..HEADER).unwrap_or(&[0; HEADER]));
    out.bytes.extend_from_slice(&message);
    if !text.is_empty() {
        out.put_text(1, text);
    }
    crate::tc::write::close(out, start);
}
