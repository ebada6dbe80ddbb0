//! A message as a filter: an echo, an answer, an element of a dump.

use super::acts::{self, ReadAct};
use super::attributes::{ReadError, attributes, find, seek};
use super::matches::{self, Matches};
use super::numbers::{BLOCK, IN_HW, NOT_IN_HW, RTM_DELTFILTER, RTM_NEWTFILTER, TCA_CHAIN, TCA_KIND, TCA_OPTIONS, flower};
use super::write::{HEADER, TCMSG};
use super::{Devices, FilterId, Hook};
use crate::hardware::HwStats;
use crate::rule::Rule;
use flow::DpPort;
use flow::key::Mask;

/// A filter as the kernel shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub id: FilterId,
    pub matches: Matches,
    pub acts: Vec<ReadAct>,
    /// The kernel says that the hardware has it, and in how many devices.
    pub in_hw: bool,
    pub in_hw_count: u32,
}

/// Whose a message is, without a look at what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Another classifier's, or a chain without a filter.
    Foreign(FilterId),
    Flower(FilterId),
}

impl Filter {
    /// The rule that it is, on `port`; `nought` of the rule that was asked for, which no filter carries.
    #[must_use]
    pub fn rule(&self, port: DpPort, nought: Box<Mask>) -> Rule {
        let m = &self.matches;
        Rule {
            port,
            chain: self.id.chain,
            link: m.link,
            items: m.items.clone(),
            fragment: m.fragment,
            ct_state: m.ct_state,
            tunnel: m.tunnel.clone(),
            acts: self.acts.iter().map(|a| a.act.clone()).collect(),
            nought,
        }
    }

    /// Whether it is that rule: `rule(...) == *rule`, without making one.
    #[must_use]
    pub fn is(&self, rule: &Rule) -> bool {
        // Every part of a rule is named, so that a new one is judged, too. Where it stands is ours to say, and `nought` no filter carries.
        let Rule { port: _, chain, link, items, fragment, ct_state, tunnel, acts, nought: _ } = rule;
        let m = &self.matches;
        (self.id.chain, m.link, m.fragment, m.ct_state) == (*chain, *link, *fragment, *ct_state)
            && m.items == *items
            && m.tunnel == *tunnel
            && self.acts.iter().map(|a| &a.act).eq(acts)
    }

    /// The first action that is no other filter's.
    fn own(&self) -> Option<&ReadAct> {
        self.acts.iter().find(|a| !a.act.is_shared())
    }

    /// The cookie of the first action that is its own.
    #[must_use]
    pub fn cookie(&self) -> &[u8] {
        self.own().map_or(&[], |a| &a.cookie)
    }

    /// Packets and bytes of that action, which counts every packet of the flow, as a megaflow does; behind a meter it is the driver's matter
    /// whether it counts what the meter dropped (decision 0100).
    #[must_use]
    pub fn counters(&self) -> (u64, u64) {
        self.own().map_or((0, 0), |a| (a.packets, a.bytes))
    }
}

/// Which filter a message is about.
///
/// # Errors
/// If it is no message about a filter, or cut short.
pub fn message(bytes: &[u8]) -> Result<Message, ReadError> {
    let id = identity(bytes)?;
    let flower = seek(&bytes[HEADER + TCMSG..], TCA_KIND).is_some_and(|k| k.text() == "flower") && id.handle != 0;
    Ok(if flower { Message::Flower(id) } else { Message::Foreign(id) })
}

fn identity(bytes: &[u8]) -> Result<FilterId, ReadError> {
    if bytes.len() < HEADER + TCMSG {
        return Err(ReadError::Length { at: 0, len: HEADER + TCMSG, left: bytes.len() });
    }
    let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
    if kind != RTM_NEWTFILTER && kind != RTM_DELTFILTER {
        return Err(ReadError::Unknown { what: "message", value: kind.into() });
    }
    let at = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (ifindex, handle, parent, info) = (at(HEADER + 4), at(HEADER + 8), at(HEADER + 12), at(HEADER + 16));
    let hook = if ifindex.cast_signed() == BLOCK { Hook::Block { number: parent } } else { Hook::Ingress { ifindex } };
    let chain = seek(&bytes[HEADER + TCMSG..], TCA_CHAIN).map_or(Ok(0), super::attributes::Attribute::u32)?;
    let half = |n: u32| u16::try_from(n & 0xffff).expect("sixteen bits");
    Ok(FilterId { hook, chain, prio: half(info >> 16), handle, protocol: u16::from_be(half(info)) })
}

/// What a table says of a filter at a glance, for the counters of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    pub id: FilterId,
    /// The cookie of the first action that is its own.
    pub cookie: &'a [u8],
    pub in_hw: bool,
    /// In how many devices, if it is said.
    pub in_hw_count: u32,
    pub stats: HwStats,
}

/// Reads identity, mark and counters of a filter of flower, without what it matches and without allocating: this is done for every rule there is,
/// twice a second. `None` for anything else.
#[must_use]
pub fn glance(bytes: &[u8]) -> Option<Glance<'_>> {
    let Ok(Message::Flower(id)) = message(bytes) else { return None };
    let options = seek(&bytes[HEADER + TCMSG..], TCA_OPTIONS)?.payload;
    let flags = seek(options, flower::FLAGS)?.u32().ok()?;
    let in_hw_count = seek(options, flower::IN_HW_COUNT).map_or(Some(0), |count| count.u32().ok())?;
    let (packets, bytes, cookie) = acts::counters(seek(options, flower::ACT)?.payload)?;
    let in_hw = flags & IN_HW != 0 && flags & NOT_IN_HW == 0;
    Some(Glance { id, cookie, in_hw, in_hw_count, stats: HwStats { packets, bytes } })
}

/// Reads a filter of flower, whole.
///
/// # Errors
/// For whatever this room does not write itself: such a filter is not ours, or not what we asked for.
pub fn filter(bytes: &[u8], devices: &dyn Devices) -> Result<Filter, ReadError> {
    let id = identity(bytes)?;
    let list = attributes(&bytes[HEADER + TCMSG..])?;
    let options = find(&list, TCA_OPTIONS).ok_or(ReadError::Missing("the options of a filter"))?.nested()?;
    let flags = find(&options, flower::FLAGS).map_or(Ok(0), super::attributes::Attribute::u32)?;
    let count = find(&options, flower::IN_HW_COUNT).map_or(Ok(0), super::attributes::Attribute::u32)?;
    Ok(Filter {
        id,
        matches: matches::read(&options, id.protocol)?,
        acts: find(&options, flower::ACT).map_or_else(|| Ok(Vec::new()), |a| acts::read(a, devices))?,
        // A filter with neither flag is not known to be in hardware, and so counts as not.
        in_hw: flags & IN_HW != 0 && flags & NOT_IN_HW == 0,
        in_hw_count: count,
    })
}
