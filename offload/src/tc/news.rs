//! What the kernel tells without being asked (`RTNLGRP_TC`, `RTNLGRP_LINK`): filters, queueing disciplines and police actions that somebody else
//! made, changed or removed, and devices that went.
//!
//! What enters: the bytes of `Netlink::news`, in which nothing is that we asked for ourselves. What leaves: events; which of our rules and meters
//! they concern. Neighbours: `table` (what is ours), `tiered` (puts it in again).
//!
//! # Why no news are stale
//!
//! The kernel tells of a change before it answers the request that made it. News are read under the table's lock, and each time before a rule is
//! taken out of the table: whoever removed it before us is known by then. So the news that are read concern what the table has at that moment, never
//! a rule that stood at the same place earlier, although our own changes are not told.

use super::attributes::{Attribute, find, seek};
use super::client::{Netlink, Tc, cookie, messages};
use super::numbers::{
    CLSACT, EGRESS, RTM_DELACTION, RTM_DELLINK, RTM_DELQDISC, RTM_DELTFILTER, RTM_NEWACTION, RTM_NEWTFILTER, TCA_ACT_TAB, act,
    police,
};
use super::read::{Message, glance, message};
use super::table::Table;
use super::write::{HEADER, TCAMSG};
use super::{Devices, FilterId, Hook};
use crate::hardware::{HwStats, Overheard};
use flow::Ufid;
use flow::hash::{Map, Set};

/// Interfaces that are told of at once; if there are more, all are to be looked at.
const INTERFACES_MAX: usize = 1_024;

/// Something that somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A filter of flower was made, or is another now.
    Put(FilterId),
    /// One was removed; its cookie and its last counters, if they are told.
    Gone(FilterId, Option<(&'a [u8], HwStats)>),
    /// Every filter of a preference was removed; of all preferences of the chain, if it is 0.
    Emptied(FilterId),
    /// The queueing discipline that the filters of a device hang from was removed.
    Bare { ifindex: u32 },
    /// A police action was made, changed or removed; without an index, many were.
    Police(Option<u32>),
    /// A device went.
    Device { ifindex: u32 },
}

/// What a message tells; nothing, if it is about something else or cut short. Actions may be several.
#[must_use]
pub fn events(bytes: &[u8]) -> Vec<Event<'_>> {
    let kind = bytes.get(4..6).map_or(0, |k| u16::from_ne_bytes([k[0], k[1]]));
    match kind {
        RTM_NEWTFILTER | RTM_DELTFILTER => of_filter(bytes, kind == RTM_DELTFILTER).into_iter().collect(),
        RTM_DELQDISC => {
            let ours = word(bytes, HEADER + 12) == Some(CLSACT);
            word(bytes, HEADER + 4).filter(|_| ours).map(|ifindex| Event::Bare { ifindex }).into_iter().collect()
        }
        RTM_DELLINK => {
            // Messages of the bridge family speak of bridge ports, not of devices.
            let device = bytes.get(HEADER) == Some(&0);
            word(bytes, HEADER + 4).filter(|_| device).map(|ifindex| Event::Device { ifindex }).into_iter().collect()
        }
        RTM_NEWACTION | RTM_DELACTION => of_actions(bytes).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn of_filter(bytes: &[u8], gone: bool) -> Option<Event<'_>> {
    // Ours hang from the other side.
    if word(bytes, HEADER + 12) == Some(EGRESS) {
        return None;
    }
    match message(bytes).ok()? {
        Message::Flower(id) if gone => Some(Event::Gone(id, glance(bytes).map(|g| (g.cookie, g.stats)))),
        Message::Flower(id) => Some(Event::Put(id)),
        // A preference is shown without a handle, whatever classifier it is of.
        Message::Foreign(id) => (gone && id.handle == 0).then_some(Event::Emptied(id)),
    }
}

/// Police actions of a message. A table that was emptied is shown by its kind alone.
fn of_actions(bytes: &[u8]) -> Option<Vec<Event<'_>>> {
    let table = seek(bytes.get(HEADER + TCAMSG..)?, TCA_ACT_TAB)?.nested().ok()?;
    let one = |order: &Attribute<'_>| {
        let parts = order.nested().ok()?;
        find(&parts, act::KIND).filter(|kind| kind.text() == "police")?;
        let Some(options) = find(&parts, act::OPTIONS) else { return Some(Event::Police(None)) };
        let index = seek(options.payload, police::TBF)?.payload.first_chunk::<4>()?;
        Some(Event::Police(Some(u32::from_ne_bytes(*index))))
    };
    Some(table.iter().filter_map(one).collect())
}

/// What was heard, and nobody has asked for yet. No longer than the table.
#[derive(Debug, Default)]
pub(super) struct Heard {
    told: u64,
    taken: u64,
    missed: bool,
    lost: Map<Ufid, Option<HwStats>>,
    meters: Set<u32>,
    interfaces: Set<u32>,
}

impl Heard {
    /// A rule is being removed: what was told of its end, if it was.
    pub(super) fn forget(&mut self, ufid: Ufid) -> Option<HwStats> {
        self.lost.remove(&ufid).flatten()
    }

    /// What comes first counts: whatever follows at that place is no longer ours.
    fn lose(&mut self, ufid: Ufid, last: Option<HwStats>) {
        if !self.lost.contains_key(&ufid) {
            self.lost.insert(ufid, last);
            self.taken += 1;
        }
    }

    fn look_at(&mut self, ifindex: u32) {
        if self.interfaces.len() < INTERFACES_MAX {
            self.interfaces.insert(ifindex);
        } else {
            self.missed = true;
        }
    }
}

/// Places of which every rule went.
#[derive(Debug, Default)]
struct Cleared {
    preferences: Set<(Hook, u32, u16)>,
    hooks: Set<Hook>,
}

impl Cleared {
    fn has(&self, FilterId { hook, chain, prio, .. }: FilterId) -> bool {
        self.hooks.contains(&hook) || [prio, 0].iter().any(|prio| self.preferences.contains(&(hook, chain, *prio)))
    }
}

impl Table {
    fn note(&mut self, event: &Event<'_>, devices: &dyn Devices, cleared: &mut Cleared) {
        match event {
            Event::Put(id) => {
                if let Some(ufid) = self.find(*id).map(|i| i.ufid) {
                    self.heard.lose(ufid, None);
                }
            }
            Event::Gone(id, last) => {
                if let Some(ufid) = self.find(*id).map(|i| i.ufid) {
                    // With another mark they are those of what was put in its place.
                    let ours = last.filter(|(mark, _)| *mark == cookie(ufid)).map(|(_, stats)| stats);
                    self.heard.lose(ufid, ours);
                }
            }
            Event::Emptied(id) => {
                cleared.preferences.insert((id.hook, id.chain, id.prio));
            }
            Event::Bare { ifindex } | Event::Device { ifindex } => {
                cleared.hooks.insert(Hook::Ingress { ifindex: *ifindex });
                self.heard.look_at(*ifindex);
            }
            Event::Police(Some(index)) => {
                self.heard.meters.extend(devices.meter(*index).filter(|meter| self.meters.contains_key(meter)));
            }
            Event::Police(None) => self.heard.meters.extend(self.meters.keys()),
        }
    }

    /// Rules whose places were cleared are lost.
    fn clear(&mut self, cleared: &Cleared) {
        if cleared.preferences.is_empty() && cleared.hooks.is_empty() {
            return;
        }
        let lost: Vec<Ufid> = self.all().filter(|i| cleared.has(i.id)).map(|i| i.ufid).collect();
        lost.into_iter().for_each(|ufid| self.heard.lose(ufid, None));
    }
}

impl<N: Netlink, D: Devices> Tc<N, D> {
    /// What others did to our rules and meters since the last call.
    pub fn overheard(&self) -> Overheard {
        let mut table = self.table();
        self.hear(&mut table);
        let Heard { told, taken, missed, lost, meters, interfaces } = std::mem::take(&mut table.heard);
        let mut lost: Vec<_> = lost.into_iter().collect();
        let (mut meters, mut interfaces): (Vec<u32>, Vec<u32>) = (meters.into_iter().collect(), interfaces.into_iter().collect());
        lost.sort_unstable_by_key(|(ufid, _)| *ufid);
        meters.sort_unstable();
        interfaces.sort_unstable();
        Overheard { told, taken, lost, meters, missed, interfaces }
    }

    /// Reads the news.
    pub(super) fn hear(&self, table: &mut Table) {
        let Ok(news) = self.link().news() else {
            table.heard.missed = true;
            return;
        };
        table.heard.missed |= news.overrun;
        let mut cleared = Cleared::default();
        for message in messages(&news.bytes) {
            let events = events(message);
            // A chain that comes with our first rule and goes with the last is told as nobody's doing.
            table.heard.told += u64::from(!events.is_empty());
            for event in events {
                table.note(&event, self.devices(), &mut cleared);
            }
        }
        table.clear(&cleared);
        // Without one, the kernel does not say of a rule that it is gone.
        let bare = |hook: &Hook| table.all().any(|i| i.id.hook == *hook);
        let hooks: Vec<Hook> = cleared.hooks.iter().copied().filter(bare).collect();
        for hook in hooks {
            if let Hook::Ingress { ifindex } = hook {
                self.remake(table, ifindex);
            }
        }
    }
}
