//! An eSwitch in memory: it is programmed by the same netlink bytes as the kernel, and forwards packets by what it was told.
//!
//! What enters: tc-flower messages (`Netlink::talk`); packets of its ports (`receive`). What leaves: echoes, acknowledgements, errors with
//! texts, dumps, as the kernel sends them; packets, or the statement that no rule was there. Neighbours: `tc` (the codec), `packet` (what
//! rules do). It decides by the attributes of the message, not by a megaflow, and changes bytes in its own way: it is the
//! other side of the differential test.

mod packet;

use crate::rule::{Act, IS_FRAGMENT};
use crate::tc::attributes::Writer;
use crate::tc::client::Netlink;
use crate::tc::numbers::{IN_HW, RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWTFILTER, SKIP_SW, TCA_KIND, TCA_OPTIONS, act, flower};
use crate::tc::read::{Filter, Message, filter, message};
use crate::tc::write::HEADER;
use crate::tc::{Devices, FilterId, Hook};
use flow::DpPort;
use packet::Frame;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rounds that a packet may go through chains.
const ROUNDS_MAX: u32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;

/// What goes wrong, and how large it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rules that fit.
    pub capacity: usize,
    /// Of the creations, counted from 0: those that the driver refuses with a text.
    pub refuse: Vec<u64>,
    /// Those that it takes without putting them into hardware.
    pub not_in_hw: Vec<u64>,
    /// Those that it changes: the last action becomes a drop.
    pub corrupt: Vec<u64>,
    /// Of the deletions: those that fail.
    pub keep: Vec<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { capacity: 1 << 20, refuse: Vec::new(), not_in_hw: Vec::new(), corrupt: Vec::new(), keep: Vec::new() }
    }
}

#[derive(Debug)]
struct Stored {
    filter: Filter,
    packets: u64,
    bytes_counted: u64,
}

/// Where a filter is found: port, chain, preference, handle.
type At = (u32, u32, u16, u32);

#[derive(Debug, Default)]
struct State {
    filters: BTreeMap<At, Stored>,
    created: u64,
    deleted: u64,
}

/// The eSwitch. Interface n is port n.
#[derive(Debug, Default)]
pub struct Model {
    options: Options,
    state: Mutex<State>,
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
        Self { options, state: Mutex::default() }
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

    /// A packet comes in by a port.
    pub fn receive(&self, port: DpPort, bytes: &[u8]) -> Outcome {
        let mut state = self.state();
        let mut frame = Frame::new(bytes.to_vec());
        let (mut sent, mut chain) = (Vec::new(), 0);
        for _ in 0..ROUNDS_MAX {
            let near = (port.0, chain, 0, 0)..=(port.0, chain, u16::MAX, u32::MAX);
            let key = frame.key(port);
            let Some((_, rule)) = state.filters.range_mut(near).find(|(_, s)| packet::matches(&s.filter.matches, &key)) else {
                return if chain == 0 { Outcome::Missed } else { Outcome::MissedInChain(chain) };
            };
            rule.packets += 1;
            rule.bytes_counted += frame.bytes.len() as u64;
            let acts: Vec<Act> = rule.filter.acts.iter().map(|a| a.act.clone()).collect();
            match packet::run(&mut frame, &acts, &mut sent) {
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
        let at = at_of(read.id).ok_or((EOPNOTSUPP, "shared blocks are not modelled"))?;
        if state.filters.contains_key(&at) {
            return Err((EEXIST, "Filter already exists"));
        }
        if self.options.refuse.contains(&nth) {
            return Err((EOPNOTSUPP, "the model refuses this rule on purpose"));
        }
        if state.filters.len() >= self.options.capacity {
            return Err((ENOSPC, "the table is full"));
        }
        check(&read)?;
        if self.options.corrupt.contains(&nth)
            && let Some(last) = read.acts.last_mut()
        {
            last.act = Act::Drop;
        }
        read.in_hw = !self.options.not_in_hw.contains(&nth);
        let bytes = show(&read, 0, 0);
        out.bytes.extend_from_slice(&bytes);
        state.filters.insert(at, Stored { filter: read, packets: 0, bytes_counted: 0 });
        Ok(())
    }
}

impl Netlink for Model {
    fn talk(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let mut out = Writer::default();
        let kind = request.get(4..6).map_or(0, |k| u16::from_ne_bytes([k[0], k[1]]));
        let result = match kind {
            RTM_NEWTFILTER => self.create(&mut state, request, &mut out),
            RTM_DELTFILTER => {
                let nth = state.deleted;
                state.deleted += 1;
                let kept = self.options.keep.contains(&nth);
                let at = one(request);
                match at {
                    Some(_) if kept => Err((EINVAL, "the model keeps this rule on purpose")),
                    Some(at) => state.filters.remove(&at).map(|_| ()).ok_or((ENOENT, "no such filter")),
                    None => Err((EINVAL, "no filter is named")),
                }
            }
            RTM_GETTFILTER => answer(&state, request, &mut out),
            _ => Err((EOPNOTSUPP, "messages of this kind are not modelled")),
        };
        acknowledge(&mut out, request, result);
        Ok(out.bytes)
    }
}

fn at_of(id: FilterId) -> Option<At> {
    match id.hook {
        Hook::Ingress { ifindex } => Some((ifindex, id.chain, id.prio, id.handle)),
        Hook::Block { .. } => None,
    }
}

/// The filter that a request names. Requests have another type than answers; the fixed part is the same.
fn one(request: &[u8]) -> Option<At> {
    let mut as_answer = request.to_vec();
    as_answer.get_mut(4..6)?.copy_from_slice(&RTM_NEWTFILTER.to_ne_bytes());
    match message(&as_answer).ok()? {
        Message::Flower(id) | Message::Foreign(id) => at_of(id),
    }
}

/// One filter, or all of a port.
fn answer(state: &State, request: &[u8], out: &mut Writer) -> Result<(), (i32, &'static str)> {
    let at = one(request).ok_or((EINVAL, "no filter is named"))?;
    let all = at.3 == 0;
    let wanted = |key: &At| if all { key.0 == at.0 } else { *key == at };
    let mut found = false;
    for (_, stored) in state.filters.iter().filter(|(key, _)| wanted(key)) {
        out.bytes.extend_from_slice(&show(&stored.filter, stored.packets, stored.bytes_counted));
        found = true;
    }
    if found || all { Ok(()) } else { Err((ENOENT, "no such filter")) }
}

/// What this model cannot do, as a driver says it.
fn check(read: &Filter) -> Result<(), (i32, &'static str)> {
    if read.matches.tunnel.is_some() {
        return Err((EOPNOTSUPP, "matching on tunnels is not modelled"));
    }
    if read.matches.fragment.is_some_and(|f| f.mask & !(IS_FRAGMENT | 2) != 0) {
        return Err((EOPNOTSUPP, "unknown flags"));
    }
    let strange = |a: &Act| {
        matches!(
            a,
            Act::Ct(_)
                | Act::CtClear
                | Act::TunnelSet(_)
                | Act::TunnelRelease
                | Act::Police { .. }
                | Act::EthPush { .. }
                | Act::EthPop
        )
    };
    if read.acts.iter().any(|a| strange(&a.act)) {
        return Err((EOPNOTSUPP, "an action is not modelled"));
    }
    Ok(())
}

/// The filter as the kernel shows it: in hardware or not, counters on each action.
fn show(read: &Filter, packets: u64, bytes: u64) -> Vec<u8> {
    use crate::tc::{acts, matches};
    let mut out = Writer::default();
    let rule = read.rule(DpPort(0), Box::new(flow::Key::ZERO));
    crate::tc::write::fixed(&mut out, RTM_NEWTFILTER, read.id);
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
        let mut basic = bytes.to_ne_bytes().to_vec();
        basic.extend_from_slice(&u32::try_from(packets).unwrap_or(u32::MAX).to_ne_bytes());
        basic.extend_from_slice(&[0; 4]);
        out.put(act::STATS_BASIC, &basic);
        out.end(stats);
        // The statistics stand inside the action's nest.
        let len = u16::try_from(out.bytes.len() - start).unwrap_or(u16::MAX);
        out.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
    out.end(list);
    let not = crate::tc::numbers::NOT_IN_HW;
    out.put_u32(flower::FLAGS, SKIP_SW | if read.in_hw { IN_HW } else { not });
    out.put_u32(flower::IN_HW_COUNT, u32::from(read.in_hw));
    out.end(options);
    crate::tc::write::finish(&mut out);
    out.bytes
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
    let len = u32::try_from(out.bytes.len() - start).unwrap_or(u32::MAX);
    out.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
}
